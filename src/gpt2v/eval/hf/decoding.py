"""Plain greedy decoding by a model's own `generate`, with given tokens in place of its choice.

Shapes: J questions in a flat list, T token positions, V words of the vocabulary.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from gpt2v.eval.hf.load import HFModel

FREE = -1  # in place of a token: the model's own choice


def greedy(hf: HFModel, steps: int) -> GenerationConfig:
    """The model's own settings of `generate`, with plain greedy decoding."""
    config = deepcopy(hf.model.generation_config)
    config.update(  # with values that change nothing; None would become the model's own value again
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        encoder_repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        encoder_no_repeat_ngram_size=0,
        max_length=None,
        max_new_tokens=steps,
        pad_token_id=hf.tokenizer.pad_token_id,
        eos_token_id=hf.ends or None,
        return_dict_in_generate=True,
    )
    return config


class Forced(LogitsProcessor):  # type: ignore[misc]
    """Given tokens in place of the likeliest ones.

    Attributes:
        logits: (J, V) in fp32 on the CPU, of each step with given tokens, and of the first.
        n_steps: number of steps so far.
    """

    def __init__(self, tokens: Sequence[list[int]]) -> None:
        longest = max(map(len, tokens), default=0)
        self._tokens = np.full((len(tokens), longest), FREE)
        for row, own in enumerate(tokens):
            self._tokens[row, : len(own)] = own
        self.logits: list[Tensor] = []
        self.n_steps = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.n_steps < max(1, self._tokens.shape[1]):
            self.logits.append(scores.float().cpu())
        if self.n_steps < self._tokens.shape[1]:
            (rows,) = np.nonzero(self._tokens[:, self.n_steps] != FREE)
            tokens = torch.from_numpy(self._tokens[rows, self.n_steps]).to(scores.device)
            at = torch.from_numpy(rows).to(scores.device)
            scores = scores.clone()
            scores[at] = -torch.inf
            scores[at, tokens] = 0.0
        self.n_steps += 1
        return scores

    def was_taken(self, tokens: Tensor) -> bool:
        """Whether the given tokens are what was generated (J, T): some models have other ways."""
        given = self._tokens[:, : tokens.shape[1]]
        made = tokens[:, : given.shape[1]].numpy()
        return self.n_steps > 0 and bool(((given == FREE) | (given == made)).all())


class LineEnds(StoppingCriteria):  # type: ignore[misc]
    """An answer ends with its line."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._breaks: dict[int, bool] = {}

    def __call__(self, input_ids: Tensor, scores: Any, **options: Any) -> Tensor:
        last = input_ids[:, -1].tolist()
        for token in set(last) - self._breaks.keys():
            self._breaks[token] = "\n" in self._tokenizer.decode([token])
        return torch.tensor([self._breaks[token] for token in last], device=input_ids.device)
