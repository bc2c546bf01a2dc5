"""The only composition root: it imports every box and hands each what it needs of the others as ports.

Only the command line imports it, and only for the commands that are a controller or work without one.
"""
