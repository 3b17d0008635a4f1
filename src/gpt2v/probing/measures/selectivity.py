"""Selectivity: what a decoder reads beyond what it could learn by heart.

This is the control task of Hewitt & Liang 2019 (https://aclanthology.org/D19-1275).
"""

import numpy as np

from gpt2v.data import rng
from gpt2v.data.rng import Ints
from gpt2v.probing.probed import Outcomes, Probed, Row, gain
from gpt2v.probing.splits import Split


class Selectivity:
    """Each source picture has a random class of its own, which it keeps in all grids.

    The decoder of these random classes and its twin, of the true ones, are tested on training
    pictures in new grids, where the cell shows a picture that it showed in training, too: only
    there can they know it. Selectivity is the twin's accuracy minus that of the random classes.
    Half of the new grids choose the strength, half test; cells without such grids are left out.
    """

    def __call__(self, probed: Probed) -> list[Row]:
        train, new = probed.splits["train"], probed.splits["new"]
        ridge, half = probed.config.ridge, len(probed.splits["new"]) // 2
        chosen, tested = new.part(slice(None, half)), new.part(slice(half, None))
        made, parts = ridge.load()(), (train, chosen, tested)
        random_classes = _random_classes(probed, *parts)
        rows: list[Row] = []
        for site, cell in probed.each():
            known = [np.isin(part.tiles[:, cell], train.tiles[:, cell]) for part in parts]
            if not (known[1].any() and known[2].any()):
                continue
            x, x_new = probed.x("train", site, cell), probed.x("new", site, cell)
            labels = [
                np.stack([part.labels[these, cell], own[these, cell]])
                for part, own, these in zip(parts, random_classes, known, strict=True)
            ]
            fitted = made.fit(x, labels[0], x_new[:half][known[1]], labels[1], probed.n_classes)
            real, random = (
                Outcomes(
                    (predicted := one.scores(x_new[half:][known[2]]).argmax(1)[:, None]),
                    predicted,
                    truth[:, None],
                    tested.grids.index[known[2]],
                    tested.tiles[known[2]][:, [cell]],
                )
                for one, truth in zip(fitted, labels[2], strict=True)
            )
            rates = random.rates()
            rows.append(
                {
                    **site.fields,
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


def _random_classes(probed: Probed, *splits: Split) -> list[Ints]:
    """A random class for each tile, the same in all splits, (n_grids, n_cells) of each split.

    Classes are equally frequent.
    """
    tiles, which = np.unique(
        np.concatenate([split.tiles.reshape(-1) for split in splits]), return_inverse=True
    )
    order = np.argsort(rng.keys(probed.config.seed, "control task", tiles))
    classes = np.empty(len(tiles), np.int64)
    classes[order] = np.arange(len(tiles)) % probed.n_classes
    ends = np.cumsum([split.tiles.size for split in splits])[:-1]
    parts = np.split(classes[which], ends)
    return [part.reshape(split.tiles.shape) for part, split in zip(parts, splits, strict=True)]
