"""The input of a model as plain tensors: one sequence for each question, up to its `A:`.

Shapes: B samples of a batch, T token positions, P pictures, M vision tokens,
S side of a picture in pixels.
"""

import numpy as np
import torch
from torch import Tensor

from gpt2v.data.render.batches import Batch, Renderer
from gpt2v.model.gpt2v import GPT2vModel

Inputs = dict[str, Tensor]


def inputs_of(
    batches: list[Batch], render: Renderer, model: GPT2vModel | None, device: torch.device
) -> Inputs:
    """The sequences of some rendered batches, padded on the right.

    Args:
        batches: each of one grid with at most one question.
        model: the GPT-2v; None: a GPT-2 alone.

    Returns:
        input_ids, attention_mask and position_ids (B, T). With pictures also pixel_values
        (P, 3, S, S), normalised, and image_tokens (M, 2): for each placeholder, its picture and
        the vision token of that picture that stands there.
    """
    rows = [_sequence(batch) for batch in batches]
    longest = max(len(ids) for ids, _ in rows)
    shape = len(rows), longest
    ids, positions = np.full(shape, render.table.pad_id), np.zeros(shape, np.int64)
    mask = np.zeros(shape, np.int64)
    for i, (own, at) in enumerate(rows):
        ids[i, : len(own)], positions[i, : len(own)], mask[i, : len(own)] = own, at, 1
    arrays = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    inputs = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    pixels = [batch.pixels for batch in batches if batch.pixels is not None]
    if model is not None and pixels:
        inputs["pixel_values"] = model.normalise(np.concatenate(pixels))
        tokens, first = [], 0
        for batch in batches:
            assert batch.images is not None
            assert batch.pictures is not None
            tokens.append(np.stack([first + batch.images.picture, batch.images.patch], axis=1))
            first += len(batch.pictures)
        inputs["image_tokens"] = torch.from_numpy(np.concatenate(tokens)).to(device)
    return inputs


def _sequence(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and position ids of the grid, the prompt and the question, without its answer."""
    is_read = (batch.segments[0] >= 0) & (batch.answers[0] < 0)
    return batch.input_ids[0, is_read], batch.position_ids[0, is_read]
