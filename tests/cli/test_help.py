"""The help of a command tells exactly the fields that the command accepts."""

import argparse
import re
from itertools import pairwise

import pytest

from gpt2v.cli.main import _parser, main
from gpt2v.cli.overrides import Parser
from gpt2v.config.describe import Field, blocks_of
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.load import merge, validate
from gpt2v.config.measuring import (
    EvalConfig,
    ExportConfig,
    LadderConfig,
    PreviewConfig,
    SuiteEvalConfig,
    SuiteExportConfig,
    SuiteTilesConfig,
)
from gpt2v.config.option_values import values_of
from gpt2v.config.probing import ProbeConfig
from gpt2v.config.training import GenerateConfig, LMConfig, MMConfig
from gpt2v.demo.config import DemoConfig, demo_config
from gpt2v.errors import UserError
from gpt2v.registry import DECODERS
from helpers import TINY_ENCODER, TINY_LM, TINY_MM, configs_in, refusal

GROUPS = [{"name": "a", "pattern": ""}]
OWN_GROUPS = {"train.groups": [], "train.stage_groups": {"NAME": GROUPS}}
TEXT = [{"corpus": "x.txt"}, {"rows": 2}]
MM = {**TINY_MM, "lm": "x"}
SUITE = {"suite": "grid-3x3-v1"}


def with_stages(content, prefix=""):
    """A configuration, the same with text, and the same with parameter groups of a stage."""
    yield content
    yield merge(content, {f"{prefix}data.stages.0.mix": TEXT}, "x")
    named = {f"{prefix}data.stages.0.name": "NAME"}
    yield merge(content, named | {prefix + key: v for key, v in OWN_GROUPS.items()}, "x")


CONV = {"name": "conv"}
DECODER_LISTS = [["ridge"], *([name, "ridge"] for name in DECODERS if name != "ridge")]


def bases(kind, tmp_path):
    """Configurations that together have all parts of the class."""
    if kind is DemoConfig:
        content = demo_config("smoke", {}, tmp_path).model_dump()
        conv = merge(content, {"encoder.vision": CONV, "mm.vision": CONV}, "x")
        decoders = (merge(content, {"probe.decoders": own}, "x") for own in DECODER_LISTS)
        return [
            conv,
            *decoders,
            *(one for name in ("lm.", "mm.") for one in with_stages(content, name)),
        ]
    return {
        LMConfig: [*with_stages(TINY_LM)],
        MMConfig: [{**MM, "vision": CONV}, *with_stages(MM)],
        EncoderConfig: [{**TINY_ENCODER, "vision": CONV}, TINY_ENCODER],
        ProbeConfig: [{"model": "x", "decoders": own} for own in DECODER_LISTS],
        LadderConfig: [{"model": "x"}],
        SuiteEvalConfig: [SUITE],
        SuiteExportConfig: [SUITE],
        SuiteTilesConfig: [SUITE],
    }.get(kind, [{}])


def parsers(parser: Parser, words: tuple[str, ...] = ()):
    """Every command with fields, after its words."""
    if parser.kinds:
        yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from parsers(below, (*words, name))


COMMANDS = {" ".join(words): parser for words, parser in parsers(_parser())}


def a_value(field: Field) -> str:
    """A value of a field, as one would type it."""
    if field.default == "required":
        return field.words[0] if field.words else "1"
    typed = field.default.removeprefix("default: ")
    return "null" if typed == "none" else typed


