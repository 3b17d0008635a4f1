"""Names of models and data sets: a local path, or an id of the Hugging Face Hub, `owner/name`.

All files of the Hub are asked for here. What is in the local cache is opened without asking. Else
one line on stderr says what the Hub is asked for, and one request with a short time limit finds out
if it answers: the libraries would try for half a minute, without a word. Python code that comes
with a checkpoint is never run.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from gpt2v.errors import UserError, first_line
from gpt2v.messages import say

_NO_ID = "this cannot be an id there"
_SECONDS = 10.0  # time limit of the first request
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
# Files in which a checkpoint can name Python code of its own, by the key `auto_map`.
_NAMING_CODE = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)


class HubError(Exception):
    """What is not here cannot be read from the Hub either; the line names both, but not the id."""

    def __init__(self, reason: str) -> None:
        self.reason = f"cannot be read from the hub: {reason}"  # without what was tried before
        super().__init__(f"no such file or folder here, and {self.reason}")


def looks_local(name: str) -> bool:
    """Whether the name of something missing looks like a path, not like a hub's `owner/name`."""
    return _is_no_id(name) or ("/" in name and Path(name).parent.is_dir())


def _is_no_id(name: str) -> bool:
    """Whether this is surely no id of the Hub, without importing its library."""
    starts_as_path = name.startswith((".", "/", "~")) or name[1:2] == ":"  # C: on Windows
    return starts_as_path or "\\" in name or name.count("/") > 1


def model_file(model: str, file: str) -> Path | None:
    """A file of a model; None: it has no such file.

    Args:
        model: a folder or a hub id.

    Raises:
        HubError: the file is not in the cache, and the Hub does not give it.
    """
    if Path(model).exists():
        path = Path(model) / file
        return path if path.is_file() else None
    if _is_no_id(model):
        raise HubError(_NO_ID)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model, file)
    except HFValidationError:
        raise HubError(_NO_ID) from None
    if cached is not None:  # a path, or a mark that there is no such file
        return Path(cached) if isinstance(cached, str) else None
    if file not in _files(model, "model"):
        return None
    try:
        return Path(hf_hub_download(model, file))
    except Exception as error:  # errors of Hub, network and disk have no common type
        raise HubError(f"{file}: {first_line(error)}") from None


def optional_file(model: str, file: str) -> Path | None:
    """`model_file` for a file that can be done without: it says so if the Hub cannot be asked."""
    try:
        return model_file(model, file)
    except HubError as error:
        say(f"{model}: continues without {file}, if it has one: {error}")
        return None


def needed_file(model: str, file: str) -> Path:
    """The path of a file that every model has; in a folder it is not checked.

    Raises:
        HubError: it has none, or the Hub does not give it.
    """
    if Path(model).exists():
        return Path(model) / file
    path = model_file(model, file)
    if path is None:
        raise HubError(f"it has no {file}")
    return path


def load_dataset(name: str, **options: Any) -> Any:
    """`datasets.load_dataset` of a hub id.

    Raises:
        HubError: it is not in the cache, and the Hub does not give it.
    """
    import datasets

    for logger in ("huggingface_hub", "datasets.load"):  # they print every retry and fall-back
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        with _only_cached():
            return datasets.load_dataset(name, **options)
    except ConnectionError:  # not in the cache
        _files(name, "dataset")
    return datasets.load_dataset(name, **options)


def _files(name: str, kind: str) -> frozenset[str]:
    """The names of all files of a model or data set of the Hub.

    Raises:
        HubError: there is no such id, or the Hub does not answer.
    """
    answer = _asked(name, kind)
    if isinstance(answer, str):
        raise HubError(answer)
    return answer


@lru_cache
def _asked(name: str, kind: str) -> frozenset[str] | str:
    """The names of all files, or why the Hub does not give them; each is asked for once."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    what = "data set" if kind == "dataset" else kind
    offline = next((variable for variable in _OFFLINE if _is_on(variable)), _OFFLINE[0])
    if constants.HF_HUB_OFFLINE or (kind == "dataset" and offline == "HF_DATASETS_OFFLINE"):
        return f"offline by {offline} and not in the cache"
    say(f"{name}: no such file or folder here; asking {constants.ENDPOINT} for a {what}")
    try:
        ask = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
        info = ask(name, timeout=_SECONDS)
    except HFValidationError:
        return _NO_ID
    except GatedRepoError:
        return f"{constants.ENDPOINT} gives it only to those who have accepted its terms"
    except RepositoryNotFoundError:
        return f"{constants.ENDPOINT} has no such {what}, or it is private"
    except Exception as error:  # errors of Hub and network have no common type
        return f"{constants.ENDPOINT} cannot be reached: {first_line(error)}"
    return frozenset(file.rfilename for file in info.siblings or ())


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE")


@contextmanager
def _only_cached() -> Iterator[None]:
    """In this block `datasets` reads from its cache only; it has no argument for that."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def refuse_code(folder: Path, key: str) -> None:
    """Refuse a checkpoint in a folder that needs Python code of its own.

    Args:
        key: name of the setting, for messages.

    Raises:
        UserError: names the file that asks for the code.
    """
    for name in _NAMING_CODE:
        try:
            values = json.loads((folder / name).read_text("utf-8"))
        except (OSError, ValueError):  # missing, or whoever needs it says what is wrong
            continue
        if isinstance(values, dict):
            refuse_auto_map(values, f"{key}: {folder / name}")
    if (folder / "custom_generate").is_dir():
        raise UserError(f"{key}: {folder / 'custom_generate'}: holds code, which is never run")


def refuse_auto_map(config: dict[str, Any], where: str) -> None:
    """Refuse a configuration that names Python code.

    Raises:
        UserError: it has a key `auto_map`; the message begins with `where`.
    """
    if config.get("auto_map"):
        raise UserError(
            f"{where}: auto_map names Python code, which is never run; only models that are part "
            "of transformers can be opened"
        )
