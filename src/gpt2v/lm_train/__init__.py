"""LM-Train: pre-train a GPT-2 on text."""
