"""Every instruction: its answers against a reader of the plain text, its draws, its baselines."""

import dataclasses
import re
from collections import Counter
from fractions import Fraction
from itertools import permutations, product
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.config.grids import AugmentConfig, GridConfig
from gpt2v.data.grids.baselines import baselines
from gpt2v.data.grids.instructions import ALL, NAMES
from gpt2v.data.grids.instructions.base import DIRECTIONS
from gpt2v.data.grids.samples import NOT_ASKED, Samples, draw_samples
from gpt2v.data.render.text import answer_pieces, choice_pieces, documents
from gpt2v.data.render.views import TextView
from gpt2v.data.text_pieces import Strings
from gpt2v.errors import UserError
from helpers import answered

sides = st.one_of(
    st.integers(2, 5), st.tuples(st.integers(2, 4), st.integers(0, 3)).map(lambda t: [t[0], sum(t)])
)
palettes = st.one_of(
    st.integers(1, 8), st.tuples(st.integers(1, 4), st.integers(0, 4)).map(lambda t: [t[0], sum(t)])
)


def spec_of(name, **changes):
    return GridConfig(instructions={name: 1.0}, **changes)


def read(template, question):
    """The fields of a question in the words of `template`, or None."""
    pattern = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    directions = "|".join(d.strip() for d in DIRECTIONS)
    patterns = {"object": r".+?", "direction": directions, "numbering": r"[^.?]+? = [0-9]+"}
    for field in re.findall(r"{(\w+)}", template):
        pattern = pattern.replace(f"{{{field}}}", f"(?P<{field}>{patterns.get(field, r'[0-9]+')})")
    match = re.fullmatch(pattern, question)
    return match and match.groupdict()


def check_document(text, expected_names=NAMES):
    """Each answer follows from the table above it; returns (instruction, answer) pairs."""
    lines = text.splitlines()
    height = next(i for i, line in enumerate(lines) if not line.startswith("|"))
    grid = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:height]]
    prompt = lines[height]
    palette = re.search(r"\['(.*)'\]", prompt)[1].split("', '")
    base = int("counted from 1" in prompt)
    pairs = []
    for line in lines[height + 1 :]:
        question, answer = line.split("A: ")
        matches = [
            (name, wording, fields)
            for name, instruction in zip(NAMES, ALL, strict=True)
            for wording in instruction.every_wording
            if (fields := read(wording, question + "A:")) is not None
        ]
        assert len(matches) == 1, line
        name, _, fields = matches[0]
        assert name in expected_names
        assert answered(name, fields, grid, palette, base) == answer, (text, line)
        pairs.append((name, answer))
    return pairs


@given(
    st.sets(st.sampled_from(NAMES), min_size=1),
    sides,
    sides,
    palettes,
    st.integers(0, 9),
    st.booleans(),
    st.sampled_from(["random", "raster"]),
)
def test_answers_follow_from_the_table(bank, names, rows, cols, palette, seed, held_out, order):
    augment = AugmentConfig(paraphrase=True, held_out=held_out, index_bases=[0, 1], order=order)
    spec = GridConfig(
        rows=rows,
        cols=cols,
        palette=palette,
        instructions=dict.fromkeys(sorted(names), 1.0),
        augment=augment,
    )
    samples = draw_samples(spec, bank, seed, "train", np.arange(5))
    for text in documents(samples, TextView(), bank.class_names, Strings()):
        check_document(text, names)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_answer_would_be_noticed(bank, name):
    """One object of the table is replaced by another on purpose."""
    samples = draw_samples(spec_of(name, rows=2, cols=2), bank, 0, "val", np.arange(30))
    noticed = 0
    for text in documents(samples, TextView(), bank.class_names, Strings()):
        check_document(text)
        words = re.match(r"\| (\w+) \|", text)[1]
        wrong = text.replace(f"| {words} |", "| zebra |", 1)
        try:
            check_document(wrong)
        except AssertionError:
            noticed += 1
    assert noticed >= 5


