"""Token files: a corpus as one flat array on disk, which is memory-mapped for reading.

A folder holds `tokens.bin` (little-endian uint16, or uint32 for a large vocabulary), `offsets.npy`
(the start of each document, then the end of the last one) and `meta.json` (sizes, checksums, hash
of the tokenizer). Every document begins with <|endoftext|>; the rest are its tokens as `encoding`
makes them.
"""

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from tokenizers import Tokenizer

from gpt2v.config.base import Config
from gpt2v.data.corpus import encoding
from gpt2v.data.corpus.cleaning import CleaningReport
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import END_OF_TEXT, special_id
from gpt2v.errors import UserError
from gpt2v.storage.files import write_json
from gpt2v.storage.manifest import damaged, sha256

Tokens = NDArray[np.uint16] | NDArray[np.uint32]

_TOKENS, _OFFSETS, META = "tokens.bin", "offsets.npy", "meta.json"


class TokenMeta(Config):
    """The content of meta.json."""

    dtype: Literal["uint16", "uint32"]
    n_tokens: int = Field(ge=1)  # including one <|endoftext|> for each document
    n_documents: int = Field(ge=1)
    n_bytes: int = Field(ge=0)  # of the text in UTF-8, without separators
    sha256: str  # of tokens.bin
    offsets_sha256: str  # of offsets.npy
    tokenizer_hash: str
    source: str  # file, folder or hub id
    cleaning: dict[str, int] | None  # counts; None if the documents were not cleaned
    files: list[str] = Field(default_factory=list)  # names of the files that were read
    left_out: str = ""  # what was not read, with reasons; empty: nothing


@dataclass(frozen=True)
class TokenFile:
    """A tokenized corpus."""

    tokens: Tokens  # (n_tokens,) memory-mapped
    offsets: Ints  # (n_documents + 1,) start of each document, then the end of the last one
    meta: TokenMeta

    def document(self, i: int) -> Ints:
        """Tokens of document i, (n_tokens,); the first is <|endoftext|>."""
        return np.asarray(self.tokens[self.offsets[i] : self.offsets[i + 1]], np.int64)


# To train on and to validate on; none: the end of the former.
TokenPair = tuple[TokenFile, TokenFile | None]


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 over all parts of a tokenizer that decide how a text is tokenized.

    Truncation, padding and the post-processor are left out: they do not matter here, and they
    change when a tokenizer is saved.
    """
    parts = json.loads(tokenizer.to_str())
    for name in ("truncation", "padding", "post_processor"):
        parts.pop(name, None)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class TokenWriter:
    """Writes one folder of token files, document by document.

    Note: the folder is complete only after `close`. Write it inside `whole_directory`.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, source: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.source = folder, source
        self._hash = tokenizer_hash(tokenizer)
        self._end = special_id(tokenizer, END_OF_TEXT)
        self._encoder = encoding.Encoder(tokenizer, f"corpus: {source}")
        self._dtype = np.dtype("<u2" if max(tokenizer.get_vocab().values()) < 2**16 else "<u4")
        (folder / _TOKENS).touch(exist_ok=False)
        self._sha256 = hashlib.sha256()
        self._offsets = array("q", [0])
        self._waiting: list[str] = []  # documents that are not written yet
        self._n_waiting = 0  # characters in them

    @property
    def n_bytes(self) -> int:
        """Number of bytes of text that were tokenized so far."""
        return self._encoder.n_bytes

    @property
    def n_documents(self) -> int:
        """Number of documents that were added so far."""
        return len(self._offsets) - 1 + len(self._waiting)

    def add(self, document: str) -> None:
        """Append one document.

        Raises:
            UserError: the tokenizer changes the text.
        """
        self._waiting.append(document)
        self._n_waiting += len(document)
        if self._n_waiting >= encoding.BATCH or len(self._waiting) >= 1000:
            self._flush()

    def _flush(self) -> None:
        """Tokenize and write the waiting documents."""
        with (self.folder / _TOKENS).open("ab") as file:
            for parts in self._encoder.in_parts(self._waiting):
                n_tokens = 0
                for tokens in chain([np.array([self._end])], parts):
                    content = tokens.astype(self._dtype).tobytes()
                    file.write(content)
                    self._sha256.update(content)
                    n_tokens += len(tokens)
                self._offsets.append(self._offsets[-1] + n_tokens)
        self._waiting, self._n_waiting = [], 0

    def close(
        self,
        cleaning: CleaningReport | None = None,
        files: Sequence[str] = (),
        left_out: str = "",
    ) -> None:
        """Write the rest, the offsets and meta.json; at least one document must have been added.

        Args:
            cleaning: counts of the documents.
            files: names of the files that the documents are from.
            left_out: what was not read, with reasons.
        """
        self._flush()
        np.save(self.folder / _OFFSETS, np.array(self._offsets, "<i8"))
        meta = TokenMeta(
            dtype="uint16" if self._dtype.itemsize == 2 else "uint32",
            n_tokens=self._offsets[-1],
            n_documents=self.n_documents,
            n_bytes=self.n_bytes,
            sha256=self._sha256.hexdigest(),
            offsets_sha256=sha256(self.folder / _OFFSETS),
            tokenizer_hash=self._hash,
            source=self.source,
            cleaning=None if cleaning is None else asdict(cleaning),
            files=list(files),
            left_out=left_out,
        )
        write_json(self.folder / META, meta.model_dump())


