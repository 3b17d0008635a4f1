"""Augmented samples: the same cells and answers in other words, drawn purely and evenly."""

import ast
import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import helpers
from gpt2v.config.base import hash_of
from gpt2v.config.data import DataConfig
from gpt2v.config.grids import AugmentConfig, GridConfig, HeldOutGridConfig
from gpt2v.config.load import dump, load, validate
from gpt2v.config.measuring import EvalConfig
from gpt2v.data.grids.samples import Samples, draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import cell_span
from gpt2v.data.render.text import documents
from gpt2v.data.render.views import ImageView, TextView
from gpt2v.data.stream import Stream
from gpt2v.data.text_pieces import Strings
from gpt2v.errors import UserError

DELIMITERS = ["|", ",", ";", "/", "&"]
ALL = AugmentConfig(paraphrase=True, delimiters=DELIMITERS, index_bases=[0, 1])
WORDING = ("base", "delimiter", "prompt", "question")
COUNTED = " Rows and columns are counted from 1."


def read_question(line: str) -> tuple[int, int, int]:
    """The wording of a question, and the row and column that it names."""
    patterns = [
        r"What object is in row (?P<r>\d+), column (?P<c>\d+)\? A:",
        r"Which object stands at row (?P<r>\d+), column (?P<c>\d+)\? A:",
        r"Row (?P<r>\d+), column (?P<c>\d+) holds what\? A:",
        r"Name the object in column (?P<c>\d+) of row (?P<r>\d+)\. A:",
        r"Column (?P<c>\d+), row (?P<r>\d+): which object is it\? A:",
        r"What do you find where row (?P<r>\d+) meets column (?P<c>\d+)\? A:",
    ]
    matches = [(i, m) for i, p in enumerate(patterns) if (m := re.fullmatch(p, line))]
    assert len(matches) == 1, line
    return matches[0][0], int(matches[0][1]["r"]), int(matches[0][1]["c"])


def written_question(wording: int, r: int, c: int) -> str:
    return [
        f"What object is in row {r}, column {c}? A:",
        f"Which object stands at row {r}, column {c}? A:",
        f"Row {r}, column {c} holds what? A:",
        f"Name the object in column {c} of row {r}. A:",
        f"Column {c}, row {r}: which object is it? A:",
        f"What do you find where row {r} meets column {c}? A:",
    ][wording]


def written(samples: Samples, i: int, names: tuple[str, ...], grid: str | None = None) -> str:
    """One augmented document with its table (or other lines of the grid), in plain Python."""
    rows, cols = samples.classes.shape[1:]
    d = DELIMITERS[samples.delimiter[i]]
    if grid is None:
        lines = [f"{d} " + f" {d} ".join(names[c] for c in row) for row in samples.classes[i]]
        grid = "".join(f"{line} {d}\n" for line in lines)
    size = f"{rows} by {cols}"
    prompt = [
        f"The grid above is size {size}. Each cell contains an object from ",
        f"Above is a grid of size {size}. Every cell holds one of ",
        f"Size of the grid: {size}. What its cells show is taken from ",
    ][samples.prompt[i]]
    listed = ", ".join(f"'{names[c]}'" for c in samples.palette[i])
    base = int(samples.base[i])
    text = f"{grid}{prompt}[{listed}].{COUNTED if base else ''}\n"
    for q in range(samples.row.shape[1]):
        at = int(samples.row[i, q]) + base, int(samples.col[i, q]) + base
        text += written_question(samples.question[i, q], *at) + helpers.answer(samples, i, q, names)
    return text


augments = st.builds(
    AugmentConfig,
    paraphrase=st.booleans(),
    delimiters=st.lists(st.sampled_from(DELIMITERS), min_size=1, unique=True),
    index_bases=st.sampled_from([[0], [1], [0, 1], [1, 0]]),
    order=st.sampled_from(["random", "raster"]),
)
specs = st.builds(
    GridConfig,
    rows=st.integers(1, 12),
    cols=st.integers(1, 12),
    palette=st.integers(2, 10),
    augment=augments,
)
views = st.one_of(
    st.just(TextView()),
    st.builds(TextView, st.just("patch-tiled"), st.integers(1, 3), st.sampled_from([0.0, 0.5])),
    st.builds(lambda n: ImageView(cell_span(n), with_pixels=False), st.integers(1, 9)),
)


