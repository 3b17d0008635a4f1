"""Attribution: what each wrong answer about a picture is due to, as far as decoders can tell.

A decoder is an instrument with errors of its own, so `not-found` says that none of a family of
decoders names the object at this site, not that nothing of it is there.

Shapes: J questions in a flat list.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from gpt2v.probing.answered import NO_CLASS, Answered, Displacement, Family
from gpt2v.probing.excess import Excess, stands_out
from gpt2v.stats.intervals import holm, rate_interval
from gpt2v.stats.shared import Bools

Row = dict[str, Any]
WHY = ("text-fails-too", "not-found", "found-misread")
WHAT = ("wrong-cell", "wrong-object", "not-listed")


def attribute(answered: Answered, family: Family) -> dict[str, list[Row]]:
    """Attribute every wrong answer about a picture.

    Args:
        answered: the questions and the model's answers.
        family: what each decoder names, chosen among the listed objects, at one site.

    Returns:
        `shares`: rows as `share_rows` gives them; `displacements`; and `confusions`.
    """
    displaced = displacements(answered)
    excesses = [e for _, e in displaced]
    moved = _rows(({"down": d, "right": r} for (d, r), _ in displaced), excesses, len(displaced))
    found = [place for (place, _), row in zip(displaced, moved, strict=True) if stands_out(row)]
    confused = confusions(answered)
    pairs = [(answered.names[truth], answered.names[said]) for (truth, said), _ in confused]
    return {
        "shares": share_rows(answered, family, found),
        "displacements": moved,
        "confusions": _rows(
            ({"truth": truth, "said": said} for truth, said in pairs),
            [e for _, e in confused],
            n_confusions(answered),
        ),
    }


def displacements(answered: Answered) -> list[tuple[Displacement, Excess]]:
    """How frequently wrong answers are the object at each displacement, beyond chance.

    Counted are wrong answers that are listed, where another object than the right one is there. By
    chance an answer is that object as frequently as each of the other wrong ones that are listed:
    cells are independent, so this holds for whatever a model prefers to say. Displacements without
    such questions are left out.
    """
    found = []
    for displacement in answered.displacements():
        there, these = told_apart(answered, displacement)
        if these.any():
            hit = (answered.said.reshape(-1) == there)[these]
            chance = 1 / answered.n_others[these]
            found.append((displacement, Excess.of(hit, chance, answered.shared.of(these))))
    return found


def told_apart(answered: Answered, displacement: Displacement) -> tuple[np.ndarray, Bools]:
    """The class at a displacement (J,), and the questions (J,) that tell whether it is read."""
    there = answered.at(displacement)
    other = (there != NO_CLASS) & (there != answered.truth.reshape(-1))
    return there, answered.other_listed & other


def confusions(answered: Answered) -> list[tuple[tuple[int, int], Excess]]:
    """How frequently one class is said in place of another, beyond chance.

    Counted are wrong answers that are listed, about the first class, where the second is listed.
    By chance each of the other listed objects is said as frequently. Pairs that are never said are
    left out.
    """
    truth, said = answered.truth.reshape(-1), answered.said.reshape(-1)
    wrong = answered.other_listed
    found = []
    for pair in np.unique(np.stack([truth[wrong], said[wrong]], 1), axis=0).tolist():
        these = wrong & (truth == pair[0]) & answered.listed[answered.grid, pair[1]]
        chance = 1 / answered.n_others[these]
        excess = Excess.of(said[these] == pair[1], chance, answered.shared.of(these))
        found.append(((pair[0], pair[1]), excess))
    return found


def n_confusions(answered: Answered) -> int:
    """How many pairs of classes could be confused."""
    return len(np.unique(answered.truth)) * (len(answered.names) - 1)


def adjusted(excesses: Iterable[Excess], n_tests: int) -> list[float]:
    """p-values after Holm in a family of `n_tests`, of which those not given have a p of 1."""
    p = [e.p for e in excesses]
    padded = np.array(p + [1.0] * (n_tests - len(p)))
    after: list[float] = holm(padded)[: len(p)].tolist()
    return after


def _rows(names: Iterable[Row], excesses: list[Excess], n_tests: int) -> list[Row]:
    """A row for each excess."""
    return [
        {
            **name,
            "n_questions": e.n,
            "share": e.share,
            "expected": e.expected,
            "excess": e.value,
            "ci95": list(e.ci95),
            "p": e.p,
            "p_holm": p_holm,
        }
        for name, e, p_holm in zip(names, excesses, adjusted(excesses, n_tests), strict=True)
    ]


def why(answered: Answered, family: Family) -> np.ndarray:
    """The number in `WHY` of each wrong answer about a picture, (J,); -1: the answer is right."""
    named = [(decoded == answered.truth).reshape(-1) for decoded in family.values()]
    found = np.any(named, axis=0) if named else np.zeros_like(answered.right)
    number = np.where(answered.text_right, np.where(found, 2, 1), 0)
    return np.where(answered.right, -1, number)


def what(answered: Answered, places: Iterable[Displacement]) -> np.ndarray:
    """The number in `WHAT` of each wrong answer about a picture, (J,); -1: the answer is right.

    Args:
        places: displacements that are read in excess. An answer is a wrong cell's if it is the
            object at one of them, which some answers are by chance.
    """
    said, number = answered.said.reshape(-1), np.where(answered.other_listed, 1, 2)
    for place in places:
        there, these = told_apart(answered, place)
        number[these & (said == there)] = 0
    return np.where(answered.right, -1, number)


def share_rows(answered: Answered, family: Family, places: Iterable[Displacement]) -> list[Row]:
    """Shares of all answers, of the wrong ones, and of those that are found and misread.

    Returns:
        Rows with `of` (`all`, `wrong` or `misread`), `by`, `category`, `n`, `n_of`, `share` and
        `ci95`. Those with the same `of` and `by` add up to 1; without any answers there are none.
        `by` is `answer` (`right`, `wrong`), `why` (`WHY`), `what` (`WHAT`), or `choice`: whether
        the likeliest class is right although another answer is written.
    """
    reasons, kinds = why(answered, family), what(answered, list(places))
    wrong, misread = ~answered.right, reasons == WHY.index("found-misread")
    choice = (answered.likeliest == answered.truth).reshape(-1)
    splits: list[tuple[str, str, Bools, dict[str, Bools]]] = [
        ("all", "answer", np.ones_like(wrong), {"right": ~wrong, "wrong": wrong}),
        ("wrong", "why", wrong, {name: reasons == i for i, name in enumerate(WHY)}),
        ("wrong", "what", wrong, {name: kinds == i for i, name in enumerate(WHAT)}),
        ("misread", "what", misread, {name: kinds == i for i, name in enumerate(WHAT)}),
        ("wrong", "choice", wrong, {"likeliest-right": choice, "likeliest-wrong": ~choice}),
    ]
    rows = []
    for of, by, these, categories in splits:
        if not these.any():
            continue
        shared = answered.shared.of(these)
        for category, members in categories.items():
            own = members[these]
            rows.append(
                {
                    "of": of,
                    "by": by,
                    "category": category,
                    "n": int(own.sum()),
                    "n_of": len(own),
                    "share": float(own.mean()),
                    "ci95": list(rate_interval(own, shared)),
                }
            )
    return rows
