"""The grid of a command has the keys that it can use; others are refused with a hint."""

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
    SuiteConfig,
)
from gpt2v.config.probing import ProbeConfig
from gpt2v.config.training import LMConfig, MMConfig
from gpt2v.demo.config import demo_config
from gpt2v.errors import UserError

CONTENT = ["rows", "cols", "palette"]
QUESTIONS = ["instructions", "questions", "augment"]
VIEW = ["picture", "form", "patches", "noise"]
TRAIN = {"groups": [{"name": "a", "pattern": ""}]}
STAGES = {"data": {"stages": [{"steps": 1, "mix": [{}]}]}, "train": TRAIN}
PARTS = {"description": "x", "parts": [{"name": "a", "n_images": 9}]}

A_PROBE, ONE_MODE = (
    "a probe reads every cell, and looks each up",
    r"each question is asked by itself \(independent\)",
)
ITS_MODE = "the evaluation has a mode of its own"
TRAINS = "it is for training only"
# Command: class, rest of the configuration, key of the grid, keys of the grid, refused keys: hint.
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
        {
            "mode": ITS_MODE,
            "modality": "set modalities instead",
            "n_images": TRAINS,
            "weight": TRAINS,
        },
    ),
    "a suite": (
        SuiteConfig,
        PARTS,
        "parts.0.grid",
        [*CONTENT, *QUESTIONS, *VIEW],
        {
            "mode": ITS_MODE,
            "modality": "set modalities instead",
            "n_images": TRAINS,
            "weight": TRAINS,
        },
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
        [*CONTENT, "augment", "form", "patches", "noise", "picture"],
        {
            **dict.fromkeys(["instructions", "questions"], A_PROBE),
            "mode": ONE_MODE,
            "modality": "decoders read pictures, and the model is asked about both",
            "n_images": TRAINS,
            "weight": TRAINS,
        },
    ),
}
VALUES = {"instructions": {"count": 1.0}, "augment": {"order": "raster"}, "picture": {"gap": 0},
          "mode": "chained", "modality": "text", "form": "csv", "noise": 0.0,
          "questions": 2}  # fmt: skip
EVERY = COMMANDS["lm train"][3]


def refused(kind: type[Config], content: dict, key: str) -> str:
    with pytest.raises(UserError) as caught:
        validate(kind, merge(content, {key: VALUES.get(key.split(".")[-1], 2)}, "f"), "f")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_key_is_taken_or_refused_with_what_to_do_instead(command):
    kind, rest, grid, keys, hints = COMMANDS[command]
    assert set(keys) | set(hints) == set(EVERY)
    for key in keys:
        validate(kind, merge(rest, {f"{grid}.{key}": VALUES.get(key, 2)}, "f"), "f")
    for key, hint in hints.items():
        line = refused(kind, rest, f"{grid}.{key}")
        start = rf"f: {re.escape(grid)}\.{key}: has no meaning here: {hint}; the keys here are "
        match = re.fullmatch(start + "(.*)", line)
        assert match, line
        assert set(match[1].split(", ")) == set(keys)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_key_of_no_grid_is_unknown(command):
    kind, rest, grid, keys, _ = COMMANDS[command]
    for key in ("modalities", "row", "n_positions"):
        line = refused(kind, rest, f"{grid}.{key}")
        match = re.fullmatch(
            rf"f: {re.escape(grid)}\.{key}: unknown key; the keys here are (.*)", line
        )
        assert match, line
        assert set(match[1].split(", ")) == set(keys)


def test_every_class_of_grids_with_hints_belongs_to_a_command():
    classes = [c for c in vars(grids).values() if isinstance(c, type) and issubclass(c, Config)]
    with_hints = {kind for kind in classes if kind.elsewhere}
    used = set()
    for kind, rest, grid, _, hints in COMMANDS.values():
        node = kind.model_validate(merge(rest, {f"{grid}.rows": 2}, "f"))
        for part in grid.split("."):
            node = node[int(part)] if part.isdigit() else getattr(node, part)
        assert set(type(node).elsewhere) == set(hints)
        used |= {type(node)} if hints else set()
    assert used == with_hints


def test_the_demo_refuses_what_its_parts_refuse(tmp_path):
    for key, hint in (("eval.grid.mode", ITS_MODE), ("probe.grid.questions", A_PROBE)):
        with pytest.raises(UserError, match=rf"{key}: has no meaning here: {hint}; the keys here"):
            demo_config("smoke", {key: VALUES[key.split(".")[-1]]}, tmp_path)
