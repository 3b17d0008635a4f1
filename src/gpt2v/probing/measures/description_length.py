"""Description length: how many bits the classes take, if they are told after the features.

This is the online code of Voita & Titov 2020 (https://aclanthology.org/2020.emnlp-main.14).
"""

from itertools import pairwise
from math import log, log2

import numpy as np

from gpt2v.config.choice import choose
from gpt2v.probing.probed import Probed, Row
from gpt2v.registry import DECODERS

_HALVINGS = 6


class DescriptionLength:
    """Bits of the classes of the training pictures, by a logistic decoder's online code.

    The first 1/64 of the pictures (or as many as show every class) take the bits of the uniform
    code; each further part, up to the double number, takes those that the decoder of all before it
    gives. Compression is the length of
    the uniform code over this one: 1 for features that tell nothing.
    """

    def __call__(self, probed: Probed) -> list[Row]:
        logistic = choose(DECODERS, {"name": "logistic", "chosen_by": "likelihood"})
        made, n_classes, n = logistic.load()(), probed.n_classes, len(probed.splits["train"])
        fewest = max(2 * n_classes, probed.fewest(probed.measured_cells))
        ends = [n >> k for k in range(_HALVINGS, -1, -1) if n >> k >= fewest]
        rows = []
        for site, cell in probed.each():
            x, x_val = (probed.x(split, site, cell) for split in ("train", "val"))
            y, y_val = (probed.labels(split)[:, cell] for split in ("train", "val"))
            bits = ends[0] * log2(n_classes)
            for start, end in pairwise(ends):
                (fitted,) = made.fit(x[:start], y[None, :start], x_val, y_val[None], n_classes)
                logprobs = fitted.logprobs(x[start:end])
                bits -= float(np.take_along_axis(logprobs, y[start:end, None], 1).sum()) / log(2)
            uniform = n * log2(n_classes)
            rows.append(
                {
                    **site.fields,
                    "cell": probed.at(cell),
                    "bits": bits,
                    "bits_per_label": bits / n,
                    "compression": uniform / bits,
                    "n_train": n,
                }
            )
        return rows
