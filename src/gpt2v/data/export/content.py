"""A sample in words and PNG pictures, as every format writes it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from PIL import Image

from gpt2v.data.forms import TextView
from gpt2v.data.instructions import ALL
from gpt2v.data.pictures import natural_pictures
from gpt2v.data.pieces import EMPTY, Strings
from gpt2v.data.samples import NOT_ASKED, Samples
from gpt2v.data.text import (
    answer_pieces,
    choice_pieces,
    grid_pieces,
    prompt_pieces,
    question_pieces,
)
from gpt2v.data.tiles import Pixels, TileBank
from gpt2v.specs import GridConfig


@dataclass(frozen=True)
class Question:
    """One question about a grid."""

    instruction: str
    question: str  # with its `A:`
    answer: str  # without the space before it
    row: int | None  # counted from 0, whatever the words do; none: the question names no row
    col: int | None
    choices: tuple[str, ...]  # the answers that may be; empty where they are too many to list

    @property
    def row_of_table(self) -> dict[str, str | int | None]:
        """All but the choices, by column."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "choices"}


@dataclass(frozen=True)
class Item:
    """One sample. Its documents are lines that show the grid, then `prompt`, then the chat."""

    index: int
    classes: tuple[tuple[str, ...], ...]  # names by row
    palette: tuple[str, ...]  # names in their listed order
    table: str  # the lines that show the grid in words
    prompt: str  # the line after the grid
    questions: tuple[Question, ...]
    pictures: tuple[bytes, ...]  # PNG: of the grid, or of each cell in raster order

    @property
    def text(self) -> str:
        """The text-only document, exactly what the models read."""
        return self.document(self.table)

    def document(self, shown: str) -> str:
        """The whole document around the lines that show the grid."""
        chat = (f"{q.question} {q.answer}\n" for q in self.questions)
        return shown + self.prompt + "".join(chat)

    def pictured(self, marks: Sequence[str], between: str = "") -> str:
        """The lines that show the grid as pictures: a mark for each, a grid's row on a line."""
        cols = len(self.classes[0]) if len(marks) > 1 else 1
        lines = (between.join(marks[at : at + cols]) for at in range(0, len(marks), cols))
        return "".join(line + "\n" for line in lines)


def items_of(samples: Samples, grid: GridConfig, bank: TileBank) -> list[Item]:
    """The samples in words and pictures."""
    names, strings = bank.class_names, Strings()
    view = TextView.of(grid)
    tables = grid_pieces(samples, view, names, strings)
    prompts = prompt_pieces(samples, names, strings)
    questions = _questions(samples, names, strings)
    pictures = natural_pictures(samples, bank, grid.picture)
    return [
        Item(
            index=int(samples.index[b]),
            classes=tuple(
                tuple(names[c] for c in row[: samples.cols[b]])
                for row in samples.classes[b, : samples.rows[b]]
            ),
            palette=tuple(names[c] for c in samples.palette[b] if c >= 0),
            table=strings.text(tables[b]),
            prompt=strings.text(prompts[b]),
            questions=tuple(questions[b]),
            pictures=tuple(png(pixels) for pixels in pictures[b]),
        )
        for b in range(len(samples.index))
    ]


def png(pixels: Pixels) -> bytes:
    """A picture (H, W, 3) as a PNG file without any metadata."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=6)
    return file.getvalue()


def _questions(samples: Samples, names: tuple[str, ...], strings: Strings) -> list[list[Question]]:
    asked = question_pieces(samples, names, strings)
    answers = answer_pieces(samples, names, strings)
    choices = choice_pieces(samples, names, strings)
    found: list[list[Question]] = [[] for _ in samples.index]
    for b, q in np.argwhere(samples.instruction != NOT_ASKED).tolist():
        instruction = ALL[samples.instruction[b, q]]
        names_row, names_col = (f"{{{part}}}" in instruction.wordings[0] for part in ("row", "col"))
        found[b].append(
            Question(
                instruction=instruction.name,
                question=strings.text(asked[b, q]),
                answer=strings.text(answers[b, q]).strip(),
                row=int(samples.row[b, q]) if names_row else None,
                col=int(samples.col[b, q]) if names_col else None,
                choices=tuple(
                    strings.strings[piece].strip() for piece in choices[b, q] if piece != EMPTY
                ),
            )
        )
    return found
