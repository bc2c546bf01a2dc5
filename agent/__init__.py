"""The agent: runs jobs on one machine. Standard library only, Python 3.9 or newer, shipped as one file."""
