"""Documents of plain text, one after another, from files, folders and hub data sets.

No file is read at once: text files are read by the megabyte, JSON by the line, parquet by the
batch of rows. If something is not text, the error names the file and the line or byte (of the
text, if the file is compressed). `text_files` chooses the files; the next steps are `cleaning`,
then `tokens`.
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from gpt2v.data.corpus.compressed import open_bytes
from gpt2v.data.corpus.text_files import local_path, text_files, text_kind
from gpt2v.data.text_pieces import END_OF_TEXT
from gpt2v.errors import UserError, first_line
from gpt2v.hub import HubError, load_dataset

_CHUNK = 1 << 20  # bytes of a text file that are read at once
_ROWS = 256  # rows of a parquet file that are read at once


def read_documents(
    path_or_id: str,
    field: str = "text",
    split: str = "train",
    key: str = "corpus",
    without: list[str] | None = None,
    blank_lines: bool = False,
) -> Iterator[str]:
    """All documents of a file, a folder or a hub data set, in order.

    Args:
        path_or_id: a .txt file (documents separated by <|endoftext|>), a .jsonl file (one object
            in each line), either also with .gz, .bz2 or .xz, a .parquet file, a folder (see
            `text_files`; its files are read in the order of their names), or a hub id.
        field: the column that holds the text; not used for .txt.
        split: the split of a folder or of a hub data set.
        key: name of the setting, for error messages.
        blank_lines: whether blank lines separate the documents of a .txt file, too.
        without: the names of files that turn out to hold no documents are appended to it.

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
            files = text_files(path, key).of(split)
            documents = _read_files(
                files, field, key, [] if without is None else without, blank_lines
            )
        for document in documents:
            is_empty = False
            yield document
    except OSError as error:
        reason = error.strerror or str(error)
        where = error.filename or path_or_id
        raise UserError(f"{key}: {where}: cannot be read: {reason}") from None
    if is_empty:
        raise UserError(f"{key}: {path_or_id}: holds no documents")


def _read_files(
    files: list[Path], field: str, key: str, without: list[str], blank_lines: bool
) -> Iterator[str]:
    readers = {**_READERS, ".txt": _read_paragraphs} if blank_lines else _READERS
    for file in files:
        is_empty = True
        kind = text_kind(file)
        read = next(reader for form, reader in readers.items() if kind.startswith(form))
        for document in read(file, field, key):
            is_empty = False
            yield document
        if is_empty:
            without.append(file.name)


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


def _read_paragraphs(path: Path, field: str, key: str) -> Iterator[str]:
    """Documents between blank lines and separators, without the line ends around them."""
    held: list[str] = []  # lines of the current document
    for line in _lines(path, key):
        for i, piece in enumerate(line.split(END_OF_TEXT)):
            if held and (i or not line.strip()):
                yield "\n".join(held).strip("\r\n")
                held = []
            if piece.strip():
                held.append(piece)
    if held:
        yield "\n".join(held).strip("\r\n")


def _lines(path: Path, key: str) -> Iterator[str]:
    rest = ""
    for text in _decoded(path, key):
        *whole, rest = (rest + text).split("\n")
        yield from whole
    yield rest


def _decoded(path: Path, key: str) -> Iterator[str]:
    """The text of a UTF-8 file, chunk by chunk."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = 0  # bytes of the file before `chunk`
    with open_bytes(path) as file:
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
    with open_bytes(path) as file:
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
                found = "the start of a JSON array: " if text.lstrip().startswith("[") else ""
                raise UserError(
                    f"{where}: not JSON: {found}{error}; expected one object in each line"
                ) from None
            start += len(line)
            if text.strip():
                yield _text_of(row, field, where)


def _text_of(row: Any, field: str, where: str) -> str:
    """The text of one row; a missing value (null) is an empty document."""
    if not isinstance(row, dict):
        found = {list: "an array", type(None): "null"}.get(type(row), type(row).__name__)
        raise UserError(f"{where}: expected an object with the column '{field}', not {found}")
    if field not in row:
        raise UserError(f"{where}: no column '{field}' (columns: {', '.join(row)}); set field")
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
        with path.open("rb") as content, pq.ParquetFile(content) as file:
            names = file.schema_arrow.names
            if field not in names:
                there = ", ".join(names)
                raise UserError(f"{where}: no column '{field}' (columns: {there}); set field")
            dtype = file.schema_arrow.field(field).type
            if not _is_text(dtype):
                raise UserError(f"{where}: column '{field}' is {dtype}, expected text")
            for batch in file.iter_batches(batch_size=_ROWS, columns=[field]):
                yield from (text or "" for text in batch.column(0).to_pylist())
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: not a readable parquet file ({first_line(error)})") from None


def _is_text(dtype: pyarrow.DataType) -> bool:
    """Whether a column holds text: also as polars (views) and pandas (categories) write it."""
    if pyarrow.types.is_dictionary(dtype):
        dtype = dtype.value_type
    kinds = (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_string_view)
    return any(is_kind(dtype) for is_kind in kinds)


def _read_hub(name: str, field: str, split: str, key: str) -> Iterator[str]:
    try:
        rows = load_dataset(name, split=split, streaming=True)
        for number, row in enumerate(rows):
            yield _text_of(row, field, f"{key}: {name}: row {number}")
    except UserError:
        raise
    except HubError as error:
        raise UserError(f"{key}: {name}: {error}") from None
    except Exception as error:  # hub, network and format errors have no common type
        reason = first_line(error)
        raise UserError(
            f"{key}: {name}: no such file here, and cannot be read from the hub: {reason}"
        ) from None


_READERS = {".txt": _read_txt, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
