"""Packed sequences: a grid once, and all questions about it.

Their tokens belong to segments that form a tree: a token sees its own segment up to itself, and all
ancestors of its segment. The grid and the prompt are the root. An answer is a child of its
question. With independent questions, each question is a child of the root, so position ids restart
after the prompt; a chained question is a child of the answer before it. Each choice is one more
child of its question. Questions and answers of different lengths are padded with empty pieces,
which have no tokens. Words that questions begin with alike can be read once: they are segments
between the root and the questions.

Shapes: B samples of a batch, T token positions, Q questions about a grid, A choices of a question,
K text pieces in a row, G segments of a packed sequence.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2v.config.grids import Mode
from gpt2v.data.render.question_tree import QuestionTree
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import PieceTable


@dataclass(frozen=True)
class Packed:
    """A batch of packed sequences."""

    input_ids: Ints  # (B, T)
    segments: Ints  # (B, T)
    answer_of: Ints  # (B, T) question whose answer a token belongs to, -1 elsewhere
    position_ids: Ints  # (B, T)
    start: Ints  # (B, G) column at which each segment starts


class Packing:
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

    def add_questions(
        self, tree: QuestionTree, questions: Ints, answers: Ints, choices: Ints | None, mode: Mode
    ) -> tuple[Ints, Ints]:
        """Append questions (B, Q, K) with their answers (B, Q, K), below the root.

        Args:
            tree: what the questions have in common.
            choices: (B, Q, A, K) what else may follow each question; None: nothing.

        Returns:
            The segments of the answers (Q,), and of the choices (Q, A), by place of the tree.
        """
        asked, said = tree.placed(questions), tree.placed(answers)
        branches = [] if choices is None else list(np.moveaxis(tree.placed(choices), 2, 0))
        n_questions = asked.shape[1]
        answer = np.zeros(n_questions, np.int64)
        branch = np.zeros((n_questions, len(branches)), np.int64)
        above = [(0, 0)]  # pieces that are read, and the segment of the last ones
        for q in range(n_questions):
            if mode == "chained" and q:
                above = [(0, int(answer[q - 1]))]
            kept, depths = tree.branches(q)
            while above[-1][0] > kept:
                above.pop()
            for depth in depths:
                n_read, before = above[-1]
                above.append((depth, self.new_segment(parent=before)))
                self.add(asked[:, q, n_read:depth], above[-1][1])
            n_read, before = above[-1]
            stem = self.new_segment(parent=before)
            self.add(asked[:, q, n_read:], stem)
            answer[q] = self.new_segment(parent=stem)
            self.add(said[:, q], int(answer[q]), answer_of=q)
            for c, others in enumerate(branches):
                branch[q, c] = self.new_segment(parent=stem)
                self.add(others[:, q], int(branch[q, c]))
        return answer, branch

    def sees(self) -> NDArray[np.bool_]:
        """(G, G) entry [i, j] is whether segment j is segment i or an ancestor of it."""
        sees = np.eye(len(self.parents), dtype=bool)
        for child, parent in enumerate(self.parents):
            if parent >= 0:
                sees[child] |= sees[parent]  # parents come before their children
        return sees

    def assemble(self, table: PieceTable) -> Packed:
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
        shared = (segments, answer_of, positions, start)
        return Packed(input_ids, *(np.broadcast_to(a, (batch, a.shape[1])) for a in shared))
