"""The documents that `gpt2v eval MODEL --corpus PATH` measures."""

from collections.abc import Iterable, Iterator

from gpt2v.config.effect import has_default
from gpt2v.config.language import CorpusEvalConfig
from gpt2v.data.corpus.cleaning import CleaningReport, clean
from gpt2v.data.corpus.documents import read_documents
from gpt2v.data.corpus.text_files import local_path, text_files
from gpt2v.data.corpus.tokens import is_pair, is_tokens
from gpt2v.data.data_files import names_below, some_of
from gpt2v.errors import UserError
from gpt2v.messages import say

_SPLITS = {"train": "train", "val": "validation", "test": "test"}  # in names of files
_TOGETHER = 500  # documents, and
_CHARACTERS = 1 << 21  # characters of documents, that are scored together


def check_text(config: CorpusEvalConfig) -> None:
    """Check that the text is there; none is read, and a hub is not asked.

    Raises:
        UserError: no such file or folder, it holds tokens, or an option has no effect on it.
    """
    path = local_path(config.corpus, "corpus")
    files = None
    if path is not None:
        if is_pair(path) or is_tokens(path):
            raise UserError(f"corpus: {config.corpus}: holds tokens, not text; name the text")
        files = text_files(path, "corpus")
        files.of(_SPLITS[config.split])
        if not files.is_folder and not has_default(config, "split"):
            raise UserError(
                f"split: {config.split} has no effect: {config.corpus} is a file; leave it out"
            )
    if not has_default(config, "separator") and not (files and files.has_kind(".txt")):
        raise UserError(
            f"separator: {config.separator} has no effect: {config.corpus} has no .txt file"
        )


def say_files(config: CorpusEvalConfig) -> None:
    """Say which files of a folder are read."""
    path = local_path(config.corpus, "corpus")
    if path is not None and path.is_dir():
        files = text_files(path, "corpus")
        names = names_below(files.root, files.of(_SPLITS[config.split]))
        say(f"corpus: {config.corpus}: reads {some_of(names)}")


def documents_of(config: CorpusEvalConfig, report: CleaningReport | None) -> Iterator[str]:
    """The documents that have any text, cleaned if the configuration says so."""
    texts: Iterable[str] = read_documents(
        config.corpus,
        config.field,
        _SPLITS[config.split],
        blank_lines=config.separator == "blank-lines",
    )
    return filter(None, texts if report is None else clean(texts, report))


def batches_of(documents: Iterator[str]) -> Iterator[list[str]]:
    """Documents in lists that are long enough to batch well and short enough for the memory."""
    held: list[str] = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document)
        if len(held) == _TOGETHER or size >= _CHARACTERS:
            yield held
            held, size = [], 0
    if held:
        yield held
