"""Every field of every configuration is written, read back and part of hashes."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import helpers
from gpt2v import packaged, runs
from gpt2v.cli.language import language_config
from gpt2v.cli.measuring import eval_config
from gpt2v.config.base import Config, hash_of
from gpt2v.config.describe import registries_of
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.grids import GridConfig
from gpt2v.config.language import CorpusEvalConfig, HarnessConfig, LanguageConfig, PairsEvalConfig
from gpt2v.config.load import load, merge, validate
from gpt2v.config.measuring import (
    EvalConfig,
    ExportConfig,
    LadderConfig,
    SuiteConfig,
    SuiteEvalConfig,
    SuiteExportConfig,
)
from gpt2v.config.probing import ProbeConfig
from gpt2v.config.training import GenerateConfig, LMConfig, MMConfig
from gpt2v.data.suites.load import suite_names
from gpt2v.demo.config import DemoConfig, demo_config, presets

FILES = {"source": "folder", "path": "pictures"}
MOVED = {**FILES, "augment": {"shift": 1}}
TILES = {"source": "sprites"}
PICTURE = {"scale": [0.5, 0.9], "jitter": 1}
GRID = {"rows": 2, "picture": PICTURE, "augment": {"paraphrase": True}}
IN_PATCHES = {"rows": [1, 2], "cols": [1, 2], "palette": [2, 4], "form": "patch-tiled"}
WORDS = {"rows": 2, "augment": {"paraphrase": True}}
GROUPS = [{"name": "a", "pattern": "", "optimizer": "muon"}]


def stages(grid: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": "align", "steps": 1, "mix": [grid, IN_PATCHES, {"corpus": "x.txt"}]},
        {"name": "tune", "steps": 2, "mix": [{}]},
    ]


TRAIN = {"groups": GROUPS, "stage_groups": {"tune": GROUPS}}
LM = {"tiles": TILES, "data": {"stages": stages(WORDS)}, "train": TRAIN}
MM = {**LM, "data": {"stages": stages({**GRID, "modality": "image"})}, "lm": "x"}
ENCODER = {"tiles": TILES, "train": {"groups": GROUPS}}
CONV = {"name": "conv", "image_size": 32, "widths": [8, 8]}
SMALL = {"vision": CONV, "small_start": 1, "small_scale": 0.5}
MEASURED = {"tiles": TILES, "grid": GRID}
SEEN = {"tiles": MOVED, "grid": GRID, "split": "train"}
PROBE = {"tiles": TILES, "grid": GRID, "model": "x"}
TILED = {**PROBE, "grid": {"form": "patch-tiled"}}
PARTS = [{"name": "a", "n_images": 9, "grid": grid} for grid in (GRID, IN_PATCHES)]
BASES: list[tuple[type[Config], list[dict[str, Any]]]] = [
    (LMConfig, [LM, {**LM, "tiles": MOVED}]),
    (MMConfig, [MM, {**MM, "tiles": MOVED, "encoder": "x"}]),
    (EncoderConfig, [ENCODER, {**ENCODER, "tiles": MOVED, "teacher": "x"}, {**ENCODER, **SMALL}]),
    (GenerateConfig, [{}]),
    (EvalConfig, [MEASURED, SEEN, {"grid": IN_PATCHES}]),
    (SuiteEvalConfig, [{"tiles": tiles, "suite": "grid-3x3-v1"} for tiles in (TILES, FILES)]),
    (CorpusEvalConfig, [{"corpus": "x.txt"}]),
    (PairsEvalConfig, [{"pairs": ["story", "reference"]}]),
    (HarnessConfig, [{"lm_eval": ["x"], "include_path": "tasks"}]),
    (LadderConfig, [{**MEASURED, "model": "x"}, {**SEEN, "model": "x"}]),
    (ProbeConfig, [PROBE, {**PROBE, "tiles": MOVED}, TILED]),
    (ExportConfig, [MEASURED, SEEN, {"grid": IN_PATCHES}]),
    (SuiteExportConfig, [{"tiles": tiles, "suite": "grid-3x3-v1"} for tiles in (TILES, FILES)]),
    (SuiteConfig, [{"description": "x", "parts": parts} for parts in (PARTS, PARTS[:1])]),
    (
        DemoConfig,
        [
            {
                "tiles": tiles,
                "encoder": {**ENCODER, "tiles": tiles, **({"teacher": "x"} if encoder else SMALL)},
                "lm": {**LM, "tiles": tiles},
                "mm": {**MM, "tiles": tiles, "encoder": encoder},
                "eval": {**MEASURED, "tiles": {**tiles, "augment": {}}, "split": split},
                "probe": {**(TILED if encoder else PROBE), "tiles": tiles},
            }
            for tiles, split, encoder in ((TILES, "test", None), (MOVED, "val", "x"))
        ],
    ),
]


def only_default(kind: type[Config], prefix: str = "") -> list[str]:
    """The keys, with `*`, that a class and the classes in it say have only one value."""
    keys = [prefix + key for key in kind.only_default]
    for name, field in kind.model_fields.items():
        for inner in helpers.configs_in(field.annotation):
            keys += only_default(inner, f"{prefix}{name}.")
    return keys


def fixed_in(kind: type[Config], keys: set[str]) -> set[str]:
    """Those of the keys that can have only one value."""
    return {key for key in keys for one in only_default(kind) if f"{key}.".startswith(f"{one}.")}


def literals(annotation: object) -> set[str]:
    """The strings that an annotation lists."""
    strings = {part for part in get_args(annotation) if isinstance(part, str)}
    return strings.union(*(literals(part) for part in get_args(annotation)))


def known_strings(kind: type[Config]) -> set[str]:
    """The listed strings of all fields of a configuration, at any depth."""
    strings: set[str] = set()
    for field in kind.model_fields.values():
        strings |= literals(field.annotation)
        for registry in registries_of(field):
            strings = strings.union(registry.names())
            for entry in registry.values():
                strings |= known_strings(entry.options) if entry.options else set()
        for inner in helpers.configs_in(field.annotation):
            strings |= known_strings(inner)
    return strings


def leaves(value: Any, key: str = "") -> dict[str, Any]:
    """Dotted key -> value, for every value in a written configuration."""
    below: dict[str, Any] = {}
    if isinstance(value, dict):
        below = {str(name): inner for name, inner in value.items()}
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        below = {str(i): inner for i, inner in enumerate(value)}
    if not below:
        return {key: value}
    prefix = f"{key}." if key else ""
    return {k: v for name, inner in below.items() for k, v in leaves(inner, prefix + name).items()}


def others(value: Any, strings: list[str]) -> list[Any]:
    """Values to try instead of this one."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, value * 2, value // 2, [1, 3]]
    if isinstance(value, float):
        return [value / 2, value * 2, value + 0.25]
    lists = [[1, 3], [0.25, 0.5], [1, 2, 3], [0, 1], ["|", ","], ["text"], ["image", "text"]]
    if isinstance(value, str):
        return [*strings, value + "x"]
    if isinstance(value, list):
        lists += [value[:-1], *([name] for name in strings), *([*value, name] for name in strings)]
    named = [[name] for name in strings]
    return [*lists, True, 8, 100, 0.5, *strings, *named] if value is None else lists


