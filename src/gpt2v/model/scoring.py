"""From a batch to records: which answers are right, and the log-probability of every choice.

Under greedy decoding an exact match of the canonical answer equals "teacher-forced argmax is right
at every answer token", so one pass without generation scores a batch.
"""

from typing import Any

import numpy as np
import torch

from gpt2v.data.batches import Batch
from gpt2v.model.reader import Reader

Records = dict[str, list[Any]]


@torch.no_grad()
def score(reader: Reader, batch: Batch, class_names: tuple[str, ...]) -> Records:
    """One row per question, in columns: sample, instruction, row, col, truth, prediction (best of
    all choices), exact (greedy answer right), palette, choices, logprobs (nats, per choice).

    `batch` must have been rendered with its choices.
    """
    assert batch.choices is not None, "render the batch with_choices to score it"
    logits, packed = reader(batch)
    logp = torch.log_softmax(logits.float(), -1)
    greedy = logp.argmax(-1).cpu().numpy()
    number = np.full(batch.input_ids.shape, -1)  # which read a position is
    number[packed.read.cpu().numpy()] = np.arange(len(greedy))

    samples = batch.samples
    n, n_questions = samples.row.shape
    wrong = np.zeros(batch.input_ids.shape, bool)
    rows, cols = np.nonzero(batch.answers >= 0)
    wrong[rows, cols] = greedy[number[rows, cols - 1]] != batch.input_ids[rows, cols]
    exact = np.stack([~(wrong & (batch.answers == q)).any(1) for q in range(n_questions)], axis=1)

    position, token = batch.choices.position, batch.choices.token  # (B, Q, C, L), (C, L)
    reads = number[np.arange(n)[:, None, None, None], position]
    values = logp[torch.from_numpy(reads), torch.from_numpy(np.maximum(token, 0))]
    scores = (values.cpu().numpy() * (token >= 0)).sum(-1)  # (B, Q, C)
    names = np.array(class_names, dtype=object)
    return {
        "sample": np.repeat(samples.index, n_questions).tolist(),
        "instruction": ["lookup"] * (n * n_questions),
        "row": samples.row.reshape(-1).tolist(),
        "col": samples.col.reshape(-1).tolist(),
        "truth": names[samples.answer.reshape(-1)].tolist(),
        "prediction": names[scores.argmax(-1).reshape(-1)].tolist(),
        "exact": exact.reshape(-1).tolist(),
        "palette": [p for p in names[samples.palette].tolist() for _ in range(n_questions)],
        "choices": [list(class_names)] * (n * n_questions),
        "logprobs": scores.reshape(n * n_questions, -1).tolist(),
    }


def accuracy(records: Records) -> float:
    """Share of exact answers."""
    return float(np.mean(records["exact"]))
