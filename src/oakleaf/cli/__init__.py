"""The command line: doors to the package."""
