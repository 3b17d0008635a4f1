"""Selectivity: what a decoder reads beyond what it could learn by heart.

This is the control task of Hewitt & Liang 2019 (https://aclanthology.org/D19-1275).
"""

import numpy as np

from gpt2v.data import rng
from gpt2v.data.rng import Ints
from gpt2v.probing.probed import Outcomes, Probed, Row, gain, site_of


class Selectivity:
    """Each source picture has a random class of its own, which it keeps in all grids.

    The decoder of these random classes and its twin, of the true ones, are tested on training
    pictures in new grids: only there can it know them. Selectivity is the twin's accuracy minus
    that of the random classes. Half of the new grids choose the strength, half test.
    """

    def __call__(self, probed: Probed) -> list[Row]:
        train, new = probed.splits["train"], probed.splits["new"]
        ridge, half = probed.config.decoders[0], len(probed.splits["new"]) // 2
        chosen, tested = new.part(slice(None, half)), new.part(slice(half, None))
        made = ridge.load()()
        rows: list[Row] = []
        for site, cell in probed.each():
            x, x_new = probed.x("train", site, cell), probed.x("new", site, cell)
            labels = [_both(split.tiles[:, cell], split.labels[:, cell], probed) for split in
                      (train, chosen, tested)]  # fmt: skip
            fitted = made.fit(x, labels[0], x_new[:half], labels[1], probed.n_classes)
            real, random = (
                Outcomes(
                    (predicted := one.scores(x_new[half:]).argmax(1)[:, None]),
                    predicted,
                    truth[:, None],
                    tested.grids.index,
                    tested.tiles[:, [cell]],
                )
                for one, truth in zip(fitted, labels[2], strict=True)
            )
            rates = random.rates()
            rows.append(
                {
                    **site_of(site),
                    "cell": probed.at(cell),
                    "accuracy": float(real.right.mean()),
                    "ci95": real.rates()["ci95"],
                    "control_accuracy": rates["accuracy"],
                    "control_ci95": rates["ci95"],
                    **gain(real.right, random.right, real.shared, "selectivity"),
                    "n_tiles": len(np.unique(train.tiles[:, cell])),
                    "n_images": rates["n_images"],
                }
            )
        return rows


def _both(tiles: Ints, labels: Ints, probed: Probed) -> Ints:
    """The true classes, and the random class of each tile, (2, G)."""
    keys = rng.keys(probed.config.seed, "control task", tiles)
    return np.stack([labels, rng.below(rng.bits(keys, 1)[:, 0], probed.n_classes)])
