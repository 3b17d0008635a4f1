"""The run directory of a call: the one that was asked for, or one in a temporary folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from gpt2v.runs import called_as, new_run

Out = str | os.PathLike[str] | None
Temporary = TemporaryDirectory[str]


def temporary(out: Out) -> Temporary | None:
    """A folder that is removed with the object that holds it; None: the run has its own folder."""
    return TemporaryDirectory(prefix="gpt2v-") if out is None else None


@contextmanager
def run_folder(
    call: str, out: Out, place: Temporary | None, overwrite: bool = False, resume: bool = False
) -> Iterator[Path]:
    """Own a new run directory in this block, as the commands do; see `new_run`.

    Args:
        call: the name of the function, for `command` in results.json.
        out: the directory; None: one in `place`.
        place: see `temporary`.
        overwrite: replace an existing run.
        resume: continue an existing run.

    Raises:
        UserError: see `new_run`.
    """
    from gpt2v.model.files import quietly  # imports transformers

    path = Path(place.name) / "run" if place else Path(os.fspath(out or ""))
    name = called_as(f"gpt2v.{call}(...)")
    with quietly(), name, new_run(path, overwrite, resume) as run:
        yield run
