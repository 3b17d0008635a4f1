"""Controls of a probe: labels in which it must not find anything. Each is registered in `CONTROLS`.

A control is called as `control(labels, generator)` with the training labels of one cell,
(n_train,), and a `numpy.random.Generator` that is seeded alike for every cell. It returns the
labels that the probe is trained on instead; it is tested on the true ones.
"""

import numpy as np

from gpt2v.data.rng import Ints
from gpt2v.registry import CONTROLS


@CONTROLS.register("shuffled-labels")
def shuffled_labels(labels: Ints, generator: np.random.Generator) -> Ints:
    """The labels of other pictures: the probe can learn how frequent each class is, no more."""
    return labels[generator.permutation(len(labels))]
