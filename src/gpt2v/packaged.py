"""Files that come with gpt2v, by name: configurations and examples.

`gpt2v:lm/grid-tiny` is configs/lm/grid-tiny.yaml, and `--import gpt2v:own_parts` is
examples/own_parts.py. They are folders of the repository, which a wheel has inside the package. A
file of the user that is really called so is `./gpt2v:...`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from gpt2v.errors import UserError

PREFIX = "gpt2v:"


@dataclass(frozen=True)
class Shelf:
    """The files of one kind.

    Attributes:
        kind: what they are, for messages.
        folder: their folder in the repository and in a wheel; may have folders of its own.
        suffix: of each file, not part of its name.
    """

    kind: str
    folder: str
    suffix: str

    @property
    def root(self) -> Path:
        """The folder: of an installed wheel, else of the repository."""
        installed = Path(__file__).with_name(self.folder)
        return installed if installed.is_dir() else Path(__file__).parents[2] / self.folder

    def names(self) -> list[str]:
        """The names of all files, sorted."""
        files = self.root.rglob(f"*{self.suffix}")
        found = (file.relative_to(self.root).with_suffix("") for file in files)
        return sorted(PREFIX + name.as_posix() for name in found)

    def path(self, name: str | os.PathLike[str]) -> Path:
        """The file with a name of ours; any other name is a path, and stays as it is.

        Raises:
            UserError: the name begins as one of ours, but there is no such file.
        """
        text = os.fspath(name)
        if not text.startswith(PREFIX):
            return Path(name)
        names = self.names()
        if text not in names:
            beside = [one for one in names if one.startswith(f"{text.rpartition('/')[0]}/")]
            raise UserError(
                f"{text}: no such {self.kind} in gpt2v; choose from {', '.join(beside or names)}"
            )
        return self.root / (text.removeprefix(PREFIX) + self.suffix)

    def hint(self, path: str | os.PathLike[str]) -> str:
        """For the message about a path that does not exist: our file with that name, or nothing."""
        name = PREFIX + "/".join(Path(path).with_suffix("").parts[-2:])
        return f"; {name} comes with gpt2v" if name in self.names() else ""


CONFIGS = Shelf("configuration", "configs", ".yaml")
EXAMPLES = Shelf("example", "examples", ".py")
