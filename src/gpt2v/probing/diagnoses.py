"""Named faults that a model's wrong answers about pictures show, and no others.

Tests are in three families: places (displacements, rows, columns), pairs of classes, and classes.
Each is adjusted after Holm to a third of 5%, so a sound model, whose wrong answers are random, gets
any name in at most one of twenty measurements. `python bench/diagnoses.py` simulates this, and from
which size on faults are found.

Shapes: J questions in a flat list.
"""

from collections.abc import Sequence
from math import log, sqrt

import numpy as np

from gpt2v.probing.answered import Answered, Displacement, Family
from gpt2v.probing.attribution import (
    Row,
    adjusted,
    attribute,
    confusions,
    displacements,
    n_confusions,
    told_apart,
)
from gpt2v.probing.excess import LEVEL, Excess, worse_p
from gpt2v.stats.intervals import Difference, Z, holm
from gpt2v.stats.shared import Bools, Floats, Shared

NAMES = (
    "reads-neighbour", "ignores-rows", "ignores-columns", "confuses-classes", "blurs-class", "none",
)  # fmt: skip
_EACH = LEVEL / 3  # of a family of tests
_WITHIN = 0.01  # of the pairs of a class that is read worse
_Places = dict[Displacement, Excess]


def attributed(answered: Answered, family: Family) -> dict[str, list[Row]]:
    """What results tell of wrong answers: that of `attribute`, and `diagnoses`."""
    return {**attribute(answered, family), "diagnoses": diagnose(answered, family)}


def diagnose(answered: Answered, family: Family) -> list[Row]:
    """Each fault that is found.

    Args:
        answered: the questions and the model's answers.
        family: what each decoder names, chosen among the listed objects, at one site.

    Returns:
        A row for each, with `diagnosis` (of `NAMES`), `n_questions` that tell it, the `excess` of
        such answers (of a blurred class, of its wrong answers) with `ci95` and `p_holm`; and:
        `down` and `right`: of the neighbour that is read; `classes`: of a pair, the first is taken
        for the second, and more frequently than other classes are; `class` and `where`: of a
        blurred class, `encoder` if every decoder finds it less frequently than the others;
        `reading` if it is further behind the others for the model than for every decoder; `both`,
        or `not told`. Without a fault a single row, `none`, with the number of wrong answers.
    """
    rows = _places(answered) + _classes(answered, family)
    return rows or [{"diagnosis": "none", "n_questions": int((~answered.right).sum())}]


def _row(name: str, excess: Excess, p_holm: float) -> Row:
    return {
        "diagnosis": name,
        "n_questions": excess.n,
        "excess": excess.value,
        "ci95": list(excess.ci95),
        "p_holm": p_holm,
    }


def _places(answered: Answered) -> list[Row]:
    """Neighbours that are read, rows and columns that are not told apart."""
    each = dict(displacements(answered))
    lines = {
        "ignores-rows": {place: e for place, e in each.items() if place[1] == 0},
        "ignores-columns": {place: e for place, e in each.items() if place[0] == 0},
    }
    lines = {name: along for name, along in lines.items() if len(along) > 1}
    pooled = {name: _along(answered, list(along)) for name, along in lines.items()}
    tests = [*pooled.values(), *each.values()]
    p_holm = adjusted(tests, len(tests))
    of_line = dict(zip(pooled, p_holm, strict=False))
    of_place = dict(zip(each, p_holm[len(pooled) :], strict=True))
    rows, explained = [], set()
    for name, excess in pooled.items():
        if excess.value > 0 and _even(lines[name]):
            explained |= set(lines[name])
            if of_line[name] < _EACH:
                rows.append(_row(name, excess, of_line[name]))
    if len(rows) == 2:  # no cells are told apart
        explained = set(each)
    for place, excess in each.items():
        if excess.value > 0 and of_place[place] < _EACH and place not in explained:
            where = {"down": place[0], "right": place[1]}
            rows.append({**_row("reads-neighbour", excess, of_place[place]), **where})
    return rows


def _along(answered: Answered, places: Sequence[Displacement]) -> Excess:
    """The excess over several displacements together."""
    said = answered.said.reshape(-1)
    question, hit = [], []
    for place in places:
        there, told = told_apart(answered, place)
        question.append(np.flatnonzero(told))
        hit.append((said == there)[told])
    these = np.concatenate(question)
    assert answered.shared.tiles is not None
    shared = Shared(answered.shared.picture[these], answered.shared.tiles[these])
    return Excess.of(np.concatenate(hit), 1 / answered.n_others[these], shared)


