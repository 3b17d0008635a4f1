"""Choices that begin each other: a reader who knows every answer is predicted right on each."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.instructions import NAMES
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.views import TextView
from gpt2v.data.text_pieces import EMPTY, begins_another
from gpt2v.model.packed import Reader, pack
from gpt2v.model.scoring import score

ALIKE = ("car", "car park", "carp", "dog", "dogs", "hot dog", "truck", "tree", "treetop", "ship")


class PerfectReader:
    """Says the right answer, whatever is asked; it has seen nothing else after a wrong start."""

    def __init__(self, table):
        self.table = table
        self.n_words = table.tokenizer.get_vocab_size()
        config = SimpleNamespace(vocab_size=self.n_words)
        self.lm = SimpleNamespace(lm_head=torch.nn.Identity(), config=config)

    def hidden(self, batch, keep=None):
        packed = pack(batch, torch.device("cpu"), self.table.image_id)
        number = np.full(batch.input_ids.shape, -1)
        number[packed.read] = np.arange(packed.read.sum())
        logits = np.zeros((packed.read.sum(), self.n_words), np.float32)
        sample, at = np.nonzero(batch.answers >= 0)
        logits[number[sample, at - 1], batch.input_ids[sample, at]] = 20
        for b, q, a in np.ndindex(batch.choices.token.shape[:3]):
            said = [t for t in batch.choices.token[b, q, a].tolist() if t >= 0]
            truth = self.table.end_to_end(batch.truth[b, q])[0].tolist()
            for n in range(1, len(said)):
                next_token = truth[n] if said[:n] == truth[:n] else said[n]
                logits[number[b, batch.choices.position[b, q, a, n]], next_token] = 20
        return torch.from_numpy(logits), packed


def scored(table, bank, spec, n=30, mode="independent"):
    samples = draw_samples(spec, bank, 0, "test", np.arange(n))
    render = Renderer(bank, table)
    batch = render(samples, TextView(), mode, with_choices=True)
    return score(PerfectReader(table), batch, render), batch


@pytest.mark.parametrize("mode", ["independent", "chained"])
@pytest.mark.parametrize("tables", ["table", "gpt2_table"])
@pytest.mark.parametrize("side", [2, 4, 6])
@pytest.mark.parametrize("instruction", NAMES)
def test_a_perfect_reader_is_predicted_right(instruction, side, tables, mode, bank, request):
    table = request.getfixturevalue(tables)
    spec = GridConfig(
        rows=side, cols=side, palette=2, instructions={instruction: 1.0}, questions=2
        if instruction in ("count", "exists") else 1,
    )  # fmt: skip
    records, _ = scored(table, bank, spec, 6, mode)
    assert all(records["exact"])
    assert records["generated"] == records["truth"]
    assert records["prediction"] == records["truth"]


def test_names_that_begin_each_other(table, bank):
    alike = dataclasses.replace(bank, class_names=ALIKE)
    spec = GridConfig(rows=2, cols=2, palette=len(ALIKE))
    records, batch = scored(table, alike, spec)
    assert set(records["truth"]) == set(ALIKE)
    assert records["prediction"] == records["truth"]
    assert records["choices"][0] == list(ALIKE)  # without the line break
    newline = table.tokens("\n")
    assert all(
        [t for t in token.tolist() if t >= 0][-len(newline) :] == newline
        for token in batch.choices.token[0, 0]
    )


def test_only_where_a_choice_begins_another_the_line_break_is_read(table, bank):
    """A single token is scored where the answer begins, so nothing else has to be read."""
    spec = GridConfig(rows=2, cols=2, palette=4)
    _, batch = scored(table, bank, spec)
    newline = table.tokens("\n")[0]
    assert not (batch.choices.token == newline).any()
    spec = GridConfig(rows=4, cols=4, palette=2, instructions={"count": 1.0, "exists": 1.0})
    _, batch = scored(table, bank, spec)
    listed = batch.choices.pieces != EMPTY
    ends = (batch.choices.token == newline).any(-1)
    counted = np.array([[t == "0" for t in row] for row in _first(table, batch)])
    assert counted.any()
    assert not counted.all()
    assert (ends == (listed & counted[..., None])).all()


def _first(table, batch):
    return [[table.strings[q[0]].strip() for q in grid] for grid in batch.choices.pieces]


def test_the_probability_of_a_choice_is_that_of_the_whole_answer(lm, table, bank):
    """The choices of a question exclude each other, so together they have at most 1."""
    spec = GridConfig(rows=4, cols=4, palette=2, instructions={"count": 1.0})
    samples = draw_samples(spec, bank, 0, "test", np.arange(8))
    render = Renderer(bank, table)
    batch = render(samples, TextView(), "independent", with_choices=True)
    records = score(Reader(lm, table.image_id), batch, render)
    for choices, logprobs in zip(records["choices"], records["logprobs"], strict=True):
        assert choices == [str(n) for n in range(17)]
        assert 0 < np.exp(logprobs).sum() <= 1


@pytest.mark.parametrize(
    ("strings", "expected"),
    [
        ([], False),
        (["a"], False),
        (["a", "a"], False),
        (["a", "b"], False),
        (["ab", "b", "a"], True),
        (["car", "bus", "car park"], True),
        (["car", "cbr", "cara"], True),
        (["1", "20", "3"], False),
    ],
)
def test_which_strings_begin_others(strings, expected):
    assert begins_another(strings) is expected
    longer = [s for s in set(strings) for other in set(strings) - {s} if s.startswith(other)]
    assert expected == bool(longer)
