"""Documents of plain text, one after another, from files, folders and hub data sets.

Nothing is read whole: text files by the megabyte, JSON by the line, parquet by the row batch. What
is not text is refused with the file and the place in it. `cleaning` comes next, then `tokens`.
"""

import codecs
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from gpt2v.data.text_pieces import END_OF_TEXT
from gpt2v.errors import UserError, first_line
from gpt2v.runs import looks_local

_CHUNK = 1 << 20  # bytes of a text file read at once
_ROWS = 256  # of a parquet file read at once


def read_documents(
    source: str, field: str = "text", split: str = "train", key: str = "corpus"
) -> Iterator[str]:
    """Every document of a source, in order.

    Args:
        source: a .txt file (documents separated by <|endoftext|>), a .jsonl file (an object a
            line), a .parquet file, a folder (such files directly in it, by name), or a hub id.
        field: the column that holds the text; not for .txt.
        split: of a hub data set.
        key: what the source is called in messages.

    Raises:
        UserError: when read, at the first thing that is no text, or at the end of no documents.
    """
    path = local_path(source, key)
    found = False
    try:
        documents: Iterator[str]
        if path is None:
            documents = _hub(source, field, split, key)
        else:
            files = text_files(path, key)
            documents = (d for file in files for d in _READERS[_kind(file)](file, field, key))
        for document in documents:
            found = True
            yield document
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{key}: {error.filename or source}: cannot be read: {reason}") from None
    if not found:
        raise UserError(f"{key}: {source}: holds no documents")


def local_path(source: str, key: str) -> Path | None:
    """The file or folder that a source names; none for a hub id.

    Raises:
        UserError: it looks like a path, but nothing is there.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if looks_local(source) or path.suffix in _READERS:
        raise UserError(f"{key}: {source}: no such file or folder")
    return None


def text_files(path: Path, key: str) -> list[Path]:
    """The files that are read: the path itself, or those directly in a folder, by name."""
    if path.is_dir():
        files = [f for f in path.iterdir() if f.is_file() and not f.name.startswith(".")]
        files = sorted(f for f in files if _kind(f) in _READERS)
        if not files:
            raise UserError(f"{key}: {path}: no .txt, .jsonl or .parquet file in this folder")
        return files
    if _kind(path) not in _READERS:
        raise UserError(f"{key}: {path}: expected a .txt, .jsonl or .parquet file, or a folder")
    return [path]


def _kind(file: Path) -> str:
    return file.suffix.lower()


def _read_txt(path: Path, field: str, key: str) -> Iterator[str]:
    """Documents between separators, without the line ends around these."""
    held: list[str] = []  # what is known of the current document, but for `rest`
    rest = ""
    for text in _decoded(path, key):
        *whole, rest = (rest + text).split(END_OF_TEXT)
        for document in whole:
            yield "".join([*held, document]).strip("\r\n")
            held = []
        cut = max(0, len(rest) - len(END_OF_TEXT) + 1)  # a separator may have begun behind it
        held.append(rest[:cut])
        rest = rest[cut:]
    last = "".join([*held, rest]).strip("\r\n")
    if last.strip():
        yield last


def _decoded(path: Path, key: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = 0  # bytes of the file before `chunk`
    with path.open("rb") as file:
        while True:
            chunk = file.read(_CHUNK)
            pending = len(decoder.getstate()[0])
            where = f"{key}: {path}: not UTF-8 text"
            if 0 in chunk:
                raise UserError(f"{where}: NUL at byte {start + chunk.index(0)}")
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                place = start - pending + error.start
                raise UserError(f"{where}: {error.reason} at byte {place}") from None
            yield text if start else text.removeprefix("\ufeff")
            if not chunk:
                return
            start += len(chunk)


def _read_jsonl(path: Path, field: str, key: str) -> Iterator[str]:
    start = 0  # bytes of the file before the line
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{key}: {path}: line {number}"
            if 0 in line:
                raise UserError(f"{where}: not UTF-8 text: NUL at byte {start + line.index(0)}")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                row = json.loads(text) if text.strip() else None
            except UnicodeDecodeError as error:
                place = start + error.start
                raise UserError(
                    f"{where}: not UTF-8 text: {error.reason} at byte {place}"
                ) from None
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: not JSON: {error}") from None
            start += len(line)
            if text.strip():
                yield _text_of(row, field, where)


def _text_of(row: Any, field: str, where: str) -> str:
    """The text of one row; none counts as an empty document."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object with the column '{field}'")
    if field not in row:
        raise UserError(f"{where}: no column '{field}' (columns: {', '.join(row)})")
    text = row[field]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise UserError(f"{where}: column '{field}' is {type(text).__name__}, expected text")
    # JSON can spell half a surrogate pair, which no UTF-8 can
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_parquet(path: Path, field: str, key: str) -> Iterator[str]:
    where = f"{key}: {path}"
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if field not in names:
                raise UserError(f"{where}: no column '{field}' (columns: {', '.join(names)})")
            kind = file.schema_arrow.field(field).type
            if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
                raise UserError(f"{where}: column '{field}' is {kind}, expected text")
            for batch in file.iter_batches(batch_size=_ROWS, columns=[field]):
                yield from (text or "" for text in batch.column(0).to_pylist())
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: not a readable parquet file ({first_line(error)})") from None


def _hub(source: str, field: str, split: str, key: str) -> Iterator[str]:
    import datasets

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
    try:
        rows = datasets.load_dataset(source, split=split, streaming=True)
        for number, row in enumerate(rows):
            yield _text_of(row, field, f"{key}: {source}: row {number}")
    except UserError:
        raise
    except Exception as error:  # hub, network and format errors have no common type
        reason = first_line(error)
        raise UserError(
            f"{key}: {source}: no such file here, and cannot be read from the hub: {reason}"
        ) from None


_READERS = {".txt": _read_txt, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
