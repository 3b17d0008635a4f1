"""A chart of the page: the drawing, and the table of the values that it shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Values:
    """A table: the values that a chart shows, or the rows of a run's results.

    Attributes:
        caption: what the table holds.
        heads: the heads of its columns; the first column names the rows.
        rows: the cells, as text.
        n_words: how many columns, from the first, hold words; the others hold numbers.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_words: int = 1


@dataclass(frozen=True)
class Chart:
    """One drawing of the page, with its values."""

    title: str
    svg: Markup
    values: Values
