"""Corpora: training and validation windows of the text that a configuration names.

A corpus is tokenized once for each tokenizer: into a folder (by `gpt2v data tokenize`), or into a
cache (`$XDG_CACHE_HOME/gpt2v/tokens`) that later runs use again. Validation documents come from the
user or from files of the corpus that are named so, or they are a hundredth of the corpus, chosen by
a hash of their content. So no text is in both parts.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from gpt2v.config.data import CorpusConfig
from gpt2v.config.effect import has_default
from gpt2v.data.corpus.cleaning import HELD_OUT
from gpt2v.data.corpus.encoding import token_bytes
from gpt2v.data.corpus.sources import say_sources, sources_of
from gpt2v.data.corpus.text_files import text_kind
from gpt2v.data.corpus.tokenizing import cached_tokens
from gpt2v.data.corpus.tokens import (
    TokenFile,
    TokenMeta,
    TokenPair,
    Tokens,
    is_pair,
    is_tokens,
    open_pair,
    open_tokens,
)
from gpt2v.data.corpus.windows import Windows
from gpt2v.errors import UserError, within
from gpt2v.messages import say_from_first
from gpt2v.paths import expanded
from gpt2v.storage.cache import cache_folder


@dataclass(frozen=True)
class Corpus:
    """Windows of text for training, and others for validation."""

    name: str
    train: Windows
    valid: Windows
    tokenizer: Tokenizer
    meta: TokenMeta  # of the training tokens
    content_hash: str  # short; equal hashes mean equal tokens


def open_corpus(config: CorpusConfig, tokenizer: Tokenizer, cache: Path | None = None) -> Corpus:
    """Open a tokenized corpus, or tokenize a corpus of text and keep the tokens in `cache`.

    Raises:
        UserError: there is no text, the token files are damaged or belong to another tokenizer,
            or the corpus is too short.
    """
    token_bytes(tokenizer)  # raises UserError if bits per byte cannot be measured
    with within("corpus: "):
        path = expanded(config.corpus)
    name = path.name
    if is_pair(path) or is_tokens(path):
        for option in ("field", "separator", "clean"):
            if not has_default(config, option):
                raise UserError(
                    f"{option}: {getattr(config, option)} has no effect: {path} holds tokens, not "
                    "text; leave it out"
                )
    if is_pair(path):
        if config.valid is not None:
            raise UserError(f"valid: {path} holds validation tokens of its own; leave valid out")
        files = open_pair(path, tokenizer)
    elif is_tokens(path):
        train = open_tokens(path, tokenizer)
        if config.valid is None:
            return _corpus(config, name, tokenizer, (train, None))
        valid = expanded(config.valid)
        if valid.resolve() == path.resolve():
            raise UserError(f"valid: {valid}: is the corpus itself; leave valid out")
        files = train, open_tokens(valid, tokenizer, "valid")
    else:
        say_sources(sources_of(config))
        files = cached_tokens(config, tokenizer, cache or cache_folder("tokens"))
    return _corpus(config, name, tokenizer, files)


def check_corpus(config: CorpusConfig) -> None:
    """Check that a corpus is there; no text is read, and a hub is not asked.

    Raises:
        UserError: no such file or folder, or no files of text in it.
    """
    with within("corpus: "):
        path = expanded(config.corpus)
    if not (is_pair(path) or is_tokens(path)):
        sources_of(config)


def _corpus(
    config: CorpusConfig,
    name: str,
    tokenizer: Tokenizer,
    files: TokenPair,
) -> Corpus:
    """Windows over the tokens for training and for validation."""
    train, valid = files
    parts = _held_out(train, config.context) if valid is None else (train.tokens, valid.tokens)
    checksums = f"{train.meta.sha256}/{(valid or train).meta.sha256}/{len(parts[0])}"
    corpus = Corpus(
        name=name,
        train=Windows(parts[0], config.context, name),
        valid=Windows(parts[1], config.context, f"the validation part of {name}"),
        tokenizer=tokenizer,
        meta=train.meta,
        content_hash=hashlib.sha256(checksums.encode()).hexdigest()[:16],
    )
    if valid is None and train.meta.n_documents == 1:
        _say_cut(config, len(train.tokens), len(parts[1]))
    return corpus


def _held_out(train: TokenFile, context: int) -> tuple[Tokens, Tokens]:
    """The last hundredth of the documents is for validation; of one document that of its tokens,
    or as many as a window needs.
    """
    n = train.meta.n_documents
    if n == 1:
        cut = max(0, len(train.tokens) - max(len(train.tokens) // HELD_OUT, context + 1))
    else:
        cut = int(train.offsets[min(n - 1, n * (HELD_OUT - 1) // HELD_OUT)])
    return train.tokens[:cut], train.tokens[cut:]


def _say_cut(config: CorpusConfig, n_tokens: int, n_valid: int) -> None:
    is_txt = text_kind(Path(config.corpus)).startswith(".txt")
    advice = "; if blank lines separate documents in it, set separator: blank-lines"
    say_from_first(
        f"corpus: {config.corpus}: is one document; the last {n_valid:,} of its {n_tokens:,} "
        "tokens are for validation"
        + (advice if is_txt and has_default(config, "separator") else "")
    )
