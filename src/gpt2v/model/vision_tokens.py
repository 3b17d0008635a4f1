"""What stands at the image positions of the language model's input: one class per rung of the
vision-token ladder, all behind one call.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPT2LMHeadModel

from gpt2v.data.grids.samples import Samples
from gpt2v.data.render.batches import Batch, ImageTokens
from gpt2v.data.render.pictures import Pictures
from gpt2v.data.text_pieces import PieceTable
from gpt2v.model.gpt2v import GPT2vModel


class VisionTokenSource(Protocol):
    """Gives the embeddings of a batch's image positions."""

    def __call__(self, batch: Batch) -> Tensor:
        """(number of image positions, D), in the order of the flattened batch."""


class SplicedText:
    """The word embeddings of the text that the placeholders stand for (a spliced text view)."""

    def __init__(self, lm: GPT2LMHeadModel, image_id: int) -> None:
        self.wte, self.image_id = lm.get_input_embeddings(), image_id

    def __call__(self, batch: Batch) -> Tensor:
        assert batch.hidden_ids is not None, "spliced text needs a spliced text view"
        ids = torch.from_numpy(batch.hidden_ids[batch.input_ids == self.image_id])
        embeds: Tensor = self.wte(ids.to(self.wte.weight.device))
        return embeds


class CellEmbedding:
    """One fixed embedding per class, the mean of its word's token embeddings, at each position.

    The class token's place, which is no cell's, holds the mean of the grid's.
    """

    def __init__(
        self, lm: GPT2LMHeadModel, table: PieceTable, class_names: tuple[str, ...]
    ) -> None:
        wte = lm.get_input_embeddings().weight
        words = [wte[table.tokens(f" {name}")].mean(0) for name in class_names]
        self.embeddings = nn.Parameter(torch.stack(words).detach(), requires_grad=False)

    def __call__(self, batch: Batch) -> Tensor:
        assert batch.images is not None, "cell embeddings need an image view"
        row, col = np.divmod(batch.images.cell, batch.samples.cols[batch.images.sample])
        classes = torch.from_numpy(batch.samples.classes[batch.images.sample, row, col])
        found = self.embeddings[classes.to(self.embeddings.device)]
        whole = torch.from_numpy(batch.images.cell < 0)
        if whole.any():
            found[whole] = self._means(batch.samples)[batch.images.sample[whole]]
        return found

    def _means(self, samples: Samples) -> Tensor:
        """The mean embedding of each grid's cells, (B, D)."""
        kinds = np.arange(len(self.embeddings))
        counts = (samples.classes[..., None] == kinds).sum((1, 2)) / samples.n_cells[:, None]
        return torch.from_numpy(counts).to(self.embeddings) @ self.embeddings


class Picture:
    """The projected patches of the picture."""

    def __init__(self, model: GPT2vModel) -> None:
        self.model = model

    def __call__(self, batch: Batch) -> Tensor:
        assert batch.images is not None
        assert batch.pictures is not None, "the picture's rung needs pictures"
        return placed(self.model.project(self.features(batch.pictures)), batch.images)

    def features(self, pictures: Pictures) -> Tensor:
        """What the projector reads of P pictures: (P, N, D), or (P, N + 1, D) with class token."""
        return self.model.vision_features(self.model.normalise(pictures.pixels))

    def n_seen(self, pictures: Pictures) -> int:
        """How many of them the vision tower looks at."""
        return len(pictures)


def placed(tokens_PND: Tensor, images: ImageTokens) -> Tensor:
    """The vision tokens of P pictures, one for each image position, (M, D)."""
    picture, patch = (torch.from_numpy(a) for a in (images.picture, images.patch))
    return tokens_PND[picture.to(tokens_PND.device), patch.to(tokens_PND.device)]