@given(specs, st.integers(0, 9), st.booleans())
def test_documents_equal_plain_python(bank, long_bank, spec, seed, long):
    names = (long_bank if long else bank).class_names
    samples = draw_samples(spec, bank, seed, "train", np.arange(6))
    texts = documents(samples, TextView(), names, Strings())
    tiled = documents(samples, TextView("patch-tiled", 2), names, Strings())
    pictured = documents(samples, ImageView(cell_span(4)), names, Strings())
    for i in range(6):
        assert texts[i] == written(samples, i, names)
        assert tiled[i] == written(samples, i, names, helpers.patch_tiled(samples, i, names, 2))
        assert pictured[i] == written(samples, i, names, "<image>" * 4 + "\n")


@given(specs, views, st.integers(0, 9), st.booleans())
def test_trained_tokens_of_pieces_are_tokens_of_the_string(
    table, bank, long_bank, spec, view, seed, long
):
    names = (long_bank if long else bank).class_names
    helpers.check_tokens(table, bank, names, spec, view, seed)


@given(specs, views, st.integers(0, 9), st.booleans())
def test_gpt2_tokens_of_pieces_are_tokens_of_the_string(
    gpt2_table, bank, long_bank, spec, view, seed, long
):
    names = (long_bank if long else bank).class_names
    helpers.check_tokens(gpt2_table, bank, names, spec, view, seed)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=5), augments)
def test_the_wording_of_a_sample_does_not_depend_on_its_batch(bank, index, augment):
    spec = GridConfig(rows=2, cols=3, questions=4, augment=augment)
    together = draw_samples(spec, bank, 1, "val", np.array(index))
    texts = documents(together, TextView(), bank.class_names, Strings())
    for i, at in enumerate(index):
        alone = draw_samples(spec, bank, 1, "val", np.array([at]))
        for field in dataclasses.fields(Samples):
            a, b = getattr(together, field.name)[i], getattr(alone, field.name)[0]
            np.testing.assert_array_equal(a, b)
        assert documents(alone, TextView(), bank.class_names, Strings()) == [texts[i]]


@pytest.mark.parametrize("seed", [0, 1])
def test_every_variant_occurs_in_its_share(bank, seed):
    spec = GridConfig(rows=2, cols=2, augment=ALL)
    samples = draw_samples(spec, bank, seed, "train", np.arange(200))
    for name, n in (("base", 2), ("delimiter", 5), ("prompt", 3), ("question", 6)):
        drawn = getattr(samples, name).reshape(-1)
        shares = np.bincount(drawn, minlength=n) / drawn.size
        assert len(shares) == n
        spread = np.sqrt((1 - 1 / n) / n / drawn.size)
        assert abs(shares - 1 / n).max() < 3.5 * spread, name
    # The choices are drawn independently: every combination occurs.
    assert len({*zip(samples.delimiter, samples.prompt, samples.base, strict=True)}) == 5 * 3 * 2
    assert len({*map(tuple, samples.question[:, :2])}) == 6 * 6


def test_each_variant_is_drawn_independently_of_the_others(bank):
    index = np.arange(100)
    everything = draw_samples(GridConfig(augment=ALL), bank, 0, "train", index)
    one = GridConfig(augment=AugmentConfig(index_bases=[0, 1]))
    bases = draw_samples(one, bank, 0, "train", index)
    np.testing.assert_array_equal(bases.base, everything.base)
    assert not any(getattr(bases, name).any() for name in ("delimiter", "prompt", "question"))
    only = AugmentConfig(delimiters=[";"], index_bases=[1])
    fixed = draw_samples(GridConfig(augment=only), bank, 0, "train", index)
    assert set(fixed.delimiter) == {2}
    assert set(fixed.base) == {1}


def test_answers_are_right_in_the_text_as_it_is_read(bank):
    spec = GridConfig(rows=3, cols=4, questions=7, augment=ALL)
    samples = draw_samples(spec, bank, 0, "test", np.arange(200))
    wordings, bases = set(), set()
    for text in documents(samples, TextView(), bank.class_names, Strings()):
        lines = text.splitlines()
        d = lines[0][0]
        grid = [[word.strip() for word in line.split(d)[1:-1]] for line in lines[:3]]
        assert [len(row) for row in grid] == [4, 4, 4]
        prompt = lines[3]
        assert "3 by 4" in prompt
        palette = ast.literal_eval(re.search(r"\[.*\]", prompt)[0])
        assert {word for row in grid for word in row} <= set(palette)
        base = int(prompt.endswith(COUNTED))
        bases.add(base)
        asked = set()
        for line in lines[4:]:
            question, answer = line.split("A: ")
            wording, row, col = read_question(question + "A:")
            assert row >= base
            assert col >= base
            assert grid[row - base][col - base] == answer
            asked.add((row, col))
            wordings.add(wording)
        assert len(asked) == 7
    assert wordings == set(range(6))
    assert bases == {0, 1}


