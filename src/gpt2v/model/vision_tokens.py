"""Token sources: they give the embeddings at the image positions of the language model's input.

Each is one class; its name and description are in `config.vision_tokens`.

Shapes: B samples of a batch, P pictures, N patches of a picture, M vision tokens,
D width of a hidden state.
"""

from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gpt2v.config.choice import choose
from gpt2v.data.grids.samples import Samples
from gpt2v.data.render.batches import Batch, ImageTokens, Renderer
from gpt2v.data.render.pictures import Pictures
from gpt2v.hardware.device import to_device
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.registry import TOKEN_SOURCES


class VisionTokenSource(Protocol):
    """Gives the embeddings of a batch's image positions.

    It is made from a GPT-2v and the renderer of its batches.

    Attributes:
        layout: layout of its batches, a name in `data.render.views.LAYOUTS`. Specs with pictures
            are rendered in this layout.
    """

    layout: ClassVar[str]

    def __call__(self, batch: Batch) -> Tensor:
        """The embeddings, (M, D), in the order of the flattened batch."""


class SplicedText:
    """The word embeddings of the text that the placeholders hide (a spliced text view)."""

    layout: ClassVar[str] = "spliced"

    def __init__(self, model: GPT2vModel, render: Renderer) -> None:
        self.wte = model.language_model.get_input_embeddings()
        self.image_id = render.table.image_id

    def __call__(self, batch: Batch) -> Tensor:
        assert batch.hidden_ids is not None, "spliced text needs a spliced text view"
        ids = batch.hidden_ids[batch.input_ids == self.image_id]
        embeds: Tensor = self.wte(to_device(ids, self.wte.weight.device))
        return embeds


class CellEmbedding:
    """One fixed embedding per class: the mean of the token embeddings of its word.

    The position of the class token, which belongs to no cell, gets the mean over the grid's cells.
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
        device = self.embeddings.device
        classes = batch.samples.classes[batch.images.sample, row, col]
        embeddings = self.embeddings[to_device(classes, device)]
        whole = np.flatnonzero(batch.images.cell < 0)
        if len(whole):
            sample = to_device(batch.images.sample[whole], device)
            embeddings[to_device(whole, device)] = self._means(batch.samples)[sample]
        return embeddings

    def _means(self, samples: Samples) -> Tensor:
        """The mean embedding of the cells of each grid, (B, D)."""
        labels = np.arange(len(self.embeddings))
        counts = (samples.classes[..., None] == labels).sum((1, 2))
        shares = (counts / samples.n_cells[:, None]).astype(np.float32)
        embeddings = self.embeddings
        return to_device(shares, embeddings.device).to(embeddings.dtype) @ embeddings


class ProjectedPatches:
    """The projected patches of the picture."""

    layout: ClassVar[str] = "image"

    def __init__(self, model: GPT2vModel, render: Renderer | None = None) -> None:
        self.model = model

    def __call__(self, batch: Batch) -> Tensor:
        assert batch.images is not None
        assert batch.pictures is not None, "projected patches need pictures"
        return scatter_tokens(self.model.project(self.features(batch.pictures)), batch.images)

    def features(self, pictures: Pictures) -> Tensor:
        """Features of the pictures: (P, N, D), or (P, N + 1, D) with the class token."""
        return self.model.vision_features(self.model.normalise(pictures.pixels))

    def prepare(self, pictures: Pictures) -> None:
        """Draw the pixels that `features` will need; may run in another thread."""
        _ = pictures.pixels

    def n_seen(self, pictures: Pictures) -> int:
        """Number of pictures that the vision tower runs on."""
        return len(pictures)


def scatter_tokens(tokens_PND: Tensor, images: ImageTokens) -> Tensor:
    """The vision tokens of the pictures at their image positions: (P, N, D) -> (M, D)."""
    n = tokens_PND.shape[1]
    index = to_device(images.picture * n + images.patch % n, tokens_PND.device)
    return tokens_PND.flatten(0, 1)[index]


def token_source(model: GPT2vModel, render: Renderer) -> VisionTokenSource:
    """The token source that this model was trained with."""
    source: VisionTokenSource = choose(TOKEN_SOURCES, model.config.vision_tokens).load()(
        model, render
    )
    return source
