"""Features with a known class, for decoders."""

import numpy as np


def drawn(n, n_features, n_classes, seed, distance=1.0):
    """Rows around the centre of their class, (n, n_features) float32, and their classes (n,).

    Every class is drawn. The centres are the same for every seed.
    """
    centres = np.random.default_rng(0).normal(size=(n_classes, n_features)) * distance
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(n) % n_classes)
    x = centres[labels] * 6 / n_features**0.5 / 2 + generator.normal(size=(n, n_features)) + 3
    return x.astype(np.float32), labels
