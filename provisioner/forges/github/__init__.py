"""GitHub: github.com, Enterprise Cloud with data residency (ghe.com) and Enterprise Server."""
