"""Plain text: documents, cleaning, token files, windows."""
