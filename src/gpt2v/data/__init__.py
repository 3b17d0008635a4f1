"""The data that the models see: tiles, grids, questions, and their renderings as text and images.

Data flows one way: spec -> sample indices -> samples (integer arrays) -> rendered batch. A sample
is a pure function of (seed, split, index). Nothing in this package imports torch.
"""
