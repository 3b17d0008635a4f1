"""Load a suite by its name. A suite is a benchmark definition: a YAML file in this folder.

Each name contains a version. A suite never changes; a change makes a new version.
"""

from importlib import resources
from pathlib import Path

from gpt2v.config.load import validate
from gpt2v.config.measuring import SuiteConfig
from gpt2v.config.yaml12 import read_yaml
from gpt2v.errors import UserError
from gpt2v.messages import say

_FOLDER = resources.files("gpt2v.data.suites")


def suite_names() -> list[str]:
    """Names of the suites, sorted."""
    names = [file.name for file in _FOLDER.iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def is_suite(name: str | None) -> bool:
    """Whether a suite has this name. It is said if a file has this name, too: it is not read."""
    known = name is not None and name in suite_names()
    if known and Path(str(name)).is_file():
        say(f"{name}: the suite is used; the file with this name is not read (./{name} is)")
    return known


def load_suite(name: str) -> SuiteConfig:
    """The suite with this name.

    Raises:
        UserError: no such suite.
    """
    if name not in suite_names():
        raise UserError(f"suite: {name}: no such suite; the suites are {', '.join(suite_names())}")
    text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return validate(SuiteConfig, read_yaml(text, name), name)