@pytest.mark.parametrize("name", NAMES)
def test_an_instruction_asks_all_its_questions_once(bank, name):
    samples = draw_samples(spec_of(name, rows=2, cols=3, palette=3), bank, 0, "val", np.arange(200))
    texts = documents(samples, TextView(), bank.class_names, Strings())
    asked = [[line for line in text.splitlines() if " A: " in line] for text in texts]
    count = {"lookup": 6, "neighbour": 6, "compare": 6, "row": 2, "column": 3}
    count |= {"count": 3, "exists": 3, "locate": 3, "majority": 1, "transcribe": 1, "matrix": 1}
    assert {len(questions) for questions in asked} == {count[name]}
    if name not in ("exists", "compare"):  # those are drawn so that their answers are balanced
        assert all(len(set(questions)) == len(questions) for questions in asked)


@given(
    st.lists(st.integers(0, 10**12), min_size=2, max_size=5),
    st.sampled_from(["random", "raster"]),
    st.sampled_from(["test", "train"]),
)
def test_a_sample_of_any_size_does_not_depend_on_its_batch(bank, index, order, split):
    spec = GridConfig(
        rows=[1, 4],
        cols=[2, 5],
        palette=[2, 7],
        instructions=dict.fromkeys(NAMES, 1.0),
        augment=AugmentConfig(paraphrase=True, index_bases=[0, 1], order=order),
    )
    together = draw_samples(spec, bank, 3, split, np.array(index))
    texts = documents(together, TextView(), bank.class_names, Strings())
    for i, at in enumerate(index):
        alone = draw_samples(spec, bank, 3, split, np.array([at]))
        assert documents(alone, TextView(), bank.class_names, Strings()) == [texts[i]]
        np.testing.assert_array_equal(alone.tiles[0], together.tiles[i])


def test_instructions_are_drawn_in_their_shares(bank):
    spec = GridConfig(instructions={"count": 1.0, "lookup": 3.0}, questions=8)
    samples = draw_samples(spec, bank, 0, "train", np.arange(500))
    share = np.mean(samples.instruction == NAMES.index("lookup"))
    assert abs(share - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 4000)


@pytest.mark.parametrize(("name", "palette"), [("exists", 8), ("compare", 4)])
def test_yes_and_no_are_balanced(bank, name, palette):
    samples = draw_samples(spec_of(name, palette=palette), bank, 0, "train", np.arange(1000))
    texts = documents(samples, TextView(), bank.class_names, Strings())
    answers = Counter(answer for text in texts for _, answer in check_document(text))
    assert abs(answers["yes"] / answers.total() - 0.5) < 0.02
    assert answers["yes"] / answers.total() <= baselines(samples).blind + 0.02


def every_grid(n_rows, n_cols, p):
    return np.array(list(product(range(p), repeat=n_rows * n_cols))).reshape(-1, n_rows, n_cols)


def all_questions(name, n_rows, n_cols, p, grid):
    """Every question about a grid (rows of class numbers), with its probability."""
    cells = list(product(range(n_rows), range(n_cols)))
    if name == "lookup":
        return [({"row": r, "col": c}, Fraction(1, len(cells))) for r, c in cells]
    if name == "row":
        return [({"row": r}, Fraction(1, n_rows)) for r in range(n_rows)]
    if name == "column":
        return [({"col": c}, Fraction(1, n_cols)) for c in range(n_cols)]
    if name in ("count", "locate"):
        return [({"object": o}, Fraction(1, p)) for o in range(p)]
    if name in ("majority", "transcribe"):
        return [({}, Fraction(1))]
    if name == "matrix":
        return [({"numbering": k}, Fraction(1, factorial(p))) for k in range(factorial(p))]
    if name == "exists":
        here = sorted({o for row in grid for o in row})
        absent = [o for o in range(p) if o not in here]
        half = Fraction(1, 2) if absent else Fraction(1)
        yes = [({"object": o}, half / len(here)) for o in here]
        return yes + [({"object": o}, Fraction(1, 2) / len(absent)) for o in absent]
    if name == "neighbour":
        questions = []
        for r, c in cells:  # the answer's cell
            named = [(0, r, c + 1), (1, r, c - 1), (2, r + 1, c), (3, r - 1, c)]
            named = [(d, y, x) for d, y, x in named if 0 <= y < n_rows and 0 <= x < n_cols]
            share = Fraction(1, len(cells) * len(named))
            questions += [({"direction": d, "row": y, "col": x}, share) for d, y, x in named]
        return questions
    pairs = [(a, b) for a in cells for b in cells if a != b]
    same = [(a, b) for a, b in pairs if grid[a[0]][a[1]] == grid[b[0]][b[1]]]
    differ = [pair for pair in pairs if pair not in same]
    questions = []
    for group, other in ((same, differ), (differ, same)):
        half = Fraction(1, 2) if other else Fraction(1)
        questions += [
            ({"row": a[0], "col": a[1], "other_row": b[0], "other_col": b[1]}, half / len(group))
            for a, b in group
        ]
    return questions


