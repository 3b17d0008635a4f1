"""Ablations: the vision-token ladder, from the text to the picture."""
