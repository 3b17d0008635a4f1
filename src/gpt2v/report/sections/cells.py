"""Accuracy by cell of the grid."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import analysis, maps
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.standing import reads
from gpt2v.report.verdict import headline
from gpt2v.report.words import counted_range


@SECTIONS.register("cells")
class Cells(Section):
    """Accuracy by cell of the grid."""

    nav, order, kinds = "By cell", 40, ("eval",)

    def content(self, run: Run) -> dict[str, Any] | None:
        tables = analysis.lookup_tables(run)
        cells = {key: analysis.cell_accuracy(t, t["exact"]) for key, t in tables.items()}
        if not cells:
            return None
        low = analysis.shade_floor(*cells.values())
        drawn = []
        for key, values in cells.items():
            title, colour = analysis.series_of(run)[key]
            name = f"cells-{key[0]}-{key[1]}"
            drawn.append(maps.cell_map(name, title, values, low, colour))
        each = [n for table in tables.values() for n in analysis.questions_by_cell(table)]
        head = headline(run)
        read = any(reads(rate, head.baselines) for rate in (head.text, head.image, head.lm))
        return {
            "low": low,
            "maps": drawn,
            "asked": analysis.asked(tables.values()),
            "each": counted_range(each, "question"),
            "read": read,
        }