def numbered(p):
    """Every numbering of the objects 0 to p - 1 in words, by the integer that stores it."""
    every = {}
    for numbers in permutations(range(p)):
        larger = [sum(other > own for other in numbers[:i]) for i, own in enumerate(numbers)]
        stored = sum(n * factorial(i) for i, n in enumerate(larger))
        every[stored] = ", ".join(f"{o} = {number}" for o, number in enumerate(numbers))
    assert sorted(every) == list(range(factorial(p)))
    return every


def counted(name, n_rows, n_cols, p, know):
    """The best accuracy from `know(grid)` and the question, by adding up every possibility."""
    mass = Counter()
    grids = every_grid(n_rows, n_cols, p).tolist()
    for grid in grids:
        words = [[str(o) for o in row] for row in grid]
        for question, share in all_questions(name, n_rows, n_cols, p, grid):
            fields = {k: str(v) for k, v in question.items()}
            if "numbering" in question:
                fields["numbering"] = numbered(p)[question["numbering"]]
            if "direction" in question:
                fields["direction"] = DIRECTIONS[question["direction"]].strip()
            answer = answered(name, fields, words, [str(o) for o in range(p)], 0)
            mass[know(grid), tuple(sorted(question.items())), answer] += share / len(grids)
    best = Counter()
    for (knowledge, question, _), share in mass.items():
        best[knowledge, question] = max(best[knowledge, question], share)
    return float(sum(best.values()))


