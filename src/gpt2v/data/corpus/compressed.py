"""Files as bytes; those that end in .gz, .bz2 or .xz are decompressed while they are read.

`gzip.open` and its like take an empty file for an empty text, and those of bz2 and xz stop without
an error where a later part of a file is damaged. Here everything in a file must be sound.
"""

import bz2
import errno
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK = 1 << 13  # compressed bytes at once: they may hold ten thousand times as much
_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16),  # with gzip's header
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
}
COMPRESSIONS = tuple(_DECOMPRESSORS)


def open_bytes(path: Path) -> BinaryIO:
    """Open a file; reading from it gives the decompressed bytes.

    Raises:
        OSError: also while it is read: it is damaged or not whole.
    """
    new = _DECOMPRESSORS.get(path.suffix.lower())
    return path.open("rb") if new is None else io.BufferedReader(_Stream(_decompressed(path, new)))


def _decompressed(path: Path, new: Callable[[], Any]) -> Iterator[bytes]:
    """The content of all compressed parts of a file, one after another, in chunks."""
    with path.open("rb") as file:
        decompressor, is_begun = new(), True  # an empty file holds not even an empty text
        while chunk := file.read(_CHUNK):
            while chunk:
                if not is_begun:
                    chunk = chunk.lstrip(b"\0")  # padding between parts and at the end
                    if not chunk:
                        break
                    decompressor, is_begun = new(), True
                try:
                    yield decompressor.decompress(chunk)
                except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
                    raise _damaged(path, f"it is damaged ({error})") from None
                is_begun, chunk = not decompressor.eof, decompressor.unused_data
    if is_begun:
        raise _damaged(path, "it ends too early; it is not whole")


def _damaged(path: Path, reason: str) -> OSError:
    return OSError(errno.EIO, reason, str(path))


class _Stream(io.RawIOBase):
    """A file that is read from chunks of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the start of a buffer; 0: the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        n = min(len(buffer), len(self._rest))
        buffer[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n

    def close(self) -> None:
        """Close the file, too."""
        getattr(self._chunks, "close", lambda: None)()
        super().close()
