"""Controls of a probe: labels that the embeddings cannot predict. Each is registered in `CONTROLS`.

A control is called as `control(labels, generator)`, with the training labels of one cell
(n_train,), and a `numpy.random.Generator` with a seed of its own for every cell. It returns the
labels that the probe is trained on instead. The probe is tested on the true labels.
"""

import numpy as np

from gpt2v.data.rng import Ints
from gpt2v.registry import CONTROLS


@CONTROLS.register("shuffled-labels")
def shuffled_labels(labels: Ints, generator: np.random.Generator) -> Ints:
    """The labels of other pictures: the probe can learn only how frequent each class is."""
    return labels[generator.permutation(len(labels))]