def samples_of(name, n_rows, n_cols, p):
    """All grids, each with every question as often as its probability says."""
    grids = every_grid(n_rows, n_cols, p)
    rows = []
    for i, grid in enumerate(grids.tolist()):
        questions = all_questions(name, n_rows, n_cols, p, grid)
        rows += [(i, question, share) for question, share in questions]
    whole = np.lcm.reduce([share.denominator for *_, share in rows])
    rows = [(i, question) for i, question, share in rows for _ in range(int(share * whole))]
    at = np.array([i for i, _ in rows])
    fields = {
        key: np.array([[question.get(key, 0)] for _, question in rows])
        for key in ("row", "col", "other_row", "other_col", "direction", "object", "numbering")
    }
    n = len(rows)
    return Samples(
        index=np.arange(n),
        split=np.zeros(n, np.int64),
        key=np.zeros(n, np.uint64),
        classes=grids[at],
        tiles=np.zeros_like(grids[at]),
        palette=np.tile(np.arange(p), (n, 1)),
        instruction=np.full((n, 1), NAMES.index(name)),
        **fields,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n_rows", "n_cols", "p"), [(2, 2, 2), (2, 2, 3), (1, 3, 4), (2, 3, 2)])
def test_baselines_against_adding_up_every_grid(name, n_rows, n_cols, p):
    rates = baselines(samples_of(name, n_rows, n_cols, p))
    blind = counted(name, n_rows, n_cols, p, lambda grid: None)
    bag = counted(
        name, n_rows, n_cols, p, lambda grid: tuple(sorted(o for row in grid for o in row))
    )
    assert rates.blind == pytest.approx(blind)
    assert rates.bag == pytest.approx(bag)
    assert 0 < rates.chance <= rates.blind + 1e-12


def test_the_baselines_of_the_task(bank):
    """25% blind; the bag of 3x3 grids of four objects is about 43%, of 2x2 grids exactly this."""
    samples = draw_samples(GridConfig(), bank, 1, "test", np.arange(3000))
    rates = baselines(samples)
    assert (rates.chance, rates.blind) == (0.25, 0.25)
    assert rates.bag == pytest.approx(0.4312, abs=0.012)
    counts = np.sort(samples.classes.reshape(-1, 9), axis=1)
    most = (counts[:, :, None] == counts[:, None, :]).sum(-1).max(1)
    assert rates.bag == pytest.approx(float(most.mean() / 9))


@pytest.mark.parametrize("name", NAMES)
def test_baselines_of_large_grids_are_probabilities(bank, name):
    samples = draw_samples(
        spec_of(name, rows=16, cols=16, palette=10), bank, 0, "val", np.arange(2)
    )
    assert all(0 < value <= 1 for value in baselines(samples))


def test_slots_without_a_question_are_marked(bank):
    spec = GridConfig(rows=[1, 3], cols=[1, 3])
    samples = draw_samples(spec, bank, 0, "train", np.arange(60))
    asked = (samples.instruction != NOT_ASKED).sum(1)
    np.testing.assert_array_equal(asked, samples.n_cells)
    assert len(set(asked.tolist())) > 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"questions": 10},
            r"questions: 10, but there are only 9 different questions \(lookup\) about",
        ),
        (
            {"instructions": {"majority": 1.0}, "questions": 2},
            r"only 1 different questions \(majority",
        ),
        (
            {"instructions": {"row": 1.0, "majority": 1.0}, "questions": 6, "rows": [2, 4]},
            r"questions: 6, but there are only 5 different questions \(row, majority\) about a "
            "2-4x3",
        ),
        (
            {"instructions": {"neighbour": 1.0}, "rows": [1, 2], "cols": 1},
            "rows, cols: `neighbour` needs grids of at least 2 cells",
        ),
        ({"palette": [2, 11]}, "palette: 11 objects, but the sprites tiles have 10 classes"),
    ],
)
def test_what_cannot_be_asked_is_refused(bank, changes, says):
    with pytest.raises(UserError, match=says):
        draw_samples(GridConfig(**changes), bank, 0, "train", np.arange(2))


def test_more_objects_than_can_be_numbered_are_refused(bank, monkeypatch):
    spec = GridConfig(instructions={"lookup": 1.0, "matrix": 1.0}, palette=[2, 4])
    draw_samples(spec, bank, 0, "train", np.arange(2))
    monkeypatch.setattr(type(ALL[NAMES.index("matrix")]), "most_objects", 3)
    with pytest.raises(UserError, match="palette: `matrix` needs one of at most 3 objects"):
        draw_samples(spec, bank, 0, "train", np.arange(2))


def test_the_registry_has_a_name_a_docstring_and_several_wordings_for_each():
    assert len(set(NAMES)) == len(ALL) == 11
    for instruction in ALL:
        assert " A: " in instruction.__doc__  # an example
        assert len(instruction.wordings) >= 3
        assert len(instruction.held_out) >= 1
        assert not set(instruction.wordings) & set(instruction.held_out)
    names = {field.name for field in dataclasses.fields(Samples)}
    assert {"row", "col", "other_row", "other_col", "direction", "object", "numbering"} < names


