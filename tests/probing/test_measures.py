"""Measures of probes find what is planted, and nothing else."""

import numpy as np
import pytest
from planted import N_CELLS, N_COLS, NAMES, WIDTH, K, noise, one_hot, probed, seen

from gpt2v.errors import UserError
from gpt2v.probing.measures.description_length import DescriptionLength
from gpt2v.probing.measures.equal_dimension import EqualDimension, principal
from gpt2v.probing.measures.leakage import Leakage
from gpt2v.probing.measures.learning_curve import LearningCurve
from gpt2v.probing.measures.selectivity import Selectivity
from gpt2v.probing.measures.transfer import Transfer
from gpt2v.probing.splits import check_classes

# ---- leakage ----------------------------------------------------------------------------------


def moved(labels, tiles, rng):
    """The class of the cell before it is in each cell's patches, and not its own."""
    return one_hot(np.roll(labels, 1, axis=1)) + 0.1 * noise(labels, tiles, rng)


def test_a_class_that_is_only_in_another_cells_patches_is_found_there():
    rows = Leakage()(probed(moved, measured_sites=["pre-projector"]))
    assert len(rows) == N_CELLS**2
    for row in rows:
        (r, c), (r2, c2) = row["of"], row["read"]
        of, read = 2 * r + c, 2 * r2 + c2
        if (of + 1) % N_CELLS == read:
            assert row["accuracy"] > 0.98
            assert row["excess"] > 0.7
            assert row["p_holm"] < 1e-6
        else:
            assert row["accuracy"] == pytest.approx(1 / K, abs=0.08)
            assert of == read or row["p_holm"] > 0.01


@pytest.mark.parametrize("n_listed", [2, K])
def test_what_a_palette_tells_is_no_leakage(n_listed):
    """With two listed objects, one cell's object is the best guess of another's: right in half."""
    rows = Leakage()(probed(seen, n_listed=n_listed, measured_sites=["pre-projector"]))
    others = [row for row in rows if row["of"] != row["read"]]
    assert np.mean([row["accuracy"] for row in others]) == pytest.approx(1 / n_listed, abs=0.04)
    assert min(row["p_holm"] for row in others) > 0.01
    own = [row["accuracy"] for row in rows if row["of"] == row["read"]]
    assert min(own) > 0.98


def held(labels, tiles, rng):
    """Each patch holds how many of each object the grid has, and not where."""
    counts = one_hot(labels).sum(1, keepdims=True)
    return np.repeat(counts, N_CELLS, 1) + 0.1 * noise(labels, tiles, rng)


def test_which_objects_a_grid_holds_is_an_excess_but_not_beyond_the_bag():
    for plant, placed in ((held, False), (moved, True)):
        rows = Leakage()(probed(plant, n_listed=3, measured_sites=["pre-projector"]))
        others = [row for row in rows if row["of"] != row["read"]]
        beyond = [row["beyond_bag"] > 0 and row["beyond_bag_p_holm"] < 0.05 for row in others]
        assert sum(beyond) == (N_CELLS if placed else 0)
        if not placed:
            assert all(row["excess"] > 0 and row["p_holm"] < 0.05 for row in others)


# ---- selectivity ------------------------------------------------------------------------------


def remembered(labels, tiles, rng):
    """Each tile has a code of its own, and nothing of its class."""
    codes = np.random.default_rng(7).normal(size=(40 * K, WIDTH))
    return codes[tiles % (40 * K)]


def known(labels, tiles, rng):
    """Each of 12 pictures has a code of its own, so any classes of them can be learnt."""
    return one_hot(tiles % WIDTH) + 0.01 * noise(labels, tiles, rng)


def test_random_features_are_at_chance_and_have_no_selectivity():
    rows = Selectivity()(probed(noise, n_tiles=50))
    assert len(rows) == 6
    for row in rows:
        assert row["selectivity_p"] > 0.05 / 6
        assert row["accuracy"] == pytest.approx(1 / K, abs=0.1)


def test_features_of_the_class_are_selective():
    for row in Selectivity()(probed(seen, n_tiles=50)):
        assert row["accuracy"] > 0.98
        assert row["control_accuracy"] < 0.35
        assert row["selectivity_ci95"][0] > 0.5


def test_features_that_know_pictures_by_heart_are_not_selective():
    """One picture of each class: its class and a random class are the same to them."""
    for row in Selectivity()(probed(remembered, n_tiles=1)):
        assert row["accuracy"] > 0.9
        assert row["control_accuracy"] > 0.9
        assert row["n_tiles"] == K


