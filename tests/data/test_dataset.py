"""The data set: each sample alone, hashes, batches and pictures."""

import dataclasses
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import helpers
from gpt2v.config.grids import (
    AugmentConfig,
    ContentConfig,
    GridConfig,
    HeldOutGridConfig,
    LadderGridConfig,
    ProbeGridConfig,
    SampleSpec,
)
from gpt2v.config.pictures import PictureConfig, TileAugmentConfig, TilesConfig
from gpt2v.data.dataset import PORTION, GridDataset
from gpt2v.data.grids.cells import Grids
from gpt2v.data.grids.instructions import NAMES
from gpt2v.data.grids.paraphrases import HELD_OUT_PROMPTS, PROMPTS
from gpt2v.data.grids.samples import NOT_ASKED, Samples
from gpt2v.data.render.batches import IGNORE, Renderer
from gpt2v.data.render.pictures import compose
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.render.views import LAYOUTS, ImageView, TextView, picture_of, view_of
from gpt2v.data.tiles.bank import SPLITS
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError

SIDE = 96  # side of a model's pictures, in pixels
GEOMETRY = PictureGeometry(SIDE, 8)
BLIND = ("text", "spliced", "positions", "cells")  # layouts without pictures


def sizes(low, high):
    """A fixed size or a range of sizes."""
    one = st.integers(low, high)
    return st.one_of(one, st.tuples(one, one).map(sorted).map(list))


@st.composite
def specs(draw):
    """Specs of all types, for tiles of 16 pixels, whose grids fit into pictures of SIDE pixels."""
    paraphrase = draw(st.booleans())
    form = draw(st.sampled_from(["markdown", "csv", "coordinates", "patch-tiled"]))
    asked = draw(st.sets(st.sampled_from(NAMES))) | {"lookup"}
    return HeldOutGridConfig(
        rows=draw(sizes(2, 3)),
        cols=draw(sizes(1, 3)),
        palette=draw(sizes(2, 5)),
        instructions=dict.fromkeys(sorted(asked), 1.0),
        questions=draw(st.sampled_from([None, 1, 2])),
        augment=AugmentConfig(
            paraphrase=paraphrase,
            held_out=paraphrase and draw(st.booleans()),
            index_bases=draw(st.sampled_from([[0], [1], [0, 1]])),
            order=draw(st.sampled_from(["random", "raster"])),
            position_offset=draw(st.sampled_from([0, 9])),
        ),
        form=form,
        noise=draw(st.sampled_from([0.0, 0.3])) if form == "patch-tiled" else 0.0,
        picture=PictureConfig(
            layout=draw(st.sampled_from(["composite", "multi"])),
            gap=draw(st.integers(0, 3)),
            border=draw(st.integers(0, 3)),
            noise=draw(st.sampled_from([0.0, 5.0])),
        ),
    )


splits = st.sampled_from(SPLITS)
seeds = st.integers(0, 9)


@pytest.fixture(scope="module")
def varied(bank):
    """The same tiles, with augmentation in training."""
    return dataclasses.replace(bank, augment=TileAugmentConfig(flip=True, noise=9.0))


def assert_same(one, other):
    """Both are equal, down to every array; pictures are compared by their pixels."""
    if one is other:
        return
    assert type(one) is type(other)
    if dataclasses.is_dataclass(one):
        for part in dataclasses.fields(one):
            if part.name != "bank":  # its tiles are compared as pictures
                assert_same(getattr(one, part.name), getattr(other, part.name))
        if hasattr(one, "pixels"):
            assert_same(one.pixels, other.pixels)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, tuple | list):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    else:
        assert one == other


def assert_same_row(whole, row, alone):
    """A row of samples equals the sample drawn alone, which may have fewer slots and cells."""
    for part in dataclasses.fields(Samples):
        shared, own = getattr(whole, part.name)[row], getattr(alone, part.name)[0]
        np.testing.assert_array_equal(shared[tuple(slice(n) for n in own.shape)], own)
    assert (whole.instruction[row, alone.instruction.shape[1] :] == NOT_ASKED).all()


# ---- samples ----------------------------------------------------------------------------------


