"""The stream of batches: pure in the step, follows its stages, refuses bad specs."""

import dataclasses

import numpy as np
import pytest

import helpers
from gpt2v.config.data import DataConfig
from gpt2v.config.grids import GridConfig
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.stream import Stream, training_hash
from gpt2v.data.tiles.bank import split_of
from gpt2v.errors import UserError


def stream(bank, table, stages, **data):
    config = DataConfig.model_validate({"batch_size": 4, "stages": stages, **data})
    return Stream(config, Renderer(bank, table, PictureGeometry(48, 8)))


SMALL = {"rows": 1, "cols": 2}
STAGES = [
    {"steps": 3, "mix": [SMALL]},
    {"steps": 2, "mix": [{"rows": 2, "cols": 2, "weight": 3}, {"modality": "image"}]},
]


def test_a_step_is_pure_and_steps_share_no_sample(bank, table):
    first, again = stream(bank, table, STAGES), stream(bank, table, STAGES)
    steps = {step: first.batch(step) for step in (4, 0, 7)}
    for step, batch in steps.items():
        other = again.batch(step)
        np.testing.assert_array_equal(batch.input_ids, other.input_ids)
        np.testing.assert_array_equal(batch.samples.tiles, other.samples.tiles)
        np.testing.assert_array_equal(batch.samples.index, np.arange(4 * step, 4 * step + 4))


def test_stages_follow_each_other_and_the_last_one_continues(bank, table):
    made = stream(bank, table, STAGES)
    assert sum(stage.steps for stage in made.config.stages) == 5
    shapes = [(made.spec(step).rows, made.spec(step).cols) for step in range(60)]
    assert shapes[:3] == [(1, 2)] * 3
    assert set(shapes[3:]) == {(2, 2), (3, 3)}
    assert made.describe(2) == "text/markdown: 1x2"
    assert "image" in made.describe(3)
    assert made.describe(3).endswith("2x2, 3x3")


def test_steps_show_pictures_if_their_stage_or_the_last_one_does(bank, table):
    """The last one is what is validated."""
    pictures, words = {"steps": 2, "mix": [{"modality": "image"}]}, {"steps": 3, "mix": [SMALL]}
    first = stream(bank, table, [pictures, words])
    assert [first.shows_pictures(*steps) for steps in ((0, 2), (1, 3), (2, 5))] == [1, 1, 0]
    assert stream(bank, table, [words, pictures]).shows_pictures(0, 3)
    assert not stream(bank, table, [words]).shows_pictures(0, 3)


