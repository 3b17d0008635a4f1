"""A sample in words and pictures, as people and other tools read it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

import numpy as np
from PIL import Image

from gpt2v.config.grids import ContentConfig
from gpt2v.data.grids.instructions import ALL
from gpt2v.data.grids.samples import NOT_ASKED, Samples
from gpt2v.data.render.pictures import natural_pictures
from gpt2v.data.render.text import (
    answer_pieces,
    choice_pieces,
    grid_pieces,
    prompt_pieces,
    question_pieces,
)
from gpt2v.data.render.views import TextView, picture_of
from gpt2v.data.text_pieces import EMPTY, Strings
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.image_files import Pixels

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """One question about a grid."""

    instruction: str
    question: str  # with its `A:`
    answer: str  # without the space before it
    row: int | None  # counted from 0 in all wordings; None: the question names no row
    col: int | None
    choices: tuple[str, ...]  # the possible answers; empty if they are too many to list

    @property
    def row_of_table(self) -> dict[str, str | int | None]:
        """All fields except the choices, by column name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "choices"}


@dataclass(frozen=True)
class Example:
    """One sample. A document is the lines that show the grid, then `prompt`, then the chat.

    Its last three fields are what it was made from: a model reads them, not the words.
    """

    index: int
    classes: tuple[tuple[str, ...], ...]  # names by row
    palette: tuple[str, ...]  # names in their listed order
    table: str  # the lines that show the grid in words
    prompt: str  # the line after the grid
    asked: tuple[Question, ...]
    pictures: tuple[Pixels, ...]  # (height, width, 3) of the grid, or of each cell in raster order
    samples: Samples = field(repr=False, compare=False)  # a batch of this sample
    spec: ContentConfig = field(repr=False, compare=False)
    bank: TileBank = field(repr=False, compare=False)

    @property
    def text(self) -> str:
        """The text-only document, exactly what the models read."""
        return self.document(self.table)

    @property
    def image(self) -> Image.Image | list[Image.Image]:
        """The picture of the grid; or the pictures of its cells in raster order (layout multi)."""
        images = [Image.fromarray(pixels) for pixels in self.pictures]
        return images if len(self.pictures) > 1 else images[0]

    @property
    def pngs(self) -> list[bytes]:
        """Each picture as the bytes of a PNG file without metadata."""
        files = [io.BytesIO() for _ in self.pictures]
        for file, pixels in zip(files, self.pictures, strict=True):
            Image.fromarray(pixels).save(file, format="PNG", compress_level=6)
        return [file.getvalue() for file in files]

    @property
    def questions(self) -> list[str]:
        """The words of the questions, each with its `A:`."""
        return [question.question for question in self.asked]

    @property
    def answers(self) -> list[str]:
        """The right answers, in the order of the questions."""
        return [question.answer for question in self.asked]

    def document(self, shown: str) -> str:
        """The whole document.

        Args:
            shown: the lines that show the grid.
        """
        chat = (f"{q.question} {q.answer}\n" for q in self.asked)
        return shown + self.prompt + "".join(chat)

    def pictured(self, marks: Sequence[str], between: str = "") -> str:
        """The lines that show the grid as pictures: one mark for each, one line for each row."""
        return "".join(between.join(line) + "\n" for line in self.by_row(marks))

    def by_row(self, pictures: Sequence[T]) -> list[Sequence[T]]:
        """Split the entries of the pictures into the rows of the grid; one picture is one row."""
        cols = len(self.classes[0]) if len(pictures) > 1 else 1
        return [pictures[at : at + cols] for at in range(0, len(pictures), cols)]


def examples_of(
    samples: Samples, spec: ContentConfig, bank: TileBank, pictured: bool = True
) -> list[Example]:
    """The samples in words and pictures, in the form and with the pictures of their spec.

    Args:
        pictured: false: without pictures, so that no tile is read.
    """
    names, strings = bank.class_names, Strings()
    tables = grid_pieces(samples, TextView.of(spec), names, strings)
    prompts = prompt_pieces(samples, names, strings)
    questions = _questions(samples, names, strings)
    pictures: Sequence[Sequence[Pixels]] = [()] * len(samples.index)
    if pictured:
        pictures = natural_pictures(samples, bank, picture_of(spec))
    return [
        Example(
            index=int(samples.index[b]),
            classes=tuple(
                tuple(names[c] for c in row[: samples.cols[b]])
                for row in samples.classes[b, : samples.rows[b]]
            ),
            palette=tuple(names[c] for c in samples.palette[b] if c >= 0),
            table=strings.text(tables[b]),
            prompt=strings.text(prompts[b]),
            asked=tuple(questions[b]),
            pictures=tuple(pictures[b]),
            samples=samples.one(b),
            spec=spec,
            bank=bank,
        )
        for b in range(len(samples.index))
    ]


def _questions(samples: Samples, names: tuple[str, ...], strings: Strings) -> list[list[Question]]:
    """The questions about each sample."""
    asked = question_pieces(samples, names, strings)
    answers = answer_pieces(samples, names, strings)
    choices = choice_pieces(samples, names, strings)
    questions: list[list[Question]] = [[] for _ in samples.index]
    for b, q in np.argwhere(samples.instruction != NOT_ASKED).tolist():
        instruction = ALL[samples.instruction[b, q]]
        questions[b].append(
            Question(
                instruction=instruction.name,
                question=strings.text(asked[b, q]),
                answer=strings.text(answers[b, q]).strip(),
                row=int(samples.row[b, q]) if "row" in instruction.named else None,
                col=int(samples.col[b, q]) if "col" in instruction.named else None,
                choices=tuple(
                    strings.strings[piece].strip() for piece in choices[b, q] if piece != EMPTY
                ),
            )
        )
    return questions
