"""Token sources: what stands at the image positions of the language model's input.

Each is one class; its name and description are in `config.vision_tokens`.
"""

from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gpt2v.data.grids.samples import Samples
from gpt2v.data.render.batches import Batch, ImageTokens, Renderer
from gpt2v.data.render.pictures import Pictures
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.registry import TOKEN_SOURCES, choose


class VisionTokenSource(Protocol):
    """Gives the embeddings of a batch's image positions.

    It is made from a GPT-2v and the renderer of its batches.

    Attributes:
        layout: of the batches that a model reads in place of pictures, a name in
            `data.render.views.LAYOUTS`.
    """

    layout: ClassVar[str]

    def __call__(self, batch: Batch) -> Tensor:
        """(number of image positions, D), in the order of the flattened batch."""


class SplicedText:
    """The word embeddings of the text that the placeholders stand for (a spliced text view)."""

    layout: ClassVar[str] = "spliced"

    def __init__(self, model: GPT2vModel, render: Renderer) -> None:
        self.wte = model.language_model.get_input_embeddings()
        self.image_id = render.table.image_id

    def __call__(self, batch: Batch) -> Tensor:
        assert batch.hidden_ids is not None, "spliced text needs a spliced text view"
        ids = torch.from_numpy(batch.hidden_ids[batch.input_ids == self.image_id])
        embeds: Tensor = self.wte(ids.to(self.wte.weight.device))
        return embeds


class CellEmbedding:
    """One fixed embedding per class, the mean of its word's token embeddings, at each position.

    The class token's place, which is no cell's, holds the mean of the grid's.
    """

    layout: ClassVar[str] = "positions"

    def __init__(self, model: GPT2vModel, render: Renderer) -> None:
        wte = model.language_model.get_input_embeddings().weight
        names = [f" {name}" for name in render.bank.class_names]
        words = [wte[render.table.tokens(name)].mean(0) for name in names]
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


class ProjectedPatches:
    """The projected patches of the picture."""

    layout: ClassVar[str] = "image"

    def __init__(self, model: GPT2vModel, render: Renderer | None = None) -> None:
        self.model = model

    def __call__(self, batch: Batch) -> Tensor:
        assert batch.images is not None
        assert batch.pictures is not None, "the picture's rung needs pictures"
        return scatter_tokens(self.model.project(self.features(batch.pictures)), batch.images)

    def features(self, pictures: Pictures) -> Tensor:
        """What the projector reads of P pictures: (P, N, D), or (P, N + 1, D) with class token."""
        return self.model.vision_features(self.model.normalise(pictures.pixels))

    def n_seen(self, pictures: Pictures) -> int:
        """How many of them the vision tower looks at."""
        return len(pictures)


def scatter_tokens(tokens_PND: Tensor, images: ImageTokens) -> Tensor:
    """The vision tokens of P pictures, one for each image position, (M, D)."""
    picture, patch = (torch.from_numpy(a) for a in (images.picture, images.patch))
    return tokens_PND[picture.to(tokens_PND.device), patch.to(tokens_PND.device)]


def token_source(model: GPT2vModel, render: Renderer) -> VisionTokenSource:
    """What this model was trained to read at image positions."""
    source: VisionTokenSource = choose(TOKEN_SOURCES, model.config.vision_tokens).load()(
        model, render
    )
    return source
