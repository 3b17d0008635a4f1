"""Jobs: work in pieces, which any process can do in any order, and do again after a stop."""

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Self

from gpt2v.errors import UserError
from gpt2v.extensions import import_all, imported
from gpt2v.progress import progress


class Job(ABC):
    """Work in pieces. Pieces leave their results in files, and are known by their numbers.

    No pickled objects are sent to other processes, only a text with `spec` in it: pickling a job
    gives this text, and a process that unpickles it first imports the user's own files.
    """

    @property
    @abstractmethod
    def pieces(self) -> Sequence[str]:
        """The name of each piece, for the progress display."""

    @abstractmethod
    def is_done(self, piece: int) -> bool:
        """Whether the files of a piece are there and complete."""

    @abstractmethod
    def do(self, piece: int) -> None:
        """Do a piece, whole or not at all.

        Raises:
            UserError: its files cannot be written, ...
        """

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What another process needs to do pieces of this job, as JSON; paths are absolute."""

    @classmethod
    @abstractmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """The job that `spec` describes."""

    def __reduce__(self) -> Any:
        kind = type(self)
        text = {"job": [kind.__module__, kind.__qualname__], "spec": self.spec()}
        return job_of, (json.dumps({**text, "imports": imported()}),)


@lru_cache(maxsize=4)
def job_of(text: str) -> Job:
    """The job in a pickled text; first imports the user's own files."""
    content = json.loads(text)
    import_all(content["imports"])
    module, name = content["job"]
    kind: type[Job] = getattr(importlib.import_module(module), name)
    return kind.from_spec(content["spec"])


def do_all(job: Job, label: str, execute: Callable[[Job, list[int]], Any]) -> None:
    """Do the pieces that are not done, with a progress display.

    Args:
        label: the name of the work.
        execute: an executor, which yields the number of each piece that it has done.

    Raises:
        UserError: a piece fails, or the executor has left one out.
    """
    missing = [piece for piece in range(len(job.pieces)) if not job.is_done(piece)]
    done = len(job.pieces) - len(missing)
    with progress(label, len(job.pieces), done) as report:
        for piece in execute(job, missing) if missing else ():
            if piece not in missing:
                raise UserError(f"--executor: yields {piece!r}, which is no piece of the job")
            report(job.pieces[piece])
    for piece in missing:
        if not job.is_done(piece):
            raise UserError(f"--executor: {job.pieces[piece]} was not done; rerun to continue")
