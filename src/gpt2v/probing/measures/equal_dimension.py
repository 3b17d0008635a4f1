"""Equal dimensions: sites compared by equally many principal components."""

import numpy as np
from numpy.typing import NDArray

from gpt2v.probing.cells import States
from gpt2v.probing.probed import Outcomes, Probed, Row

_MOST = 64  # components


class EqualDimension:
    """Ridge decoders of the first principal components, equally many at every site.

    More numbers can be read better for no other reason than that they are more. Components are
    those of largest variance in the training pictures, at most 64, or as few as some site has
    numbers; a class that lies along others is not read.
    """

    def __call__(self, probed: Probed) -> list[Row]:
        cells = probed.measured_cells
        widths = [probed.x("val", site, cell).shape[1] for site in probed.sites for cell in cells]
        n_components = min(_MOST, len(probed.splits["train"]) - 1, *widths)
        ridge, rows = probed.config.ridge.load()(), []
        for site in probed.sites:
            scores = []
            for cell in cells:
                x, x_val, x_test = (probed.x(s, site, cell) for s in ("train", "val", "test"))
                mean, components = principal(x, n_components)
                parts = [(part - mean) @ components for part in (x, x_val, x_test)]
                labels = [probed.labels(s)[None, :, cell] for s in ("train", "val")]
                (fitted,) = ridge.fit(parts[0], labels[0], parts[1], labels[1], probed.n_classes)
                scores.append(fitted.scores(parts[2]))
            rates = Outcomes.of(scores, cells, probed.splits["test"]).rates()
            where = {**site.fields, "cells": [probed.at(cell) for cell in cells]}
            rows.append({**where, "n_components": n_components, **rates})
        return rows


def principal(x: States, n: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean and the first n principal components (n_features, n) of features of some grids."""
    mean = x.mean(0, dtype=np.float64).astype(np.float32)
    centred = (x - mean).astype(np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return mean, np.ascontiguousarray(vectors[:, : -n - 1 : -1], np.float32)
