"""Planted states: what they hold of the asked cell and of others is found, and nothing else."""

import numpy as np
import pytest

from gpt2v.config.sites import Site
from gpt2v.probing.routing import TARGETS, Questions, Rows, routing_rows

CLASSES, PALETTE, SITE = 6, 3, Site("answer", 2)


class Ridge:
    """Least squares with a small penalty; it counts what it was fitted on."""

    def fit(self, x, labels, x_val, val_labels, n_classes):
        assert labels.shape == (len(labels), len(x))
        assert val_labels.shape == (len(labels), len(x_val))
        self.n_rows = len(x)
        rows = np.column_stack([x, np.ones(len(x))]).astype(np.float64)
        inverse = np.linalg.inv(rows.T @ rows + 0.1 * np.eye(rows.shape[1]))

        class Fitted:
            def __init__(self, own):
                self.weight = inverse @ rows.T @ np.eye(n_classes)[own]

            def scores(self, x):
                return np.column_stack([x, np.ones(len(x))]) @ self.weight

        return [Fitted(own) for own in labels]


def questions(n_images, seed, n_rows=3, n_cols=3, n_questions=5):
    generator = np.random.default_rng(seed)
    n_cells = n_rows * n_cols
    palette = np.argsort(generator.random((n_images, CLASSES)), axis=1)[:, :PALETTE]
    allowed = np.zeros((n_images, CLASSES), bool)
    np.put_along_axis(allowed, palette, True, axis=1)
    drawn = generator.integers(0, PALETTE, (n_images, n_cells))
    return Questions(
        index=np.arange(n_images) + 1000 * seed,
        cell=np.argsort(generator.random((n_images, n_cells)), axis=1)[:, :n_questions],
        labels=np.take_along_axis(palette, drawn, axis=1),
        tiles=generator.integers(0, 500, (n_images, n_cells)),
        allowed=allowed,
        n_cols=n_cols,
    )


def holding(own, seen, seed=0):
    """States that hold the classes of some cells; `seen(asked)` says which (n_cells,)."""
    noise = np.random.default_rng(seed).normal(size=(*own.cell.shape, 12)) * 0.1
    for i, q in np.ndindex(own.cell.shape):
        for cell in seen(own.cell[i, q]):
            noise[i, q, own.labels[i, cell]] += 1
    return noise.astype(np.float32)


def measured(seen, splits=None):
    splits = splits or [questions(n, seed) for seed, n in ((1, 400), (2, 100), (3, 400))]
    states = [holding(own, seen, seed) for seed, own in enumerate(splits)]
    rows = routing_rows(SITE, states, splits, Ridge())
    return {row["target"]: row for row in rows}


def is_chance(row):
    return row["palette_ci95"][0] < row["chance"] < row["palette_ci95"][1]


def test_only_the_asked_cell_is_there():
    rows = measured(lambda asked: [asked])
    assert tuple(rows) == TARGETS
    assert rows["asked"]["accuracy"] > 0.98
    assert rows["asked"]["palette_accuracy"] > 0.98
    for target in TARGETS[1:]:
        assert is_chance(rows[target])
    for row in rows.values():
        assert (row["position"], row["layer"]) == ("answer", 2)
        assert row["chance"] == pytest.approx(1 / PALETTE)
        assert (row["n_images"], row["n_train"]) == (400, 800)


def test_only_other_cells_of_its_row_are_there():
    rows = measured(lambda asked: {asked // 3 * 3 + k for k in range(3)} - {asked})
    assert rows["row"]["palette_ci95"][0] > 0.5
    for target in ("asked", "column", "other"):
        assert is_chance(rows[target])


def test_nothing_is_there():
    for row in measured(lambda asked: []).values():
        assert is_chance(row)
        assert row["accuracy"] < 0.3  # chance among all is 1 in 6


def test_what_is_in_the_grid_is_read_as_a_bag():
    """The number of each object tells something of every cell, and no more than its bag."""
    rows = measured(lambda asked: range(9))
    for row in rows.values():
        assert row["chance"] < row["palette_ci95"][0]
        assert row["palette_ci95"][0] < row["bag"] < row["palette_ci95"][1]


def test_a_grid_of_one_row_has_no_columns():
    splits = [questions(n, seed, 1, 4, 3) for seed, n in ((1, 200), (2, 50), (3, 100))]
    assert list(measured(lambda asked: [asked], splits)) == ["asked", "row"]


def test_cells_are_of_their_kind_and_drawn_evenly():
    own = questions(600, 1)
    rows = Rows.of(own, 0)
    assert np.bincount(rows.image).tolist() == [2] * 600
    pairs = {(i, q) for i, q in zip(rows.image, rows.slot, strict=True)}
    assert len(pairs) == 1200  # no question twice
    asked = own.cell[rows.image, rows.slot]
    np.testing.assert_array_equal(rows.cells["asked"], asked)
    same = {
        kind: (cell // 3 == asked // 3, cell % 3 == asked % 3) for kind, cell in rows.cells.items()
    }
    assert same["row"][0].all()
    assert not same["row"][1].any()
    assert same["column"][1].all()
    assert not same["column"][0].any()
    assert not (same["other"][0] | same["other"][1]).any()
    for cell in rows.cells.values():
        assert np.bincount(cell, minlength=9).min() > 80
    again, other = Rows.of(own, 0), Rows.of(own, 1)
    np.testing.assert_array_equal(rows.cells["other"], again.cells["other"])
    assert (rows.slot != other.slot).mean() > 0.5


def test_a_grid_is_drawn_alone():
    """What is drawn for a grid does not depend on the others."""
    own = questions(50, 1)
    some = Questions(
        own.index[10:20],
        own.cell[10:20],
        own.labels[10:20],
        own.tiles[10:20],
        own.allowed[10:20],
        3,
    )
    whole, part = Rows.of(own, 0), Rows.of(some, 0)
    np.testing.assert_array_equal(whole.slot[20:40], part.slot)
    for kind, cell in part.cells.items():
        np.testing.assert_array_equal(whole.cells[kind][20:40], cell)


def test_layers_are_read_each_by_itself():
    splits = [questions(200, seed) for seed in range(3)]
    for arrived in (True, False):
        cells = (lambda asked: [asked]) if arrived else (lambda asked: [])
        states = [holding(own, cells) for own in splits]
        for row in routing_rows(SITE, states, splits, Ridge()):
            assert (arrived and row["target"] == "asked") == (not is_chance(row))
