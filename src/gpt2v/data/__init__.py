"""What the models see: tiles, grids, questions, and their text and image renderings.

Data flows one way: spec -> sample indices -> samples (integer arrays) -> rendered batch. A sample
is a pure function of (seed, split, index). Nothing here knows torch.
"""
