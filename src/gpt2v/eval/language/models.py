"""Models that score plain text: ours, and any causal language model of Hugging Face.

Shapes: B samples of a batch, T token positions, D width of a hidden state, V words of the
vocabulary, Y positions that are read (whose next token is predicted).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gpt2v.config.hf import HFConfig, is_hf
from gpt2v.data.corpus.encoding import Encoder, token_bytes
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import END_OF_TEXT, special_id
from gpt2v.errors import UserError
from gpt2v.hardware.device import to_device
from gpt2v.model.files import wrap_tokenizer
from gpt2v.model.head import token_logprobs
from gpt2v.model.load import LoadedModel, load_model
from gpt2v.model.losses import causal_hidden
from gpt2v.stats.shared import Bools, Floats

_LONGEST = 2048  # tokens of a window, where a model does not say how many it reads
_LOGITS = 2**27  # that are held at once: half a gigabyte


class LanguageModel(ABC):
    """A model that gives each token of a text its probability after the tokens before it.

    Attributes:
        name: as the user named it.
        identity: which weights these are, for results.json.
        n_positions: the most tokens that it reads.
        start: the token before a text.
        model, tokenizer: of transformers.
    """

    name: str
    identity: dict[str, Any]
    n_positions: int
    start: int
    model: Any
    tokenizer: Any

    @abstractmethod
    def encode(self, texts: Sequence[str], where: str) -> Iterator[Ints]:
        """The tokens of each text, (n_tokens,), without the one before it.

        Args:
            where: the setting and the text, for messages.

        Raises:
            UserError: the tokenizer changes the text.
        """

    @abstractmethod
    def logprobs(self, tokens: Ints, read: Bools) -> Floats:
        """Log-probabilities in nats of some tokens, (Y,).

        Args:
            tokens: (B, T + 1), padded on the right.
            read: (B, T) positions whose next token is scored.
        """


@dataclass
class OwnModel(LanguageModel):
    """A GPT-2 of ours, or the one in a GPT-2v."""

    loaded: LoadedModel

    def __post_init__(self) -> None:
        self.name, self.identity = self.loaded.name, self.loaded.identity
        token_bytes(self.loaded.tokenizer, f"model: {self.name}: its tokenizer")
        self.model = self.loaded.lm
        self.tokenizer = wrap_tokenizer(self.loaded.tokenizer)
        self.n_positions = self.model.config.n_positions
        self.start = special_id(self.loaded.tokenizer, END_OF_TEXT)

    def encode(self, texts: Sequence[str], where: str) -> Iterator[Ints]:
        return Encoder(self.loaded.tokenizer, where).tokens(texts)

    @torch.no_grad()
    def logprobs(self, tokens: Ints, read: Bools) -> Floats:
        device = self.model.device
        hidden = causal_hidden(self.model.transformer, to_device(tokens[:, :-1], device))
        hidden_YD = hidden.flatten(0, 1)[to_device(np.flatnonzero(read), device)]
        return token_logprobs(self.model, hidden_YD, tokens[:, 1:][read]).astype(np.float64)


@dataclass
class HFLanguageModel(LanguageModel):
    """A model of another project, named `hf:NAME`."""

    name: str

    def __post_init__(self) -> None:
        from gpt2v.eval.hf.load import load_hf  # all of transformers

        hf = load_hf(self.name, HFConfig(), pictures=False)
        self.identity, self.model, self.tokenizer = hf.identity, hf.model, hf.tokenizer
        self.n_positions = hf.n_positions or _LONGEST
        starts = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        start = next((token for token in starts if token is not None), None)
        if start is None:
            raise UserError(f"model: {self.name}: its tokenizer has no token to begin a text with")
        self.start = start
        self._check_causal()

    @torch.no_grad()
    def _check_causal(self) -> None:
        """Refuse a model that sees later tokens: then its scores are no probabilities of a text."""
        ids = torch.tensor([[self.start, self.start, last] for last in (0, 1)])
        one, other = self.model(input_ids=ids.to(self.model.device), use_cache=False).logits[:, :2]
        if not torch.allclose(one.float(), other.float(), rtol=1e-2, atol=1e-2):
            raise UserError(
                f"model: {self.name}: reads a text in both directions, so it gives it no "
                "probability; a causal language model is needed"
            )

    def encode(self, texts: Sequence[str], where: str) -> Iterator[Ints]:
        for text in texts:
            ids = self.tokenizer(text, add_special_tokens=False).input_ids
            back = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            if back.strip() != text.strip():  # many drop or add a space at the start
                raise UserError(
                    f"{where}: the tokenizer of {self.name} does not keep its text: "
                    f"{text[:40]!r} becomes {back[:40]!r}"
                )
            yield np.array(ids, np.int64)

    def logprobs(self, tokens: Ints, read: Bools) -> Floats:
        n_words = self.model.config.get_text_config().vocab_size
        rows = max(1, _LOGITS // (read.shape[1] * n_words))
        starts = range(0, len(tokens), rows)
        parts = [self._logprobs(tokens[i : i + rows], read[i : i + rows]) for i in starts]
        return np.concatenate(parts)

    @torch.no_grad()
    def _logprobs(self, tokens: Ints, read: Bools) -> Floats:
        ids = to_device(tokens, self.model.device)
        logits_BTV = self.model(input_ids=ids[:, :-1], use_cache=False).logits
        index = to_device(np.flatnonzero(read), ids.device)
        logits_YV = logits_BTV.flatten(0, 1)[index].float()
        target_Y = ids[:, 1:].flatten()[index]
        logp_YV = logits_YV.log_softmax(-1)
        found: Floats = logp_YV.gather(1, target_Y[:, None])[:, 0].double().cpu().numpy()
        return found


def open_language_model(model: str) -> LanguageModel:
    """Open a run, a checkpoint or a hub id; or `hf:` and one of any other project.

    Raises:
        UserError: there is none, it cannot be loaded, or its tokenizer cannot be used.
    """
    return HFLanguageModel(model) if is_hf(model) else OwnModel(load_model(model))