def _even(along: _Places) -> bool:
    """Whether one excess along a line describes its answers better than one of some places only.

    Both by their likelihood, less half the logarithm of the number of questions for each excess
    (Schwarz 1978, https://doi.org/10.1214/aos/1176344136), and that of the number of places where
    it could be.
    """
    n = sum(e.n for e in along.values())
    cost = log(n) / 2
    rate = sum(e.n_hits for e in along.values()) / n
    even = sum(_log_likelihood(e, rate) - _log_likelihood(e, e.expected) for e in along.values())
    some = 0.0
    for e in along.values():
        gain = _log_likelihood(e, e.share) - _log_likelihood(e, e.expected)
        some += max(gain - cost - log(len(along)), 0.0) if e.value > 0 else 0.0
    return even - cost > some


def _log_likelihood(excess: Excess, rate: float) -> float:
    hits, misses = excess.n_hits, excess.n - excess.n_hits
    rate = min(max(rate, 1e-9), 1 - 1e-9)
    return hits * log(rate) + misses * log(1 - rate)


def _classes(answered: Answered, family: Family) -> list[Row]:
    """Pairs of classes that are confused, and classes that are read worse than the others."""
    truth, said = answered.truth.reshape(-1), answered.said.reshape(-1)
    confused = dict(confusions(answered))
    p_holm = dict(zip(confused, adjusted(confused.values(), n_confusions(answered)), strict=True))
    pairs = {
        pair: p_holm[pair]
        for pair, excess in confused.items()
        if excess.value > 0 and p_holm[pair] < _EACH and not _is_preferred(answered, *pair)
    }
    left = np.ones_like(answered.right)  # questions that no such pair explains
    for a, b in pairs:
        left &= ~((truth == a) & (said == b))
    classes = [k for k in np.unique(truth[left]).tolist() if not (truth[left] == k).all()]
    blurred = []
    for k, p in zip(classes, _worse(answered, left, classes), strict=True):
        if p >= _EACH:
            continue
        own = {pair: e for pair, e in confused.items() if pair[0] == k and pair not in pairs}
        within = dict(zip(own, adjusted(own.values(), len(answered.names) - 1), strict=True))
        taken = [
            pair
            for pair in own
            if own[pair].value > 0 and within[pair] < _WITHIN and not _is_preferred(answered, *pair)
        ]
        if taken:  # it is worse, because it is taken for one other
            pairs |= {pair: within[pair] for pair in taken}
        else:
            blurred.append(_blurred(answered, family, left, k, p))
    rows = [
        {
            **_row("confuses-classes", confused[pair], pairs[pair]),
            "classes": [answered.names[i] for i in pair],
        }
        for pair in sorted(pairs)
    ]
    return rows + blurred


def _is_preferred(answered: Answered, a: int, b: int) -> bool:
    """Whether class `b` may be said for `a` only because it is said for other classes, too."""
    truth, said = answered.truth.reshape(-1), answered.said.reshape(-1)
    these = answered.other_listed & answered.listed[answered.grid, b] & (truth != b)
    own = truth[these] == a
    if own.all():
        return False  # nothing else is answered wrong there
    return worse_p(said[these] == b, own, answered.shared.of(these)) >= _EACH


def _worse(answered: Answered, left: Bools, classes: Sequence[int]) -> list[float]:
    """p-values after Holm: is a class read worse than the others, in the questions `left` (J,)?"""
    if not classes:
        return []
    wrong, truth = ~answered.right[left], answered.truth.reshape(-1)[left]
    shared = answered.shared.of(left)
    found: list[float] = holm(
        np.array([worse_p(wrong, truth == k, shared) for k in classes])
    ).tolist()
    return found


def _blurred(answered: Answered, family: Family, left: Bools, k: int, p_holm: float) -> Row:
    """The row of a class that is read worse, and whether decoders find it worse as well."""
    these = (answered.truth.reshape(-1) == k)[left]
    shared = answered.shared.of(left)
    more = Difference.of_groups(~answered.right[left], these, shared)
    wrong = (~answered.right[left]).astype(np.float64)
    missed = [(own != answered.truth).reshape(-1)[left].astype(float) for own in family.values()]
    encoder = bool(missed) and all(_is_more(own, these, shared) for own in missed)
    reading = bool(missed) and all(_is_more(wrong - own, these, shared) for own in missed)
    where = {(1, 0): "encoder", (0, 1): "reading", (1, 1): "both"}.get(
        (encoder, reading), "not told"
    )
    return {
        "diagnosis": "blurs-class",
        "class": answered.names[k],
        "where": where,
        "n_questions": int(these.sum()),
        "excess": more.value,
        "ci95": list(more.interval()),
        "p_holm": p_holm,
    }


def _is_more(value: Floats, these: Bools, shared: Shared) -> bool:
    """Whether the mean of values (J,) is larger for some questions than for the others.

    It is if their difference is more than 1.96 standard errors above 0.
    """
    mean, other = value[these].mean(), value[~these].mean()
    share = these.mean()
    errors = np.where(these, (value - mean) / share, (other - value) / (1 - share))
    return bool(mean - other > Z * sqrt(shared.variance(errors)))
