"""Rendered batches: token ids, labels, positions, attention segments and pictures, as arrays.

A packed sequence holds a grid once, and all its questions, see `packing`. If any answer choice has
several tokens, all choices are in the sequence, so that they are scored in the same pass. Where one
choice begins another, the line break after an answer belongs to them.

Shapes: B samples of a batch, P pictures, M vision tokens, T token positions,
Q questions about a grid, A choices of a question, L tokens of a choice, K text pieces in a row,
S side of a picture in pixels, G segments of a packed sequence.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2v.config.grids import ContentConfig, Mode
from gpt2v.config.pictures import PictureConfig
from gpt2v.data.grids.samples import NOT_ASKED, Samples
from gpt2v.data.render.packing import Packing
from gpt2v.data.render.pictures import Pictures
from gpt2v.data.render.question_tree import QuestionTree
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.render.text import (
    answer_pieces,
    choice_pieces,
    ended_choices,
    grid_pieces,
    prompt_pieces,
    question_pieces,
)
from gpt2v.data.render.views import ImageView, View, view_of
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import PieceTable
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.image_files import Pixels

IGNORE = -100  # label of an unsupervised position, as in torch.nn.functional.cross_entropy


@dataclass(frozen=True)
class Choices:
    """The possible answers of each question, and where their log-probabilities are read.

    Attributes:
        pieces: (B, Q, A) the choices as pieces of the renderer's table; EMPTY past their end.
        position: (B, Q, A, L) position whose next token is ...
        token: (B, Q, A, L) ... this token of the choice, or of the line break after it if a choice
            of the question begins another one; -1 past their end.
    """

    pieces: Ints
    position: Ints
    token: Ints


@dataclass(frozen=True)
class ImageTokens:
    """What each of the M image positions stands for, in the order of the flattened batch (B, T)."""

    sample: Ints  # (M,) row of the batch
    cell: Ints  # (M,) cell in raster order of the sample's own shape; -1 for the whole grid
    patch: Ints  # (M,) patch of the picture in raster order; -1 for no patch or the class token
    picture: Ints  # (M,) index into the batch's pictures


@dataclass(frozen=True)
class Batch:
    """One rendered batch. All arrays are plain numpy; pictures are drawn when they are used."""

    samples: Samples
    input_ids: Ints  # (B, T); image positions hold the <image> token
    labels: Ints  # (B, T) the token itself where it is supervised, else IGNORE
    position_ids: Ints  # (B, T)
    segments: Ints  # (B, T) -1 at padding
    sees: NDArray[np.bool_]  # (G, G) sees[i, j]: segment i may attend to segment j
    answers: Ints  # (B, T) question whose answer a token belongs to, -1 elsewhere
    ends: Ints  # (B, Q) position of the last token of each question; its answer follows
    hidden_ids: Ints | None  # (B, T) token that an image position of a spliced text view stands for
    truth: Ints  # (B, Q, K) right answers as pieces of the renderer's table
    images: ImageTokens | None
    pictures: Pictures | None  # the P pictures of all samples
    choices: Choices | None

    @property
    def pixels(self) -> Pixels | None:
        """Pixels of all pictures, (P, S, S, 3) uint8, drawn on first use; None without pictures."""
        return None if self.pictures is None else self.pictures.pixels

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
    """Renders samples of one bank with one tokenizer, for a model with or without vision tower."""

    bank: TileBank
    table: PieceTable
    geometry: PictureGeometry | None = None  # of the model's pictures; None: it takes none

    def view(self, spec: ContentConfig, layout: str) -> View:
        """The view of a spec's grids in the layout with this name (see `view_of`)."""
        return view_of(spec, layout, self.bank.size, self.geometry)

    def __call__(
        self,
        samples: Samples,
        view: View,
        mode: Mode = "independent",
        with_choices: bool = False,
    ) -> Batch:
        """Render one batch.

        Args:
            with_choices: add what is needed to score the choices of every question.
        """
        names, table = self.bank.class_names, self.table
        packing = Packing()
        grid = grid_pieces(samples, view, names, table)
        packing.add(grid, segment=0)
        packing.add(prompt_pieces(samples, names, table), segment=0)
        questions = question_pieces(samples, names, table)
        answers = answer_pieces(samples, names, table)
        tree = QuestionTree.apart(*samples.instruction.shape)
        if with_choices and mode == "independent":
            tree = QuestionTree.of(questions, samples.instruction != NOT_ASKED)
        scored = branching = None
        if with_choices:
            choices = choice_pieces(samples, names, table, scored=True)
            scored = ended_choices(choices, table)  # (B, Q, A, 2)
            if int(table.lengths(scored).sum(-1).max(initial=0)) > 1:
                branching = scored
        answer, branch = packing.add_questions(tree, questions, answers, branching, mode)
        packed = packing.assemble(table)
        input_ids = packed.input_ids
        hidden_ids = None
        if not isinstance(view, ImageView) and view.spliced:
            in_grid = np.arange(input_ids.shape[1]) < table.lengths(grid).sum(1)[:, None]
            hidden_ids = np.where(in_grid, input_ids, 0)
            input_ids = np.where(in_grid, table.image_id, input_ids)
        pictures = None
        if isinstance(view, ImageView) and view.with_pixels:
            assert self.geometry is not None, "pictures need a vision tower"
            picture = view.picture or PictureConfig()
            pictures = Pictures(samples, self.bank, self.geometry.image_size, picture)
        ends = tree.unplaced(packed.start[:, answer] - 1)
        place = packed.answer_of
        number = np.take_along_axis(tree.order, np.maximum(place, 0), axis=1)
        position_ids = packed.position_ids
        if samples.position.any():
            position_ids = position_ids + samples.position[:, None] * (packed.segments >= 0)
        return Batch(
            samples=samples,
            input_ids=input_ids,
            labels=np.where(place >= 0, packed.input_ids, IGNORE),
            position_ids=np.array(position_ids),
            segments=packed.segments,
            sees=packing.sees(),
            answers=np.where(place >= 0, number, -1),
            ends=ends,
            hidden_ids=hidden_ids,
            truth=answers,
            images=_image_tokens(samples, view) if isinstance(view, ImageView) else None,
            pictures=pictures,
            choices=None
            if scored is None
            else self._reads(scored, ends, tree.unplaced(packed.start[:, branch])),
        )

    def _reads(self, scored: Ints, ends: Ints, branch: Ints) -> Choices:
        """Where choices (B, Q, A, 2) are read.

        Args:
            scored: each choice, and what is read after it.
            ends: (B, Q) where questions end.
            branch: (B, Q, A) where branches start; A is 0 if all choices have one token.
        """
        choices = scored[..., 0]
        lengths = self.table.lengths(scored).sum(-1)  # (B, Q, A)
        longest = max(1, int(lengths.max(initial=1)))
        token = np.full((*choices.shape, longest), -1, np.int64)
        tokens, _ = self.table.end_to_end(scored.reshape(-1))
        token[np.arange(longest) < lengths[..., None]] = tokens
        # The first token follows the question; every later one follows the token before it in its
        # branch.
        position = np.repeat(ends[..., None, None], choices.shape[2], axis=2)
        position = np.repeat(position, longest, axis=3)
        if longest > 1:
            inner = branch[..., None] + np.arange(longest - 1)
            position[..., 1:] = np.where(token[..., 1:] >= 0, inner, position[..., 1:])
        return Choices(choices, position, token)


def _image_tokens(samples: Samples, view: ImageView) -> ImageTokens:
    """The image tokens of a batch of samples in this view."""
    shapes, which = samples.shapes
    spans = [view.span_of(rows, cols) for rows, cols in shapes.tolist()]
    n_pictures = np.array([span.n_pictures for span in spans])[which]
    first = np.cumsum(n_pictures) - n_pictures
    size = np.array([len(span) for span in spans])[which]

    def joined(part: str) -> Ints:
        if len(spans) == 1:
            return np.tile(getattr(spans[0], part), len(which))
        return np.concatenate([getattr(spans[shape], part) for shape in which.tolist()])

    sample = np.repeat(np.arange(len(which)), size)
    return ImageTokens(sample, joined("cell"), joined("patch"), first[sample] + joined("picture"))
