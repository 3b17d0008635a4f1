"""May this folder be replaced, and how: what is replaced is kept until its successor is finished.

A process can be stopped at any moment. The next one finds the folder, and what was set aside beside
it, and `restore` decides, by the kind of folder, which of them stays.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpt2v.errors import Stopped, Taken, UserError
from gpt2v.messages import say
from gpt2v.storage.disk import move
from gpt2v.storage.files import reason
from gpt2v.storage.folders import remove_directory
from gpt2v.storage.names import next_replaced, replaced, resolved
from gpt2v.storage.ownership import check_free_inside
from gpt2v.storage.places import check_place


class FolderKind(ABC):
    """A kind of folder that is replaced as a whole, such as a run.

    Args:
        name: "run", ...
        option: of the command line, that names the folder.
    """

    name: str
    option: str

    @abstractmethod
    def is_ours(self, path: Path) -> bool:
        """Whether gpt2v has made this folder: by a mark that only gpt2v writes."""

    @abstractmethod
    def is_finished(self, path: Path) -> bool:
        """Whether it is complete."""

    @abstractmethod
    def has_value(self, path: Path) -> bool:
        """Whether it is finished, or can be continued."""

    @abstractmethod
    def foreign(self, path: Path) -> Iterator[Path]:
        """The files in it that gpt2v has not made; without our mark these are all."""

    def remove(self, path: Path) -> None:
        """Remove it, unless there are foreign files in it."""
        if not any(self.foreign(path)):
            remove_directory(path)

    def check_replaceable(self, path: Path, allowed: bool, advice: str) -> None:
        """Check that a folder, which exists, may be replaced.

        Args:
            allowed: whether the user asked for it.
            advice: what to do if not.

        Raises:
            Taken: it is not ours, or `allowed` is false.
            UserError: it is not only ours, or in use.
        """
        if not path.is_dir():
            raise Taken(f"{path}: is a file; {self.article} needs a folder")
        if not self.is_ours(path):
            raise Taken(
                f"{path}: is not empty and is not {self.article}; choose another {self.option}"
            )
        if not allowed:
            what = self.article if self.is_finished(path) else f"an unfinished {self.name}"
            raise Taken(f"{path}: already holds {what}; {advice}")
        check_place(path, self.article)
        check_free_inside(path)
        other = next(self.foreign(path), None)
        if other is not None:
            raise UserError(
                f"{other}: is no file of the {self.name}; move it, or choose another {self.option}"
            )

    @property
    def article(self) -> str:
        """The name with its article."""
        return f"an {self.name}" if self.name[0] in "aeiou" else f"a {self.name}"

    @contextmanager
    def replacing(self, path: Path, there: bool) -> Iterator[None]:
        """Set aside what is at `path` while the block makes its successor.

        If the block fails before the successor has a value, it is put back. A successor without
        value is removed after a mistake or a signal; after another error it stays, to be looked at.

        Args:
            there: whether there is something to set aside; false: at most a folder of the user,
                which stays.
        """
        whole = resolved(path)
        users_folder = whole.exists() and not there
        begun = False
        try:
            if there:
                move(whole, next_replaced(whole))
            begun = True
            yield
        except BaseException as error:
            expected = isinstance(error, UserError | OSError | Stopped | KeyboardInterrupt)
            if begun and whole.exists() and not self.has_value(whole) and (expected or there):
                with suppress(PermissionError):  # Windows: a program has a file in it open
                    self.remove(whole)
                if users_folder:
                    whole.mkdir(exist_ok=True)
            if self.is_ours(whole) and self.is_finished(whole):
                self._remove_replaced(whole)
            elif not self._put_back(whole) and self._asides(whole):
                self._say_where(whole)
            raise
        self._remove_replaced(whole)

    @contextmanager
    def continuing(self, path: Path) -> Iterator[None]:
        """Remove, after the block, what the folder that it continues was to replace."""
        yield
        self._remove_replaced(resolved(path))

    def restore(self, path: Path) -> None:
        """Decide what stays after a stopped process; only the owner of the folder may do it."""
        whole = resolved(path)
        if not self._asides(whole):
            return
        if self.is_ours(whole) and self.is_finished(whole):
            self._remove_replaced(whole)
            say(f"{path}: removed the {self.name} that it has replaced, after a stopped process")
        elif whole.exists() and (self.has_value(whole) or any(self.foreign(whole))):
            self._say_where(whole)
        else:
            if whole.exists():
                self.remove(whole)
            if not self._put_back(whole):
                raise UserError(
                    f"{path}: {self._asides(whole)[-1].name}, which a stopped process has set "
                    "aside, cannot be moved back; close what has it open, then try again"
                )
            say(f"{path}: restored; a process was stopped while it replaced this {self.name}")

    def _asides(self, whole: Path) -> list[Path]:
        """What is set aside of ours."""
        return [aside for aside in replaced(whole) if self.is_ours(aside)]

    def _put_back(self, whole: Path) -> bool:
        asides = self._asides(whole)
        if not asides or whole.exists():
            return False
        try:
            move(asides[-1], whole)
        except PermissionError:  # Windows: a program has a file in it open
            return False
        return True

    def _remove_replaced(self, whole: Path) -> None:
        for aside in reversed(self._asides(whole)):
            try:
                self.remove(aside)
            except PermissionError as error:
                say(f"{aside}: the earlier {self.name} cannot be removed: {reason(error)}")

    def _say_where(self, whole: Path) -> None:
        where = self._asides(whole)[0]
        say(f"{whole}: the earlier {self.name} is kept in {where} until this one is finished")
