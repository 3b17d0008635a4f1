"""The ladder: the same grids and weights on every rung, from the text to the picture."""

import numpy as np
import pytest

import helpers
from gpt2v.ablate.ladder import climb, climb_model, logit_difference, rungs_of, scorer_of
from gpt2v.config.measuring import EvalConfig, LadderConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.model.packed import Reader

CONFIG = LadderConfig.model_validate(
    {
        "tiles": helpers.TINY_TILES,
        "grid": {"rows": 2, "cols": 2},
        "n_images": 20,
        "model": "x",
    }
)


@pytest.fixture
def data(bank):
    return GridDataset(CONFIG.grid, bank, CONFIG.seed, CONFIG.split, CONFIG.n_images, "grid.")


@pytest.fixture
def render(loaded, bank):
    return loaded.renderer(bank)


def test_every_rung_shows_the_same_samples(loaded, data, render):
    rungs = rungs_of(CONFIG).values()
    batches = [next(data.batches(rung.layout, render)) for rung in rungs]
    for batch in batches[1:]:
        np.testing.assert_array_equal(batch.samples.tiles, batches[0].samples.tiles)
        np.testing.assert_array_equal(batch.samples.row, batches[0].samples.row)


def test_the_rungs_have_the_image_positions_that_they_say(loaded, data, render, table):
    counts = {}
    for name, rung in rungs_of(CONFIG).items():
        batch = next(data.batches(rung.layout, render))
        counts[name] = set((batch.input_ids == table.image_id).sum(1).tolist())
    words = 2 * (2 * 2 + 1 + 1)  # bars, names and the newline of two rows
    assert counts == {"R0": {0}, "R1": {words}, "R2": {4}, "R3": {16}, "R4": {16}}


def test_the_splice_changes_nothing_and_a_wrong_one_is_seen(loaded, data, render, monkeypatch):
    rungs = rungs_of(CONFIG)
    pair = [
        (scorer_of(rungs[name], loaded.gpt2v, render, None), rungs[name].layout)
        for name in ("R0", "R1")
    ]
    assert logit_difference(data, *pair) == 0.0

    def other(self, batch):
        return (
            self.wte.weight[: int((batch.input_ids == self.image_id).sum()) % 7 + 1]
            .mean(0, keepdim=True)
            .expand(int((batch.input_ids == self.image_id).sum()), -1)
        )

    monkeypatch.setattr("gpt2v.model.vision_tokens.SplicedText.__call__", other)
    assert logit_difference(data, *pair) > 1e-3


def test_rows_of_the_ladder(loaded, data, tmp_path):
    rows = climb(loaded, data, CONFIG, tmp_path)["results"]
    assert [row["rung"] for row in rows] == ["R0", "R1", "R2", "R3", "R4"]
    assert [row["parent"] for row in rows] == [None, "R0", "R1", "R2", "R3"]
    assert rows[1]["accuracy"] == rows[0]["accuracy"]
    first, last = rows[0]["accuracy"], rows[-1]["accuracy"]
    for row in rows:
        assert row["n_questions"] == 80
        if first == last:
            assert row["gap_closed"] is None
        else:
            expected = (row["accuracy"] - last) / (first - last)
            assert row["gap_closed"] == pytest.approx(expected)


def test_a_saved_model_climbs_and_its_ends_are_its_evaluation(mm_run, tmp_path):
    from gpt2v.eval.evaluate import evaluate_model

    values = {"tiles": helpers.TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 60}
    for name in ("ladder", "eval"):
        (tmp_path / name).mkdir()
    config = LadderConfig.model_validate({**values, "model": str(mm_run)})
    rows = climb_model(config, tmp_path / "ladder")["results"]
    measured = evaluate_model(str(mm_run), EvalConfig.model_validate(values), tmp_path / "eval")[
        "results"
    ]
    assert rows[0]["accuracy"] == measured[0]["accuracy"]
    assert rows[-1]["accuracy"] == measured[1]["accuracy"]
    assert rows[0]["accuracy"] > rows[-1]["accuracy"]
    assert rows[0]["gap_closed"] == 1
    assert rows[-1]["gap_closed"] == 0


def test_a_reader_without_a_source_refuses_pictures(data, render, lm, table):
    batch = next(data.batches("image", render))
    with pytest.raises(AssertionError, match="no source"):
        Reader(lm, table.image_id)(batch)