@dataclass(frozen=True)
class Varied:
    """A configuration, and others that differ from it in one field each.

    Attributes:
        written: dotted key -> value, for every value of the configuration.
        changed: dotted key -> the configuration with another value there, if one is possible.
    """

    config: Config
    written: dict[str, Any]
    changed: dict[str, Config]


def vary(kind: type[Config], base: dict[str, Any]) -> Varied:
    config = kind.model_validate(base)
    whole, strings = config.model_dump(), sorted(known_strings(kind))
    written, changed = leaves(whole), {}
    for key, value in written.items():
        above, _, last = key.rpartition(".")
        tries = [{key: other} for other in others(value, strings)]
        tries += [{above: other} for other in strings if last == "name"]  # with its own options
        for other in tries:
            try:
                candidate = kind.model_validate(merge(whole, other, "x"))
            except ValueError:
                continue
            if candidate != config:
                changed[key] = candidate
                break
    return Varied(config, written, changed)


@pytest.fixture(scope="module", params=BASES, ids=lambda pair: pair[0].__name__)
def varied(request):
    """A class of configurations, and for each base its `Varied`."""
    kind, bases = request.param
    return kind, [vary(kind, base) for base in bases]


def patterns(keys):
    """The keys with `*` in place of the numbers of a list."""
    return {re.sub(r"\b\d+\b", "*", key) for key in keys}


def test_every_field_can_be_changed(varied):
    """So the tests below cover every field."""
    kind, bases = varied
    every = set().union(*(patterns(one.written) for one in bases))
    changed = set().union(*(patterns(one.changed) for one in bases))
    assert every - changed == fixed_in(kind, every)


def test_a_change_of_any_field_but_a_stage_s_name_changes_the_hash(varied):
    for one in varied[1]:
        plain = hash_of(one.config)
        hashes = {key: hash_of(other) for key, other in one.changed.items()}
        names = [key for key in hashes if re.search(r"stages\.\d+\.name$", key)]
        assert all(hashes.pop(key) == plain for key in names)
        assert bool(names) == ("stages" in str(one.written))
        assert len({plain, *hashes.values()}) == 1 + len(hashes)


def test_what_equals_its_default_is_not_hashed(varied):
    """Whether it was given or not."""
    kind, bases = varied
    for one in bases:
        short = kind.model_validate(one.config.model_dump(exclude_defaults=True))
        assert len(leaves(short.model_dump(exclude_unset=True))) < len(one.written)
        assert hash_of(short) == hash_of(one.config)


class Before(Config):
    a: int = 1
    grid: GridConfig = GridConfig()
    grids: list[GridConfig] = [GridConfig()]  # noqa: RUF012


class Wider(GridConfig):
    later: int = 3


class After(Config):
    a: int = 1
    grid: Wider = Wider()
    grids: list[Wider] = [Wider()]  # noqa: RUF012
    b: str = "x"
    inner: Wider = Wider(later=5)


