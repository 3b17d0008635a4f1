"""gpt2v: one task, two modalities. See docs/ and the README for a tour."""

__version__ = "0.1.0"
