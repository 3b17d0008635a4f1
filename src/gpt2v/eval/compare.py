"""`gpt2v eval compare A B ...`: evaluations of the same samples, compared question by question.

Each later evaluation is compared with the first. Differences are paired, and their intervals know
which questions share a picture or a tile (`stats`).

Shapes: J questions in a flat list.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v import runs
from gpt2v.errors import UserError
from gpt2v.eval.language.compare import compare_language, is_language
from gpt2v.eval.metrics import column
from gpt2v.eval.paired import Evaluation, Pair, Row, n_images, pairs_of, read_evaluation
from gpt2v.stats.intervals import Difference, holm
from gpt2v.stats.shared import Bools

BREAKDOWNS = ("part", "instruction", "cell", "class")


def compare_runs(names: Sequence[str], by: Sequence[str], run: Path) -> Row:
    """Compare evaluations with the first one; returns the content of results.json.

    Args:
        names: run directories of evaluations, or of demos; or of measurements of language.
        by: breakdowns: `part`, `instruction`, `cell`, `class`.
        run: the run directory of the comparison.

    Raises:
        UserError: one is no finished evaluation, or the samples are not the same.
    """
    started = time.monotonic()
    check_compared(names, by)
    if any(map(is_language, names)):
        if by and tuple(by) != BREAKDOWNS:
            raise UserError(
                f"--by: {','.join(by)} has no effect on language without grids; leave it out, or "
                "choose none"
            )
        return compare_language(names, bool(by), run)
    first, *others = map(read_evaluation, names)
    rows = [row for other in others for row in _compared(first, other, by)]
    for breakdown in ("all", *by):
        family = [row for row in rows if row["by"] == breakdown]
        adjusted = holm(np.array([row["p"] for row in family]))
        for row, p in zip(family, adjusted.tolist(), strict=True):
            row["p_holm"] = p
    return runs.write_results(
        run,
        "compare",
        started,
        seed=first.results.get("seed"),
        data_hash=first.results.get("data_hash"),
        compared=list(names),
        results=rows,
    )


def check_compared(names: Sequence[str], by: Sequence[str]) -> None:
    """Raise UserError unless there is something to compare, in ways that there are."""
    if len(names) < 2:
        raise UserError("eval compare: needs two or more evaluations")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UserError(f"eval compare: {name} is given twice")
    for i, breakdown in enumerate(by):
        if breakdown not in BREAKDOWNS:
            raise UserError(f"--by: must be some of {', '.join(BREAKDOWNS)}, not '{breakdown}'")
        if breakdown in by[:i]:
            raise UserError(f"--by: {breakdown} is given twice")


def _compared(first: Evaluation, other: Evaluation, by: Sequence[str]) -> Iterator[Row]:
    for pair in pairs_of(first, other):
        names = {"first": first.name, "other": other.name}
        names |= {"model": pair.model, "modality": pair.modality}
        everything = np.ones(pair.shared.n, bool)
        yield _row({**names, "by": "all", "value": None}, pair, everything)
        for breakdown in by:
            groups = _groups(pair.asked, breakdown)
            for value in _in_order(groups, breakdown):
                chosen = np.array([group == value for group in groups])
                yield _row({**names, "by": breakdown, "value": value}, pair, chosen)


def _groups(records: pa.Table, breakdown: str) -> list[Any]:
    """Of each question, the group that it is in; None: in none.

    Cells and classes are those of look-ups; a part or an instruction that is the only one says
    nothing new.
    """
    lookups = column(records, "instruction") == "lookup"
    if breakdown == "cell":
        cells = zip(column(records, "row").tolist(), column(records, "col").tolist(), strict=True)
        return [f"{r}, {c}" if own else None for own, (r, c) in zip(lookups, cells, strict=True)]
    if breakdown == "class":
        truths = column(records, "truth")
        return [str(name) if own else None for own, name in zip(lookups, truths, strict=True)]
    if breakdown not in records.column_names:
        return [None] * len(records)
    values = column(records, breakdown).tolist()
    return values if len(set(values)) > 1 else [None] * len(records)


def _in_order(groups: list[Any], breakdown: str) -> list[Any]:
    """The different groups: cells and classes sorted, parts and instructions as they come."""
    different = dict.fromkeys(group for group in groups if group is not None)
    return sorted(different) if breakdown in ("cell", "class") else list(different)


def _row(names: Row, pair: Pair, chosen: Bools) -> Row:
    """A row of results about some of the questions (J,)."""
    first, other, here = pair.first[chosen], pair.other[chosen], pair.shared.of(chosen)
    found, asked = Difference.between(other, first, here), pair.asked.filter(pa.array(chosen))
    tiles = {} if here.tiles is None else {"n_tiles": len(np.unique(here.tiles[here.tiles >= 0]))}
    return {
        **names,
        "first_accuracy": float(first.mean()),
        "other_accuracy": float(other.mean()),
        "difference": found.value,
        "ci95": list(found.interval()),
        "p": found.p,
        "smallest_difference": found.smallest,
        "n_images": n_images(asked),
        "n_contents": len(np.unique(column(asked, "content"))),
        **tiles,
        "n_questions": here.n,
    }
