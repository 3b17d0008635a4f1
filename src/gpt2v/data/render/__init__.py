"""A sample as text, as pictures, and as the packed batch that a model reads."""
