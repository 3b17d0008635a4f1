"""The command line: `main` is where it begins; one file for each family of commands."""
