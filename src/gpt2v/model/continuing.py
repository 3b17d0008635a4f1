"""Greedy decoding that goes on where a packed pass ends: what a model says in place of an answer.

The packed pass keeps the keys and values of all positions. A token that follows a question sees
what the question sees, and the tokens that were said before it. So a step computes one position for
each question. Samples that say nothing are left out of the steps, and questions are counted anew.

Shapes: B samples of a batch, Q questions about a grid, T token positions, H attention heads, E
width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt2v.data.render.batches import Batch
from gpt2v.data.text_pieces import CUT, END_OF_TEXT, PieceTable, special_id
from gpt2v.hardware.device import to_device
from gpt2v.hardware.precision import computed_in
from gpt2v.model.head import read_head
from gpt2v.model.packed import Pairs, Reader

_NEWLINE = "\n"


@dataclass
class Said:
    """What a model says after one question of a batch.

    Attributes:
        sample, question: indices into the batch.
        tokens: said so far, at least one.
        most: number of tokens after which it is cut.
    """

    sample: int
    question: int
    tokens: list[int]
    most: int

    def text(self, table: PieceTable) -> str:
        """Its words up to the end of the line; `…` follows if it was cut before that."""
        written = str(table.tokenizer.decode(self.tokens, skip_special_tokens=False))
        line, newline, _ = written.partition(_NEWLINE)
        is_cut = not newline and self.tokens[-1] != special_id(table.tokenizer, END_OF_TEXT)
        return line.lstrip() + (CUT if is_cut else "")


@torch.no_grad()
def go_on(
    reader: Reader, batch: Batch, kept: list[Pairs], said: Sequence[Said], table: PieceTable
) -> None:
    """Say the likeliest token after each question, again and again.

    It ends with a line break, with the end of the text, or where it is cut: after `most` tokens, or
    where the model has no positions left.

    Args:
        kept: keys and values at all positions of the batch, of each block; they are taken from it.
        said: at least one, in the order of their samples; their tokens are added to.

    Raises:
        UserError: a logit is NaN or infinite.
    """
    tokenizer = table.tokenizer
    end = special_id(tokenizer, END_OF_TEXT)
    steps = _Steps(reader, batch, kept, said)

    @cache
    def ends(token: int) -> bool:
        return token == end or _NEWLINE in tokenizer.decode([token], skip_special_tokens=False)

    def is_open(one: Said, position: int) -> bool:
        n = len(one.tokens)
        free = position + n + 1 < reader.n_positions
        return free and n < one.most and not ends(one.tokens[-1])

    while any(map(is_open, said, steps.position.tolist())):
        number = steps.n_done
        likeliest = steps.take([one.tokens[min(number, len(one.tokens) - 1)] for one in said])
        for one, position, token in zip(said, steps.position.tolist(), likeliest, strict=True):
            if len(one.tokens) == number + 1 and is_open(one, position):
                one.tokens.append(token)


class _Steps:
    """Passes of one token after each question.

    Attributes:
        position: (n_said,) position id of the end of each question.
        n_done: number of passes.
    """

    def __init__(
        self, reader: Reader, batch: Batch, kept: list[Pairs], said: Sequence[Said]
    ) -> None:
        sample = np.array([one.sample for one in said])
        rows, row = np.unique(sample, return_inverse=True)
        slot = np.arange(len(row)) - np.searchsorted(row, row)
        ends = batch.ends[sample, [one.question for one in said]]
        self._at = row, slot
        self._shape = len(rows), int(slot.max()) + 1  # (B, Q)
        self._reader, self._index = reader, batch.index[sample]
        self.position = batch.position_ids[sample, ends]
        self.n_done = 0
        segments = batch.segments[sample]
        seen = np.take_along_axis(
            batch.sees[batch.segments[sample, ends]], np.maximum(segments, 0), axis=1
        )
        seen &= segments >= 0
        columns = np.flatnonzero(seen.any(0))
        self._seen = np.zeros((*self._shape, len(columns)), bool)  # (B, Q, T)
        self._seen[self._at] = seen[:, columns]
        row_B1 = to_device(rows[:, None], reader.device)
        at = to_device(columns, reader.device)

        def seen_ones(x_BHTE: Tensor) -> Tensor:
            return x_BHTE.transpose(1, 2)[row_B1, at].transpose(1, 2)

        pairs = []
        while kept:  # one block after the other, so that there are never two copies of all
            keys, values = kept.pop(0)
            pairs.append((seen_ones(keys), seen_ones(values)))
        self._cache = _Cache(pairs)

    def take(self, tokens: list[int]) -> list[int]:
        """The likeliest token after each of the tokens, (n_said,)."""
        lm, device = self._reader.lm, self._reader.device
        gpt2 = lm.transformer
        ids, positions = np.zeros((2, *self._shape), np.int64)
        ids[self._at] = tokens
        positions[self._at] = self.position + 1 + self.n_done
        positions = np.minimum(positions, self._reader.n_positions - 1)
        self.n_done += 1
        hidden = gpt2.wte(to_device(ids, device)) + gpt2.wpe(to_device(positions, device))
        mask = self._mask(computed_in(hidden), device)
        for block in gpt2.h:
            hidden = block(hidden, self._cache, attention_mask=mask)
        row, slot = (to_device(one, device) for one in self._at)
        none = np.zeros(0, np.int64)
        found = read_head(lm, gpt2.ln_f(hidden)[row, slot], none, none)
        found.check(self._index)
        likeliest: list[int] = found.likeliest.tolist()
        return likeliest

    def _mask(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """(B, 1, Q, T + Q n_done), additive: a token sees those said after its own question."""
        n_rows, n_slots = self._shape
        own = np.broadcast_to(
            np.tile(np.eye(n_slots, dtype=bool), self.n_done),
            (n_rows, n_slots, n_slots * self.n_done),
        )
        seen = to_device(np.concatenate([self._seen, own], axis=-1), device)
        mask = torch.zeros(seen.shape, dtype=dtype, device=device)
        return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


class _Cache:
    """A cache for transformers: keys and values (B, H, T or more, E) of each block."""

    def __init__(self, pairs: list[Pairs]) -> None:
        self._pairs = pairs

    def update(self, keys: Tensor, values: Tensor, block: int, *more: Any, **options: Any) -> Pairs:
        """Keys and values of all positions so far, with these at the end."""
        kept = self._pairs[block]
        self._pairs[block] = torch.cat([kept[0], keys], 2), torch.cat([kept[1], values], 2)
        return self._pairs[block]
