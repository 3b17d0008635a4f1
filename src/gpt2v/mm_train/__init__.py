"""MM-Train: train a GPT-2v, made of a trained GPT-2 and a vision tower."""
