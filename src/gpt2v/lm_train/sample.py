"""`gpt2v lm sample`: a GPT-2 continues prompts, so that one can read what it has learnt.

A sequence is <|endoftext|>, the prompt, and what is drawn after it, one token at a time. Texts are
trained with <|endoftext|> before each; grids are trained without, so runs that have read nothing
else get none (`bos` says otherwise).
Earlier tokens stay in a KV cache. Sequences run in batches, padded on the left under an attention
mask, with positions that count each one's own tokens, and every sequence draws from a generator of
its own: neither the others in its batch nor the global random state can change it (but for the
rounding of its logits). <image>, <pad> and rows of the embedding that no token has are never drawn:
no text holds them, and in others' checkpoints their weights are random.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    DynamicCache,
    GPT2LMHeadModel,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gpt2v.config.load import load
from gpt2v.config.training import LMConfig, SampleConfig
from gpt2v.data import rng
from gpt2v.data.text_pieces import END_OF_TEXT, IMAGE, PAD, special_id
from gpt2v.errors import UserError
from gpt2v.hardware.device import place
from gpt2v.model.files import find_checkpoint, load_gpt2

BATCH = 16  # sequences at a time: GPT-2 small's keys and values then take 1.2 GB at 1,024 tokens


Stop = Literal["end of text", "max_new_tokens", "context full"]


class Piece(NamedTuple):
    """The next characters of one sequence; its last piece says why it stopped."""

    sequence: int  # prompt number x n + sample number
    text: str
    stopped: Stop | None = None


def sample(source: str, prompts: Sequence[str], settings: SampleConfig) -> None:
    """Print continuations by a run, a checkpoint or a hub id, each after its prompt.

    Without prompts the model begins a text of its own. Several sequences get a header each.
    """
    lm, tokenizer = load_gpt2(find_checkpoint(source, "model"), "model")
    if settings.bos is None:
        settings = settings.model_copy(update={"bos": _has_read_text(Path(source))})
    prompts = prompts or [""]
    total, shown, full = len(prompts) * settings.n, -1, 0
    pieces = generate(place(lm).eval(), tokenizer, prompts, settings)
    for number, text, stopped in in_order(pieces, total):
        if number != shown:
            (prompt, again), shown = divmod(number, settings.n), number
            header = f"--- prompt {prompt}, sample {again}\n" if total > 1 else ""
            print(header + prompts[prompt], end="")
        print(text, end="\n" if stopped else "", flush=True)
        full += stopped == "context full"
    if full:
        limit = f"the context of {lm.config.n_positions} tokens was full"
        print(f"gpt2v: {full} of {total} samples stopped because {limit}", file=sys.stderr)


def _has_read_text(source: Path) -> bool:
    """Whether a run (or the run of a checkpoint) has read plain text; others' models have."""
    for folder in (source, source.parent.parent):
        try:
            config = load(LMConfig, folder / "config.yaml", {})
        except UserError:
            continue
        return bool(config.data.corpora)
    return True


def in_order(pieces: Iterator[Piece], total: int) -> Iterator[Piece]:
    """The same pieces, one sequence after another: later sequences' wait for their turn."""
    waiting: list[list[Piece]] = [[] for _ in range(total)]
    turn = 0
    for piece in pieces:
        waiting[piece.sequence].append(piece)
        while turn < total and waiting[turn]:
            yield (ready := waiting[turn].pop(0))
            turn += ready.stopped is not None


def generate(
    lm: GPT2LMHeadModel, tokenizer: Tokenizer, prompts: Sequence[str], settings: SampleConfig
) -> Iterator[Piece]:
    """Continue each prompt `settings.n` times; pieces come as soon as they are known.

    A sequence's pieces joined are its new tokens decoded, without <|endoftext|> and without a
    character that is unfinished at the end. No sequence grows past `n_positions` tokens.

    Raises:
        UserError: a prompt that cannot be read or leaves no room, before anything is generated;
            logits that are not finite.
    """
    assert not lm.training, "put the model into eval mode: dropout would change what it says"
    sequences: list[_Sequence] = []
    for i, prompt in enumerate(prompts):
        ids = _prompt_ids(tokenizer, i, prompt, lm.config.n_positions, settings.bos is not False)
        for key in rng.keys(settings.seed, f"lm sample, prompt {i}", np.arange(settings.n)):
            generator = torch.Generator().manual_seed(int(key))
            sequences.append(_Sequence(len(sequences), ids, generator))
    batches = (sequences[i : i + BATCH] for i in range(0, len(sequences), BATCH))
    return (piece for batch in batches for piece in _write(lm, tokenizer, batch, settings))


@dataclass
class _Sequence:
    """One sequence as it grows."""

    number: int
    prompt: list[int]
    generator: torch.Generator
    new: list[int] = field(default_factory=list)
    told: int = 0  # characters
    stopped: Stop | None = None


