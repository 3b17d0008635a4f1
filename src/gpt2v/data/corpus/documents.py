"""Documents of plain text, one after another, from files, folders and hub data sets.

No file is read at once: text files are read by the megabyte, JSON by the line, parquet by the
batch of rows. If something is not text, the error names the file and the line or byte. The next
steps are `cleaning`, then `tokens`.
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
from gpt2v.hub import looks_local

_CHUNK = 1 << 20  # bytes of a text file that are read at once
_ROWS = 256  # rows of a parquet file that are read at once


def read_documents(
    path_or_id: str, field: str = "text", split: str = "train", key: str = "corpus"
) -> Iterator[str]:
    """All documents of a file, a folder or a hub data set, in order.

    Args:
        path_or_id: a .txt file (documents separated by <|endoftext|>), a .jsonl file (one object
            in each line), a .parquet file, a folder (with such files directly in it, read in the
            order of their names), or a hub id.
        field: the column that holds the text; not used for .txt.
        split: the split of a hub data set.
        key: name of the setting, for error messages.

    Raises:
        UserError: while the result is read: something is not text or cannot be read, or there are
            no documents.
    """
    path = local_path(path_or_id, key)
    is_empty = True
    try:
        documents: Iterator[str]
        if path is None:
            documents = _read_hub(path_or_id, field, split, key)
        else:
            files = text_files(path, key)
            documents = (d for file in files for d in _READERS[_suffix(file)](file, field, key))
        for document in documents:
            is_empty = False
            yield document
    except OSError as error:
        reason = error.strerror or str(error)
        where = error.filename or path_or_id
        raise UserError(f"{key}: {where}: cannot be read: {reason}") from None
    if is_empty:
        raise UserError(f"{key}: {path_or_id}: holds no documents")


def local_path(path_or_id: str, key: str) -> Path | None:
    """The file or folder with this name; None for a hub id.

    Raises:
        UserError: it looks like a path, but no such file or folder exists.
    """
    path = Path(path_or_id).expanduser()
    if path.exists():
        return path
    if looks_local(path_or_id) or path.suffix in _READERS:
        raise UserError(f"{key}: {path_or_id}: no such file or folder")
    return None


def text_files(path: Path, key: str) -> list[Path]:
    """The files that are read: the path itself, or the files directly in a folder, by name.

    Raises:
        UserError: no .txt, .jsonl or .parquet file.
    """
    if path.is_dir():
        files = [f for f in path.iterdir() if f.is_file() and not f.name.startswith(".")]
        files = sorted(f for f in files if _suffix(f) in _READERS)
        if not files:
            raise UserError(f"{key}: {path}: no .txt, .jsonl or .parquet file in this folder")
        return files
    if _suffix(path) not in _READERS:
        raise UserError(f"{key}: {path}: expected a .txt, .jsonl or .parquet file, or a folder")
    return [path]


def _suffix(file: Path) -> str:
    return file.suffix.lower()


def _read_txt(path: Path, field: str, key: str) -> Iterator[str]:
    """Documents between separators, without the line ends around the separators."""
    held: list[str] = []  # the current document so far, without `rest`
    rest = ""
    for text in _decoded(path, key):
        *whole, rest = (rest + text).split(END_OF_TEXT)
        for document in whole:
            yield "".join([*held, document]).strip("\r\n")
            held = []
        cut = max(0, len(rest) - len(END_OF_TEXT) + 1)  # a separator may begin after it
        held.append(rest[:cut])
        rest = rest[cut:]
    last = "".join([*held, rest]).strip("\r\n")
    if last.strip():
        yield last


def _decoded(path: Path, key: str) -> Iterator[str]:
    """The text of a UTF-8 file, chunk by chunk."""
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
                offset = start - pending + error.start
                raise UserError(f"{where}: {error.reason} at byte {offset}") from None
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
                offset = start + error.start
                raise UserError(
                    f"{where}: not UTF-8 text: {error.reason} at byte {offset}"
                ) from None
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: not JSON: {error}") from None
            start += len(line)
            if text.strip():
                yield _text_of(row, field, where)


def _text_of(row: Any, field: str, where: str) -> str:
    """The text of one row; a missing value (null) is an empty document."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object with the column '{field}'")
    if field not in row:
        raise UserError(f"{where}: no column '{field}' (columns: {', '.join(row)})")
    text = row[field]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise UserError(f"{where}: column '{field}' is {type(text).__name__}, expected text")
    # JSON can encode half of a surrogate pair, UTF-8 cannot
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_parquet(path: Path, field: str, key: str) -> Iterator[str]:
    where = f"{key}: {path}"
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if field not in names:
                raise UserError(f"{where}: no column '{field}' (columns: {', '.join(names)})")
            dtype = file.schema_arrow.field(field).type
            if not (pyarrow.types.is_string(dtype) or pyarrow.types.is_large_string(dtype)):
                raise UserError(f"{where}: column '{field}' is {dtype}, expected text")
            for batch in file.iter_batches(batch_size=_ROWS, columns=[field]):
                yield from (text or "" for text in batch.column(0).to_pylist())
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: not a readable parquet file ({first_line(error)})") from None


def _read_hub(name: str, field: str, split: str, key: str) -> Iterator[str]:
    import datasets

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it prints every retry
    try:
        rows = datasets.load_dataset(name, split=split, streaming=True)
        for number, row in enumerate(rows):
            yield _text_of(row, field, f"{key}: {name}: row {number}")
    except UserError:
        raise
    except Exception as error:  # hub, network and format errors have no common type
        reason = first_line(error)
        raise UserError(
            f"{key}: {name}: no such file here, and cannot be read from the hub: {reason}"
        ) from None


_READERS = {".txt": _read_txt, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
