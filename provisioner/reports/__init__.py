"""What jobs left, as Markdown: files are read, sections are drawn, and one comment is kept up to date."""
