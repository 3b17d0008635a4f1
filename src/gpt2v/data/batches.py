"""Rendered batches: token ids, labels, positions, attention segments and pixels, as arrays.

One packed sequence holds a grid once and all its questions. Tokens lie in segments that form a
tree: a token sees its own segment up to itself, and all of its segment's ancestors. The grid and
prompt are the root; with independent questions each question is a child of the root, and each
answer a child of its question, so positions restart after the prefix. Chained questions are one
segment. Where some answer choice has several tokens, each choice is a further child of the
question, so that all choices are scored in the same pass.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpt2v.data.grids import Samples
from gpt2v.data.images import ImageSpan, compose
from gpt2v.data.pieces import PieceTable
from gpt2v.data.rng import Ints
from gpt2v.data.text import (
    ImageView,
    View,
    answer_pieces,
    grid_pieces,
    prompt_pieces,
    question_pieces,
)
from gpt2v.data.tiles import Pixels, TileBank

IGNORE = -100  # label of an unsupervised position, as in torch.nn.functional.cross_entropy


@dataclass(frozen=True)
class ChoiceReads:
    """Where the log-probability of every answer choice is read.

    Attributes:
        position: (B, Q, C, L) the token at this position is followed by ...
        token: (C, L) ... this token of the choice; -1 past the choice's end.
    """

    position: Ints
    token: Ints


@dataclass(frozen=True)
class Batch:
    """One rendered batch; every array is plain numpy."""

    samples: Samples
    input_ids: Ints  # (B, T); image positions hold the <image> token
    labels: Ints  # (B, T) the token itself where it is supervised, else IGNORE
    position_ids: Ints  # (B, T)
    segments: Ints  # (B, T) -1 at padding
    sees: NDArray[np.bool_]  # (S, S) sees[i, j]: segment i may attend to segment j
    answers: Ints  # (B, T) question whose answer a token belongs to, -1 elsewhere
    hidden_ids: Ints | None  # (B, T) what the image positions stand for in a spliced text view
    span: ImageSpan | None
    pixels: Pixels | None  # (B, S, S, 3)
    choices: ChoiceReads | None

    @property
    def n_supervised(self) -> int:
        """Number of supervised tokens."""
        return int((self.labels != IGNORE).sum())

    @property
    def n_tokens(self) -> int:
        """Number of tokens without padding."""
        return int((self.segments >= 0).sum())

    @property
    def index(self) -> Ints:
        """Sample indices, (B,)."""
        return self.samples.index


@dataclass(frozen=True)
class Renderer:
    """Renders samples of one bank with one tokenizer."""

    bank: TileBank
    table: PieceTable
    image_size: int | None = None  # of the vision tower, where there is one

    def __call__(
        self,
        samples: Samples,
        view: View,
        mode: Literal["chained", "independent"] = "independent",
        with_choices: bool = False,
    ) -> Batch:
        """Render one batch; `with_choices` adds what scoring every class name needs."""
        names, table = self.bank.class_names, self.table
        batch, n_questions = samples.row.shape
        layout = _Layout()
        grid = grid_pieces(samples, view, names, table)
        layout.add(grid, segment=0)
        layout.add(prompt_pieces(samples, names, table), segment=0)
        questions = question_pieces(samples, table)
        answers = answer_pieces(samples, names, table)
        choice_strings = [f" {name}" for name in names]
        branches = with_choices and max(len(table.tokens(s)) for s in choice_strings) > 1
        choice_segments = np.full((n_questions, len(names)), -1)
        for q in range(n_questions):
            stem = 0 if mode == "chained" else layout.new_segment(parent=0)
            answer = 0 if mode == "chained" else layout.new_segment(parent=stem)
            layout.add(questions[:, q], stem)
            layout.add(answers[:, q], answer, answer_of=q)
            if branches:
                if mode == "chained":
                    raise ValueError("choices are scored with independent questions")
                for c, string in enumerate(choice_strings):
                    choice_segments[q, c] = layout.new_segment(parent=stem)
                    column = np.full((batch, 1), table.id(string))
                    layout.add(column, int(choice_segments[q, c]))
        input_ids, segments, answer_of, position_ids = layout.assemble(table)
        labels = np.where(answer_of >= 0, input_ids, IGNORE)
        choices = None
        if with_choices:
            choices = self._choice_reads(segments, answer_of, n_questions, choice_segments)
        hidden_ids = None
        if not isinstance(view, ImageView) and view.spliced:
            in_grid = np.arange(input_ids.shape[1]) < table.lengths(grid).sum(1)[:, None]
            hidden_ids = np.where(in_grid, input_ids, 0)
            input_ids = np.where(in_grid, table.image_id, input_ids)
        pixels = None
        if isinstance(view, ImageView) and view.with_pixels:
            assert self.image_size is not None, "pictures need a vision tower's image size"
            pixels = compose(samples, self.bank, self.image_size)
        return Batch(
            samples=samples,
            input_ids=input_ids,
            labels=labels,
            position_ids=position_ids,
            segments=segments,
            sees=layout.sees(),
            answers=answer_of,
            hidden_ids=hidden_ids,
            span=view.span if isinstance(view, ImageView) else None,
            pixels=pixels,
            choices=choices,
        )

    def _choice_reads(
        self, segments: Ints, answer_of: Ints, n_questions: int, branch: Ints
    ) -> ChoiceReads:
        tokens = [self.table.tokens(f" {name}") for name in self.bank.class_names]
        longest = max(map(len, tokens))
        token = np.array([t + [-1] * (longest - len(t)) for t in tokens], np.int64)
        batch = len(segments)
        first = np.stack(  # the position before each answer: the end of its question
            [np.argmax(answer_of == q, axis=1) - 1 for q in range(n_questions)], axis=1
        )
        position = np.empty((batch, n_questions, len(tokens), longest), np.int64)
        position[..., 0] = first[..., None]
        if longest > 1:
            # first token of each branch; token l of a choice is read one place before it
            start = np.array(
                [[np.argmax(row == s) for s in branch.reshape(-1)] for row in segments]
            )
            inner = start.reshape(batch, *branch.shape)[..., None] + np.arange(longest - 1)
            position[..., 1:] = np.where(
                token[None, None, :, 1:] >= 0, inner, first[..., None, None]
            )
        return ChoiceReads(position, token)


class _Layout:
    """Columns of pieces with their segment, and the tree that the segments form."""

    def __init__(self) -> None:
        self.parents = [-1]
        self._pieces: list[Ints] = []
        self._segments: list[int] = []
        self._answers: list[int] = []

    def new_segment(self, parent: int) -> int:
        self.parents.append(parent)
        return len(self.parents) - 1

    def add(self, pieces: Ints, segment: int, answer_of: int = -1) -> None:
        """Append columns (B, k) to `segment`; a segment's columns are contiguous."""
        self._pieces.append(pieces)
        self._segments += [segment] * pieces.shape[1]
        self._answers += [answer_of] * pieces.shape[1]

    def sees(self) -> NDArray[np.bool_]:
        """(S, S) the reflexive ancestor relation."""
        sees = np.eye(len(self.parents), dtype=bool)
        for child, parent in enumerate(self.parents):
            if parent >= 0:
                sees[child] |= sees[parent]  # parents come before their children
        return sees

    def assemble(self, table: PieceTable) -> tuple[Ints, Ints, Ints, Ints]:
        """Token ids, segment, question answered and position of each token, each (B, T)."""
        pieces = np.concatenate(self._pieces, axis=1)
        input_ids, column = table.assemble(pieces)
        real = column >= 0
        segments = np.where(real, np.array(self._segments)[column], -1)
        answer_of = np.where(real, np.array(self._answers)[column], -1)

        lengths = table.lengths(pieces)  # (B, K)
        one_hot = np.arange(len(self.parents)) == np.array(self._segments)[:, None]  # (K, S)
        size = lengths @ one_hot  # (B, S) tokens in each segment
        first = np.argmax(one_hot, axis=0)  # each segment's first column
        place = (np.cumsum(lengths, axis=1) - lengths)[:, first]  # where the segment starts
        begin = np.zeros_like(size)  # the position at which it starts
        for child, parent in enumerate(self.parents):
            if parent >= 0:
                begin[:, child] = begin[:, parent] + size[:, parent]
        shift = np.take_along_axis(begin - place, np.maximum(segments, 0), axis=1)
        positions = np.where(real, np.arange(input_ids.shape[1]) + shift, 0)
        return input_ids, segments, answer_of, positions
