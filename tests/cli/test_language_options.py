"""The options of `gpt2v eval` that measure language without grids."""

import re

import pytest

from gpt2v.cli.language import OPTIONS, language_config
from gpt2v.cli.main import main
from gpt2v.config.base import Config
from gpt2v.config.option_values import values_of
from gpt2v.errors import UserError
from helpers import refusal


def help_of(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["eval", "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("option", OPTIONS)
def test_the_help_lists_the_fields_of_each_measurement(option, capsys):
    text = help_of(capsys)
    (block,) = re.findall(rf"^{option}: .*\n((?:  .*\n?)+)", text, re.M)
    listed = set(re.findall(r"^  --(\S+)", block, re.M))
    assert listed == set(OPTIONS[option].model_fields)


GIVEN = {
    "--corpus": {"corpus": "x.txt", "clean": "false", "limit": "7", "stride": "3"},
    "--pairs": {"pairs": "story,agreement-simple", "n-pairs": "10", "seed": "4"},
    "--lm-eval": {"lm-eval": "a,b", "num-fewshot": "2", "include-path": "tasks"},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_are_values_of_the_configuration(option):
    texts = list(GIVEN[option].items())
    kinds: list[type[Config]] = [*OPTIONS.values()]
    config = language_config(None, values_of(kinds, texts))
    assert type(config) is OPTIONS[option]
    given = {key.replace("-", "_"): value for key, value in texts}
    assert config.model_dump(exclude_unset=True).keys() == given.keys()
    for key, text in given.items():
        value = getattr(config, key)
        shown = ",".join(value) if isinstance(value, list) else str(value).lower()
        assert shown == text


def test_without_them_grids_are_measured():
    assert language_config(None, {}) is None
    assert language_config("grid-3x3-v2", {"limit": 5}) is None
    assert language_config("gpt2v:eval/grid-3x3", {}) is None


def test_a_file_of_grids_and_an_option_of_language_are_refused():
    with pytest.raises(UserError, match="--pairs: has no grids, but --suite gpt2v:eval/grid-3x3"):
        language_config("gpt2v:eval/grid-3x3", {"pairs": ["all"]})


@pytest.mark.parametrize(("option", "of"), [("--stride", "corpus"), ("--n-pairs", "pairs")])
def test_an_option_of_another_measurement_says_whose_it_is(option, of, tmp_path, capsys):
    line = refusal(capsys, "eval", tmp_path, option, "4")
    assert line.startswith(f"gpt2v: {option}: has no meaning here: only {of} has it; ")
