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
    code; each further part, up to the double number, takes those that a decoder gives that is
    fitted on all before it, of which the last fifth chooses its penalty. Compression is the length
    of the uniform code over this one: about 1 for features that tell nothing.
    """

    def __call__(self, probed: Probed) -> list[Row]:
        logistic = choose(DECODERS, {"name": "logistic", "chosen_by": "likelihood"})
        made, n_classes, n = logistic.load()(), probed.n_classes, len(probed.splits["train"])
        fewest = probed.fewest(probed.measured_cells)
        ends = [n >> k for k in range(_HALVINGS, 0, -1) if _fitting(n >> k) >= fewest] + [n]
        rows = []
        for site, cell in probed.each():
            x, y = probed.x("train", site, cell), probed.labels("train")[:, cell]
            bits = ends[0] * log2(n_classes)
            for start, end in pairwise(ends):
                k = _fitting(start)
                known = x[:k], y[None, :k], x[k:start], y[None, k:start]
                (fitted,) = made.fit(*known, n_classes)
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


def _fitting(n: int) -> int:
    """How many of n pictures fit a decoder; the others choose its penalty."""
    return n - max(1, n // 5)
