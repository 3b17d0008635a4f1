"""From a batch to records: which answers are right, and the log-probability of every choice.

Under greedy decoding an exact match of the canonical answer equals "teacher-forced argmax is right
at every answer token", so one pass without generation scores a batch.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from gpt2v.config.grids import ContentConfig
from gpt2v.data.dataset import PORTION, GridDataset
from gpt2v.data.grids.instructions import ALL
from gpt2v.data.grids.samples import NOT_ASKED, Samples
from gpt2v.data.render.batches import Batch, Renderer
from gpt2v.data.render.views import View
from gpt2v.data.text_pieces import EMPTY
from gpt2v.errors import UserError, within
from gpt2v.model.packed import Reader
from gpt2v.progress import progress

Records = dict[str, list[Any]]
COLUMNS = (
    "sample",
    "instruction",
    "row",
    "col",
    "truth",
    "prediction",
    "exact",
    "palette",
    "choices",
    "logprobs",
)


@torch.no_grad()
def score(reader: Reader, batch: Batch, render: Renderer) -> Records:
    """One row per question, in columns: sample, instruction, row, col, truth, prediction (the
    likeliest choice; where answers cannot be listed, the truth if it is said, else none), exact
    (greedy answer right), palette, choices, logprobs (nats, per choice).

    `batch` must have been rendered by `render`, with its choices.
    """
    assert batch.choices is not None, "render the batch with_choices to score it"
    logits, packed = reader(batch)
    logp = torch.log_softmax(logits.float(), -1)
    greedy = logp.argmax(-1).cpu().numpy()
    number = np.full(batch.input_ids.shape, -1)  # which read a position is
    number[packed.read.cpu().numpy()] = np.arange(len(greedy))

    samples = batch.samples
    rows, cols = np.nonzero(batch.answers >= 0)
    wrong = np.zeros((len(batch.input_ids), samples.row.shape[1]), bool)
    missed = greedy[number[rows, cols - 1]] != batch.input_ids[rows, cols]
    wrong[rows[missed], batch.answers[rows, cols][missed]] = True

    position, token = batch.choices.position, batch.choices.token  # (B, Q, C, L)
    reads = number[np.arange(len(position))[:, None, None, None], position]
    values = logp[torch.from_numpy(reads), torch.from_numpy(np.maximum(token, 0))]
    scores = (values.cpu().numpy() * (token >= 0)).sum(-1)  # (B, Q, C)
    table, names = render.table, np.array(render.bank.class_names, dtype=object)
    records: Records = {column: [] for column in COLUMNS}
    for i, q in zip(*np.nonzero(samples.instruction != NOT_ASKED), strict=True):
        listed = batch.choices.pieces[i, q] != EMPTY
        choices = [table.strings[piece].strip() for piece in batch.choices.pieces[i, q][listed]]
        logprobs = scores[i, q][listed].tolist()
        truth = table.text(batch.truth[i, q]).strip()
        exact = not wrong[i, q]
        best = choices[int(np.argmax(logprobs))] if choices else (truth if exact else None)
        palette = samples.palette[i]
        row = (
            int(samples.index[i]),
            ALL[samples.instruction[i, q]].name,
            int(samples.row[i, q]),
            int(samples.col[i, q]),
            truth,
            best,
            exact,
            names[palette[palette >= 0]].tolist(),
            choices,
            logprobs,
        )
        for column, value in zip(COLUMNS, row, strict=True):
            records[column].append(value)
    return records


class Scorer(Protocol):
    """Anything that answers questions about grids; every evaluation takes one."""

    def view(self, spec: ContentConfig, layout: str) -> View:
        """How it reads the grids of a spec in a layout, by the layout's name."""

    def check(self, data: GridDataset, layout: str) -> None:
        """Refuse data of which some sample is too long or cannot be drawn.

        Raises:
            UserError: the key of the spec and what would be right.
        """

    def score(self, samples: Samples, view: View) -> Records:
        """One row per question, in columns (`COLUMNS`)."""


@dataclass(frozen=True)
class PackedScorer:
    """A GPT-2, or a GPT-2v, that reads every grid once, with all its questions.

    Attributes:
        layouts: layouts that stand in for others, as `{"image": "positions"}`.
    """

    reader: Reader
    render: Renderer
    layouts: Mapping[str, str] = field(default_factory=dict)

    def view(self, spec: ContentConfig, layout: str) -> View:
        return self.render.view(spec, self.layouts.get(layout, layout))

    def check(self, data: GridDataset, layout: str) -> None:
        if layout == "text+image" and self.layouts.get("image", "image") != "image":
            raise UserError("modalities: text+image: this model was not trained on pictures")
        layout = self.layouts.get(layout, layout)
        data.check(layout, self.render, self.reader.n_positions)

    def score(self, samples: Samples, view: View) -> Records:
        batch = self.render(samples, view, with_choices=True)
        return score(self.reader, batch, self.render)


def score_all(
    scorer: Scorer, data: GridDataset, layout: str, label: str = "", size: int = PORTION
) -> Records:
    """The records of a whole data set in one layout.

    Args:
        label: shows progress under this name.
        size: samples that are scored together.
    """
    columns: Records = {column: [] for column in COLUMNS}
    with within(data.key):
        view = scorer.view(data.spec, layout)
    with progress(label, data.n_portions(size)) if label else nullcontext() as report:
        for index in data.portions(size):
            for column, values in scorer.score(data.samples(index), view).items():
                columns[column] += values
            if report:
                report()
    return columns


def accuracy(records: Records) -> float:
    """Share of exact answers."""
    return float(np.mean(records["exact"]))