def test_raster_order_asks_the_same_cells_by_row_and_column(bank):
    index = np.arange(100)
    drawn = draw_samples(GridConfig(questions=5), bank, 0, "train", index)
    raster = GridConfig(questions=5, augment=AugmentConfig(order="raster"))
    ordered = draw_samples(raster, bank, 0, "train", index)
    for i in range(100):
        cells = list(zip(ordered.row[i].tolist(), ordered.col[i].tolist(), strict=True))
        assert cells == sorted(zip(drawn.row[i].tolist(), drawn.col[i].tolist(), strict=True))
    everything = draw_samples(
        GridConfig(augment=AugmentConfig(order="raster")), bank, 0, "train", index
    )
    assert (everything.row * 3 + everything.col == np.arange(9)).all()


def test_counting_from_1_shifts_numbers_and_says_so(bank):
    spec = GridConfig(rows=1, cols=2, augment=AugmentConfig(index_bases=[1], order="raster"))
    samples = draw_samples(spec, bank, 0, "train", np.arange(3))
    for text in documents(samples, TextView(), bank.class_names, Strings()):
        _, prompt, first, second = text.splitlines()
        assert prompt.endswith("]." + COUNTED)
        assert first.startswith("What object is in row 1, column 1? A:")
        assert second.startswith("What object is in row 1, column 2? A:")


@pytest.mark.parametrize("mode", ["random", "raster"])
def test_nothing_but_words_and_order_changes(bank, mode):
    index = np.arange(50)
    plain = draw_samples(GridConfig(questions=4), bank, 0, "train", index)
    spec = GridConfig(questions=4, augment=ALL.model_copy(update={"order": mode}))
    varied = draw_samples(spec, bank, 0, "train", index)
    same = ["index", "key", "classes", "tiles", "palette"]
    for name in [*same, *(("row", "col") if mode == "random" else ())]:
        np.testing.assert_array_equal(getattr(plain, name), getattr(varied, name))


def test_without_augmentation_nothing_is_new(bank):
    """Words, names in logs, the written configuration and the data hash stay as they were."""
    spec = GridConfig(rows=2, cols=11, augment=AugmentConfig())
    samples = draw_samples(spec, bank, 0, "train", np.arange(20))
    assert not any(getattr(samples, name).any() for name in WORDING)
    made_by_hand = dataclasses.replace(
        samples, **{n: np.zeros((1,) * getattr(samples, n).ndim, np.int64) for n in WORDING}
    )
    texts = documents(samples, TextView(), bank.class_names, Strings())
    assert texts == documents(made_by_hand, TextView(), bank.class_names, Strings())
    for i, text in enumerate(texts):
        lines = helpers.markdown(samples, i, bank.class_names)
        start = helpers.prefix(samples, i, bank.class_names, lines)
        assert text == start + helpers.chat(samples, i, bank.class_names)
    assert dump(spec) == dump(GridConfig(rows=2, cols=11))
    given, left_out = {"rows": 2, "cols": 11, "augment": {}}, {"rows": 2, "cols": 11}
    one, other = (validate(EvalConfig, {"grid": grid}, "x") for grid in (given, left_out))
    assert dump(one) == dump(other)
    assert hash_of(one) == hash_of(other) != hash_of(EvalConfig())
    assert hash_of(spec) == hash_of(GridConfig(rows=2, cols=11)) != hash_of(GridConfig())
    assert spec.label == "text/markdown 2x11"


def test_augmentation_is_hashed_named_and_read_back(tmp_path):
    spec = GridConfig(augment=ALL)
    assert hash_of(spec) != hash_of(GridConfig())
    assert spec.label == "text/markdown (augmented) 3x3"
    pictures = GridConfig(modality="image", augment=AugmentConfig(paraphrase=True))
    assert pictures.label == "image (augmented) 3x3"
    grid = HeldOutGridConfig(augment=ALL)
    file = helpers.write_yaml(tmp_path / "eval.yaml", dump(EvalConfig(grid=grid)))
    assert load(EvalConfig, file, {}).grid == grid
    over = load(EvalConfig, file, {"grid.augment.delimiters": [";"]}).grid.augment
    assert over == ALL.model_copy(update={"delimiters": [";"]})


