"""Leakage: how well the object of one cell is read from the patches of another cell."""

import numpy as np

from gpt2v.config.sites import Site
from gpt2v.probing.probed import Outcomes, Probed, Row, gain
from gpt2v.probing.splits import counts_of
from gpt2v.stats.intervals import holm
from gpt2v.stats.shared import Shared


class Leakage:
    """Each cell's object, read by ridge decoders from the patches of each cell.

    A grid's objects are drawn from its palette, so one cell's object tells something about the
    others. The excess is over the best guess by the true object of the cell that is read. It can
    come from knowing which objects the grid holds, and not where: `beyond_bag` is over the best
    guess by the number of each object in the grid and the object of the cell that is read.
    """

    def __call__(self, probed: Probed) -> list[Row]:
        rows = []
        for site in probed.measured_sites:
            own = [row for seen in range(probed.n_cells) for row in _read(probed, site, seen)]
            others = [row for row in own if row["of"] != row["read"]]
            for test, name in (("excess_p", "p_holm"), ("beyond_bag_p", "beyond_bag_p_holm")):
                adjusted = holm(np.array([row[test] for row in others])).tolist()
                for row, p in zip(others, adjusted, strict=True):
                    row[name] = p
            rows += [{**site.fields, **row} for row in own]
        return rows


def _read(probed: Probed, site: Site, seen: int) -> list[Row]:
    """A row for each cell, read from the patches of the cell `seen`."""
    train, val, test = (probed.splits[name] for name in ("train", "val", "test"))
    cells = [seen, *(cell for cell in range(probed.n_cells) if cell != seen)]
    others = [(train.labels[:, cell], val.labels[:, cell]) for cell in cells[1:]]
    ridge = probed.config.ridge
    found = probed.fit(ridge, site, seen, others=others)
    counts = counts_of(test.labels, probed.n_classes)
    elsewhere = counts - np.eye(probed.n_classes, dtype=counts.dtype)[test.labels[:, seen]]
    rows = []
    for cell, fitted in zip(cells, found, strict=True):
        outcomes = Outcomes.of([probed.scores(fitted, ridge, site, seen)], [cell], test)
        pairs = np.zeros((probed.n_classes, probed.n_classes), np.int64)
        np.add.at(pairs, (train.labels[:, seen], train.labels[:, cell]), 1)
        guess = pairs.argmax(1)[test.labels[:, seen]] == test.labels[:, cell]
        bag = elsewhere.argmax(1) == test.labels[:, cell]
        rates = {key: value for key, value in outcomes.rates().items() if "palette" not in key}
        row = {"of": probed.at(cell), "read": probed.at(seen), **rates}
        if cell != seen:
            row |= {"by_its_object": float(guess.mean()), "by_the_bag": float(bag.mean())}
            shared = Shared(test.grids.index, test.tiles[:, [cell, seen]])
            row |= gain(outcomes.right, guess, shared, "excess")
            row |= gain(outcomes.right, bag, shared, "beyond_bag")
        rows.append(row)
    return rows
