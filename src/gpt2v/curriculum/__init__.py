"""Training a GPT-2 or a GPT-2v on a curriculum of grids and plain text."""