@pytest.mark.parametrize("order", ["random", "raster"])
@pytest.mark.parametrize("questions", [None, 9, 29])
def test_a_mixture_asks_nothing_twice(bank, order, questions):
    """Except for `exists` and `compare`, whose answers are balanced instead."""
    names = ("lookup", "count", "row", "majority", "transcribe")
    spec = GridConfig(
        rows=[2, 4],
        cols=4,
        palette=4,
        instructions=dict.fromkeys(names, 1.0),
        questions=questions and min(questions, 26),
        augment=AugmentConfig(order=order),
    )
    samples = draw_samples(spec, bank, 0, "train", np.arange(200))
    for text in documents(samples, TextView(), bank.class_names, Strings()):
        pairs = check_document(text)
        asked = Counter(line for line in text.splitlines() if " A: " in line)
        assert max(asked.values()) == 1
        if questions == 29:  # all that exist
            n_questions = Counter(name for name, _ in pairs)
            rows = text.split("The grid")[0].count("\n")
            assert n_questions == {
                "lookup": 4 * rows, "count": 4, "row": rows, "majority": 1, "transcribe": 1,
            }  # fmt: skip


def test_instructions_do_not_share_their_draws(bank):
    """What the k-th question of one instruction is about says nothing about another's k-th."""

    def pairs(one, other, field):
        alone = [
            draw_samples(
                spec_of(name, rows=4, cols=4, palette=4, questions=4),
                bank,
                0,
                "train",
                np.arange(400),
            )
            for name in (one, other)
        ]
        if field == "cell":
            cells = [
                (s.other_row if name == "neighbour" else s.row) * 4
                + (s.other_col if name == "neighbour" else s.col)
                for name, s in zip((one, other), alone, strict=True)
            ]
            return np.mean(cells[0] == cells[1]), 1 / 16
        return np.mean(alone[0].object == alone[1].object), 1 / 4

    for one, other, field in (("lookup", "neighbour", "cell"), ("count", "locate", "object")):
        share, chance = pairs(one, other, field)
        assert abs(share - chance) < 5 * np.sqrt(chance / 1600)


def test_the_order_in_which_instructions_are_named_does_not_matter(bank):
    """It does not matter for the hash of the data or the comparison of runs either."""
    one = GridConfig(instructions={"lookup": 1.0, "row": 2.0})
    other = GridConfig(instructions={"row": 2.0, "lookup": 1.0})
    index = np.arange(50)
    drawn = [draw_samples(spec, bank, 0, "train", index).instruction for spec in (one, other)]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("name", NAMES)
def test_choices_do_not_depend_on_the_batch(bank, name):
    spec = spec_of(name, rows=[2, 6], cols=[2, 6])
    strings = Strings()
    together = draw_samples(spec, bank, 0, "test", np.arange(20))
    for scored in (False, True):
        whole = choice_pieces(together, bank.class_names, strings, scored)
        for i in range(20):
            alone = draw_samples(spec, bank, 0, "test", np.array([i]))
            own = choice_pieces(alone, bank.class_names, strings, scored)[0]
            for q, row in enumerate(own):
                assert [p for p in row if p] == [p for p in whole[i, q] if p]


@pytest.mark.parametrize("name", NAMES)
def test_only_the_cells_that_are_read_decide_an_answer(bank, name):
    """Each cell in turn gets every other object of the palette."""
    spec = spec_of(name, rows=[2, 3], cols=[2, 3], palette=3)
    samples = draw_samples(spec, bank, 0, "val", np.arange(20))
    strings = Strings()
    before = answer_pieces(samples, bank.class_names, strings)
    read = samples.tiles_read.reshape(*samples.row.shape, *samples.tiles.shape[1:]) >= 0
    decides = np.zeros_like(read)
    for r, c in product(range(3), range(3)):
        here = samples.inside[:, r, c]
        for listed in range(3):
            classes = samples.classes.copy()
            classes[here, r, c] = samples.palette[here, listed]
            changed = dataclasses.replace(samples, classes=classes)
            after = answer_pieces(changed, bank.class_names, strings)
            decides[..., r, c] |= (before != after).any(-1)
    assert not (decides & ~read).any()
    if name not in ("exists", "majority"):  # where not every cell matters in every grid
        assert (decides == read).all()
    tiles = samples.tiles[:, None]
    assert (
        samples.tiles_read.reshape(read.shape)[read] == np.broadcast_to(tiles, read.shape)[read]
    ).all()
