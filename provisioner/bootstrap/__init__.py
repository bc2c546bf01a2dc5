"""How an agent gets onto a machine: its file, and the configuration that the file is started with."""