def _prompt_ids(
    tokenizer: Tokenizer, number: int, prompt: str, n_positions: int, bos: bool
) -> list[int]:
    if any("\ud800" <= c <= "\udfff" for c in prompt):  # how Python passes on other bytes
        raise UserError(f"prompt {number}: not valid UTF-8")
    ids: list[int] = tokenizer.encode(prompt, add_special_tokens=False).ids
    if special_id(tokenizer, IMAGE) in ids:
        raise UserError(f"prompt {number}: {IMAGE} stands for a picture; prompts here are text")
    end = special_id(tokenizer, END_OF_TEXT)
    if not ids or (bos and ids[0] != end):
        ids = [end, *ids]
    if len(ids) >= n_positions:
        limit = f"a context of {n_positions} tokens, which must have room for one more"
        raise UserError(f"prompt {number}: {len(ids)} tokens are too long for {limit}")
    return ids


def _write(
    lm: GPT2LMHeadModel, tokenizer: Tokenizer, batch: Sequence[_Sequence], settings: SampleConfig
) -> Iterator[Piece]:
    unnamed = range(tokenizer.get_vocab_size(), lm.config.vocab_size)
    never = [special_id(tokenizer, IMAGE), special_id(tokenizer, PAD), *unnamed]
    longest = max(len(s.prompt) for s in batch)
    pads = [longest - len(s.prompt) for s in batch]
    input_ids = torch.tensor([[0] * k + s.prompt for k, s in zip(pads, batch, strict=True)])
    mask = (torch.arange(longest) >= torch.tensor(pads)[:, None]).long()  # (B, T)
    position_ids = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=lm.config)
    while not all(s.stopped for s in batch):
        logits = _next_logits(lm, input_ids, cache, mask, position_ids)
        p = probabilities(logits, settings, never)
        tokens = [_draw(row, s, settings) for row, s in zip(p, batch, strict=True)]
        for sequence, token in zip(batch, tokens, strict=True):
            if not sequence.stopped:
                text = _add(sequence, token, lm.config.n_positions, tokenizer, settings)
                if text or sequence.stopped:
                    yield Piece(sequence.number, text, sequence.stopped)
        # Sequences that have stopped run along unread, on the last position if need be.
        input_ids = torch.tensor(tokens)[:, None]
        mask = torch.cat([mask, torch.ones_like(input_ids)], 1)
        position_ids = (position_ids[:, -1:] + 1).clamp(max=lm.config.n_positions - 1)


@torch.no_grad()
def _next_logits(
    lm: GPT2LMHeadModel, input_ids: Tensor, cache: DynamicCache, mask: Tensor, position_ids: Tensor
) -> Tensor:
    """(B, V) logits after the last of the new tokens (B, T), on the CPU, where draws are made."""
    logits: Tensor = lm(
        input_ids.to(lm.device),
        cache,  # by place: transformers 5.24 has renamed it from past_key_values
        attention_mask=mask.to(lm.device),
        position_ids=position_ids.to(lm.device),
        use_cache=True,
        logits_to_keep=1,
    ).logits
    if not logits.isfinite().all():
        raise UserError("the model's logits are not finite: its training has diverged")
    return logits[:, -1].cpu()


def probabilities(logits: Tensor, settings: SampleConfig, never: Sequence[int] = ()) -> Tensor:
    """What is drawn from: (B, V) logits -> (B, V) float64, 0 for `never` and what is cut off.

    Temperature, top-k (Fan et al. 2018) and top-p (Holtzman et al. 2020), in this order, as in
    transformers' generate(); a temperature of 0 counts as 1, since the likeliest is the same.
    """
    warp = LogitsProcessorList([TemperatureLogitsWarper(settings.temperature or 1.0)])
    if settings.top_k is not None:
        warp.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p is not None:
        warp.append(TopPLogitsWarper(settings.top_p))
    scores = logits.double().index_fill(-1, torch.tensor(never, dtype=torch.long), -torch.inf)
    best = scores.amax(-1, keepdim=True)  # becomes 0: no small temperature can overflow
    return torch.softmax(warp(None, scores - best), -1)


def _draw(p: Tensor, sequence: _Sequence, settings: SampleConfig) -> int:
    if settings.temperature == 0:
        return int(p.argmax())
    return int(torch.multinomial(p, 1, generator=sequence.generator))


def _add(
    s: _Sequence, token: int, n_positions: int, tokenizer: Tokenizer, settings: SampleConfig
) -> str:
    """Take one more token; returns the characters that are complete with it."""
    if token == special_id(tokenizer, END_OF_TEXT):
        s.stopped = "end of text"
        return ""
    s.new.append(token)
    if len(s.new) == settings.max_new_tokens:
        s.stopped = "max_new_tokens"
    elif len(s.prompt) + len(s.new) == n_positions:
        s.stopped = "context full"
    text: str = tokenizer.decode(s.new, skip_special_tokens=False)
    # U+FFFD at the end may be the first bytes of a character; what stands before it is final.
    text = text.rstrip("\ufffd")[s.told :]
    s.told += len(text)
    return text