@pytest.mark.parametrize("modality", ["text", "image"])
def test_batches_hold_the_document_and_both_views_the_same_words(bank, table, modality):
    spec = GridConfig(rows=2, cols=3, augment=ALL)
    samples = draw_samples(spec, bank, 0, "train", np.arange(30))
    view = TextView() if modality == "text" else ImageView(cell_span(6), with_pixels=False)
    batch = Renderer(bank, table)(samples, view, "chained")
    for i, text in enumerate(documents(samples, view, bank.class_names, Strings())):
        ids = batch.input_ids[i][batch.segments[i] >= 0]
        assert table.tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text


@pytest.mark.parametrize("mode", ["chained", "independent"])
def test_the_length_check_takes_the_longest_wording(bank, table, mode):
    spec = GridConfig(rows=2, cols=2, mode=mode, augment=ALL)
    config = DataConfig.model_validate({"stages": [{"steps": 1, "mix": [spec.model_dump()]}]})
    stream = Stream(config, Renderer(bank, table))
    samples = stream.dataset(spec, "train").samples(np.arange(3000))
    drawn = stream.render(samples, stream.render.view(spec, stream.layout(spec)), spec.mode)
    longest = int(drawn.position_ids.max()) + 1
    stated = _longest_allowed(stream, mode)
    assert longest <= stated
    if mode == "independent":  # there one question is enough to reach it
        assert longest == stated


def _longest_allowed(stream: Stream, mode: str) -> int:
    """The number of positions in the message of the check."""
    with pytest.raises(UserError, match=rf"a 2x2 grid \(text, {mode}\) needs") as refused:
        stream.check(8)
    return int(re.search(r"needs (\d+) positions", str(refused.value))[1])


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ({"augment": {"delimiters": []}}, r"grid\.augment\.delimiters: .*at least 1"),
        ({"augment": {"delimiters": ["tab"]}}, r"grid\.augment\.delimiters\.0: .*';'.*not 'tab'"),
        ({"augment": {"delimiters": [",", ","]}}, r"grid\.augment: delimiters must name each"),
        ({"augment": {"index_bases": []}}, r"grid\.augment\.index_bases: .*at least 1"),
        ({"augment": {"index_bases": [2]}}, r"grid\.augment\.index_bases\.0: .*0 or 1, not 2"),
        ({"augment": {"index_bases": [1, 1]}}, r"grid\.augment: index_bases must name each"),
        ({"augment": {"order": "column"}}, r"grid\.augment\.order: .*'raster', not 'column'"),
        ({"augment": {"paraphrase": "yes"}}, r"grid\.augment\.paraphrase: "),
        ({"augment": {"shuffle": True}}, r"grid\.augment\.shuffle: unknown key; .*paraphrase"),
        (
            {"modality": "image", "augment": {"delimiters": [","]}},
            r"grid: augment\.delimiters needs a grid shown as text and form: markdown",
        ),
        (
            {"form": "patch-tiled", "augment": {"delimiters": ["|", ","]}},
            r"grid: augment\.delimiters needs a grid shown as text and form: markdown",
        ),
    ],
)
def test_impossible_settings_are_refused_in_one_line(grid, says):
    """In the grids of a training, and of an evaluation, whose grids have no modality."""
    measured = {k: v for k, v in grid.items() if k != "modality"}
    stages = [{"steps": 1, "mix": [grid]}]
    messages = []
    with pytest.raises(UserError) as refused:
        validate(DataConfig, {"stages": stages}, "x.yaml")
    messages.append(str(refused.value).replace("stages.0.mix.0", "grid"))
    if measured == grid:
        with pytest.raises(UserError) as refused:
            validate(EvalConfig, {"grid": grid}, "x.yaml")
        messages.append(str(refused.value))
    for message in messages:
        assert re.search(says, message)
        assert "\n" not in message


def test_pictures_and_patch_tiled_words_take_the_other_variants():
    augment = {"paraphrase": True, "index_bases": [0, 1], "order": "raster"}
    for shown in ({"modality": "image"}, {"form": "patch-tiled"}):
        grid = validate(GridConfig, {**shown, "augment": augment}, "x")
        assert grid.shown_as.endswith(" (augmented)")
