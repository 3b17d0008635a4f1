"""Tokenizers: a byte-level BPE trained on our own corpora, or GPT-2's own files.

The trained one splits every digit, so that a class name, a digit and a bar are one token each.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from gpt2v.config.grids import GridConfig, SampleSpec
from gpt2v.config.models import TokenizerConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.text import documents
from gpt2v.data.render.views import TextView
from gpt2v.data.text_pieces import SPECIAL_TOKENS, Strings
from gpt2v.data.tiles.bank import TileBank
from gpt2v.errors import UserError

# Like GPT-2's pattern (words and runs of punctuation take one leading space) but digit by digit.
_SPLIT = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def build_tokenizer(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that the configuration names, or one trained on `texts`."""
    if config.source == "trained":
        return train_tokenizer(texts, config.vocab_size)
    return load_tokenizer(config.source)


def grid_texts(bank: TileBank) -> Iterator[str]:
    """Grid documents of many sizes and forms: what a tokenizer of the task has to spell."""
    names = bank.class_names
    for side in (1, 2, 3, 4, 6, 8, 12, 16):
        spec = SampleSpec(rows=side, cols=side, palette=min(4, len(names)))
        samples = draw_samples(spec, bank, 0, "train", np.arange(40))
        for view in (TextView("markdown"), TextView("patch-tiled", patches=2)):
            yield from documents(samples, view, names, Strings())
    # Every name in both its spellings, however rare it was above.
    yield from (f"{name} {name}" for name in names for _ in range(50))


def spec_texts(bank: TileBank, spec: GridConfig) -> Iterator[str]:
    """Documents of a data spec whose instructions or text form are not among `grid_texts`'."""
    if list(spec.instructions) != ["lookup"] or spec.form not in ("markdown", "patch-tiled"):
        samples = draw_samples(spec, bank, 0, "train", np.arange(200))
        view = TextView.of(spec)
        yield from documents(samples, view, bank.class_names, Strings())


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE with our special tokens; deterministic for the same texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(source: str, key: str = "tokenizer.source") -> Tokenizer:
    """Read a folder (tokenizer.json, or GPT-2's vocab.json and merges.txt) or a hub id.

    Special tokens that are missing are added after the existing vocabulary.
    """
    folder = Path(source)
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            vocab, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
            tokenizer = Tokenizer(models.BPE.from_file(vocab, merges))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
        elif folder.exists():
            raise UserError(
                f"{key}: {source}: expected tokenizer.json, or vocab.json and merges.txt"
            )
        else:
            tokenizer = Tokenizer.from_pretrained(source)
    except UserError:
        raise
    except Exception as error:  # the library raises bare Exception for every kind of failure
        reason = str(error).splitlines()[0]
        raise UserError(f"{key}: {source}: cannot be loaded: {reason}") from None
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
    return tokenizer
