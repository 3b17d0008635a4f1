"""From a batch to records: which answers are right, and the log-probability of every choice.

Under greedy decoding an exact match of the canonical answer equals "teacher-forced argmax is right
at every answer token", so one pass without generation scores a batch.
"""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.instructions import NAMES
from gpt2v.data.grids.samples import NOT_ASKED
from gpt2v.data.render.batches import Batch, Renderer
from gpt2v.data.render.views import View
from gpt2v.data.text_pieces import EMPTY
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
            NAMES[samples.instruction[i, q]],
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


def score_all(
    reader: Reader, data: GridDataset, view: View | str, render: Renderer, label: str = ""
) -> Records:
    """The records of a whole data set in one view; with a `label` it reports progress."""
    columns: Records = {column: [] for column in COLUMNS}
    with progress(label, data.n_portions()) if label else nullcontext() as report:
        for batch in data.batches(view, render):
            for column, values in score(reader, batch, render).items():
                columns[column] += values
            if report:
                report()
    return columns


def accuracy(records: Records) -> float:
    """Share of exact answers."""
    return float(np.mean(records["exact"]))
