"""A capital letter in a shape means the same in the whole project, and its module says what."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

import gpt2v

MEANINGS = {
    "B": "samples of a batch",
    "P": "pictures",
    "N": "patches of a picture",
    "M": "vision tokens",
    "T": "token positions",
    "D": "width of a hidden state",
    "V": "words of the vocabulary",
    "R": "rows of a grid",
    "C": "columns of a grid",
    "Q": "questions about a grid",
    "J": "questions in a flat list",
    "A": "choices of a question",
    "L": "tokens of a choice",
    "K": "text pieces in a row",
    "S": "side of a picture in pixels",
    "Y": "positions that are read (whose next token is predicted)",
    "G": "segments of a packed sequence",
    "H": "attention heads",
    "E": "width of a head",
    "W": "tiles that a question reads",
}
SOURCE = Path(gpt2v.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# (B, T), (J,), (B, N + 1, d_text), (B or 1, 1, T, T): sizes between commas, one a capital letter
WORD = r"(?:[A-Z]|\d+|[A-Za-z_0-9]+(?:\.\.\.)?)"
SIZE = rf"{WORD}(?: (?:or|[-+*/]|\*\*) ?[A-Za-z_0-9]+|\*\*\d|\*[A-Za-z]\w*)*"
SHAPE = re.compile(rf"\(((?:{SIZE}|\.\.\.)(?:, (?:{SIZE}|\.\.\.))*,?)\)")
SUFFIX = re.compile(r"\b[a-z][a-z0-9]*(?:_[a-z0-9]+)*_([A-Z][A-Z0-9]*)\b")


def prose(text):
    """Comments and docstrings."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    parts = [token.string for token in tokens if token.type == tokenize.COMMENT]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            parts.append(ast.get_docstring(node) or "")
    return "\n".join(parts)


def letters_used(text):
    used = set()
    for shape in SHAPE.findall(prose(text)):
        if "," in shape:
            used |= set(re.findall(r"(?<![A-Za-z_])[A-Z](?![A-Za-z_])", shape))
    for suffix in SUFFIX.findall(text):
        used |= set(re.sub(r"\d", "", suffix))
    return used


def legend(text):
    """Letter -> meaning, as the module's docstring ends."""
    docstring = ast.get_docstring(ast.parse(text)) or ""
    _, mark, told = docstring.partition("Shapes: ")
    if not mark:
        return {}
    entries = " ".join(told.split()).rstrip(".").split(", ")
    return dict(entry.split(" ", 1) for entry in entries)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_module_explains_the_letters_of_its_shapes(file):
    text = file.read_text()
    expected = {letter: MEANINGS.get(letter, "unknown letter") for letter in letters_used(text)}
    assert legend(text) == expected


def test_other_meanings_and_missing_ones_are_seen():
    good = '"""Rows.\n\nShapes: B samples of a batch, T token positions.\n"""\nx = 1  # (B, T)\n'
    assert legend(good) == {letter: MEANINGS[letter] for letter in letters_used(good)}
    assert letters_used("x_BT = 1  # (Q, n_rows)") == {"B", "T", "Q"}
    assert letters_used("X_MAX = 1  # (see A) (Liu, B.)") == set()
    assert legend(good.replace("token", "time")) != legend(good)
