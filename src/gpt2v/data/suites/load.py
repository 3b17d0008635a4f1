"""Load a suite by its name. A suite is a benchmark definition: a YAML file in this folder.

Each name contains a version. A suite never changes; a change makes a new version.
"""

from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from gpt2v.config.effect import has_default
from gpt2v.config.load import validate
from gpt2v.config.measuring import PartConfig, SuiteConfig, SuiteEvalConfig, SuiteTilesConfig
from gpt2v.config.pictures import DRAWN
from gpt2v.config.yaml12 import read_yaml
from gpt2v.errors import UserError
from gpt2v.messages import say

S = TypeVar("S", bound=SuiteTilesConfig)

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


def as_suited(config: S) -> S:
    """A suite's configuration with the source of the tiles and the metrics that the suite asks for.

    What the user gave stays. So does everything, if the suite asks for nothing.

    Raises:
        UserError: no such suite.
    """
    suite, tiles = load_suite(config.suite), config.tiles
    changes: dict[str, Any] = {}
    if suite.source is not None and "source" not in tiles.model_fields_set:
        changes["tiles"] = tiles.model_copy(update={"source": suite.source})
    if isinstance(config, SuiteEvalConfig) and "metrics" not in config.model_fields_set:
        changes["metrics"] = suite.metrics
    return config.model_copy(update=changes)


def with_tiles(config: S, given: int | None) -> S:
    """A suite's configuration with as many drawn tiles as the suite asks for.

    Tiles of another source are those that are there.

    Args:
        given: what the user gave as `tiles.test_per_class`, which stays.

    Raises:
        UserError: no such suite.
    """
    wanted, tiles = load_suite(config.suite).sprites_per_class, config.tiles
    if wanted is None or tiles.source not in DRAWN or given is not None:
        return config
    more = tiles.model_copy(update={"test_per_class": wanted})
    return config.model_copy(update={"tiles": more})


def chosen_parts(config: SuiteEvalConfig) -> list[tuple[PartConfig, list[str]]]:
    """The parts of a suite to measure, each with the modalities that it is shown in.

    Raises:
        UserError: there is no such suite or part, or no part is left to measure.
    """
    suite = load_suite(config.suite)
    names = [part.name for part in suite.parts]
    for name in config.parts or []:
        if name not in names:
            raise UserError(f"parts: {config.suite} has no part {name}, but {', '.join(names)}")
    parts = []
    for part in suite.parts:
        modalities: list[str] = [m for m in part.modalities if m in config.modalities]
        if modalities and part.name in (config.parts or names):
            parts.append((part, modalities))
    for name in config.parts or []:
        if parts and name not in [part.name for part, _ in parts]:
            raise UserError(f"parts: {name} of {config.suite} is not shown as {config.modalities}")
    shown = {modality for _, modalities in parts for modality in modalities}
    for modality in config.modalities:
        if parts and modality not in shown and not has_default(config, "modalities"):
            raise UserError(f"modalities: no part of {config.suite} is shown as {modality}")
    if not parts:
        raise UserError(f"modalities: no part of {config.suite} is shown as {config.modalities}")
    return parts
