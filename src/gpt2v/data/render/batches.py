"""Rendered batches: token ids, labels, positions, attention segments and pictures, as arrays.

One packed sequence holds a grid once, and all its questions. Its tokens belong to segments that
form a tree: a token sees its own segment up to itself, and all ancestors of its segment. The grid
and the prompt are the root. An answer is a child of its question. With independent questions, each
question is a child of the root, so position ids restart after the prompt; a chained question is a
child of the answer before it. If any answer choice has several tokens, each choice is one more
child of its question, so all choices are scored in the same pass. Where one choice begins another,
the line break after an answer belongs to them. Questions and answers of different lengths are
padded with empty pieces, which have no tokens. Where choices are scored, words that independent
questions begin with alike are read once: they are segments between the root and the questions.

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
        n_questions = samples.row.shape[1]
        layout = _Layout()
        grid = grid_pieces(samples, view, names, table)
        layout.add(grid, segment=0)
        layout.add(prompt_pieces(samples, names, table), segment=0)
        questions = question_pieces(samples, names, table)
        answers = answer_pieces(samples, names, table)
        choices = choice_pieces(samples, names, table, scored=True) if with_choices else None
        scored = None if choices is None else ended_choices(choices, table)  # (B, Q, A, 2)
        branches = scored is not None and int(table.lengths(scored).sum(-1).max(initial=0)) > 1
        tree = QuestionTree.apart(*samples.instruction.shape)
        if with_choices and mode == "independent":
            tree = QuestionTree.of(questions, samples.instruction != NOT_ASKED)
        asked, said = tree.placed(questions), tree.placed(answers)
        branching = None if scored is None or not branches else tree.placed(scored)
        answer_segment = np.zeros(n_questions, np.int64)
        branch = np.zeros((n_questions, 0 if choices is None else choices.shape[2]), np.int64)
        above = [(0, 0)]  # pieces that are read, and the segment of the last ones
        for q in range(n_questions):
            if mode == "chained" and q:
                above = [(0, int(answer_segment[q - 1]))]
            kept, depths = tree.branches(q)
            while above[-1][0] > kept:
                above.pop()
            for depth in depths:
                n_read, before = above[-1]
                above.append((depth, layout.new_segment(parent=before)))
                layout.add(asked[:, q, n_read:depth], above[-1][1])
            n_read, before = above[-1]
            stem = layout.new_segment(parent=before)
            layout.add(asked[:, q, n_read:], stem)
            answer_segment[q] = answer = layout.new_segment(parent=stem)
            layout.add(said[:, q], answer, answer_of=q)
            for c in range(0 if branching is None else branch.shape[1]):
                branch[q, c] = layout.new_segment(parent=stem)
                layout.add(branching[:, q, c], int(branch[q, c]))  # type: ignore[index]
        packed = layout.assemble(table)
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
        ends = tree.unplaced(packed.start[:, answer_segment] - 1)
        place = packed.answer_of
        number = np.take_along_axis(tree.order, np.maximum(place, 0), axis=1)
        position_ids = packed.position_ids
        if samples.position.any():
            position_ids = position_ids + samples.position[:, None] * (packed.segments >= 0)
        return Batch(
            samples=samples,
            input_ids=input_ids,
            labels=packed.labels,
            position_ids=np.array(position_ids),
            segments=packed.segments,
            sees=layout.sees(),
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
            branch: (B, Q, A) where branches start.
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


@dataclass(frozen=True)
class _Packed:
    input_ids: Ints  # (B, T)
    labels: Ints  # (B, T)
    segments: Ints  # (B, T)
    answer_of: Ints  # (B, T) question whose answer a token belongs to, -1 elsewhere
    position_ids: Ints  # (B, T)
    start: Ints  # (B, G) column at which each segment starts


class _Layout:
    """Columns of pieces with their segments, and the tree of the segments."""

    def __init__(self) -> None:
        self.parents = [-1]
        self._pieces: list[Ints] = []
        self._segments: list[int] = []
        self._answers: list[int] = []

    def new_segment(self, parent: int) -> int:
        """Add a segment below `parent`; returns its number."""
        self.parents.append(parent)
        return len(self.parents) - 1

    def add(self, pieces: Ints, segment: int, answer_of: int = -1) -> None:
        """Append pieces (B, K) to `segment`, which must be the newest one or the only one."""
        self._pieces.append(pieces)
        self._segments += [segment] * pieces.shape[1]
        self._answers += [answer_of] * pieces.shape[1]

    def sees(self) -> NDArray[np.bool_]:
        """(G, G) entry [i, j] is whether segment j is segment i or an ancestor of it."""
        sees = np.eye(len(self.parents), dtype=bool)
        for child, parent in enumerate(self.parents):
            if parent >= 0:
                sees[child] |= sees[parent]  # parents come before their children
        return sees

    def assemble(self, table: PieceTable) -> _Packed:
        """Join the pieces, and find what each token belongs to."""
        pieces = np.concatenate(self._pieces, axis=1)
        input_ids, column = table.assemble(pieces)
        lengths = table.lengths(pieces)  # (B, K)
        batch = len(lengths)
        if (lengths == lengths[0]).all():  # all rows are laid out as the first one
            lengths, column = lengths[:1], column[:1]
        real = column >= 0
        segments = np.where(real, np.array(self._segments)[column], -1)
        answer_of = np.where(real, np.array(self._answers)[column], -1)

        # The columns of a segment are contiguous, and segments are in the order of their numbers.
        number = np.arange(len(self.parents))
        first = np.searchsorted(self._segments, number)
        after = np.searchsorted(self._segments, number, side="right")
        before = np.concatenate([np.zeros_like(lengths[:, :1]), np.cumsum(lengths, axis=1)], axis=1)
        start = before[:, first]  # (B, G) column at which each segment starts
        size = before[:, after] - start  # number of its tokens
        begin = np.zeros_like(size)  # position id at which it starts
        for child, parent in enumerate(self.parents):
            if parent >= 0:
                begin[:, child] = begin[:, parent] + size[:, parent]
        shift = np.take_along_axis(begin - start, np.maximum(segments, 0), axis=1)
        positions = np.where(real, np.arange(input_ids.shape[1]) + shift, 0)
        labels = np.where(answer_of >= 0, input_ids, IGNORE)
        shared = (segments, answer_of, positions, start)
        return _Packed(
            input_ids, labels, *(np.broadcast_to(a, (batch, a.shape[1])) for a in shared)
        )
