"""An option for text takes its text as it is; an option for anything else is YAML 1.2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from gpt2v.config.base import Config
from gpt2v.config.data import CorpusConfig
from gpt2v.config.measuring import EvalConfig, LadderConfig, ProbeConfig, SuiteEvalConfig
from gpt2v.config.option_values import choice_of, values_of
from gpt2v.config.training import EncoderConfig, GenerateConfig, LMConfig, MMConfig
from gpt2v.demo.config import DemoConfig
from gpt2v.errors import UserError
from gpt2v.registry import EXECUTORS, METRICS

STAGE = "data.stages.0.mix.0"
NAMES = [
    "photos #2", "a: b", "[v1]", "{a}", "*x", "&x", "!x", "%x", "@x", "'q'", '"q"', "123", "010",
    "true", "1e3", " a ", "~", "a\tb", "- a", "? a", "|", "2024-02-30", "é 😀", "9" * 5000,
]  # fmt: skip


def value(kind, key, text):
    return values_of(kind, {key: text})[key]


@pytest.mark.parametrize("text", NAMES)
@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (EvalConfig, "tiles.path"),
        (LMConfig, "init"),
        (LMConfig, "tokenizer.source"),
        (LMConfig, f"{STAGE}.corpus"),
        (LMConfig, f"{STAGE}.valid"),
        (LMConfig, "data.stages.0.name"),
        (LMConfig, "train.groups.0.pattern"),
        (LMConfig, "train.stage_groups.tune.0.name"),
        (LMConfig, "train.schedule"),
        (LMConfig, "train.wandb"),
        (MMConfig, "lm"),
        (MMConfig, "projector.name"),
        (MMConfig, "features.path"),
        (DemoConfig, "mm.features.mode"),
        (LadderConfig, "model"),
        (SuiteEvalConfig, "parts.0"),
        (EvalConfig, "modalities.1"),
    ],
)
def test_text_is_taken_as_it_is(kind, key, text):
    assert value(kind, key, text) == text


@given(st.text(min_size=1).filter(lambda text: text != "null"))
def test_any_path_is_taken_as_it_is(text):
    assert value(ProbeConfig, "tiles.path", text) == text


@pytest.mark.parametrize(
    ("kind", "key", "text", "expected"),
    [
        (EvalConfig, "tiles.path", "null", None),
        (EvalConfig, "tiles.path", "Null", "Null"),
        (EvalConfig, "tiles.path", "", ""),
        (LadderConfig, "model", "null", "null"),  # it cannot be none
        (MMConfig, "encoder_family", "null", None),
        (MMConfig, "encoder_family", "123", "123"),
        (MMConfig, "projector", "mlp", "mlp"),
        (MMConfig, "projector", "12", "12"),
        (MMConfig, "projector", "{name: mlp, hidden_size: 64}", {"name": "mlp", "hidden_size": 64}),
        (MMConfig, "projector.hidden_size", "64", 64),
        (MMConfig, "projector.hidden_size", "null", None),
        (EvalConfig, "metrics.0", "{name: a}", {"name": "a"}),
        (EvalConfig, "modalities", "[text]", ["text"]),
        (EvalConfig, "grid.rows", "[1, 2]", [1, 2]),
        (EvalConfig, "grid.instructions.count", "2", 2),
        (EvalConfig, "grid.augment.index_bases.0", "1", 1),
        (EvalConfig, "seed", "010", 10),
        (EvalConfig, "seed", "-1", -1),
        (EvalConfig, "seed", "1_000", "1_000"),
        (EvalConfig, "seed", "٣", "٣"),
        (EvalConfig, "seed", "", ""),
        (LMConfig, "train.groups.0.lr", "1e-3", 1e-3),
        (LMConfig, "train.clip", "null", None),
        (LMConfig, "train.compile", "yes", "yes"),
        (LMConfig, "train.compile", "true", True),
        (GenerateConfig, "bos", "null", None),
        (EncoderConfig, "scenes.layouts.0.scale", "[0.5, 1]", [0.5, 1]),
        (EvalConfig, "no.such.key", "[1]", [1]),
    ],
)
def test_the_type_of_the_field_decides(kind, key, text, expected):
    found = value(kind, key, text)
    assert (found, type(found)) == (expected, type(expected))


class Inner(BaseModel):
    word: str | int | None = None


class Mixed(Config):
    size: str | float = "auto"
    paths: str | list[str] = ""
    flag: bool | str = False
    named: dict[str, Inner] = {}  # noqa: RUF012


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("size", "auto", "auto"),
        ("size", "12", 12),
        ("size", "1.5 #", "1.5 #"),
        ("size", "true", "true"),
        ("paths", "[a, b]", ["a", "b"]),
        ("paths", "{a}", "{a}"),
        ("paths.1", "[a]", "[a]"),
        ("flag", "true", True),
        ("flag", "yes", "yes"),
        ("named.x.word", "0x10", 16),
        ("named.x.word", "1.5", "1.5"),
        ("named.x.word", "null", None),
    ],
)
def test_unions_with_text(key, text, expected):
    found = value(Mixed, key, text)
    assert (found, type(found)) == (expected, type(expected))


def test_text_that_must_be_yaml_and_is_not():
    with pytest.raises(UserError, match=r"^--grid.rows: line 1: not valid YAML"):
        value(EvalConfig, "grid.rows", "[1")
    with pytest.raises(UserError, match=r"^--metrics.0: line 1: not valid YAML"):
        value(EvalConfig, "metrics.0", "{name: a")


def test_options_that_name_something_registered():
    assert choice_of(EXECUTORS, "123", "--executor") == "123"
    assert choice_of(METRICS, "{name: a, b: 1}", "--x") == {"name": "a", "b": 1}


def test_a_value_given_as_an_option_is_the_one_that_is_used():
    key = "corpus"
    assert CorpusConfig(**values_of(CorpusConfig, {key: "a #1"})).corpus == "a #1"