def test_a_new_field_changes_no_hash_before_it_is_used():
    for given in ({}, {"a": 2}, {"grid": {"rows": 2}}, {"grids": [{}, {"cols": 5}]}):
        old, new = Before.model_validate(given), After.model_validate(given)
        assert hash_of(old, [old]) == hash_of(new, [new])
    used = [
        {"b": "y"},
        {"grid": {"later": 4}},
        {"grids": [{"later": 4}]},
        {"inner": {}},
        {"inner": {"later": 4}},
    ]
    hashes = {hash_of(After.model_validate(given)) for given in [{}, *used]}
    assert len(hashes) == 1 + len(used)


def test_hashes_tell_the_order_of_parts_and_strings_from_numbers():
    parts = [("a", "b"), ("b", "a"), ("ab",), (["a", "b"],), ("1",), (1,), (None,), ("a", None)]
    assert len({hash_of(*given) for given in parts}) == len(parts)
    assert (
        hash_of("tiles", GridConfig(rows=2), 3) == "aa5f8653e369695d"
    )  # the same on every machine


# ---- written and read back -------------------------------------------------------------------


def all_changed(one: Varied) -> Config:
    """The configuration with as many fields changed at once as possible."""
    kind, changed = type(one.config), one.config
    for key, other in one.changed.items():
        value = leaves(other.model_dump()).get(key)
        try:
            changed = kind.model_validate(merge(changed.model_dump(), {key: value}, "x"))
        except ValueError:
            continue
    return changed


def written(folder: Path, config: Config) -> Path:
    """Write a configuration into a run; returns the file."""
    runs.write_config(folder, config)
    return folder / "config.yaml"


def given_back(kind: type[Config], path: Path) -> Config:
    """The configuration that the command of this class reads from the file."""
    if kind in (EvalConfig, SuiteEvalConfig):
        return eval_config(str(path), {})
    if issubclass(kind, LanguageConfig):
        return language_config(str(path), {})
    if kind is DemoConfig:
        moved = demo_config(str(path), {}, path.parent)
        parts = {"mm.lm": "lm", "mm.encoder": "encoder", "probe.model": "mm"}
        there = {key: str(path.parent / name) for key, name in parts.items()}
        assert moved == validate(kind, merge(load(kind, path, {}).model_dump(), there, "x"), "x")
    return load(kind, path, {})


def test_what_is_written_is_complete_and_is_read_back(varied, tmp_path):
    kind, bases = varied
    differ = set()
    for number, one in enumerate(bases):
        changed = all_changed(one)
        after = leaves(changed.model_dump())
        differ |= patterns(key for key, value in one.written.items() if after.get(key) != value)
        for name, config in (("as it is", one.config), ("changed", changed)):
            path = written(tmp_path / f"{name} {number}", config)
            assert leaves(yaml.safe_load(path.read_text())) == leaves(config.model_dump())
            assert given_back(kind, path) == config
    every = set().union(*(patterns(one.written) for one in bases))
    same = every - differ - fixed_in(kind, every)
    assert len(same) < len(every) / 4


CONFIGS = sorted(packaged.CONFIGS.root.rglob("*.yaml"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_file_in_configs_is_read_back(file, tmp_path):
    kinds = {"lm": LMConfig, "mm": MMConfig, "encoder": EncoderConfig, "eval": EvalConfig}
    kinds |= {"probe": ProbeConfig, "ablate": LadderConfig, "data": ExportConfig}
    kind = kinds[file.parent.name]
    config = load(kind, file, {})
    assert given_back(kind, written(tmp_path, config)) == config


@pytest.mark.parametrize("suite", suite_names())
def test_a_suite_s_configuration_is_read_back(suite, tmp_path):
    overrides = {"tiles.per_class": 150, "modalities": ["image"], "parts": ["x"], "examples": 3}
    config = eval_config(suite, overrides)
    assert isinstance(config, SuiteEvalConfig)
    assert given_back(SuiteEvalConfig, written(tmp_path, config)) == config


@pytest.mark.parametrize("preset", presets())
def test_a_demo_s_configuration_is_a_preset(preset, tmp_path):
    overrides = {"tiles.size": 70, "eval.seed": 7, "lm.data.stages.0.steps": 3}
    config = demo_config(preset, overrides, tmp_path)
    path = written(tmp_path, config)
    assert demo_config(str(path), {}, tmp_path) == config
    elsewhere = demo_config(str(path), {"mm.train.seed": 5}, tmp_path / "other").model_dump()
    moved = {
        "mm.lm": str(tmp_path / "other" / "lm"),
        "mm.encoder": str(tmp_path / "other" / "encoder"),
        "probe.model": str(tmp_path / "other" / "mm"),
        "mm.train.seed": 5,
    }
    assert elsewhere == merge(config.model_dump(), moved, "x")


@pytest.mark.parametrize(
    "text", ["1e3", "1.5e3", ".5", "3e-4", "12", "off", "null", "", "a: b", "é"]
)
def test_a_string_comes_back_as_a_string(text, tmp_path):
    """Also if YAML 1.2 would read it as a number."""
    config = LadderConfig(model=text)
    assert given_back(LadderConfig, written(tmp_path, config)) == config
