"""Cleaning of plain text: one spelling of spaces and lines, nothing garbled, nothing twice.

Garbled text is mostly mojibake: UTF-8 that someone read as Windows-1252, such as `â€™` for a
typographic apostrophe. `ftfy` turns back what it is sure of; what has characters after that which
no sound text has is dropped.

What is held out for validation is chosen here as well: by content, as repeats are found.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Set
from dataclasses import asdict, dataclass

from ftfy import fix_encoding

HELD_OUT = 100  # one document of so many is for validation

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]")
_PLAIN = str.maketrans(
    {"\xa0": " ", "\u202f": " ", "\u200b": None, "\u2060": None, "\ufeff": None}
    | dict.fromkeys("\r\x0b\x0c", "\n")
)


@dataclass
class CleaningReport:
    """How many documents were read, why some were left out, and how many are kept."""

    read: int = 0
    empty: int = 0
    broken: int = 0
    repeated: int = 0
    held_out: int = 0  # occur in the validation documents
    kept: int = 0
    repaired: int = 0  # of those read

    def __str__(self) -> str:
        counts = [f"{n} {name.replace('_', ' ')}" for name, n in asdict(self).items() if n]
        return ", ".join(counts) or "nothing read"


def normalise(text: str) -> str:
    """Unicode NFC, LF line ends, plain spaces, no space at line ends, one blank line at most.

    Typographic quotes and dashes stay. Doing it twice changes nothing more.
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").translate(_PLAIN))
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def looks_broken(text: str) -> bool:
    """Whether there are replacement or control characters, or mojibake that can be turned back."""
    return bool(_CONTROL.search(text)) or repair(text) != text


def repair(text: str) -> str:
    """Turn mojibake back, where ftfy is sure of it; text without it as it is."""
    return text if text.isascii() else fix_encoding(text)


def content_key(text: str) -> bytes:
    """Sixteen bytes that stand for a document's text."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def clean(
    documents: Iterable[str], report: CleaningReport, held_out: Set[bytes] = frozenset()
) -> Iterator[str]:
    """Normalised documents without empty, broken and repeated ones.

    Args:
        documents: the text of each.
        report: gets the counts, while the result is read.
        held_out: keys of (clean) documents that may not occur.
    """
    seen: set[bytes] = set()
    for document in documents:
        report.read += 1
        sound = repair(document)
        text = normalise(sound)
        if not text.strip():
            report.empty += 1
            continue
        if looks_broken(sound) or looks_broken(text):
            report.broken += 1
            continue
        report.repaired += sound != document
        key = content_key(text)
        if key in held_out:
            report.held_out += 1
        elif key in seen:
            report.repeated += 1
        else:
            seen.add(key)
            report.kept += 1
            yield text


def hold_out(documents: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Label a hundredth of the documents `valid`, by content, but at least one of them."""
    waiting: list[tuple[bytes, str]] = []  # until the first for validation is found
    found = False
    for document in documents:
        key = content_key(document)
        chosen = int.from_bytes(key[:8], "little") % HELD_OUT == 0
        if chosen and not found:
            found = True
            yield from (("train", text) for _, text in waiting)
            waiting.clear()
        if found:
            yield "valid" if chosen else "train", document
        else:
            waiting.append((key, document))
    lowest = min((key for key, _ in waiting), default=b"")
    yield from (("valid" if key == lowest else "train", text) for key, text in waiting)
