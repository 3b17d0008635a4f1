"""Minimal pairs that our own code writes, with the words of children's stories.

Each phenomenon is a class, registered in `PHENOMENA`.
"""

from gpt2v.eval.language.pairs import agreement, reference, story  # noqa: F401 (registers them)
