"""Cleaning of plain text: one spelling of spaces and lines, nothing garbled, nothing twice.

Garbled text is mostly mojibake: UTF-8 that someone read as Windows-1252, such as `â€™` for a
typographic apostrophe. What can be turned back is repaired; the rest of it is dropped. Only
sequences that do not occur in sound text count: a capital letter before a closing quote, as in
`CAFÉ”` or `Spaß“`, has the bytes of one too.

What is held out for validation is chosen here as well: by content, as repeats are found.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Set
from dataclasses import asdict, dataclass

HELD_OUT = 100  # one document of so many is for validation


def _as_cp1252(byte: int) -> str:
    """How software shows a byte as Windows-1252: its five holes stay control characters."""
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


_SHOWN = [_as_cp1252(byte) for byte in range(256)]
_BYTES = {character: byte for byte, character in enumerate(_SHOWN)}
_BYTES |= {chr(byte): byte for byte in range(0x80, 0xA0)}  # read as Latin-1, they stay themselves

_TAIL = "".join(sorted(c for c, byte in _BYTES.items() if 0x80 <= byte < 0xC0))  # inside a letter
_QUOTES = "”’“‘„‚…–—»«›‹·\xa0"  # of these, what may follow a capital letter
_SAFE = "".join(c for c in _TAIL if c not in _QUOTES)
_MOJIBAKE = re.compile(
    f"[ÃÂ][{_SAFE}]"  # é ü ñ, no-break space, © °
    f"|(?<![A-ZÀ-Þ])[ÃÂ][{_QUOTES}]"  # Ó Ö Å, «
    f"|â[€‚„†‡ˆ‰˜™œž\x80-\x9f][{_TAIL}]"  # ’ “ ” — … € ™ →
    f"|ï[»¿][¿½]"  # a byte order mark, a replacement character
    f"|ð[Ÿ\x9f][{_TAIL}][{_TAIL}]"  # emoji
    f"|(?:[ÐÑ][{_TAIL}]){{2,}}"  # Cyrillic
)
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
    """Whether there are replacement or control characters, or what looks like mojibake."""
    return bool(_CONTROL.search(text) or (not text.isascii() and _MOJIBAKE.search(text)))


def repair(text: str) -> str:
    """Turn mojibake back, where that leaves nothing broken; else the text as it is.

    The whole text is read again as what it was, or else (where sound characters stand beside
    mojibake) only its garbled sequences; up to three times, as some text is garbled twice.
    """
    found = text
    for _ in range(3):
        if not looks_broken(found):
            return found
        found = _read_again(found) or _MOJIBAKE.sub(
            lambda match: _read_again(match[0]) or match[0], found
        )
    return text if looks_broken(found) else found


def _read_again(text: str) -> str | None:
    try:
        return bytes(_BYTES[character] for character in text).decode()
    except (KeyError, UnicodeDecodeError):
        return None


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
