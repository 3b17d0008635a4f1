"""Score a batch: which answers are right, the log-probability of every choice, and what is said.

With greedy decoding, a model generates exactly the right answer if and only if, with teacher
forcing, its likeliest token is right at every token of the answer. So one pass without generation
scores a batch; only what a model says in place of a right answer is generated (`continuing`).

Shapes: B samples of a batch, T token positions, Q questions about a grid,
J questions in a flat list, A choices of a question, L tokens of a choice,
Y positions that are read (whose next token is predicted).
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2v.config.grids import ContentConfig, Mode, bounds
from gpt2v.data.dataset import PORTION, GridDataset
from gpt2v.data.grids.samples import NOT_ASKED, Samples
from gpt2v.data.render.asked import question_columns
from gpt2v.data.render.batches import Batch, Choices, Renderer
from gpt2v.data.render.views import View, picture_of
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import EMPTY, Strings, different_rows
from gpt2v.errors import UserError, within
from gpt2v.hardware.memory import enough_memory
from gpt2v.model.continuing import Said, go_on
from gpt2v.model.head import read_head
from gpt2v.model.packed import Pairs, Reader
from gpt2v.progress import progress

Records = dict[str, list[Any]]
_SMALL = 16  # cells of a grid
COLUMNS = (  # of records
    *("sample", "content", "rows", "cols", "slot", "instruction", "question"),
    *("row", "col", "other_row", "other_col", "direction", "object"),
    *("truth", "generated", "prediction", "exact", "palette", "tiles", "choices", "logprobs"),
)


def longest_answer(n_tokens: int) -> int:
    """Number of tokens after which an answer is cut, where the right one has `n_tokens`."""
    return 2 * n_tokens + 4


def records_of(
    samples: Samples, names: tuple[str, ...], table: Strings, answers: Mapping[str, list[Any]]
) -> Records:
    """The records of all questions of the samples.

    Args:
        names: of the classes.
        answers: the columns truth, generated, prediction, exact, choices and logprobs, with an
            entry for each question.
    """
    where = np.nonzero(samples.instruction != NOT_ASKED)
    read = samples.tiles_read[where].tolist()  # padded with -1
    palettes = [
        [names[number] for number in palette if number >= 0] for palette in samples.palette.tolist()
    ]
    records: Records = {
        **question_columns(samples, names, table),
        "palette": [palettes[i] for i in where[0].tolist()],
        "tiles": [[tile for tile in tiles if tile >= 0] for tiles in read],
        **answers,
    }
    return {column: records[column] for column in COLUMNS}


@torch.no_grad()
def score(reader: Reader, batch: Batch, render: Renderer, generate: bool = True) -> Records:
    """Records of the batch's questions: columns with one entry per question.

    They begin with the columns of `question_columns`. The others are truth, generated (the greedy
    answer), prediction, exact (whether the greedy answer is right), palette, tiles (ids of those
    that decide the answer), choices, and logprobs (of each choice, in nats). The prediction is the
    likeliest choice. If the choices of an instruction cannot be listed, it is the truth if the
    greedy answer is right, else None.

    Args:
        batch: rendered by `render`, with choices.
        generate: let the model say its wrong answers; else `generated` is None for these.

    Raises:
        UserError: a logit is NaN or infinite.
    """
    assert batch.choices is not None, "render the batch with_choices to score it"
    kept: list[Pairs] | None = [] if generate else None
    hidden, packed = reader.hidden(batch, kept)
    number_BT = np.full(batch.input_ids.shape, -1)  # index into Y of each position that is read
    number_BT[packed.read] = np.arange(len(hidden))
    position, token = batch.choices.position, batch.choices.token  # (B, Q, A, L)
    reads = number_BT[np.arange(len(position))[:, None, None, None], position]
    found = read_head(reader.lm, hidden, reads.ravel(), np.maximum(token, 0).ravel())
    found.check(batch.index[np.nonzero(packed.read)[0]])
    wrong = _wrong_answers(batch, found.likeliest, number_BT)
    if kept is not None and wrong:
        go_on(reader, batch, kept, wrong, render.table)
    said = {(o.sample, o.question): o.text(render.table) if generate else None for o in wrong}

    sample, slot = np.nonzero(batch.samples.instruction != NOT_ASKED)
    where, places = (sample, slot), list(zip(sample.tolist(), slot.tolist(), strict=True))
    truths = [text.strip() for text in render.table.texts(batch.truth[where])]
    exact = [place not in said for place in places]
    choices, logprobs = _scored_choices(batch.choices, where, found.logp, render.table)
    answers: Records = {
        "truth": truths,
        "generated": [said.get(place, truth) for place, truth in zip(places, truths, strict=True)],
        "prediction": likeliest_choices(choices, logprobs, truths, exact),
        "exact": exact,
        "choices": choices,
        "logprobs": logprobs,
    }
    return records_of(batch.samples, render.bank.class_names, render.table, answers)


def _scored_choices(
    choices: Choices, where: tuple[Ints, Ints], logp: NDArray[np.float32], table: Strings
) -> tuple[list[list[str]], list[list[float]]]:
    """The choices of each question and their log-probabilities in nats.

    Args:
        where: sample and slot of each question, two arrays (J,).
        logp: of each token of each choice, flattened (B, Q, A, L).
    """
    token = choices.token
    scores_BQA = (logp.reshape(token.shape) * (token >= 0)).sum(-1)
    different, which = different_rows(choices.pieces[where])
    numbers = which.tolist()
    listed = [np.flatnonzero(row != EMPTY).tolist() for row in different]
    names = [
        [table.strings[row[k]].strip() for k in own]
        for row, own in zip(different.tolist(), listed, strict=True)
    ]
    scores = scores_BQA[where].tolist()
    return (
        [names[number] for number in numbers],
        [[own[k] for k in listed[number]] for own, number in zip(scores, numbers, strict=True)],
    )


def likeliest_choices(
    choices: Sequence[Sequence[str]],
    logprobs: Sequence[Sequence[float]],
    truths: Sequence[str],
    exact: Sequence[bool],
) -> list[str | None]:
    """The prediction of each question: its choice with the largest log-probability.

    Where no choices are listed, it is the truth if the answer is exact, else None.
    """
    return [
        names[own.index(max(own))] if names else truth if right else None
        for names, own, truth, right in zip(choices, logprobs, truths, exact, strict=True)
    ]


def _wrong_answers(batch: Batch, likeliest: Ints, number_BT: Ints) -> list[Said]:
    """What the model begins to say where the greedy answer is not the right one.

    That is the right answer up to the first token that is not the likeliest, and the likeliest one.

    Args:
        likeliest: (Y,) next token at each position that is read.
        number_BT: (B, T) index into Y of each position.
    """
    sample, position = np.nonzero(batch.answers >= 0)  # of each token of an answer
    right = batch.input_ids[sample, position]
    predicted = likeliest[number_BT[sample, position - 1]]
    question = batch.answers[sample, position]
    answer = sample * (batch.answers.max(initial=0) + 1) + question
    _, first, which, n_tokens = np.unique(
        answer, return_index=True, return_inverse=True, return_counts=True
    )
    n_wrong = np.bincount(which, right != predicted)
    said = []
    for k in np.flatnonzero(n_wrong).tolist():
        start, n = int(first[k]), int(n_tokens[k])
        at = start + int(np.argmax(right[start : start + n] != predicted[start : start + n]))
        tokens = [*right[start:at].tolist(), int(predicted[at])]
        said.append(Said(int(sample[start]), int(question[start]), tokens, longest_answer(n)))
    return said


class Scorer(Protocol):
    """Answers questions about grids and scores its answers; every evaluation uses one.

    A layout is given by its name: `text`, `image`, `text+image`.
    """

    def check(self, data: GridDataset, layout: str, mode: Mode = "independent") -> None:
        """Check that every sample of the data can be drawn and is not too long.

        Raises:
            UserError: names the key of the spec, and says which value is needed.
        """

    def score(
        self, data: GridDataset, index: Ints, layout: str, mode: Mode = "independent"
    ) -> Records:
        """Answers about the samples with these numbers (B,), which are read together.

        Returns:
            The columns `COLUMNS`, with one entry per question.
        """


@dataclass(frozen=True)
class PackedScorer:
    """Scores a GPT-2 or a GPT-2v, which reads every grid once, with all its questions.

    Attributes:
        layouts: replacements of layouts, such as `{"image": "positions"}`.
        generate: let the model say its wrong answers, see `score`.
    """

    reader: Reader
    render: Renderer
    layouts: Mapping[str, str] = field(default_factory=dict)
    generate: bool = True

    def view(self, spec: ContentConfig, layout: str) -> View:
        """The view in which it reads the grids of a spec."""
        return self.render.view(spec, self.layouts.get(layout, layout))

    def check(self, data: GridDataset, layout: str, mode: Mode = "independent") -> None:
        if layout == "text+image" and self.layouts.get("image", "image") != "image":
            raise UserError("modalities: text+image: this model was not trained on pictures")
        layout = self.layouts.get(layout, layout)
        data.check(layout, self.render, self.reader.n_positions, mode)

    def score(
        self, data: GridDataset, index: Ints, layout: str, mode: Mode = "independent"
    ) -> Records:
        with within(data.key):
            view = self.view(data.spec, layout)
        batch = self.render(data.samples(index), view, mode, with_choices=True)
        return score(self.reader, batch, self.render, self.generate)


def portions_of(data: GridDataset, layout: str) -> list[Ints]:
    """The numbers of the samples that are scored together; more of them if grids are small.

    Args:
        layout: in which they are shown.
    """
    n_cells = bounds(data.spec.rows)[1] * bounds(data.spec.cols)[1]
    several = layout != "text" and picture_of(data.spec).layout == "multi"
    return list(data.portions(PORTION if n_cells > _SMALL or several else 2 * PORTION))


def score_all(
    scorer: Scorer,
    data: GridDataset,
    layout: str,
    label: str = "",
    portions: Sequence[Ints] | None = None,
    mode: Mode = "independent",
) -> Records:
    """The records of a data set in one layout.

    Args:
        label: name of the progress display; empty for no display.
        portions: numbers of the samples that are scored, in arrays of those that are scored
            together; none: all, see `portions_of`.
    """
    columns: Records = {column: [] for column in COLUMNS}
    portions = portions_of(data, layout) if portions is None else portions
    with progress(label, len(portions)) if label else nullcontext() as report:
        for index in portions:
            where = f"{label or 'scoring'}: {len(index)} grids at once"
            with enough_memory(where, lambda: "use smaller grids, pictures or models"):
                records = scorer.score(data, index, layout, mode)
            for column, values in records.items():
                columns[column] += values
            if report:
                report()
    return columns


def accuracy(records: Records) -> float:
    """Share of exact answers."""
    return float(np.mean(records["exact"]))