def test_an_epoch_shows_every_sample_once_in_a_new_order(bank, table):
    made = stream(bank, table, [{"steps": 9, "mix": [{**SMALL, "n_images": 10}]}])
    index = np.concatenate([made.batch(step).index for step in range(10)])  # four epochs
    epochs = [index[start : start + 10].tolist() for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    fresh = stream(bank, table, [{"steps": 9, "mix": [SMALL]}])
    first = fresh.dataset(fresh.spec(0), "train").samples(np.array(epochs[2]))
    np.testing.assert_array_equal(made.batch(5).samples.tiles, first.tiles[:4])
    other = stream(bank, table, [{"steps": 9, "mix": [{**SMALL, "n_images": 10}]}], seed=1)
    assert other.batch(0).index.tolist() != made.batch(0).index.tolist()


def test_slices_of_a_batch_of_an_epoch_join_to_the_whole(bank, table):
    stages = [{"steps": 9, "mix": [{**SMALL, "n_images": 7}]}]
    for step in (0, 1, 30):  # step 1 is in two epochs
        whole = stream(bank, table, stages).batch(step).index
        for parts in (2, 3):
            alone = [stream(bank, table, stages).batch(step, i, parts).index for i in range(parts)]
            np.testing.assert_array_equal(np.concatenate(alone), whole)


def test_the_mixture_has_the_weights_of_its_specs(bank, table):
    made = stream(bank, table, STAGES)
    share = np.mean([made.spec(step).rows == 2 for step in range(3, 2003)])
    assert abs(share - 0.75) < 0.05


def test_the_data_seed_draws_other_batches(bank, table):
    one, two = (stream(bank, table, STAGES, seed=s).batch(0).samples.classes for s in (0, 1))
    assert (one != two).any()


def test_validation_is_held_out_independent_and_complete(bank, table):
    made = stream(bank, table, [{"steps": 1, "mix": [{**SMALL, "mode": "chained"}]}])
    data = made.dataset(made.spec(0), "val", 120)
    batches = list(data.batches(made.layout(made.spec(0)), made.render))
    index = np.concatenate([b.samples.index for b in batches])
    assert index.tolist() == list(range(120))
    for batch in batches:
        assert set(split_of(batch.samples.tiles).reshape(-1)) == {1}
        assert batch.choices is not None
        assert batch.segments.max() > 0  # questions in segments of their own


def test_specs_that_the_model_cannot_hold_are_named(bank, table):
    long = [{"steps": 1, "mix": [SMALL, {"rows": 4, "cols": 3, "mode": "chained"}]}]
    with pytest.raises(UserError, match=r"data\.stages\.0\.mix\.1\..*4x3 grid.*n_positions: 100"):
        stream(bank, table, long).check(100)
    wide = [{"steps": 1, "mix": [{"rows": 1, "cols": 4, "modality": "image"}]}]
    with pytest.raises(UserError, match=r"data\.stages\.0\.mix\.0.*1x4 grid .*needs 64 pixels"):
        stream(bank, table, wide).check(512)
    many = [{"steps": 1, "mix": [{"palette": 12}]}]
    with pytest.raises(UserError, match=r"data\.stages\.0\.mix\.0\.palette: 12"):
        stream(bank, table, many).check(512)
    blind = Stream(
        DataConfig.model_validate({"stages": [{"steps": 1, "mix": [{"modality": "image"}]}]}),
        Renderer(bank, table),
    )
    with pytest.raises(UserError, match=r"data\.stages\.0\.mix\.0\.modality"):
        blind.check(512)


def test_a_length_that_fits_exactly_is_accepted(bank, table):
    made = stream(bank, table, [{"steps": 1, "mix": [{**SMALL, "mode": "chained"}]}])
    needed = int(made.batch(0).position_ids.max()) + 1
    made.check(needed)
    with pytest.raises(UserError, match=f"needs {needed} positions"):
        made.check(needed - 1)


def test_the_check_covers_every_later_batch(long_bank, table):
    """With class names of several tokens, rows differ in length: the longest must fit, too."""
    made = stream(long_bank, table, [{"steps": 1, "mix": [{**SMALL, "mode": "chained"}]}])
    longest = max(int(made.batch(step).position_ids.max()) + 1 for step in range(200))
    with pytest.raises(UserError, match="n_positions"):
        made.check(longest - 1)


def one_grid(name=None, **grid):
    """Training data with one spec."""
    stages = [{"name": name, "steps": 1, "mix": [grid]}]
    return DataConfig.model_validate({"stages": stages})


def test_the_data_hash_follows_the_tiles_and_the_spec(bank, long_bank, table):
    base = training_hash(one_grid(), bank)
    assert base == training_hash(one_grid(), bank)
    assert base == training_hash(one_grid(n_images=None, modality="text", augment={}), bank)
    assert base == training_hash(one_grid("reading"), bank)  # the name is for logs only
    others = [
        training_hash(one_grid(), long_bank),
        training_hash(one_grid(rows=2), bank),
        training_hash(one_grid(n_images=9), bank),
        training_hash(one_grid(modality="image"), bank),
    ]
    assert len({base, *others}) == 5
    assert Stream(one_grid(), Renderer(bank, table)).data_hash == base


def test_the_data_hash_covers_pixels_only_if_tiles_are_shown(bank, long_bank):
    """Class names always count; pixels of the training split only if pictures are shown."""
    darker = helpers.repainted(bank, lambda pixels, _: pixels // 2)
    elsewhere = dataclasses.replace(bank, splits={**darker.splits, "train": bank.splits["train"]})
    for modality in ("text", "image", "text+image"):
        config = one_grid(modality=modality)
        base = training_hash(config, bank)
        assert (training_hash(config, darker) == base) == (modality == "text")
        assert training_hash(config, elsewhere) == base
        assert training_hash(config, long_bank) != base


def test_another_layout_shows_the_same_samples(bank, table):
    """Layout `positions`, as in the ladder's blind rung: all but the pictures is the same."""
    stages = [{"steps": 3, "mix": [{"rows": [1, 2], "modality": "image"}, {"rows": 2}]}]
    shown = stream(bank, table, stages)
    blind = dataclasses.replace(shown, layouts={"image": "positions"})
    with_pictures = 0
    for step in range(8):
        one, other = shown.batch(step), blind.batch(step)
        for part in dataclasses.fields(one.samples):
            mine, theirs = (getattr(batch.samples, part.name) for batch in (one, other))
            np.testing.assert_array_equal(mine, theirs)
        for name in ("input_ids", "position_ids", "labels", "segments", "answers", "sees"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert other.pictures is None
        assert other.pixels is None
        if one.pictures is None:  # as text
            assert one.images is other.images is None
            continue
        with_pictures += 1
        for name in ("sample", "cell", "patch", "picture"):
            mine, theirs = (getattr(batch.images, name) for batch in (one, other))
            np.testing.assert_array_equal(mine, theirs)
    assert 0 < with_pictures < 8
    spec = stages[0]["mix"][0]
    assert blind.layout(GridConfig.model_validate(spec)) == "positions"
    assert shown.layout(GridConfig.model_validate(spec)) == "image"
