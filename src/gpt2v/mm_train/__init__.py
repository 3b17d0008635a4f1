"""MM-Train: a GPT-2v from a trained GPT-2 and a vision tower."""
