"""Ablations: the vision-token ladder from the text itself to the picture."""
