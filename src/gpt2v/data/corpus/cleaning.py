"""Cleaning of plain text: normal spaces and line ends, no garbled text, no repeated documents.

Garbled text is mostly mojibake: UTF-8 that was read as Windows-1252, such as `â€™` for a
typographic apostrophe. `ftfy` repairs it where it is sure of the original. A document that still
has characters which never occur in sound text is dropped.

Validation documents are chosen here, too: by a hash of their content, which also finds repeats.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Set
from dataclasses import asdict, dataclass
from itertools import chain, islice

from ftfy import fix_encoding

HELD_OUT = 100  # one of so many documents is for validation

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]")
_PLAIN = str.maketrans(
    {"\xa0": " ", "\u202f": " ", "\u200b": None, "\u2060": None, "\ufeff": None}
    | dict.fromkeys("\r\x0b\x0c", "\n")
)


@dataclass
class CleaningReport:
    """Counts of the documents that were read, left out (by reason) and kept."""

    read: int = 0
    empty: int = 0
    broken: int = 0
    repeated: int = 0
    held_out: int = 0  # left out because they are validation documents
    kept: int = 0
    repaired: int = 0  # those of the documents read in which mojibake was repaired

    def __str__(self) -> str:
        counts = [f"{n} {name.replace('_', ' ')}" for name, n in asdict(self).items() if n]
        return ", ".join(counts) or "nothing read"


def normalise(text: str) -> str:
    """Text in Unicode NFC with LF line ends and plain spaces.

    Spaces at line ends are removed, and so are blank lines after another blank line. Typographic
    quotes and dashes stay. Normalising the result again changes nothing.
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").translate(_PLAIN))
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def looks_broken(text: str) -> bool:
    """Whether a text has replacement or control characters, or mojibake that can be repaired."""
    return bool(_CONTROL.search(text)) or repair(text) != text


def repair(text: str) -> str:
    """Repair mojibake where ftfy is sure of the original; other text stays the same."""
    return text if text.isascii() else fix_encoding(text)


def content_key(text: str) -> bytes:
    """A hash of a document's text, 16 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def clean(
    documents: Iterable[str], report: CleaningReport, held_out: Set[bytes] = frozenset()
) -> Iterator[str]:
    """Repair and normalise documents; leave out those that are empty, broken or repeated.

    Args:
        documents: the text of each document.
        report: its counts are increased while the result is read.
        held_out: content keys of (clean) validation documents, which are left out.
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
    """Label each document `train` or `valid`: (label, document) pairs.

    A hundredth of the documents, chosen by their content, is `valid`. If that is none, the
    document with the lowest content key is. A document that is the only one is `train`.
    """
    documents = iter(documents)
    first = list(islice(documents, 2))
    if len(first) == 1:
        yield "train", first[0]
        return
    waiting: list[tuple[bytes, str]] = []  # documents before the first one for validation
    any_chosen = False
    for document in chain(first, documents):
        key = content_key(document)
        chosen = int.from_bytes(key[:8], "little") % HELD_OUT == 0
        if chosen and not any_chosen:
            any_chosen = True
            yield from (("train", text) for _, text in waiting)
            waiting.clear()
        if any_chosen:
            yield "valid" if chosen else "train", document
        else:
            waiting.append((key, document))
    lowest = min((key for key, _ in waiting), default=b"")
    yield from (("valid" if key == lowest else "train", text) for key, text in waiting)
