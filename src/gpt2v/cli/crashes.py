"""Crashes: an error that is no mistake of the user is one line, and a file to mend it by.

The file has the traceback, the versions, the command and the configuration. It is in the folder
`crashes` of the cache, or if that cannot be written in the folder for temporary files. The
environment variable GPT2V_DEBUG shows the traceback at once.
"""

import os
import re
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import gpt2v
from gpt2v.config.base import Config
from gpt2v.config.load import dump
from gpt2v.errors import UserError
from gpt2v.extensions import imported
from gpt2v.hardware.memory import is_out_of_memory
from gpt2v.messages import one_line, say, show
from gpt2v.runs import command_line, versions
from gpt2v.storage.cache import cache_folder

DEBUG = "GPT2V_DEBUG"
_PACKAGE = str(Path(gpt2v.__file__).parent) + os.sep
_LESS_MEMORY = (
    "use a smaller batch (data.batch_size; train.accumulate splits it), model or picture, or fewer "
    "processes or --workers"
)


def say_crash(error: BaseException) -> None:
    """Print one line about a crash, and write its file. Raises nothing."""
    try:
        if os.environ.get(DEBUG, "0") not in ("", "0"):
            for line in traceback.format_exception(error):
                show(line.rstrip("\n"))
        say(f"{_fault(error)}; {_written(error)}")
    except Exception as other:  # the one thing that must not fail
        say(f"{type(error).__name__}; no crash report could be written: {type(other).__name__}")


def report_all_crashes() -> None:
    """From now on errors in threads, in destructors and at the exit are one line each, too."""
    said: set[str] = set()

    def once(error: BaseException | None) -> None:
        if isinstance(error, Exception) and repr(error) not in said:
            said.add(repr(error))
            say_crash(error)

    threading.excepthook = lambda args: once(args.exc_value)
    sys.unraisablehook = lambda args: once(args.exc_value)


def _fault(error: BaseException) -> str:
    """What happened, and whose mistake it is."""
    what = one_line(f"{type(error).__name__}: {_message(error)}".removesuffix(": "), 250)
    if is_out_of_memory(error):
        return f"out of memory ({what}); {_LESS_MEMORY}"
    own_files = {path for path, _ in imported()}
    for file, number in reversed(list(_frames(error))):
        if file in own_files:
            return f"{what}; this is a mistake in {file}, line {number}"
        if file.startswith(_PACKAGE):
            break
    return f"{what}; this is a mistake in gpt2v, please report it"


def _message(error: BaseException) -> str:
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # of a class of the user
        return "its message cannot be shown"
    return lines[0] if lines else ""


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    """File and line of each call that led to an error, the innermost last, also in a worker."""
    for frame in traceback.extract_tb(error.__traceback__):
        yield frame.filename, frame.lineno or 0
    if type(error.__cause__).__name__ == "_RemoteTraceback":
        for file, number in re.findall(r'File "([^"\n]+)", line (\d+)', str(error.__cause__)):
            yield file, int(number)


def _written(error: BaseException) -> str:
    """Write the file; returns where it is, for the message."""
    text = "".join(_report(error))
    why = ""
    for folder in (_in_cache, _temporary):
        try:
            return f"the traceback is in {_write(folder(), text)}"
        except (OSError, UserError) as problem:
            why = why or str(problem)
    return f"no crash report could be written ({one_line(why, 100)}); {DEBUG}=1 shows the traceback"


def _in_cache() -> Path:
    return cache_folder("crashes")


def _temporary() -> Path:
    return Path(tempfile.gettempdir())


def _write(folder: Path, text: str) -> Path:
    """Write a new file into a folder; an earlier one is never replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = time.strftime("gpt2v-%Y%m%d-%H%M%S-")
    handle, name = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=".txt")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _report(error: BaseException) -> Iterator[str]:
    """The parts of the file; one that cannot be told does not prevent the others."""
    parts: dict[str, Callable[[], object]] = {
        "time: ": lambda: time.strftime("%Y-%m-%d %H:%M:%S"),
        "command: ": command_line,
        "folder: ": os.getcwd,
        "imports: ": imported,
        "versions: ": versions,
        "\n": lambda: "".join(traceback.format_exception(error)),
        "config.yaml:\n": lambda: _config_text(error.__traceback__),
    }
    for name, part in parts.items():
        try:
            yield f"{name}{part()}\n"
        except Exception as other:
            yield f"{name}cannot be told: {type(other).__name__}\n"


def _config_text(trace: TracebackType | None) -> str:
    config = _config(trace)
    return "no configuration was read" if config is None else dump(config)


def _config(trace: TracebackType | None) -> Config | None:
    """The configuration of the command: that of the outermost call that has one."""
    while trace is not None:
        values: list[Any] = list(trace.tb_frame.f_locals.values())
        for value in values:
            if isinstance(value, Config):
                return value
        trace = trace.tb_next
    return None