def open_tokens(folder: Path, tokenizer: Tokenizer, key: str = "corpus") -> TokenFile:
    """Check all bytes of a folder of token files, then memory-map it.

    Raises:
        UserError: files are missing or damaged, or belong to another tokenizer.
    """
    where = f"{key}: {folder}"
    if not (folder / META).is_file():
        raise UserError(f"{where}: no {META} here; expected a folder made by `data tokenize`")
    try:
        meta = TokenMeta.model_validate_json((folder / META).read_bytes())
    except (ValidationError, OSError):
        raise _damaged(where, META) from None
    expected = tokenizer_hash(tokenizer)
    if meta.tokenizer_hash != expected:
        raise UserError(
            f"{where}: was tokenized with another tokenizer (hash {meta.tokenizer_hash[:8]}, not "
            f"{expected[:8]}); run gpt2v data tokenize again"
        )
    dtype = np.dtype(meta.dtype).newbyteorder("<")
    try:
        name = damaged(folder, {_TOKENS: meta.sha256, _OFFSETS: meta.offsets_sha256})
        if name is not None:
            raise _damaged(where, name)
        offsets = np.load(folder / _OFFSETS, allow_pickle=False).astype(np.int64)
        tokens = np.memmap(folder / _TOKENS, dtype, mode="r")
    except (OSError, ValueError):
        raise _damaged(where, f"{_TOKENS} or {_OFFSETS}") from None
    if (len(tokens), len(offsets), offsets[-1]) != (
        meta.n_tokens,
        meta.n_documents + 1,
        meta.n_tokens,
    ):
        raise _damaged(where, META)
    return TokenFile(tokens, offsets, meta)


def is_tokens(path: Path) -> bool:
    """Whether this is a folder of token files."""
    return (path / META).is_file()


def is_pair(path: Path) -> bool:
    """Whether this folder has token folders for training and validation."""
    return is_tokens(path / "train") or is_tokens(path / "valid")


def open_pair(path: Path, tokenizer: Tokenizer) -> TokenPair:
    """Open the tokens to train on and to validate on; see `open_tokens`."""
    train = open_tokens(path / "train", tokenizer)
    if train.meta.n_documents == 1 and not (path / "valid").exists():
        return train, None
    return train, open_tokens(path / "valid", tokenizer)


def _damaged(where: str, name: str) -> UserError:
    return UserError(f"{where}: {name} is damaged or missing; run gpt2v data tokenize again")