@given(specs(), splits, seeds, st.lists(st.integers(0, 10**12), min_size=1, max_size=5))
def test_a_sample_is_the_same_alone_and_among_others(varied, spec, split, seed, index):
    data = GridDataset(spec, varied, seed, split)
    arrays, examples = data.samples(np.array(index)), data.examples(np.array(index))
    turned = data.examples(np.array(index[::-1]))
    assert_same(turned[::-1], examples)
    assert [example.index for example in examples] == arrays.index.tolist() == index
    for row, number in enumerate(index):
        assert_same_row(arrays, row, data.samples(np.array([number])))
        assert_same(data[number], examples[row])


@settings(max_examples=15)
@given(specs(), splits, seeds, st.integers(1, 9), st.integers(1, 4))
def test_a_finite_set_is_its_portions_of_any_size(varied, spec, split, seed, n, size):
    data = GridDataset(spec, varied, seed, split, n)
    portions = list(data.portions(size))
    assert np.concatenate(portions).tolist() == list(range(n)) == list(range(len(data)))
    assert {len(portion) for portion in portions[:-1]} <= {size}
    assert len(portions) == data.n_portions(size)
    whole = data.samples()
    for portion in portions:
        arrays = data.samples(portion)
        for row, number in enumerate(portion.tolist()):
            alone = data.samples(np.array([number]))
            assert_same_row(whole, number, alone)
            assert_same_row(arrays, row, alone)
    examples = [example for portion in portions for example in data.examples(portion)]
    assert_same(examples, list(data))
    for other in (dataclasses.replace(data, n=None), dataclasses.replace(data, n=n + 3)):
        assert_same(other[n - 1], data[n - 1])


@given(specs(), splits, seeds)
def test_grids_are_those_of_the_samples(bank, spec, split, seed):
    data, index = GridDataset(spec, bank, seed, split), np.array([7, 0, 3])
    grids, samples = data.grids(index), data.samples(index)
    for part in dataclasses.fields(Grids):
        assert_same(getattr(grids, part.name), getattr(samples, part.name))


@pytest.mark.parametrize("spec_type", [ContentConfig, ProbeGridConfig])
def test_without_questions_in_the_spec_every_cell_is_asked_for(bank, spec_type):
    sides = {"rows": 2, "cols": 3, "palette": 3}
    plain = GridDataset(spec_type(**sides), bank, 2, "val", 5)
    assert_same(plain.samples(), GridDataset(SampleSpec(**sides), bank, 2, "val", 5).samples())
    for example in plain:
        cells = [(question.row, question.col) for question in example.asked]
        assert sorted(cells) == [(r, c) for r in range(2) for c in range(3)]


def test_seeds_and_splits_have_samples_of_their_own(bank):
    sets = [
        GridDataset(SampleSpec(), bank, seed, split, 50).samples().classes
        for seed in (0, 1)
        for split in SPLITS
    ]
    for k, one in enumerate(sets):
        for other in sets[k + 1 :]:
            assert not (one == other).all((1, 2)).any()


def picture_by_hand(bank, split, samples, i, picture):
    """The pictures of a grid, copied cell by cell from the tiles of a split."""
    own = bank.splits[split]
    rows, cols = samples.classes[i].shape

    def tile(r, c):
        before = sum(own.counts[: samples.classes[i, r, c]])  # tiles of the classes before this one
        number = int(samples.tiles[i, r, c]) % 2**32
        assert number < own.counts[samples.classes[i, r, c]]
        return own.pixels[before + number]

    def sheet(tiles):
        n = (len(tiles), len(tiles[0]))
        height, width = (2 * picture.border + k * 16 + (k - 1) * picture.gap for k in n)
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[:] = picture.background
        for r, row in enumerate(tiles):
            for c, pixels in enumerate(row):
                y, x = (picture.border + k * (16 + picture.gap) for k in (r, c))
                canvas[y : y + 16, x : x + 16] = pixels
        return canvas

    tiles = [[tile(r, c) for c in range(cols)] for r in range(rows)]
    if picture.layout == "composite":
        return [sheet(tiles)]
    return [sheet([[pixels]]) for row in tiles for pixels in row]


