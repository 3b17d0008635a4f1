"""Agreement: does one model answer the same from text, from pictures, and from both?

An answer is the likeliest choice, or what is said where the choices cannot be listed. Two readers
who err independently agree where both are right, and by chance where both are wrong. Agreement
beyond that tells that they find the same questions hard.

Shapes: J questions in a flat list.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gpt2v.eval.metrics import column, shared_in_parts
from gpt2v.stats.delta import of_rates
from gpt2v.stats.intervals import rate_interval
from gpt2v.stats.shared import Floats

COLUMNS = (
    "instruction", "modality", "sample", "content", "tiles", "truth", "prediction", "generated",
)  # fmt: skip


def agreement_of(
    tables: Mapping[tuple[str, str | None, str], pa.Table],
    chance: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Rows for results: agreement of each two modalities of a model, and of all if there are more.

    Args:
        tables: records with `COLUMNS`, by model, part of a suite and modality.
        chance: of each instruction the accuracy of a guess among the possible answers.

    Returns:
        For each model and instruction, over all parts in which it is asked:

        `outcomes`: numbers of questions, by which of the modalities answer right (`+`) and wrong
        (`-`), in the order of `modalities`. `agreement`: share of the questions with the same
        answer in each. `independent`: what it would be if errors were independent, with the same
        accuracies, and wrong answers even over the other ones. `random`: the same from the mean
        accuracy alone, as SEAM has it (https://arxiv.org/abs/2508.18179). `beyond`: agreement
        minus `independent`; null if some modality has no right or no wrong answer, for then
        agreement follows from the accuracies. Intervals are over new grids of new tiles.
    """
    rows = []
    for model in dict.fromkeys(model for model, _, _ in tables):
        own = {(part, m): t for (name, part, m), t in tables.items() if name == model}
        modalities = list(dict.fromkeys(modality for _, modality in own))
        sets: list[tuple[str, ...]] = [*combinations(modalities, 2)]
        sets += [tuple(modalities)] if len(modalities) > 2 else []
        for among in sets:
            parts = [
                [own[part, modality] for modality in among]
                for part in dict.fromkeys(part for part, _ in own)
                if all((part, modality) in own for modality in among)
            ]
            for instruction, kind in _by_instruction(parts).items():
                row = _agreement(kind, chance[instruction])
                names = {"model": model, "modalities": list(among), "instruction": instruction}
                rows.append({**names, **row})
    return rows


def _by_instruction(
    parts: Sequence[Sequence[pa.Table]],
) -> dict[str, list[list[pa.Table]]]:
    """The tables of each part and modality, by instruction."""
    found: dict[str, list[list[pa.Table]]] = {}
    for tables in parts:
        for instruction in tables[0]["instruction"].unique().to_pylist():
            asked = [t.filter(pc.equal(t["instruction"], instruction)) for t in tables]
            found.setdefault(instruction, []).append(asked)
    return found


def _agreement(parts: Sequence[Sequence[pa.Table]], chance: float) -> dict[str, Any]:
    """Agreement over the parts, each with the records of the same questions in the modalities."""
    n_readers = len(parts[0])
    answers = [np.concatenate([_answers(part[i]) for part in parts]) for i in range(n_readers)]
    truth = np.concatenate([column(part[0], "truth") for part in parts])
    right = np.stack([own == truth for own in answers], axis=1)  # (J, n_readers)
    same = np.all([own == answers[0] for own in answers], axis=0)
    shared = shared_in_parts([part[0] for part in parts])
    low, high = rate_interval(same, shared)
    counted = {
        "".join("+" if is_right else "-" for is_right in kind): int((right == kind).all(1).sum())
        for kind in product((True, False), repeat=n_readers)
    }
    rates = right.mean(0)
    even = chance / (1 - chance) if chance < 1 else 0.0  # that another wrong answer is the same

    def independent(rates: Floats) -> float:
        by_chance = even ** (n_readers - 1)
        return float(np.prod(rates) + np.prod(1 - rates) * by_chance)

    beyond: dict[str, Any] = {"beyond": None, "beyond_ci95": None}
    if not (right.all(0) | ~right.any(0)).any():
        value, interval = of_rates(
            lambda means: means[0] - independent(means[1:]),
            np.column_stack([same, right]).astype(float),
            shared,
        )
        beyond = {"beyond": value, "beyond_ci95": list(interval)}
    return {
        "n_questions": len(truth),
        "outcomes": counted,
        "agreement": float(same.mean()),
        "ci95": [low, high],
        "independent": independent(rates),
        "random": independent(np.full(n_readers, rates.mean())),
        **beyond,
    }


def _answers(records: pa.Table) -> np.ndarray:
    """The answer to each question, (J,); of what is said, large letters do not matter."""
    said = pc.utf8_lower(pc.utf8_trim(records["generated"], " .\n"))
    answers: np.ndarray = pc.coalesce(records["prediction"], said).to_numpy()
    return answers
