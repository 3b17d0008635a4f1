"""Where a model looks: the attention of an answer's position over the picture.

Shapes: P pictures, S side of a picture in pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel

from gpt2v.data.render.batches import ImageTokens
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.tiles.image_files import Pixels


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


@contextmanager
def eager(lm: GPT2LMHeadModel) -> Iterator[None]:
    """In this block the GPT-2 computes its attention maps; the fast kernels give none."""
    before = lm.config._attn_implementation
    lm.set_attn_implementation("eager")
    try:
        yield
    finally:
        lm.set_attn_implementation(before)


def on_patches(
    question: str,
    weights: torch.Tensor,
    is_image: torch.Tensor,
    images: ImageTokens,
    pixels: Pixels,
    geometry: PictureGeometry,
    n_cols: int,
) -> Attention:
    """Arrange the attention on placeholders as the patches of the picture.

    Args:
        weights: (n_layers, n_heads, n_tokens) attention of one position of one sequence.
        is_image: (n_tokens,) which positions are placeholders.
        images: what they stand for.
        pixels: (P, S, S, 3) of the grid, or of each cell.
        geometry: of a picture.
        n_cols: number of columns of the grid.
    """
    of_patches = weights[:, :, is_image].float().cpu().numpy()
    side = geometry.image_size // geometry.patch_size
    real = images.patch >= 0  # no class token
    row, col = np.divmod(images.patch[real], side)
    n_down, n_across = int(row.max()) + 1, int(col.max()) + 1
    if len(pixels) > 1:  # a picture for each cell
        down, across = np.divmod(images.picture[real], n_cols)
        row, col = row + down * n_down, col + across * n_across
    shape = int(row.max()) + 1, int(col.max()) + 1
    arranged = np.zeros((*of_patches.shape[:2], *shape), np.float32)
    arranged[:, :, row, col] = of_patches[:, :, real]
    cells = np.zeros(shape, np.int64)
    cells[row, col] = images.cell[real]
    height, width = n_down * geometry.patch_size, n_across * geometry.patch_size
    n_cols = n_cols if len(pixels) > 1 else 1
    seen = pixels[:, :height, :width].reshape(-1, n_cols, height, width, 3)
    whole = seen.transpose(0, 2, 1, 3, 4).reshape(-1, n_cols * width, 3)
    return Attention(question, arranged, cells, whole)
