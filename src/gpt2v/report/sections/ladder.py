"""The vision-token ladder: accuracy by rung."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import plots
from gpt2v.report.analysis import Rate
from gpt2v.report.checked import Row
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.standing import reads
from gpt2v.report.verdict import headline
from gpt2v.report.words import counted_range


@SECTIONS.register("ladder")
class Ladder(Section):
    """Accuracy by rung of the vision-token ladder."""

    nav, order, kinds = "Ladder", 60, ("ladder",)

    def content(self, run: Run) -> dict[str, Any] | None:
        if not run.ladder:
            return None
        baselines = headline(run).baselines
        bars = []
        for row in run.ladder:
            label = " · ".join(str(row[key]) for key in ("rung", "name") if row.get(key))
            ci = tuple(row["ci95"]) if row.get("ci95") else None
            colour = {"text": "text", "picture": "image"}.get(str(row.get("name")), "probe")
            bars.append(plots.Bar(label, Rate(row["accuracy"], ci), colour))
        return {
            "chart": plots.bars("ladder", "Accuracy by rung", bars, baselines),
            "asked": _asked(run.ladder),
            "rows": run.ladder,
            "meaning": _meaning(run.ladder, baselines),
        }


def _asked(rows: list[Row]) -> str | None:
    """How many questions about how many grids each rung was asked; None if it is not known."""
    counts = [(row.get("n_questions"), row.get("n_images")) for row in rows]
    if any(number is None for pair in counts for number in pair):
        return None
    questions, grids = zip(*counts, strict=True)
    return f"{counted_range(questions, 'question')} about {counted_range(grids, 'grid')}"


def _meaning(rows: list[Row], baselines: dict[str, float]) -> str:
    """What the steps between the rungs show."""
    names = [str(row.get("name")) for row in rows]
    if len(rows) < 2:
        return "Only one rung was measured, so there is no step."
    if "text" not in names or "picture" not in names:
        end = "text" if "text" not in names else "picture"
        return f"The {end} was not measured, so these steps are a part of the way only."
    text = rows[names.index("text")]
    pair = text.get("ci95")
    rate = Rate(text["accuracy"], (pair[0], pair[1]) if pair else None)
    if not reads(rate, baselines):
        return (
            "The text itself is not clearly above the bag baseline, so the steps do not show where "
            "reading gets hard."
        )
    return "The step at which accuracy falls is where reading gets hard."
