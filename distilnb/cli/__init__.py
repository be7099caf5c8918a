"""The command line: parsing, and the few lines that put the rooms together."""
