"""Decoders beside the model: what each of a family finds, minus what the model says.

A decoder is an instrument with errors of its own, and no ceiling: it can be better or worse than
the model. So differences are signed, and a loss is one only where every decoder agrees.

Shapes: J questions in a flat list.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt2v.config.sites import Site
from gpt2v.probing.answered import Answered, Family
from gpt2v.stats.intervals import Difference, holm
from gpt2v.stats.shared import Bools

Row = dict[str, Any]
ANY, MAJORITY = "any", "majority"  # of the whole family


def beside(answered: Answered, families: Mapping[Site, Family]) -> list[Row]:
    """The palette-restricted accuracy of each decoder minus that of the model on pictures.

    Args:
        answered: the questions and the model's answers.
        families: of each site what its decoders name, chosen among the listed objects.

    Returns:
        Rows with `site`, `layer`, `decoder`, both accuracies, and `difference` with its paired
        `ci95`, `p` and `p_holm` over all rows. `below_text` (with `below_text_ci95`) is the model's
        accuracy from text minus that of the decoder. Of each site with several decoders there are
        two rows more: `any`, which is right where one of them is, and so the better the more there
        are; and `majority`, what most of them name (among equals, the first decoder's).
    """
    rows = []
    for site, family in families.items():
        named = {name: (own == answered.truth).reshape(-1) for name, own in family.items()}
        if len(named) > 1:
            voted = _majority(list(family.values())) == answered.truth
            named |= {ANY: np.any(list(named.values()), axis=0), MAJORITY: voted.reshape(-1)}
        for name, right in named.items():
            rows.append({**site.fields, "decoder": name, **_row(answered, right)})
    if rows:
        for row, p in zip(rows, holm(np.array([row["p"] for row in rows])).tolist(), strict=True):
            row["p_holm"] = p
    return rows


def _row(answered: Answered, right: Bools) -> Row:
    """The row of a decoder that names some cells right, (J,)."""
    found = Difference.between(right, answered.right, answered.shared)
    below_text = Difference.between(answered.text_right, right, answered.shared)
    return {
        "palette_accuracy": float(right.mean()),
        "model_accuracy": float(answered.right.mean()),
        "text_accuracy": float(answered.text_right.mean()),
        "difference": found.value,
        "ci95": list(found.interval()),
        "p": found.p,
        "below_text": below_text.value,
        "below_text_ci95": list(below_text.interval()),
        "n_images": answered.n_images,
        "n_questions": len(right),
    }


def _majority(decoded: Sequence[np.ndarray]) -> np.ndarray:
    """What most decoders name; among equally many, what the first of these decoders does."""
    votes = np.stack(decoded)
    counts = (votes[:, None] == votes[None]).sum(0)
    most: np.ndarray = np.take_along_axis(votes, counts.argmax(0)[None], 0)[0]
    return most


def at_site(rows: Sequence[Row], site: str | None, layer: int | None) -> list[Row]:
    """The rows of single decoders at a site, of the rows of `beside`."""
    return [
        row
        for row in rows
        if (row["site"], row["layer"]) == (site, layer) and row["decoder"] not in (ANY, MAJORITY)
    ]


def agreed(
    values: Sequence[float], intervals: Sequence[Sequence[float]]
) -> tuple[float, float, int]:
    """The range of some differences, and their sign if all intervals are on that side of 0."""
    sign = 0
    if all(low > 0 for low, _ in intervals):
        sign = 1
    elif all(high < 0 for _, high in intervals):
        sign = -1
    return min(values), max(values), sign
