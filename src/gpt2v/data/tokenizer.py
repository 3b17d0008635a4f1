"""Tokenizers: a byte-level BPE trained on our own corpora, or GPT-2's own files.

The trained tokenizer splits numbers into digits. Class names, digits and bars are one token each.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from gpt2v.config.effect import settled
from gpt2v.config.grids import GridConfig, SampleSpec
from gpt2v.config.models import TokenizerConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.text import documents
from gpt2v.data.render.views import TextView
from gpt2v.data.text_pieces import SPECIAL_TOKENS, Strings
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tokenizer_files import read_tokenizer
from gpt2v.errors import UserError, within
from gpt2v.hub import HubError, needed_file, refuse_code
from gpt2v.paths import expanded
from gpt2v.progress import alive, waited

# As in GPT-2's pattern, words and runs of punctuation take one leading space. Digits are separate.
# Marks, such as vowels of Hindi and Thai, belong to words.
_SPLIT = r" ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{N}\p{M}]+|\s+(?!\S)|\s+"
# Training is quadratic in the length of a pre-token. Text without spaces is one, so it is cut into
# pieces of this many characters, which no word of other text has. Only the training cuts it.
_LONGEST = 512


def build_tokenizer(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that the configuration names, or one that is trained on `texts`."""
    if config.source == "trained":
        return train_tokenizer(texts, config.vocab_size)
    tokenizer = load_tokenizer(config.source)
    true = {"vocab_size": tokenizer.get_vocab_size()}
    settled(config, true, "tokenizer", f"tokenizer.source: {config.source}")
    return tokenizer


def grid_texts(bank: TileBank) -> Iterator[str]:
    """Grid documents of many sizes and forms, to train a tokenizer for the task on."""
    names = bank.class_names
    for side in (1, 2, 3, 4, 6, 8, 12, 16):
        spec = SampleSpec(rows=side, cols=side, palette=min(4, len(names)))
        samples = draw_samples(spec, bank, 0, "train", np.arange(40))
        for view in (TextView("markdown"), TextView("patch-tiled", patches=2)):
            yield from documents(samples, view, names, Strings())
    # Every name, with and without a leading space, often enough even if it is rare above.
    yield from (f"{name} {name}" for name in names for _ in range(50))


def spec_texts(bank: TileBank, spec: GridConfig) -> Iterator[str]:
    """Documents of a data spec, if `grid_texts` lacks its instructions or its text form."""
    if list(spec.instructions) != ["lookup"] or spec.form not in ("markdown", "patch-tiled"):
        samples = draw_samples(spec, bank, 0, "train", np.arange(200))
        view = TextView.of(spec)
        yield from documents(samples, view, bank.class_names, Strings())


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE with our special tokens; the same texts give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(f"(?m:.{{{_LONGEST}}})"), behavior="isolated")
    words = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, cut, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    read: list[str] = []
    size = 0
    with alive(lambda: f"tokenizer: {size / 1e6:.0f} MB of text read"):
        for text in texts:
            read.append(text)
            size += len(text)
    waited(
        f"tokenizer: training on {size / 1e6:.0f} MB",
        lambda: tokenizer.train_from_iterator(read, trainer),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, to_bytes])
    return tokenizer


def load_tokenizer(path_or_id: str, key: str = "tokenizer.source") -> Tokenizer:
    """Load a tokenizer; missing special tokens are added after the existing vocabulary.

    Args:
        path_or_id: a folder (with tokenizer.json, or GPT-2's vocab.json and merges.txt), or a hub
            id.
        key: name of the setting, for error messages.

    Truncation and padding that were saved with it are switched off.

    Raises:
        UserError: the folder has other files, or asks for code of its own, or the tokenizer cannot
            be loaded or used.
    """
    where = f"{key}: {path_or_id}"
    with within(f"{key}: "):
        folder = expanded(path_or_id)
    refuse_code(folder, key)
    try:
        tokenizer = waited(f"{key}: loading {path_or_id}", lambda: _read(folder, path_or_id))
    except HubError as error:
        raise UserError(f"{where}: cannot be loaded: {error}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if getattr(tokenizer.model, "dropout", None):
        raise UserError(
            f"{where}: has dropout {tokenizer.model.dropout:g}, so that a text has "
            "other tokens each time; set dropout to null in its tokenizer.json"
        )
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
    _check_ids(tokenizer, where)
    return tokenizer


def _read(folder: Path, path_or_id: str) -> Tokenizer:
    if not folder.exists():
        folder = needed_file(path_or_id, "tokenizer.json").parent
    return read_tokenizer(folder)


def _check_ids(tokenizer: Tokenizer, where: str) -> None:
    """Raise UserError if two tokens have one id.

    New tokens are numbered from the size of the vocabulary, which is in use if its ids have gaps.
    """
    seen: dict[int, str] = {}
    for token, number in sorted(tokenizer.get_vocab().items()):
        if number in seen:
            raise UserError(
                f"{where}: {seen[number]!r} and {token!r} have the same id {number}; its tokens "
                "must be numbered from 0 without gaps"
            )
        seen[number] = token
