"""`gpt2v lm sample`: a GPT-2 continues prompts, so that users can read what it has learnt.

A sequence is <|endoftext|>, the prompt, and the tokens that transformers' `generate` draws after
it. In training each text follows an <|endoftext|>, but grids do not; so runs trained on grids alone
sample without it, unless `bos` is set. Every sequence has its own seed, so it does not depend on
other sequences or on the global random state. <image>, <pad> and embedding rows without a token are
never drawn: no text has them, and in checkpoints of others their weights are random.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    GenerationConfig,
    GPT2LMHeadModel,
    LogitsProcessor,
    LogitsProcessorList,
    TextStreamer,
)

from gpt2v.config.data import DataConfig
from gpt2v.config.load import read_mapping, validate
from gpt2v.config.training import GenerateConfig
from gpt2v.data import rng
from gpt2v.data.kept_text import changed_text, tokens_of
from gpt2v.data.text_pieces import END_OF_TEXT, IMAGE, PAD, special_id
from gpt2v.errors import UserError
from gpt2v.messages import say
from gpt2v.model.files import wrap_tokenizer
from gpt2v.model.load import load_model
from gpt2v.paths import expanded
from gpt2v.run_layout import CONFIG


class Continued(NamedTuple):
    """The text that was generated after one prompt, and why it stopped."""

    text: str
    stopped: Literal["end of text", "max_new_tokens", "context full"]


def sample(model: str, prompts: Sequence[str], settings: GenerateConfig) -> None:
    """Print each prompt with its continuation, while it is generated.

    Of a GPT-2v, the language model writes. If there are several sequences, each gets a header.

    Args:
        model: a run, a checkpoint or a hub id.
        prompts: if empty, the model starts a new text.

    Raises:
        UserError: the model cannot be loaded, or see `generate`.
    """
    loaded = load_model(model)
    if settings.bos is None:
        settings = settings.model_copy(update={"bos": _has_read_text(expanded(model))})
    prompts = prompts or [""]
    total, full = len(prompts) * settings.n, 0

    def begin(prompt: int, again: int) -> None:
        header = f"--- prompt {prompt}, sample {again}\n" if total > 1 else ""
        print(header + prompts[prompt], end="", flush=True)

    for continued in generate(loaded.lm, loaded.tokenizer, prompts, settings, begin, _say):
        print(flush=True)
        full += continued.stopped == "context full"
    if full:
        limit = f"the context of {loaded.lm.config.n_positions} tokens was full"
        say(f"{full} of {total} samples stopped because {limit}")


def _say(text: str) -> None:
    print(text, end="", flush=True)


def _has_read_text(model: Path) -> bool:
    """Whether a run (or the run of a checkpoint) was trained on plain text; else, true."""
    for folder in (model, model.parent.parent):
        try:
            data = read_mapping(folder / CONFIG)["data"]
            return bool(validate(DataConfig, data, "").corpora)
        except (UserError, KeyError):
            continue
    return True


def generate(
    lm: GPT2LMHeadModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    settings: GenerateConfig,
    begin: Callable[[int, int], None] = lambda prompt, again: None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Continued]:
    """Continue each prompt `settings.n` times, one after another.

    Args:
        begin: called before each sequence, with the numbers of its prompt and sample.
        say: called with new text as soon as it is final.

    Raises:
        UserError: a prompt is not valid or too long (raised before anything is generated), or
            logits are not finite.
    """
    assert not lm.training, "put the model into eval mode: dropout would change its text"
    bos = settings.bos is not False
    ids = [_prompt_ids(tokenizer, i, p, lm.config.n_positions, bos) for i, p in enumerate(prompts)]
    return _continued(lm, tokenizer, ids, settings, begin, say)


def _continued(
    lm: GPT2LMHeadModel,
    tokenizer: Tokenizer,
    prompts: list[list[int]],
    settings: GenerateConfig,
    begin: Callable[[int, int], None],
    say: Callable[[str], None],
) -> Iterator[Continued]:
    streamer = _Streamer(tokenizer, say)
    # What `settings` leave open would be taken from the checkpoint's own generation_config.json.
    lm.generation_config = GenerationConfig()
    for number, ids in enumerate(prompts):
        keys = rng.keys(settings.seed, f"lm sample, prompt {number}", np.arange(settings.n))
        for again, key in enumerate(keys.tolist()):
            begin(number, again)
            streamer.text = ""
            with torch.random.fork_rng():
                torch.manual_seed(key)
                tokens = lm.generate(
                    torch.tensor([ids], device=lm.device),
                    generation_config=_generation(lm, tokenizer, len(ids), settings),
                    logits_processor=LogitsProcessorList([_Finite()]),
                    streamer=streamer,
                )[0, len(ids) :]
            yield Continued(streamer.text, _why(tokens, len(ids), lm, tokenizer, settings))


def _generation(
    lm: GPT2LMHeadModel, tokenizer: Tokenizer, length: int, settings: GenerateConfig
) -> GenerationConfig:
    """Temperature, then top-k (Fan et al. 2018), then top-p (Holtzman et al. 2020)."""
    end = special_id(tokenizer, END_OF_TEXT)
    never = [special_id(tokenizer, IMAGE), special_id(tokenizer, PAD)]
    unnamed = set(range(lm.config.vocab_size)) - set(tokenizer.get_vocab().values())
    drawn = {
        "temperature": settings.temperature,
        "top_k": settings.top_k or 0,
        "top_p": 1.0 if settings.top_p is None else settings.top_p,
    }
    return GenerationConfig(
        do_sample=not settings.greedy,
        **({} if settings.greedy else drawn),
        max_new_tokens=min(settings.max_new_tokens, lm.config.n_positions - length),
        suppress_tokens=[*never, *unnamed],
        eos_token_id=end,
        pad_token_id=end,
    )


def _why(
    tokens: Tensor, length: int, lm: GPT2LMHeadModel, tokenizer: Tokenizer, settings: GenerateConfig
) -> Literal["end of text", "max_new_tokens", "context full"]:
    if len(tokens) and int(tokens[-1]) == special_id(tokenizer, END_OF_TEXT):
        return "end of text"
    if len(tokens) == settings.max_new_tokens:
        return "max_new_tokens"
    assert length + len(tokens) == lm.config.n_positions, "nothing else stops a sequence"
    return "context full"


class _Streamer(TextStreamer):  # type: ignore[misc]
    """Passes new text to `say` and stores all of it, without an incomplete last character."""

    def __init__(self, tokenizer: Tokenizer, say: Callable[[str], None]) -> None:
        plain = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        super().__init__(wrap_tokenizer(tokenizer), skip_prompt=True, **plain)
        self.say, self.text = say, ""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        text = text.rstrip("\ufffd") if stream_end else text
        self.text += text
        self.say(text)


class _Finite(LogitsProcessor):  # type: ignore[misc]
    """Raises a UserError if no token can be drawn from the logits."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        drawable = scores.isfinite().any(-1).all()  # words that are never drawn have -infinity
        if scores.isnan().any() or scores.isposinf().any() or not drawable:
            raise UserError("the model's logits are not finite: its training has diverged")
        return scores


def _prompt_ids(
    tokenizer: Tokenizer, number: int, prompt: str, n_positions: int, bos: bool
) -> list[int]:
    if any("\ud800" <= c <= "\udfff" for c in prompt):  # how Python represents invalid bytes
        raise UserError(f"prompt {number}: not valid UTF-8")
    ids = tokens_of(tokenizer, [prompt], f"prompt {number}: the model's tokenizer")[0]
    if special_id(tokenizer, IMAGE) in ids:
        raise UserError(f"prompt {number}: {IMAGE} stands for a picture; prompts here are text")
    change = changed_text(tokenizer, prompt, ids, special=True)
    if change is not None:
        raise UserError(f"prompt {number}: the model's tokenizer does not keep it: {change}")
    end = special_id(tokenizer, END_OF_TEXT)
    if not ids or (bos and ids[0] != end):
        ids = [end, *ids]
    if len(ids) >= n_positions:
        limit = f"a context of {n_positions} tokens, which must have room for one more"
        raise UserError(f"prompt {number}: {len(ids)} tokens are too long for {limit}")
    return ids
