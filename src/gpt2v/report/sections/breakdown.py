"""Accuracy by size of the grid, listed objects, type of question, and earlier questions."""

from typing import Any

from gpt2v.eval.breakdown import KEYS, NEEDED, accuracy_by
from gpt2v.registry import SECTIONS
from gpt2v.report import analysis, rates
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.words import counted_range


@SECTIONS.register("breakdown")
class Breakdown(Section):
    """Accuracy by size of the grid, number of listed objects, type and number of the question."""

    nav, order, kinds, whole = "By size and question", 45, ("eval",), True

    def content(self, run: Run) -> dict[str, Any] | None:
        columns = {name for key in KEYS.values() for name in key.columns}
        series = analysis.own_series(run, *NEEDED, *columns, "mode")
        items = []
        for name, key in KEYS.items():
            groups = {
                label: (accuracy_by(table, name), colour)
                for label, (table, colour) in series.items()
                if name != "question" or "chained" in table["mode"].unique().to_pylist()
            }
            different = {group.value for found, _ in groups.values() for group in found}
            if len(different) < 2:
                continue
            n = [group.n_questions for found, _ in groups.values() for group in found]
            title = f"Accuracy by {key.title}"
            chart = rates.rate_dots(f"by-{name}", title, key.title, groups)
            items.append({"chart": chart, "each": counted_range(n, "question")})
        return {"items": items} if items else None