@given(
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(2, 6),
    splits,
    seeds,
    st.integers(0, 10**6),
    st.sampled_from(["markdown", "patch-tiled"]),
    st.sampled_from(["composite", "multi"]),
    st.booleans(),
)
def test_an_example_equals_plain_python(
    bank, long_bank, rows, cols, palette, split, seed, number, form, layout, long
):
    tiles = long_bank if long else bank
    names = tiles.class_names
    picture = PictureConfig(layout=layout, gap=2, border=1, background=[9, 8, 7])
    spec = HeldOutGridConfig(rows=rows, cols=cols, palette=palette, form=form, picture=picture)
    data = GridDataset(spec, tiles, seed, split)
    example, samples = data[number], data.samples(np.array([number]))

    asked = range(rows * cols)
    lines = helpers.markdown(samples, 0, names)
    if form == "patch-tiled":
        lines = helpers.patch_tiled(samples, 0, names, 2)
    start = helpers.prefix(samples, 0, names, lines)
    assert example.text == start + helpers.chat(samples, 0, names)
    assert example.questions == [helpers.question(samples, 0, q) for q in asked]
    answers = [helpers.answer(samples, 0, q, names) for q in asked]
    assert [f" {answer}\n" for answer in example.answers] == answers
    cells = [(question.row, question.col) for question in example.asked]
    assert sorted(cells) == [(r, c) for r in range(rows) for c in range(cols)]
    assert [example.classes[r][c] for r, c in cells] == example.answers
    assert {name for row in example.classes for name in row} <= set(example.palette)
    assert len(set(example.palette)) == palette
    assert example.index == number

    expected = picture_by_hand(tiles, split, samples, 0, picture)
    shown = example.image if isinstance(example.image, list) else [example.image]
    assert len(shown) == len(expected) == (1 if layout == "composite" else rows * cols)
    for image, pixels in zip(shown, expected, strict=True):
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), pixels)


# ---- as a sequence ----------------------------------------------------------------------------