def test_only_pictures_that_the_cell_showed_in_training_are_asked():
    """Of 3,000 pictures of a class a cell shows few again, and never one that it did not show."""
    for row in Selectivity()(probed(seen, n_tiles=3000)):
        assert 3 <= row["n_images"] < 60
    assert Selectivity()(probed(seen, n_tiles=10**6)) == []  # no cell shows a picture again
    for row in Selectivity()(probed(known, n_tiles=2)):
        assert row["n_images"] == 300
        assert row["control_accuracy"] > 0.98


# ---- transfer ---------------------------------------------------------------------------------


def turned(labels, tiles, rng):
    """Cell 3 has another code than the others."""
    states = seen(labels, tiles, rng)
    states[:, 3] = np.roll(states[:, 3], K, axis=-1)
    return states


def test_a_cell_with_another_code_is_found_by_transfer():
    rows = Transfer()(probed(turned, measured_cells=4, measured_sites=["pre-projector"]))
    for row in rows:
        same = (row["trained"] == [1, 1]) == (row["tested"] == [1, 1])
        assert (row["accuracy"] > 0.97) == same
        low, high = row["difference_ci95"]
        assert (low <= 0 <= high) == same


# ---- learning curve, dimensions, description --------------------------------------------------


def test_a_curve_has_levelled_off_or_not():
    steady = LearningCurve()(probed(seen))
    assert [row["n_train"] for row in steady] == [56, 112, 225, 450, 900]
    assert [row["n_val"] for row in steady] == [18, 37, 75, 150, 300]
    assert steady[0]["cells"] == [[0, 0], [1, 0], [1, 1]]
    assert steady[-1]["levelled"]
    assert "gain" not in steady[0]

    def faint(labels, tiles, rng):
        return 0.12 * one_hot(labels) + 0.1 * noise(labels, tiles, rng)

    rising = LearningCurve()(probed(faint, n=160))
    assert rising[-1]["accuracy"] > rising[0]["accuracy"] + 0.1
    assert not rising[-1]["levelled"]


def test_equally_many_components_for_every_site():
    rows = EqualDimension()(probed(seen))
    assert {row["n_components"] for row in rows} == {2 * WIDTH}
    assert [row["site"] for row in rows] == ["pre-projector", "vision"]
    assert min(row["accuracy"] for row in rows) > 0.98
    x = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32) @ np.diag([9, 1, 5, 1, 1])
    mean, components = principal(x.astype(np.float32), 2)
    assert np.abs(components[[0, 2], [0, 1]]) == pytest.approx([1, 1], abs=0.02)
    assert mean == pytest.approx(x.mean(0), abs=1e-5)


def test_the_code_of_noise_is_no_shorter_than_the_uniform_one():
    rows = DescriptionLength()(probed(noise, measured_cells=1))
    assert all(row["compression"] < 1.02 for row in rows)
    rows = DescriptionLength()(probed(seen, measured_cells=1))
    assert all(row["compression"] > 4 for row in rows)
    assert rows[0]["bits_per_label"] == pytest.approx(np.log2(K) / rows[0]["compression"])


# ---- input ------------------------------------------------------------------------------------


def test_pictures_that_tell_little_give_a_longer_code_before_they_are_many():
    """A code knows nothing that is not told: the first part takes the bits of the uniform one."""

    def faint(labels, tiles, rng):
        return 0.2 * one_hot(labels) + 0.1 * noise(labels, tiles, rng)

    few, many = (
        DescriptionLength()(probed(faint, n=n, measured_cells=1))[0]["compression"]
        for n in (100, 3000)
    )
    assert 0.8 < few < many - 0.5
    (row, _) = DescriptionLength()(probed(seen, n=12, measured_cells=1))
    assert row["compression"] == 1


def test_an_absent_class_is_one_line():
    splits = probed(seen).splits
    check_classes(splits, NAMES, N_COLS)
    split = splits["train"]
    split.grids.classes[split.grids.classes == K - 1] = 0
    del split.__dict__["labels"]
    with pytest.raises(UserError, match="n_train: 900 pictures of train show no f in row 0, col"):
        check_classes(splits, NAMES, N_COLS)


def test_measured_cells_are_spread():
    assert probed(noise, measured_cells=1).measured_cells == [0]
    assert probed(noise, measured_cells=2).measured_cells == [0, 3]
    assert probed(noise, measured_cells=99).measured_cells == [0, 1, 2, 3]
