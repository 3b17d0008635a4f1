"""Training a language model, with or without eyes, on a curriculum of grids and plain text."""