@given(st.integers(1, 60), seeds)
def test_numbers_count_from_both_ends_and_others_are_refused(bank, n, seed):
    data = GridDataset(SampleSpec(rows=1, cols=2), bank, seed, "val", n)
    assert len(data) == n
    for number in {0, n // 2, n - 1}:
        assert data[number].index == number
        assert_same(data[number - n], data[number])
        assert_same(data[np.int64(number)], data[number])
    for number in (n, n + 7, -n - 1, -2 * n - 9):
        with pytest.raises(IndexError, match=rf"no sample {number}: the data set has {n}$"):
            data[number]


def test_a_finite_set_is_a_sequence(bank):
    data = GridDataset(SampleSpec(rows=1, cols=2), bank, 0, "val", 7)
    assert [example.index for example in data] == list(range(7))
    assert [example.index for example in reversed(data)] == list(range(7))[::-1]


def test_an_endless_set_has_no_length_and_no_end(bank, table):
    data = GridDataset(SampleSpec(rows=1, cols=2), bank)
    for ask in (len, GridDataset.samples, GridDataset.n_portions, lambda d: d[-1]):
        with pytest.raises(TypeError, match="endless"):
            ask(data)
    assert data[10**12].index == 10**12
    for size in (PORTION, 3):
        portions = list(islice(data.portions(size), 40))
        assert np.concatenate(portions).tolist() == list(range(40 * size))
        assert {len(portion) for portion in portions} == {size}
    batches = list(islice(data.batches("text", Renderer(bank, table), size=4), 5))
    assert [batch.index.tolist() for batch in batches] == [
        list(range(start, stop)) for start, stop in pairwise(range(0, 24, 4))
    ]
    pictures = islice(data.pictures(SIDE, 4), 5)
    assert [len(part) for part in pictures] == [4] * 5


# ---- hashes -----------------------------------------------------------------------------------


@given(specs(), specs(), splits, seeds)
def test_hashes_are_equal_if_and_only_if_the_specs_are(bank, spec, other, split, seed):
    data = GridDataset(spec, bank, seed, split, 9)
    every, fewest = spec.model_dump(), spec.model_dump(exclude_defaults=True)
    for fields in (every, fewest):
        again = HeldOutGridConfig.model_validate(fields)
        assert GridDataset(again, bank, seed, split, 9, key="grid.").hash == data.hash
    other_hash = GridDataset(other, bank, seed, split, 9).hash
    assert (other_hash == data.hash) == (other == spec)


DEFAULTS = {name: field.default for name, field in HeldOutGridConfig.model_fields.items()}


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_field_that_is_given_its_default_changes_no_hash(bank, name):
    plain = GridDataset(HeldOutGridConfig(), bank, 1, "test", 9).hash
    assert (
        GridDataset(HeldOutGridConfig(**{name: DEFAULTS[name]}), bank, 1, "test", 9).hash == plain
    )
    inner = DEFAULTS[name]
    if hasattr(inner, "model_dump"):  # and the fields within it
        given = HeldOutGridConfig.model_validate({name: inner.model_dump()})
        assert GridDataset(given, bank, 1, "test", 9).hash == plain


def test_the_same_grids_of_another_command_hash_the_same(bank):
    types = (SampleSpec, LadderGridConfig, HeldOutGridConfig, GridConfig)
    hashes = {GridDataset(spec_type(rows=2), bank, 1, "test", 9).hash for spec_type in types}
    assert len(hashes) == 1


def test_every_change_of_the_samples_changes_the_hash(bank, long_bank, varied):
    spec = HeldOutGridConfig()
    base = GridDataset(spec, bank, 1, "train", 9)
    specs = [
        {"rows": 2},
        {"cols": 2},
        {"palette": 3},
        {"rows": [2, 3]},
        {"instructions": {"lookup": 2.0}},
        {"instructions": {"count": 1.0}},
        {"questions": 3},
        {"augment": {"order": "raster"}},
        {"augment": {"paraphrase": True}},
        {"form": "csv"},
        {"form": "patch-tiled"},
        {"form": "patch-tiled", "patches": 3},
        {"form": "patch-tiled", "noise": 0.1},
        {"picture": {"gap": 1}},
        {"picture": {"layout": "multi"}},
        {"picture": {"resize": True}},
    ]
    changes = [
        {"seed": 2},
        {"split": "val"},
        {"split": "test"},
        {"n": 10},
        {"n": None},
        {"bank": long_bank},
        {"bank": varied},
        *({"spec": HeldOutGridConfig.model_validate(spec)} for spec in specs),
    ]
    hashes = [dataclasses.replace(base, **change).hash for change in changes]
    assert len({base.hash, *hashes}) == len(changes) + 1
    assert dataclasses.replace(base, bank=load_bank(TilesConfig(per_class=20, size=16))).hash == (
        base.hash
    )


@pytest.mark.parametrize("split", SPLITS)
def test_a_hash_covers_the_pixels_of_its_own_split_only(bank, split):
    """One grey level of one pixel of one tile counts; tiles of other splits do not."""

    def flipped(pixels, _):
        pixels = pixels.copy()
        pixels[3, 2, 1, 0] ^= 1
        return pixels

    changed = helpers.repainted(bank, flipped).splits
    base = GridDataset(SampleSpec(), bank, 1, split, 9)
    for other in SPLITS:
        tiles = dataclasses.replace(bank, splits={**bank.splits, other: changed[other]})
        changed_hash = dataclasses.replace(base, bank=tiles).hash
        assert (changed_hash == base.hash) == (other != split)
    elsewhere = {**changed, split: bank.splits[split]}
    tiles = dataclasses.replace(bank, splits=elsewhere)
    assert dataclasses.replace(base, bank=tiles).hash == base.hash


# ---- batches and pictures ---------------------------------------------------------------------


@settings(max_examples=10)
@given(specs(), splits, seeds, st.integers(1, 4), st.sampled_from(["independent", "chained"]))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches_by_a_layouts_name_are_those_of_its_view(
    varied, table, layout, spec, split, seed, size, mode
):
    render = Renderer(varied, table, GEOMETRY)
    data = GridDataset(spec, varied, seed, split, 5)
    view = view_of(spec, layout, varied.size, GEOMETRY)
    assert isinstance(view, TextView) == (layout in ("text", "spliced"))
    how = {"with_choices": mode == "independent", "mode": mode, "size": size}
    named = list(data.batches(layout, render, **how))
    assert_same(named, list(data.batches(view, render, **how)))
    assert_same(named, list(data.batches(data.view(layout, render), render, **how)))
    for index, batch in zip(data.portions(size), named, strict=True):
        assert_same(batch, render(data.samples(index), view, mode, mode == "independent"))
        assert (batch.choices is None) == (mode == "chained")
        assert (batch.pictures is None) == (layout in BLIND)
        if batch.pictures is not None:
            shown = compose(batch.samples, varied, SIDE, spec.picture)
            np.testing.assert_array_equal(batch.pixels, shown)


@settings(max_examples=15)
@given(specs(), splits, seeds)
def test_every_layout_shows_the_same_samples(bank, table, spec, split, seed):
    """The same arrays, and after the grid the same text, questions and supervised tokens."""
    render = Renderer(bank, table, GEOMETRY)
    data = GridDataset(spec, bank, seed, split, 4)
    samples, seen = data.samples(), []
    for layout in LAYOUTS:
        (batch,) = data.batches(layout, render)
        assert_same(batch.samples, samples)
        after = []
        for ids, labels, segments in zip(
            batch.input_ids, batch.labels, batch.segments, strict=True
        ):
            text = table.tokenizer.decode(ids[segments >= 0].tolist(), skip_special_tokens=False)
            *_, rest = text.rpartition(_prompt(text))
            after.append((_prompt(text) + rest, labels[labels != IGNORE].tolist()))
        seen.append((after, batch.truth.tolist(), batch.choices.pieces.tolist()))
    assert all(other == seen[0] for other in seen[1:])


def _prompt(text):
    """The first words after the grid, in the wording that this text has."""
    starts = [prompt.split(" {")[0] for prompt in PROMPTS + HELD_OUT_PROMPTS]
    (prompt,) = [start for start in starts if start in text]
    return prompt


@settings(max_examples=20)
@given(specs(), splits, seeds, st.integers(1, 7), st.integers(1, 4), st.sampled_from([64, SIDE]))
def test_pictures_equal_composed_ones(varied, spec, split, seed, n, size, side):
    data = GridDataset(spec, varied, seed, split, n)
    samples = data.samples()
    parts = list(data.pictures(side, size))
    assert [part.n_grids for part in parts] == [len(index) for index in data.portions(size)]
    n_pictures = samples.n_cells.sum() if spec.picture.layout == "multi" else n
    assert sum(map(len, parts)) == n_pictures
    pixels = np.concatenate([part.pixels for part in parts])
    assert pixels.shape == (n_pictures, side, side, 3)
    np.testing.assert_array_equal(pixels, compose(samples, varied, side, spec.picture))


def test_a_spec_without_picture_settings_has_the_default_pictures(bank):
    data = GridDataset(SampleSpec(), bank, 0, "test", 3)
    (pictures,) = data.pictures(48)
    assert picture_of(data.spec) == PictureConfig()
    np.testing.assert_array_equal(pictures.pixels, compose(data.samples(), bank, 48))


# ---- when tiles are drawn ---------------------------------------------------------------------


def watched(bank, *readable):
    """The bank, in which only the splits `readable` can be drawn, and a list of drawn splits."""
    drawn = []

    def draw(split):
        drawn.append(split)
        if split not in readable:
            raise AssertionError(f"{split} tiles were drawn")
        return bank.splits[split].pixels

    splits = {
        name: dataclasses.replace(own, draw=lambda name=name: draw(name))
        for name, own in bank.splits.items()
    }
    return dataclasses.replace(bank, splits=splits), drawn


@pytest.mark.parametrize("split", SPLITS)
def test_nothing_is_drawn_for_text(bank, table, split):
    tiles, drawn = watched(bank)
    render = Renderer(tiles, table, GEOMETRY)
    data = GridDataset(HeldOutGridConfig(), tiles, 0, split, 6)
    for layout in LAYOUTS:
        data.check(layout, render, 2048)
    same = GridDataset(HeldOutGridConfig(), bank, 0, split, 6)
    assert_same(data.samples(), same.samples())
    for layout in BLIND:
        batches = list(data.batches(layout, render, size=4))
        assert_same(batches, list(same.batches(layout, Renderer(bank, table, GEOMETRY), size=4)))
    assert drawn == []


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_is_drawn_when_its_pixels_are_asked_for_and_no_other(bank, table, split):
    tiles, drawn = watched(bank, split)
    data = GridDataset(HeldOutGridConfig(), tiles, 0, split, 6)
    batches = list(data.batches("image", Renderer(tiles, table, GEOMETRY), size=3))
    pictures = list(data.pictures(SIDE))
    assert [len(batch.pictures) for batch in batches] == [3, 3]
    assert all(len(part.keys) == len(part) for part in pictures)  # keys need no drawing
    assert drawn == []
    expected = compose(data.samples(), bank, SIDE)
    np.testing.assert_array_equal(batches[1].pixels, expected[3:])
    assert drawn == [split]
    np.testing.assert_array_equal(pictures[0].pixels, expected)
    other = GridDataset(HeldOutGridConfig(), bank, 0, split, 6)
    assert data.hash == other.hash
    assert_same(data.examples(np.arange(6)), other.examples(np.arange(6)))
    assert drawn == [split]  # once


@pytest.mark.parametrize("split", SPLITS)
def test_nothing_is_drawn_for_the_hash_of_sprites_or_files(bank, split):
    tiles, drawn = watched(bank)
    data = GridDataset(HeldOutGridConfig(), tiles, 0, split, 2)
    assert data.hash == dataclasses.replace(data, bank=bank).hash
    assert drawn == []


@pytest.mark.parametrize("split", SPLITS)
def test_a_draw_is_noticed(bank, table, split):
    """The tests above can fail: pictures and examples need pixels, and hashes without a recipe."""
    tiles, drawn = watched(bank)
    data = GridDataset(HeldOutGridConfig(), tiles, 0, split, 2)
    unknown = dataclasses.replace(data, bank=helpers.by_pixels(tiles))
    (batch,) = data.batches("image", Renderer(tiles, table, GEOMETRY))
    (pictures,) = data.pictures(SIDE)
    for ask in (
        lambda: batch.pixels,
        lambda: pictures.pixels,
        lambda: data[0],
        lambda: unknown.hash,
    ):
        with pytest.raises(AssertionError, match=f"{split} tiles were drawn"):
            ask()
    assert drawn == [split] * 4


def test_sprites_are_drawn_split_by_split(table, monkeypatch):
    """Loading the bank draws no sprites, and a data set of text needs none."""

    def refuse(*_):
        raise AssertionError("sprites were drawn")

    with monkeypatch.context() as patch:
        patch.setattr("gpt2v.data.tiles.load.sprites.draw_sprites", refuse)
        tiles = load_bank(TilesConfig(per_class=20, size=16))
        data = GridDataset(SampleSpec(), tiles, 0, "train", 5)
        assert len(list(data.batches("text", Renderer(tiles, table)))) == 1
        with pytest.raises(AssertionError, match="sprites were drawn"):
            data[0]
    assert data[0].image.size == (48, 48)
    assert {name for name, own in tiles.splits.items() if "pixels" in vars(own)} == {"train"}


# ---- what is refused --------------------------------------------------------------------------


def test_mistakes_name_the_key_once(bank, table):
    render = Renderer(bank, table, GEOMETRY)
    many = GridDataset(SampleSpec(palette=11), bank, 0, "test", 5, "part x: ")
    for ask in (
        lambda: many.samples(),
        lambda: many[0],
        lambda: many.grids(np.arange(2)),
        lambda: next(many.batches("text", render)),
        lambda: many.check("text", render, 512),
    ):
        with pytest.raises(UserError, match=r"^part x: palette: 11 objects"):
            ask()
    with pytest.raises(UserError, match=r"^palette: 11 objects"):
        many.first()
    blind = GridDataset(SampleSpec(), bank, 0, "test", 5, "grid.")
    with pytest.raises(UserError, match=r"^grid\.modality: image needs a model with a vision"):
        next(blind.batches("image", Renderer(bank, table)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_check_asks_for_as_many_positions_as_a_sample_takes(bank, table, layout):
    """If each name is one token, all samples of a fixed size have the same length."""
    render = Renderer(bank, table, GEOMETRY)
    data = GridDataset(HeldOutGridConfig(rows=2, cols=3), bank, 0, "test", 20, "grid.")
    needed = {int(batch.position_ids.max()) + 1 for batch in data.batches(layout, render, size=1)}
    assert len(needed) == 1
    (needed,) = needed
    data.check(layout, render, needed)
    message = rf"^grid\.rows, cols: a 2x3 grid \({layout}, independent\) needs {needed} positions"
    with pytest.raises(UserError, match=message.replace("+", r"\+")):
        data.check(layout, render, needed - 1)


def test_the_check_finds_a_size_that_does_not_fit_into_a_picture(bank, table):
    render = Renderer(bank, table, PictureGeometry(48, 8))
    data = GridDataset(HeldOutGridConfig(rows=[1, 4], cols=2), bank, 0, "test", 2, "grid.")
    data.check("text", render, 512)
    with pytest.raises(UserError, match=r"^grid\.rows, cols: a 4x2 grid .*needs 64 pixels"):
        data.check("image", render, 512)
    assert isinstance(data.view("image", render), ImageView)
