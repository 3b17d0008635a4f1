"""Each command's grid has the keys that it can use; another command's is refused with a hint."""

import re

import pytest

from gpt2v.config import grids
from gpt2v.config.base import Config
from gpt2v.config.load import merge, validate
from gpt2v.config.measuring import (
    EvalConfig,
    ExportConfig,
    LadderConfig,
    PreviewConfig,
    ProbeConfig,
    SuiteConfig,
)
from gpt2v.config.training import LMConfig, MMConfig
from gpt2v.demo.config import demo_config
from gpt2v.errors import UserError

CONTENT = ["rows", "cols", "palette"]
QUESTIONS = ["instructions", "questions", "augment"]
VIEW = ["picture", "form", "patches", "noise"]
TRAIN = {"groups": [{"name": "a", "pattern": ""}]}
STAGES = {"data": {"stages": [{"steps": 1, "mix": [{}]}]}, "train": TRAIN}
PARTS = {"description": "x", "parts": [{"name": "a", "n_images": 9}]}

A_PROBE, ONE_MODE = "a probe sees every cell", r"each question is asked by itself \(independent\)"
TRAINS = "it is for training"
# A command's configuration, the rest of it, where its grid is, its keys, others' keys with hints.
COMMANDS = {
    "lm train": (
        LMConfig,
        STAGES,
        "data.stages.0.mix.0",
        [*CONTENT, *QUESTIONS, *VIEW, "mode", "modality", "n_images", "weight"],
        {},
    ),
    "mm train": (
        MMConfig,
        {**STAGES, "lm": "x"},
        "data.stages.0.mix.0",
        [*CONTENT, *QUESTIONS, *VIEW, "mode", "modality", "n_images", "weight"],
        {},
    ),
    "data preview": (
        PreviewConfig,
        {},
        "grid",
        [*CONTENT, *QUESTIONS, *VIEW, "mode"],
        {"modality": "both views are shown", "n_images": TRAINS, "weight": TRAINS},
    ),
    "data export": (
        ExportConfig,
        {},
        "grid",
        [*CONTENT, *QUESTIONS, *VIEW, "mode"],
        {"modality": "both views are shown", "n_images": TRAINS, "weight": TRAINS},
    ),
    "eval": (
        EvalConfig,
        {},
        "grid",
        [*CONTENT, *QUESTIONS, *VIEW],
        {"mode": ONE_MODE, "modality": "set modalities", "n_images": TRAINS, "weight": TRAINS},
    ),
    "a suite": (
        SuiteConfig,
        PARTS,
        "parts.0.grid",
        [*CONTENT, *QUESTIONS, *VIEW],
        {"mode": ONE_MODE, "modality": "set modalities", "n_images": TRAINS, "weight": TRAINS},
    ),
    "ablate tokens": (
        LadderConfig,
        {"model": "x"},
        "grid",
        [*CONTENT, *QUESTIONS, "picture"],
        {
            "form": "the ladder starts from the table",
            "patches": "the ladder starts from the table",
            "noise": "the ladder starts from the table",
            "mode": ONE_MODE,
            "modality": "each rung has its own",
            "n_images": TRAINS,
            "weight": TRAINS,
        },
    ),
    "probe": (
        ProbeConfig,
        {"model": "x"},
        "grid",
        [*CONTENT, "picture"],
        {
            **dict.fromkeys([*QUESTIONS, "mode", "form", "patches", "noise"], A_PROBE),
            "modality": "a probe sees pictures",
            "n_images": TRAINS,
            "weight": TRAINS,
        },
    ),
}
VALUES = {"instructions": {"count": 1.0}, "augment": {"order": "raster"}, "picture": {"gap": 1},
          "mode": "chained", "modality": "text", "form": "csv", "noise": 0.0}  # fmt: skip
EVERY = COMMANDS["lm train"][3]


def refused(kind: type[Config], content: dict, key: str) -> str:
    with pytest.raises(UserError) as caught:
        validate(kind, merge(content, {key: VALUES.get(key.split(".")[-1], 2)}, "f"), "f")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_key_is_taken_or_refused_with_what_to_do_instead(command):
    kind, rest, place, keys, hints = COMMANDS[command]
    assert set(keys) | set(hints) == set(EVERY)
    for key in keys:
        validate(kind, merge(rest, {f"{place}.{key}": VALUES.get(key, 2)}, "f"), "f")
    for key, hint in hints.items():
        line = refused(kind, rest, f"{place}.{key}")
        start = rf"f: {re.escape(place)}\.{key}: has no meaning here: {hint}; the keys here are "
        found = re.fullmatch(start + "(.*)", line)
        assert found, line
        assert set(found[1].split(", ")) == set(keys)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_key_of_no_grid_is_unknown(command):
    kind, rest, place, keys, _ = COMMANDS[command]
    for key in ("modalities", "row", "n_positions"):
        line = refused(kind, rest, f"{place}.{key}")
        found = re.fullmatch(
            rf"f: {re.escape(place)}\.{key}: unknown key; the keys here are (.*)", line
        )
        assert found, line
        assert set(found[1].split(", ")) == set(keys)


def test_every_class_of_grids_with_hints_is_a_command_s():
    classes = [c for c in vars(grids).values() if isinstance(c, type) and issubclass(c, Config)]
    used = {kind for kind in classes if kind.elsewhere}
    found = set()
    for kind, rest, place, _, hints in COMMANDS.values():
        node = kind.model_validate(merge(rest, {f"{place}.rows": 2}, "f"))
        for part in place.split("."):
            node = node[int(part)] if part.isdigit() else getattr(node, part)
        assert set(type(node).elsewhere) == set(hints)
        found |= {type(node)} if hints else set()
    assert found == used


def test_the_demo_refuses_what_its_parts_refuse(tmp_path):
    for key, hint in (("eval.grid.mode", ONE_MODE), ("probe.grid.form", A_PROBE)):
        with pytest.raises(UserError, match=rf"{key}: has no meaning here: {hint}; the keys here"):
            demo_config("smoke", {key: VALUES[key.split(".")[-1]]}, tmp_path)
