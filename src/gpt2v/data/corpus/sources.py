"""Where the training and the validation documents of a corpus come from, in one line for the user.

Validation documents come from `valid`, or from the files of the corpus that are named for
validation; else they are held out of the training documents. Files named for the test split are
read for neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2v.config.data import CorpusConfig
from gpt2v.data.corpus.text_files import TextFiles, local_path, text_files, text_kind
from gpt2v.data.data_files import names_below, some_of
from gpt2v.data.text_pieces import END_OF_TEXT
from gpt2v.errors import UserError
from gpt2v.messages import say_from_first

SPLITS = {"train": "train", "valid": "validation"}  # part of a corpus -> split


@dataclass(frozen=True)
class Source:
    """The source of one part of a corpus.

    Attributes:
        key: of the configuration, for messages.
        path_or_id: file, folder or hub id.
        files: those that are read, in order; None: a hub data set.
        names: of the files, below the folder.
        left_out: what is there but not read, with reasons; empty: nothing is.
    """

    key: str
    path_or_id: str
    files: tuple[Path, ...] | None = None
    names: tuple[str, ...] = ()
    left_out: str = ""


def sources_of(config: CorpusConfig) -> dict[str, Source]:
    """The sources of the parts `train` and, unless it is held out of that, `valid`.

    Raises:
        UserError: no such file or folder, see `text_files`, or validation text would be trained on.
    """
    there = _there("corpus", config.corpus)
    if config.separator != "endoftext" and not (there and there.has_kind(".txt")):
        raise UserError(
            f"separator: {config.separator} has no effect: {config.corpus} has no .txt file"
        )
    if config.valid is not None:
        valid = _source("valid", config.valid, _there("valid", config.valid), ["valid"])
        train = _source("corpus", config.corpus, there, ["train"])
        both = {f.resolve() for f in train.files or ()} & {f.resolve() for f in valid.files or ()}
        if both and not config.clean:  # cleaning takes the validation documents out of the training
            raise UserError(
                f"valid: {min(both)} is training text, too; clean: false would train on it"
            )
        return {"train": train, "valid": valid}
    parts = ["train", "valid"] if there is not None and there.has("validation") else ["train"]
    return {part: _source("corpus", config.corpus, there, [part, *parts]) for part in parts}


def _there(key: str, path_or_id: str) -> TextFiles | None:
    path = local_path(path_or_id, key)
    return None if path is None else text_files(path, key)


def _source(key: str, path_or_id: str, there: TextFiles | None, parts: Sequence[str]) -> Source:
    """The source of the first of these parts; the others are read from the same place."""
    if there is None:
        return Source(key, path_or_id)
    files = [there.of(SPLITS[part]) for part in parts]
    left_out = there.rest(file for own in files for file in own)
    names = tuple(names_below(there.root, files[0]))
    return Source(key, path_or_id, tuple(files[0]), names, left_out)


def separated_by(config: CorpusConfig, source: Source) -> str:
    """What separates the documents of .txt files, to be added to a line; empty: there are none."""
    if not any(text_kind(file).startswith(".txt") for file in source.files or ()):
        return ""
    words = {"endoftext": END_OF_TEXT, "blank-lines": "blank lines"}
    return f", separated by {words[config.separator]}"


def say_sources(sources: Mapping[str, Source]) -> None:
    """Say what is read and what is not, where there is a choice: a line for each place."""
    train, valid = sources["train"], sources.get("valid")
    inside = valid is not None and valid.key == train.key
    if train.left_out or inside:
        line = f"{train.key}: {train.path_or_id}: reads {some_of(train.names)}"
        if valid is not None and inside:
            line += f", for validation {some_of(valid.names)}"
        say_from_first(line + (f"; left out: {train.left_out}" if train.left_out else ""))
    if valid is not None and valid.left_out and not inside:
        line = f"{valid.key}: {valid.path_or_id}: reads {some_of(valid.names)}"
        say_from_first(f"{line}; left out: {valid.left_out}")
