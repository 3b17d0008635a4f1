"""The tree of questions: it reads every question whole, and shares what it can."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.data.render.question_tree import QuestionTree
from gpt2v.data.text_pieces import EMPTY


def read(tree: QuestionTree, questions: np.ndarray, sample: int) -> tuple[list[list[int]], int]:
    """The questions of a sample as one reads them along the tree, and how many pieces are read."""
    placed = tree.placed(questions)[sample].tolist()
    above: list[list[int]] = [[]]
    whole, n_read = [], 0
    for place, own in enumerate(placed):
        kept, depths = tree.branches(place)
        while len(above[-1]) > kept:
            above.pop()
        assert len(above[-1]) == kept
        for depth in depths:
            n_read += depth - len(above[-1])
            above.append(above[-1] + own[len(above[-1]) : depth])
        rest = own[len(above[-1]) :]
        assert any(piece != EMPTY for piece in rest)  # each question has a piece of its own
        n_read += sum(piece != EMPTY for piece in rest)
        whole.append(above[-1] + rest)
    return whole, n_read


@st.composite
def asked(draw):
    n_samples, n_questions = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    words = st.lists(st.integers(1, 3), min_size=1, max_size=4)
    one = [draw(words) for _ in range(n_questions)]
    questions = np.full((n_samples, n_questions, 4), EMPTY)
    for b in range(n_samples):
        alike = draw(st.booleans())
        for q, number in enumerate(draw(st.permutations(range(n_questions)))):
            own = one[number] if alike else draw(words)
            questions[b, q, : len(own)] = own
    return questions


@given(asked())
def test_every_question_is_read_whole(questions):
    tree = QuestionTree.of(questions, np.ones(questions.shape[:2], bool))
    for b in range(len(questions)):
        whole, n_read = read(tree, questions, b)
        assert sorted(whole) == sorted(questions[b].tolist())
        assert n_read <= (questions[b] != EMPTY).sum()
    numbers = np.arange(questions.shape[1]) + 10 * np.arange(len(questions))[:, None]
    np.testing.assert_array_equal(tree.unplaced(tree.placed(numbers)), numbers)


def test_grids_that_share_alike_share_all_there_is():
    rows, cols = np.divmod(np.arange(9), 3)
    cells = np.stack([np.full(9, 7), 10 + rows, np.full(9, 8), 20 + cols, np.full(9, 9)], axis=1)
    rng = np.random.default_rng(0)
    questions = np.stack([cells[rng.permutation(9)] for _ in range(4)])
    tree = QuestionTree.of(questions, np.ones((4, 9), bool))
    assert tree.common.tolist() == [3, 3, 1, 3, 3, 1, 3, 3]
    assert read(tree, questions, 2)[1] == 1 + 3 * 2 + 9 * 2


def test_others_share_what_all_begin_with():
    one = np.array([[[7, 1, 2], [7, 1, 3], [7, 4, 5]], [[7, 1, 2], [7, 2, 3], [7, 3, 4]]])
    tree = QuestionTree.of(one, np.ones((2, 3), bool))
    assert tree.common.tolist() == [1, 1]
    np.testing.assert_array_equal(tree.order, [[0, 1, 2], [0, 1, 2]])
    some = np.array([[True, True, False], [True, True, True]])
    one[0, 2] = EMPTY
    assert QuestionTree.of(one, some).common.tolist() == [1, 1]
    assert QuestionTree.of(one[:, :1], some[:, :1]).common.tolist() == []
    assert QuestionTree.of(one, np.zeros((2, 3), bool)).common.tolist() == [0, 0]
