"""The command line: it starts in `main`, and each family of commands has its own file."""
