"""A reader answers batches: a GPT-2 by itself, or a GPT-2v through a vision-token source."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from gpt2v.data.render.batches import Batch
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.packed import Packed, pack, read_hidden
from gpt2v.model.vision_tokens import Picture, VisionTokenSource


@dataclass(frozen=True)
class Reader:
    """Calls the language model on batches; image positions are filled by `source`."""

    lm: GPT2LMHeadModel
    image_id: int
    source: VisionTokenSource | None = None

    @classmethod
    def of(cls, model: GPT2vModel, picture: Picture | None = None) -> "Reader":
        """GPT-2v on pictures (as `picture` gives their features) and on text."""
        source = picture or Picture(model)
        return cls(model.language_model, model.config.image_token_id, source)

    @property
    def device(self) -> torch.device:
        found: torch.device = self.lm.device
        return found

    @property
    def n_positions(self) -> int:
        found: int = self.lm.config.n_positions
        return found

    def __call__(self, batch: Batch) -> tuple[Tensor, Packed]:
        """Logits (n_read, V) where the batch is read, and the packed batch that they belong to."""
        hidden, packed = self.hidden(batch)
        logits: Tensor = self.lm.lm_head(hidden)
        return logits, packed

    def hidden(self, batch: Batch) -> tuple[Tensor, Packed]:
        """Final hidden states (n_read, D) where the batch is read, and the packed batch."""
        packed = pack(batch, self.device)
        is_image = packed.input_ids == self.image_id
        if not is_image.any():
            return read_hidden(self.lm, packed), packed
        assert self.source is not None, "this batch has image positions, but no source for them"
        # A neutral id below the placeholders: their own embedding never takes part.
        words = self.lm.get_input_embeddings()(packed.input_ids.masked_fill(is_image, 0))
        tokens = self.source(batch).to(words.dtype)
        embeds = words.masked_scatter(is_image[..., None], tokens)
        return read_hidden(self.lm, packed, embeds), packed
