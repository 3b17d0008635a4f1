"""An option for text takes its text as it is; an option for anything else is YAML 1.2."""

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel

from gpt2v.config.base import Config
from gpt2v.config.data import CorpusConfig
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.measuring import EvalConfig, LadderConfig, SuiteEvalConfig
from gpt2v.config.option_values import choice_of, values_of
from gpt2v.config.probing import ProbeConfig
from gpt2v.config.training import GenerateConfig, LMConfig, MMConfig
from gpt2v.config.yaml12 import read_yaml
from gpt2v.demo.config import DemoConfig
from gpt2v.errors import UserError
from gpt2v.registry import EXECUTORS, METRICS

STAGE = "data.stages.0.mix.0"
NAMES = [
    "photos #2", "a: b", "[v1]", "{a}", "*x", "&x", "!x", "%x", "@x", "'q'", '"q"', "123", "010",
    "true", "1e3", " a ", "~", "a\tb", "- a", "? a", "|", "2024-02-30", "é 😀", "9" * 5000,
]  # fmt: skip


def value(kind, key, text):
    (found,) = values_of([kind], [(key, text)]).values()
    return found


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
    assert CorpusConfig(**values_of([CorpusConfig], [(key, "a #1")])).corpus == "a #1"


# ---- lists with commas -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key", "text", "expected"),
    [
        (EvalConfig, "modalities", "image", ["image"]),
        (EvalConfig, "modalities", "text, image", ["text", "image"]),
        (EvalConfig, "modalities", "- text\n- image", ["text", "image"]),
        (EvalConfig, "metrics", "accuracy,log-loss", ["accuracy", "log-loss"]),
        (EvalConfig, "grid.instructions", "count", {"count": 1.0}),
        (EvalConfig, "grid.instructions", "count,exists", {"count": 1.0, "exists": 1.0}),
        (EvalConfig, "grid.instructions", "count: 2", {"count": 2}),
        (EvalConfig, "grid.instructions", "{count: 2, exists: 1}", {"count": 2, "exists": 1}),
        (EvalConfig, "grid.rows", "1,8", [1, 8]),
        (EvalConfig, "grid.rows", "3", 3),
        (EvalConfig, "grid.rows", "x", "x"),
        (EvalConfig, "grid.augment.index_bases", "0,1", [0, 1]),
        (EvalConfig, "grid.augment.delimiters", "|,;,&", ["|", ";", "&"]),
        (EvalConfig, "grid.augment.delimiters", ",", [","]),
        (EvalConfig, "grid.picture.scale", "0.5,1", [0.5, 1]),
        (EvalConfig, "modalities", "text,", ["text,"]),
        (LadderConfig, "rungs", "R0,R1", ["R0", "R1"]),
        (LadderConfig, "rungs", "R0,{name: R1}", ["R0", {"name": "R1"}]),
        (SuiteEvalConfig, "parts", "10,*x,a b", ["10", "*x", "a b"]),
        (SuiteEvalConfig, "parts", "null", None),
        (LMConfig, "train.groups", "a,b", "a,b"),  # a list of mappings is none of words
        (LMConfig, f"{STAGE}.corpus", "a,b", "a,b"),
        (Mixed, "paths", "a,b", "a,b"),
    ],
)
def test_lists_with_commas(kind, key, text, expected):
    assert value(kind, key, text) == expected


@given(
    st.lists(
        st.from_regex(r"[!-+\-./0-9:;<=>?@A-Z^_`a-z|~][ -+\-./0-9:-z|~]{0,7}", fullmatch=True),
        min_size=1,
        max_size=4,
    )
)
def test_words_with_commas_are_the_list_of_these_words(words):
    text = ",".join(words)
    assume(text[0] not in "[{" and text not in ("null", "~"))
    try:
        plain = read_yaml(text, "x")
    except UserError:
        plain = text
    expected = plain if isinstance(plain, list) else [word.strip() for word in words]
    assume(plain is not None)  # e.g. a comment
    assert value(SuiteEvalConfig, "parts", text) == expected


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-99, 99), st.text("ab,: ", max_size=5)),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("ab", min_size=1, max_size=3), inner, max_size=3)
        ),
        max_leaves=5,
    ).filter(lambda tree: isinstance(tree, list | dict)),
    st.booleans(),
)
@pytest.mark.parametrize("key", ["modalities", "grid.instructions", "grid.rows", "metrics"])
def test_a_list_or_a_mapping_in_yaml_means_the_same_as_ever(key, tree, flow):
    text = yaml.safe_dump(tree, default_flow_style=flow, width=1000).strip()
    assume(flow or isinstance(tree, list) or key == "grid.instructions")  # else it takes no mapping
    assert value(EvalConfig, key, text) == read_yaml(text, "x")


@given(st.text(min_size=1).filter(lambda text: text != "null"))
def test_a_text_with_commas_is_no_list(text):
    assert value(EvalConfig, "tiles.path", f"{text},{text}") == f"{text},{text}"


def test_a_list_of_words_may_be_given_in_several_options():
    given = [("modalities", "text"), ("modalities", "[image]")]
    assert values_of([EvalConfig], given) == {"modalities": ["text", "image"]}
    for key, texts in {
        "grid.rows": ("1", "2"),
        "n-images": ("1", "2"),
        "grid.instructions": ("count", "exists"),
    }.items():
        with pytest.raises(UserError, match=f"^--{key}: given twice"):
            values_of([EvalConfig], [(key, text) for text in texts])
    with pytest.raises(UserError, match=r"^--n_images: given twice"):
        values_of([EvalConfig], [("n-images", "1"), ("n_images", "2")])
    with pytest.raises(UserError, match=r"^--grid.instructions: must name each once"):
        value(EvalConfig, "grid.instructions", "count,count")


# ---- names of options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "typed", "key"),
    [
        (EvalConfig, "n-images", "n_images"),
        (EvalConfig, "grid.augment.index-bases", "grid.augment.index_bases"),
        (EvalConfig, "tiles.per-class", "tiles.per_class"),
        (MMConfig, "projector.hidden-size", "projector.hidden_size"),
        (LMConfig, "train.stage-groups.fine-tune.0.weight-decay",
         "train.stage_groups.fine-tune.0.weight_decay"),
        (LMConfig, "train.stage-groups.fine_tune.0.lr", "train.stage_groups.fine_tune.0.lr"),
        (LMConfig, "data.stages.0.mix.0.n-images", "data.stages.0.mix.0.n_images"),
        (EvalConfig, "no-such.key-here", "no-such.key-here"),
        (EvalConfig, "grid.no-such", "grid.no-such"),
    ],
)  # fmt: skip
def test_dashes_are_underscores_in_names_of_fields_only(kind, typed, key):
    (option,) = values_of([kind], [(typed, "1")])
    assert option == key
    assert option.typed == f"--{typed}"


def test_an_option_of_any_of_the_classes_has_its_type():
    given = [("parts", "a,b"), ("grid.rows", "1,2")]
    expected = {"parts": ["a", "b"], "grid.rows": [1, 2]}
    assert values_of([EvalConfig, SuiteEvalConfig], given) == expected
