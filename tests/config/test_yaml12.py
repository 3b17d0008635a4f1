"""YAML 1.2 with the core schema: what is written is read back, and a mistake is one short line."""

import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.config.yaml12 import dump_yaml, read_yaml
from gpt2v.errors import UserError

ODD = [
    "010", "0o17", "0x1F", "-0x1F", "1:30", "1:30:00", "yes", "no", "on", "off", "y", "n", "true",
    "True", "null", "Null", "~", "1e3", "1_000", "0b11", "2024-02-30", "2024-01-01", ".inf",
    "-.INF", ".nan", ".5", "+1", "1.", "=", "<<", "!", "&", "*", "#", "-", "?", ":", "{a}", "[b]",
    "%x", "@x", "`", "|", ">", "'", '"', "٣", "²", "é", "😀",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(), st.sampled_from([*ODD, "", " a", "a ", ": ", "a: b", "a #b", "\n", "\t"])
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda v: st.lists(v) | st.dictionaries(TEXTS, v), max_leaves=12)


def exact(value):
    """The value with its types: True is not 1, and 1 is not 1.0."""
    if isinstance(value, dict):
        return {key: exact(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [exact(inner) for inner in value]
    return type(value), value


@given(VALUES)
def test_what_is_dumped_is_read_back(value):
    assert exact(read_yaml(dump_yaml(value), "f")) == exact(value)


@given(VALUES)
def test_a_reader_of_yaml_1_1_reads_the_same(value):
    assert exact(yaml.safe_load(dump_yaml(value))) == exact(value)


@pytest.mark.parametrize("text", ODD)
def test_odd_strings_come_back_as_strings(text):
    value = {text: [text, {"x": text}]}
    assert read_yaml(dump_yaml(value), "f") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-007", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("1:30:00", "1:30:00"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("-0x1F", "-0x1F"),
        ("0o8", "0o8"),
        ("٣", "٣"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("True", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("Null", None),
        ("~", None),
        ("", None),
        ("2024-02-30", "2024-02-30"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("+.5e-1", 0.05),
        ("-.INF", -math.inf),
        ("1e", "1e"),
        (".", "."),
        ("=", "="),
        ("<<", "<<"),
        ("! 12", "12"),
        ("!!str 12", "12"),
        ("!!str", ""),
        ("!!float 3", 3.0),
        ("!!int 010", 10),
        ("'12'", "12"),
        ('"\\ud83d\\ude00"', "😀"),
    ],
)
def test_scalars_of_the_core_schema(text, value):
    assert exact(read_yaml(f"x: {text}\n", "f")["x"]) == exact(value)


def test_anchors_and_merge_keys():
    text = "a: &a {rows: 2, cols: 3}\nb: {<<: *a, rows: 5}\nc: {<<: [*a, {cols: 9, z: 1}]}\nd: *a"
    read = read_yaml(text, "f")
    assert read["b"] == {"rows": 5, "cols": 3}
    assert read["c"] == {"rows": 2, "cols": 3, "z": 1}
    assert read["d"] == read["a"]
    assert read["d"] is not read["a"]  # a change of one is no change of the other
    assert read_yaml('"<<": 1', "f") == {"<<": 1}


def test_a_byte_order_mark_and_line_ends_of_windows():
    assert read_yaml("\ufeffgrid: {rows: 3}\r\nseed: 3\r\n", "f") == {
        "grid": {"rows": 3},
        "seed": 3,
    }


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 10)}], {b}: 1}}\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
TALL = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 300))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("grid: {rows: {{ rows }}}", "line 1: .*a mapping .a template that was not filled in"),
        ("grid:\n  ? [a, b]\n  : 1", "line 2: .*single value, not a list"),
        ("a: &a [1]\nb: {*a : 2}", "line 2: .*single value"),
        ("grid:\n\trows: 3", "line 2: .*tab"),
        ("a: 1\nb: {c: 1, c: 2}", "line 2: .*c is given twice"),
        ("1: a\n0x1: b", "line 2: .*given twice"),
        ("a: {<<: {b: 1}, <<: {c: 1}}", "<< is given twice"),
        ("a: {<<: 3}", "<< needs a mapping"),
        ("a: !!int abc", "'abc' is no !!int"),
        ("a: !!float x", "'x' is no !!float"),
        ("a: !!bool yes", "'yes' is no !!bool"),
        ("a: !!null x", "'x' is no !!null"),
        ("a: !!int [1]", "tag !!int"),
        ("a: !!binary aGk=", "tag !!binary"),
        ("a: !!timestamp 2024-02-30", "tag !!timestamp"),
        ("a: !!set {b, c}", "tag !!set"),
        ("a: !!omap [b: 1]", "tag !!omap"),
        ("a: !!python/object/apply:os.system ['true']", "tag !!python/object/apply:os.system"),
        ("a: !mine 3", "tag !mine"),
        (f"a: !{'m' * 9000} 3", "tag !mmm"),
        ("[" * 5000, "100 deep"),
        ("{a: " * 5000, "100 deep"),
        ("- " * 5000 + "x", "100 deep"),
        (TALL, "100 deep"),
        (LAUGHS, "more than 100,000 values"),
        ("a: &a [*a]", r"\*a is an alias of something that it is a part of"),
        ("a: &a {<<: *a}", r"\*a is an alias of something that it is a part of"),
        ("a: *b", r"\*b is an alias of nothing"),
        ("a: 1\n---\nb: 1", "line 2: .*second document"),
        ("%YAML 1.1\n---\na: yes", "only YAML 1.2"),
        (f"%YAML 1.{'9' * 5000}\n---\na: 1", "number that is out of range"),
        ("a: b\n\x00", r"line 2: .*U\+0000"),
        ("a: \x1b[31m", r"U\+001B"),
        ('a: "\\ud800"', "half a character"),
        ('a: "\\U00110000"', "out of range"),
        ("a: " + "9" * 5000, "5000 characters is too long"),
        ("a: 0x" + "f" * 5000, "too long"),
        ("a: 1e999", "'1e999' is too large"),
        ("a: -1.5E+400", "too large"),
        ("a: " + "[b, " * 2000 + "\x07", "deep|U"),
    ],
)
def test_what_is_no_configuration_is_one_short_line(text, says):
    with pytest.raises(UserError, match=f"^f: .*({says})") as caught:
        read_yaml(text, "f")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_merging_a_mapping_again_adds_nothing():
    assert read_yaml(MERGES, "f")["i"] == {"k": 1, **dict.fromkeys("bcdefghi", 1)}


