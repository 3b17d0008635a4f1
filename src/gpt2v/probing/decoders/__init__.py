"""Decoders: each predicts the class of a cell from features, and is a measuring instrument."""
