"""The vision-token ladder: accuracy by rung."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import plots
from gpt2v.report.analysis import Rate
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.verdict import headline


@SECTIONS.register("ladder")
class Ladder(Section):
    """Accuracy by rung of the vision-token ladder."""

    nav, order, kinds = "Ladder", 60, ("ladder",)

    def content(self, run: Run) -> dict[str, Any] | None:
        if not run.ladder:
            return None
        bars = []
        for row in run.ladder:
            label = " · ".join(str(row[key]) for key in ("rung", "name") if row.get(key))
            ci = tuple(row["ci95"]) if row.get("ci95") else None
            colour = {"text": "text", "picture": "image"}.get(str(row.get("name")), "probe")
            bars.append(plots.Bar(label, Rate(row["accuracy"], ci), colour))
        return {
            "svg": plots.bars("ladder", "Accuracy by rung", bars, headline(run).baselines),
            "rows": run.ladder,
        }