@given(st.text(alphabet="ab:-[]{}&*!#|>'\"%@`\\,?~<= \n\t019.exu\x00\ud800é", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        value = read_yaml(text, "f")
    except UserError as error:
        said = str(error)
    else:
        said = ""
        assert exact(read_yaml(dump_yaml(value), "f")) == exact(value) or "nan" in str(value)
    assert len(said) < 400
    assert said.isprintable()


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029"])
def test_what_ends_a_line_in_yaml_1_1_only(character):
    """Such characters come along with copied text; behind a # they are part of the comment."""
    assert read_yaml(f"a: 1  # was{character}b: 2\n", "x") == {"a": 1}
    assert read_yaml(f"a: b{character}c\nd: 'e{character}f'\n", "x") == {
        "a": f"b{character}c",
        "d": f"e{character}f",
    }
    assert read_yaml('a: "\\U0010FFFD\\L\\udbff\\udffd' + character + '"', "x") == {
        "a": f"\U0010fffd\u2028\U0010fffd{character}"
    }
    with pytest.raises(UserError, match="x: line 2: not valid YAML: a is given twice"):
        read_yaml(f"a: 1 # {character}\na: 2", "x")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"a": [1, {"b": "c"}]}, indent="\t"),
        "a:\t[1, {b: c}]\t# comment\n\t\n \t# another\n",
        "a:\n-\t1\t\n- b:\tc\n",
    ],
)
def test_tabs_between_values(text):
    assert read_yaml(text, "x") == {"a": [1, {"b": "c"}]}


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "\ta: 1\n", "a:\n  b: 1\n\tc: 2\n"])
def test_tabs_are_no_indentation(text):
    with pytest.raises(UserError, match="a tab; use spaces for the indentation"):
        read_yaml(text, "x")
