"""Sample grids: the picture, the same grid in words, and the answers about both."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2v.messages import one_line
from gpt2v.registry import SECTIONS
from gpt2v.report import analysis
from gpt2v.report.read import Run, Table
from gpt2v.report.section import Section
from gpt2v.report.words import grid_in_words

LONGEST_ANSWER = 40  # characters


@dataclass(frozen=True)
class Answer:
    """One cell of a sample: its object and the answer."""

    truth: str
    said: str  # freely
    state: str  # right, wrong, or unspelt: the best choice is right, what is said is not


@SECTIONS.register("samples")
class Samples(Section):
    """Some grids with their answers; up to half of them have a wrong answer."""

    nav, order, kinds = "Sample grids", 30, ("eval",)

    def content(self, run: Run) -> dict[str, Any] | None:
        samples = _samples(run)
        return {"samples": samples} if samples else None


def _samples(run: Run) -> list[dict[str, Any]]:
    """The values of each sample for the template."""
    image = analysis.lookups(run.records, run.model, "image")
    text = analysis.lookups(run.records, run.model, "text")
    rows = []
    for sample in analysis.choose_samples(image, list(run.pictures)):
        answers = {"picture": _answers(image, sample), "text": _answers(text, sample)}
        answers = {name: grid for name, grid in answers.items() if grid}
        if not answers:
            continue
        cells = {
            name: [cell for row in grid for cell in row if cell] for name, grid in answers.items()
        }
        palettes = [table["palette"][table["sample"] == sample] for table in (image, text)]
        twin = next(iter(answers.values()))
        names = [[cell.truth if cell else "not asked" for cell in row] for row in twin]
        longest = max(len(word) for row in names for name in row for word in name.split())
        rows.append(
            {
                "index": sample,
                "pictures": _pictures(run.pictures[sample], names),
                "palette": next((p[0] for p in palettes if len(p)), None) or [],
                "twin": twin,
                "line_em": round(0.63 * len(twin[0]) * longest, 2),
                "answers": answers,
                "unspelt": any(cell.state == "unspelt" for row in cells.values() for cell in row),
                "score": {
                    name: (sum(cell.state == "right" for cell in row), len(row))
                    for name, row in cells.items()
                },
            }
        )
    return rows


def _pictures(files: list[bytes], names: list[list[str]]) -> list[tuple[str, str]]:
    """(URI, alternative text) of the picture of a grid, or of the picture of each cell.

    Args:
        names: the objects in the grid, by row and column.
    """
    uris = ["data:image/png;base64," + base64.b64encode(png).decode() for png in files]
    if len(uris) == 1:
        return [(uris[0], grid_in_words(names))]
    cells = [f"row {r}, column {c}: {x}" for r, row in enumerate(names) for c, x in enumerate(row)]
    if len(cells) != len(uris):  # not every cell was asked about
        cells = [f"cell {number}" for number in range(len(uris))]
    return list(zip(uris, cells, strict=True))


def _answers(table: Table, sample: int) -> list[list[Answer | None]]:
    """The answers about one sample, in rows and columns; None in a cell without a question."""
    here = np.flatnonzero(table["sample"] == sample)
    if not len(here):
        return []
    n_rows, n_cols = int(table["row"][here].max()) + 1, int(table["col"][here].max()) + 1
    grid: list[list[Answer | None]] = [[None] * n_cols for _ in range(n_rows)]
    for i in here:
        truth, best, said = (table[name][i] for name in ("truth", "prediction", "generated"))
        said = one_line(str(said if said is not None else best or ""), LONGEST_ANSWER)
        state = "right" if table["exact"][i] else "unspelt" if best == truth else "wrong"
        grid[table["row"][i]][table["col"][i]] = Answer(truth, said or "(nothing)", state)
    return grid
