"""Grids and the questions about them: cells, samples, instructions, baselines."""
