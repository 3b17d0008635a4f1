"""Where a model looks: the attention of an answer's position over the picture.

Shapes: B samples of a batch, H attention heads, Q questions about a grid, T token positions,
M vision tokens, P pictures, S side of a picture in pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel

from gpt2v.data.render.batches import Batch, ImageTokens
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.hardware.device import to_device
from gpt2v.model.packed import Reader


@dataclass(frozen=True)
class Attention:
    """Attention from the last position of a question, where its answer is predicted.

    With one picture for each cell, the patches of all cells stand side by side as in the grid.

    Attributes:
        question: its words.
        weights: (n_layers, n_heads, n_rows, n_cols) attention on each patch of the picture. All
            positions of a head sum to 1; what is missing here goes to the words (and to the class
            token).
        cells: (n_rows, n_cols) cell of each patch, counted in raster order.
        pixels: (height, width, 3) what the model sees of the grid.
    """

    question: str
    weights: NDArray[np.float32]
    cells: NDArray[np.int64]
    pixels: Pixels

    @property
    def by_cell(self) -> NDArray[np.float32]:
        """(n_layers, n_heads, n_cells) attention on all patches of each cell."""
        n_cells = int(self.cells.max()) + 1
        return np.stack(
            [self.weights[:, :, self.cells == cell].sum(-1) for cell in range(n_cells)], axis=-1
        )


@dataclass(frozen=True)
class PatchGrid:
    """The vision tokens of one grid that are patches, arranged as its picture.

    With one picture for each cell, the patches of all cells stand side by side as in the grid.

    Attributes:
        real: (M,) whether a vision token is a patch, and no class token.
        row, col: (n_patches,) where each of these is.
        cells: (n_rows, n_cols) cell of each patch, counted in raster order.
        per_picture: number of rows and of columns of patches in one picture.
    """

    real: NDArray[np.bool_]
    row: Ints
    col: Ints
    cells: Ints
    per_picture: tuple[int, int]

    @classmethod
    def of(cls, images: ImageTokens, geometry: PictureGeometry, n_cols: int) -> "PatchGrid":
        """The patches of a batch of one grid.

        Args:
            images: what the placeholders of the batch stand for.
            geometry: of a picture.
            n_cols: number of columns of the grid.
        """
        real = images.patch >= 0
        row, col = np.divmod(images.patch[real], geometry.image_size // geometry.patch_size)
        n_down, n_across = int(row.max()) + 1, int(col.max()) + 1
        if images.picture.max() > 0:  # a picture for each cell
            down, across = np.divmod(images.picture[real], n_cols)
            row, col = row + down * n_down, col + across * n_across
        cells = np.zeros((int(row.max()) + 1, int(col.max()) + 1), np.int64)
        cells[row, col] = images.cell[real]
        return cls(real, row, col, cells, (n_down, n_across))

    def arrange(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weights of the vision tokens (..., M) as (..., n_rows, n_cols) of the picture."""
        arranged = np.zeros((*weights.shape[:-1], *self.cells.shape), np.float32)
        arranged[..., self.row, self.col] = weights[..., self.real]
        return arranged


@contextmanager
def attention_from(lm: GPT2LMHeadModel, at_BQ: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """In this block, each forward pass adds the attention of some positions, layer by layer.

    That is (B, H, Q, T) for each layer. Only transformers' eager attention gives weights; the fast
    kernels give none. What other positions attend to is dropped at once, so that long sequences
    need memory for one layer.

    Args:
        at_BQ: the positions of each sequence, (B, Q).
    """
    kept: list[torch.Tensor] = []
    rows = torch.arange(len(at_BQ), device=at_BQ.device)[:, None]

    def keep(module: Any, inputs: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        kept.append(output[1][rows, :, at_BQ].transpose(1, 2))

    before = lm.config._attn_implementation
    hooks = [block.attn.register_forward_hook(keep) for block in lm.transformer.h]
    lm.set_attn_implementation("eager")
    try:
        yield kept
    finally:
        lm.set_attn_implementation(before)
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def attention_of_answers(reader: Reader, batch: Batch) -> torch.Tensor:
    """Attention from the positions that predict the first token of each answer.

    Returns:
        (n_layers, B, H, Q, T): of each question, in one packed pass.
    """
    packed, embeds = reader.embedded(batch)
    n_samples, length = packed.input_ids.shape
    with attention_from(reader.lm, to_device(batch.ends, reader.device)) as layers:
        reader.lm.transformer(
            inputs_embeds=embeds,
            position_ids=packed.position_ids,
            attention_mask=packed.mask.expand(n_samples, -1, -1, -1)[..., :length],
        )
    return torch.stack(layers)


def on_patches(
    question: str, weights: NDArray[np.float32], patches: PatchGrid, pixels: Pixels, patch_size: int
) -> Attention:
    """Arrange the attention on placeholders as the patches of the picture.

    Args:
        weights: (n_layers, n_heads, n_tokens) attention of one position on the vision tokens.
        pixels: (P, S, S, 3) of the grid, or of each cell.
        patch_size: side of a patch in pixels.
    """
    height, width = (n * patch_size for n in patches.per_picture)
    across = patches.cells.shape[1] // patches.per_picture[1]  # pictures side by side
    seen = pixels[:, :height, :width].reshape(-1, across, height, width, 3)
    whole = seen.transpose(0, 2, 1, 3, 4).reshape(-1, across * width, 3)
    return Attention(question, patches.arrange(weights), patches.cells, whole)
