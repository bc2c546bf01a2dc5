"""The pure core: words, tables and decisions. Standard library only; nothing here does I/O or reads a clock."""
