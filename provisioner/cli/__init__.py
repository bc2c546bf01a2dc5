"""The command line: a client of the controller, quick to start, and the starter of the embedded one."""
