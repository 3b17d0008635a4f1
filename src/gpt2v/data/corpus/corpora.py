"""Corpora: training and validation windows of the text that a configuration names.

A corpus is tokenized once for each tokenizer: into a folder (by `gpt2v data tokenize`), or into a
cache (`$XDG_CACHE_HOME/gpt2v/tokens`) that later runs use again. Validation documents come from the
user or from files of the corpus that are named so, or they are a hundredth of the corpus, chosen by
a hash of their content. So no text is in both parts.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path, PurePath

from tokenizers import Tokenizer

from gpt2v.config.data import CorpusConfig
from gpt2v.config.effect import has_default
from gpt2v.data.corpus.cleaning import HELD_OUT, CleaningReport, clean, content_key, hold_out
from gpt2v.data.corpus.compressed import COMPRESSIONS
from gpt2v.data.corpus.documents import read_documents
from gpt2v.data.corpus.sources import SPLITS, Source, say_sources, separated_by, sources_of
from gpt2v.data.corpus.text_files import text_kind
from gpt2v.data.corpus.tokens import (
    META,
    TokenFile,
    TokenMeta,
    Tokens,
    TokenWriter,
    open_tokens,
    token_bytes,
    tokenizer_hash,
)
from gpt2v.data.corpus.windows import Windows
from gpt2v.data.data_files import some_of
from gpt2v.errors import UserError, within
from gpt2v.messages import say, say_from_first
from gpt2v.paths import expanded
from gpt2v.progress import alive
from gpt2v.storage.cache import cache_folder, open_or_make
from gpt2v.storage.files import writing
from gpt2v.storage.folders import remove_directory, whole_directory
from gpt2v.storage.manifest import sha256
from gpt2v.storage.ownership import owned
from gpt2v.storage.places import check_place

_FORMAT = 1  # of the cache; with another number, every corpus is tokenized again
_SMALL = 64 << 20  # bytes; files up to this size are identified by content, not name and time
_Pair = tuple[TokenFile, TokenFile | None]  # to train on and to validate on; None: the end of it


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
    if _is_pair(path) or _is_tokens(path):
        for option in ("field", "separator", "clean"):
            if not has_default(config, option):
                raise UserError(
                    f"{option}: {getattr(config, option)} has no effect: {path} holds tokens, not "
                    "text; leave it out"
                )
    if _is_pair(path):
        if config.valid is not None:
            raise UserError(f"valid: {path} holds validation tokens of its own; leave valid out")
        files = _open_pair(path, tokenizer)
    elif _is_tokens(path):
        train = open_tokens(path, tokenizer)
        if config.valid is None:
            return _corpus(config, name, tokenizer, (train, None))
        valid = expanded(config.valid)
        if valid.resolve() == path.resolve():
            raise UserError(f"valid: {valid}: is the corpus itself; leave valid out")
        files = train, open_tokens(valid, tokenizer, "valid")
    else:
        say_sources(sources_of(config))
        files = _cached(config, tokenizer, cache or cache_folder("tokens"))
    return _corpus(config, name, tokenizer, files)


def check_corpus(config: CorpusConfig) -> None:
    """Check that a corpus is there; no text is read, and a hub is not asked.

    Raises:
        UserError: no such file or folder, or no files of text in it.
    """
    with within("corpus: "):
        path = expanded(config.corpus)
    if not (_is_pair(path) or _is_tokens(path)):
        sources_of(config)


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


def _refuse_tokens(config: CorpusConfig, advice: str) -> None:
    """Raise UserError, with this advice, if the corpus is tokenized already."""
    path = expanded(config.corpus)
    if _is_pair(path) or _is_tokens(path):
        raise UserError(f"corpus: {config.corpus}: holds tokens, not text; {advice}")


def _is_tokens(path: Path) -> bool:
    """Whether this is a folder of token files."""
    return (path / META).is_file()


def _is_pair(path: Path) -> bool:
    """Whether this folder has token folders for training and validation."""
    return _is_tokens(path / "train") or _is_tokens(path / "valid")


def _open_pair(path: Path, tokenizer: Tokenizer) -> _Pair:
    train = open_tokens(path / "train", tokenizer)
    if train.meta.n_documents == 1 and not (path / "valid").exists():
        return train, None
    return train, open_tokens(path / "valid", tokenizer)


def _corpus(
    config: CorpusConfig,
    name: str,
    tokenizer: Tokenizer,
    files: _Pair,
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


# ---- from text to tokens ---------------------------------------------------------------------


def _cached(config: CorpusConfig, tokenizer: Tokenizer, cache: Path) -> _Pair:
    """The token files of a corpus in the cache; made first if missing or damaged."""
    entry = cache / _cache_key(config, tokenizer)

    def make() -> None:
        with writing(cache), whole_directory(entry) as folder:
            _write_pair(config, tokenizer, folder)

    return open_or_make(entry, lambda: _open_pair(entry, tokenizer), make)


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
