"""From text to token files: into a folder, or into a cache that later runs use again."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path, PurePath

from tokenizers import Tokenizer

from gpt2v.config.data import CorpusConfig
from gpt2v.data.corpus.cleaning import CleaningReport, clean, content_key, hold_out
from gpt2v.data.corpus.compressed import COMPRESSIONS
from gpt2v.data.corpus.documents import read_documents
from gpt2v.data.corpus.sources import SPLITS, Source, say_sources, separated_by, sources_of
from gpt2v.data.corpus.text_files import text_kind
from gpt2v.data.corpus.tokens import (
    TokenPair,
    TokenWriter,
    is_pair,
    is_tokens,
    open_pair,
    tokenizer_hash,
)
from gpt2v.data.data_files import some_of
from gpt2v.errors import UserError
from gpt2v.messages import say
from gpt2v.paths import expanded
from gpt2v.progress import alive
from gpt2v.storage.cache import open_or_make
from gpt2v.storage.files import writing
from gpt2v.storage.folders import remove_directory, whole_directory
from gpt2v.storage.manifest import sha256
from gpt2v.storage.ownership import owned
from gpt2v.storage.places import check_place

_FORMAT = 1  # of the cache; with another number, every corpus is tokenized again
_SMALL = 64 << 20  # bytes; files up to this size are identified by content, not name and time


def corpus_texts(config: CorpusConfig, limit_bytes: int = 100_000_000) -> Iterator[str]:
    """Training documents for a tokenizer, until they have `limit_bytes` bytes in UTF-8.

    Raises:
        UserError: as `read_documents`, or the corpus is tokenized already.
    """
    _refuse_tokens(config, "its tokenizer must be given: set tokenizer.source")
    n_bytes = 0
    for part, document in _labelled(config, {}, []):
        if part == "train":
            yield document
            n_bytes += len(document.encode())
            if n_bytes >= limit_bytes:
                return


def tokenize_corpus(
    config: CorpusConfig,
    tokenizer: Tokenizer,
    out: Path,
    save: Callable[[Path], object] = lambda folder: None,
) -> None:
    """Write the token folders `out/train` and `out/valid`: both, or nothing after an error.

    Args:
        save: writes more files into the same folder, e.g. the tokenizer.

    Raises:
        UserError: as `read_documents`, or `out` is not empty, in use, or cannot be written.
    """
    _refuse_tokens(config, "it needs no tokenizing")
    check_place(out, "a folder of tokens")
    with owned(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: already exists; choose another --out")
        say_sources(sources_of(config))
        with writing(out), whole_directory(out) as folder:
            _write_pair(config, tokenizer, folder)
            save(folder)


def cached_tokens(config: CorpusConfig, tokenizer: Tokenizer, cache: Path) -> TokenPair:
    """The token files of a corpus in the cache; made first if missing or damaged."""
    entry = cache / _cache_key(config, tokenizer)

    def make() -> None:
        with writing(cache), whole_directory(entry) as folder:
            _write_pair(config, tokenizer, folder)

    return open_or_make(entry, lambda: open_pair(entry, tokenizer), make)


def _refuse_tokens(config: CorpusConfig, advice: str) -> None:
    """Raise UserError, with this advice, if the corpus is tokenized already."""
    path = expanded(config.corpus)
    if is_pair(path) or is_tokens(path):
        raise UserError(f"corpus: {config.corpus}: holds tokens, not text; {advice}")


def _cache_key(config: CorpusConfig, tokenizer: Tokenizer) -> str:
    """Name of the cache entry: a hash of all that decides the tokens."""
    identities = [_identity(source) for source in sources_of(config).values()]
    parts = [_FORMAT, identities, config.field, config.clean, tokenizer_hash(tokenizer)]
    if config.separator != "endoftext":
        parts.append(config.separator)
    return hashlib.sha256(repr(tuple(parts)).encode()).hexdigest()[:32]


def _identity(source: Source) -> list[object]:
    """Values that change when the text changes; a hub data set is assumed to never change."""
    files = source.files
    if files is None:
        return [source.path_or_id]
    if sum(file.stat().st_size for file in files) > _SMALL:
        stats = [(str(file.resolve()), file.stat()) for file in files]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    packed = [file.suffix.lower() in COMPRESSIONS for file in files]
    kinds = [text_kind(f) if p else f.suffix for f, p in zip(files, packed, strict=True)]
    return [(kind, sha256(file)) for kind, file in zip(kinds, files, strict=True)]


def _write_pair(config: CorpusConfig, tokenizer: Tokenizer, out: Path) -> None:
    """Tokenize a corpus into `out/train` and `out/valid`."""
    sources = sources_of(config)
    reports: dict[str, CleaningReport] = {}
    without: list[str] = []
    name = PurePath(config.corpus).name
    writers = {part: TokenWriter(out / part, tokenizer, config.corpus) for part in SPLITS}
    start = time.monotonic()

    def line() -> str:
        size = sum(writer.n_bytes for writer in writers.values()) / 1e6
        return f"tokens: {name}: {size:.0f} MB, {size / (time.monotonic() - start):.1f} MB/s"

    with alive(line):
        for part, document in _labelled(config, reports, without):
            writers[part].add(document)
    if without:
        say(f"corpus: {config.corpus}: no documents in {some_of(without)}")
    for part, writer in writers.items():
        if part == "valid" and "valid" not in sources and writers["train"].n_documents == 1:
            remove_directory(writer.folder)  # its windows are the end of the only document
            continue
        if not writer.n_documents:
            raise _nothing_left(sources, part, reports.get(part) or reports.get("train"))
        source = sources.get(part, sources["train"])
        writer.close(reports.get(part), source.names, source.left_out)
    counts = reports.get("train") or f"{sum(w.n_documents for w in writers.values())} read"
    by = separated_by(config, sources["train"])
    print(f"tokens: {name}: documents{by}: {counts}", flush=True)


def _nothing_left(
    sources: Mapping[str, Source], part: str, report: CleaningReport | None
) -> UserError:
    source = sources.get(part, sources["train"])
    reason = "no document is left" + (f" ({report})" if report else "")
    if "valid" not in sources:
        reason += "; one to train on and one for `valid` are needed, or a file for `valid`"
    return UserError(f"{source.key}: {source.path_or_id}: {reason}")


def _labelled(
    config: CorpusConfig, reports: dict[str, CleaningReport], without: list[str]
) -> Iterator[tuple[str, str]]:
    """(label, document) pairs, label `valid` or `train`; cleaning counts go into `reports`, and
    names of files without documents into `without`.
    """
    sources = sources_of(config)

    def read(part: str, held_out: Set[bytes] = frozenset()) -> Iterable[str]:
        place = sources[part]
        documents: Iterable[str] = read_documents(
            place.path_or_id,
            config.field,
            SPLITS[part],
            place.key,
            without,
            config.separator == "blank-lines",
        )
        if config.clean:
            report = reports.setdefault(part, CleaningReport())
            documents = clean(documents, report, held_out)
        return documents

    if "valid" not in sources:
        yield from hold_out(read("train"))
        return
    held_out: set[bytes] = set()
    for document in read("valid"):
        held_out.add(content_key(document))
        yield "valid", document
    n_both = 0
    for document in read("train", held_out):
        n_both += not config.clean and content_key(document) in held_out
        yield "train", document
    if n_both:  # cleaning leaves them out
        say(
            f"{sources['valid'].key}: {n_both} documents are training text, too; clean: false "
            "trains on them"
        )
