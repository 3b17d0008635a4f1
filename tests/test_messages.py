"""A message is one line of a few hundred characters, whatever is quoted in it."""

from hypothesis import given
from hypothesis import strategies as st

from gpt2v.messages import LONGEST, one_line, say, shown


@given(st.text(max_size=80))
def test_no_line_breaks_and_nothing_that_a_terminal_obeys(text):
    line = one_line(text)
    assert line.splitlines() in ([], [line])
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)
    line.encode()  # also halves of characters


def test_what_can_be_shown_stays_as_it_is():
    assert one_line("é 😀 👨‍👩‍👧 中") == "é 😀 👨‍👩‍👧 中"
    assert one_line("a\nb\x1b[31m\u2028\udcff") == "a\\nb\\x1b[31m\\u2028\\udcff"


def test_what_looks_like_a_space_or_like_nothing_is_shown():
    """In text that was copied from a page, or in names of files of macOS."""
    line = one_line("\xa0lr Shot\u202fPM\u3000a\u200bb\ufeff\xad")
    assert line == "\\xa0lr Shot\\u202fPM\\u3000a\\u200bb\\ufeff\\xad"
    assert (
        one_line("\u0645\u06cc\u200c\u062e\u0648 क्\u200dष")
        == "\u0645\u06cc\u200c\u062e\u0648 क्\u200dष"
    )


def test_a_long_line_loses_its_middle(capsys):
    say("begin " + "x" * 10**6 + " end")
    line = capsys.readouterr().err
    assert len(line) < LONGEST + 20
    assert line.startswith("gpt2v: begin xxx")
    assert line.endswith("xxx end\n")


def test_values_are_shortened_in_the_middle():
    assert shown("a" * 10**6 + "z").endswith("z'")
    nested = [[[["x" * 1000] * 1000] * 1000] * 1000]  # a thousand millions
    for value in ("a" * 10**6, nested, {str(i): nested for i in range(100)}, 10**3000):
        assert len(shown(value)) <= 100
    assert shown({"a": [1, 2.5, None, "b"]}) == "{'a': [1, 2.5, None, 'b']}"
