"""Evaluation: records, statistics clustered by picture, and baselines of held-out grids."""