def test_every_command_with_a_configuration_is_tested():
    kinds = {kind for parser in COMMANDS.values() for kind in parser.kinds.values()}
    assert kinds == {
        DemoConfig, EvalConfig, SuiteEvalConfig, ExportConfig, SuiteExportConfig, PreviewConfig,
        SuiteTilesConfig, LMConfig, MMConfig, EncoderConfig, GenerateConfig, ProbeConfig,
        LadderConfig,
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_in_the_help_is_accepted(command, tmp_path):
    """With its default, or if it is required with any value."""
    parser = COMMANDS[command]
    fields = {field.key: field for block in parser.blocks() for field in block.fields}
    for kind in parser.kinds.values():
        of_kind = {field.key for block in blocks_of(kind, parser.skip) for field in block.fields}
        every = bases(kind, tmp_path)
        assert of_kind <= fields.keys()
        for key in of_kind:
            text = a_value(fields[key])
            (option, value), *_ = values_of([*parser.kinds.values()], [(key, text)]).items()
            faults = []
            for base in every:
                try:
                    validate(kind, merge(base, {option: value}, "x"), "x", kind.filled_later)
                    break
                except UserError as error:
                    faults.append(str(error))
            assert len(faults) < len(every), (key, text, faults)


def leaves(value, key=""):
    """Dotted keys of all values, with 0 for numbers of lists."""
    below = {}
    if isinstance(value, dict):
        below = value
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        return {leaf for inner in value for leaf in leaves({"0": inner}, key)}
    if not below:
        return {key}
    prefix = f"{key}." if key else ""
    return {leaf for name, inner in below.items() for leaf in leaves(inner, f"{prefix}{name}")}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_accepted_option_is_in_the_help(command, tmp_path, monkeypatch, capsys):
    parser = COMMANDS[command]
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    text = capsys.readouterr().out
    told = set(re.findall(r"^  --([\w.-]+)", text, re.M))
    assert all(len(line) <= 78 for line in text.splitlines())
    for kind in parser.kinds.values():
        skipped = {*parser.skip, *only_defaults(kind)}
        keys = [validate(kind, base, "x").model_dump() for base in bases(kind, tmp_path)]
        for key in {leaf for one in keys for leaf in leaves(one)}:
            above = {key, *(key[: dot.start()] for dot in re.finditer(r"\.", key))}
            assert above & (told | skipped) or leaves_no_value(key), f"{command}: {key}"
            assert len(parser.kinds) > 1 or not (above & skipped and key in told), key


def only_defaults(kind, prefix=""):
    """Keys of all parts of a class that can have only one value."""
    keys = {prefix + key.replace("*", "0") for key in kind.only_default}
    for name, field in kind.model_fields.items():
        for inner in configs_in(field.annotation):
            keys |= only_defaults(inner, f"{prefix}{name}.")
    return keys


def leaves_no_value(key) -> bool:
    """Whether a key is of an empty list or mapping of parts, whose fields have options instead."""
    return key.endswith(("train.groups", "train.stage_groups"))


# ---- what the help says ------------------------------------------------------------------------


def help_of(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([*words])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_each_part_has_a_block_with_a_heading(capsys):
    text = help_of(capsys, "mm", "train", "--help")
    headings = ["general", "tiles", "tiles.augment", "vision", "projector", "features", "data"]
    headings += ["data.stages.0", "data.stages.0.mix.0", "train", "train.groups.0"]
    places = [re.search(rf"^{re.escape(name)}(: |$)", text, re.M).start() for name in headings]
    assert all(a < b for a, b in pairwise(places))
    assert "data.stages.0.mix.0: Plain text: " in text


def test_a_field_has_its_values_and_its_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    text = help_of(capsys, "eval", "--help")
    for line in (
        r"--tiles.size +side .* \(whole number from 4 to 512; default: 32\)",
        r"--modalities +how .* \(some of text, image, text\+image; default: text,image\)",
        r"--grid.form +text form .* \(one of coordinates, csv, .*; default: markdown\)",
        r"--grid.rows +.* \(whole number from 1 to 16 or some whole numbers from 1 to 16, with",
        r"--tiles.augment.flip +.* \(true or false; default: false\)",
        r"--grid.noise +.* \(number from 0 below 1; default: 0\)",
        r"--tiles.path +.* \(text; default: none\)",
    ):
        assert re.search(f"^  {line}", re.sub(r"\n {10,}", " ", text), re.M), line


def test_eval_says_which_fields_are_for_suites(capsys):
    text = help_of(capsys, "eval", "--help")
    *_, grid = re.findall(r"^grid: [^-]*", text, re.M)
    assert "Only for own grids." in " ".join(grid.split())
    (own, suite) = re.findall(r"^general: Only (.*)\.\n((?:  .*\n)+)", text, re.M)
    assert own[0] == "for own grids"
    assert set(re.findall("^  --([^ ]+)", own[1], re.M)) == {"split", "seed", "n_images"}
    assert suite[0] == "with --suite NAME"
    assert re.findall("^  --([^ ]+)", suite[1], re.M) == ["parts", "limit"]
    (general,) = re.findall(r"^general\n((?:  .*\n)+)", text, re.M)
    assert "--modalities" in general


@pytest.mark.parametrize("prefix", ["grid.picture", "--grid.picture"])
def test_the_help_of_some_fields(capsys, prefix):
    words = ["eval", "runs/x", "--help"]
    if prefix.startswith("--"):
        words = [*words[:-1], f"--help={prefix}"]
    text = help_of(capsys, *words, *([] if "=" in words[-1] else [prefix]))
    assert text.startswith("grid.picture: How a grid is drawn.")
    assert set(re.findall(r"^  --([\w.]+)\.\w+", text, re.M)) == {"grid.picture"}


def test_the_help_of_fields_that_do_not_exist(capsys):
    said = refusal(capsys, "eval", "--help", "gird")
    assert said.startswith("gpt2v: --help: no field begins with 'gird', but ")
    assert "modalities" in said


def test_help_of_a_group_of_commands(capsys):
    assert "tokens" in help_of(capsys, "ablate", "--help")
