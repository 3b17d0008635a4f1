"""Evaluation: held-out grids in every modality, records, clustered statistics, baselines."""
