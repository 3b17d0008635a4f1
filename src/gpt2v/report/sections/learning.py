"""Learning curves of the trainings."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import analysis, plots
from gpt2v.report.read import Run
from gpt2v.report.section import Section

TITLES = {"encoder": "Encoder", "lm": "Language model", "mm": "GPT-2v"}


@SECTIONS.register("learning")
class Learning(Section):
    """Learning curves of the trainings."""

    nav, order, kinds = "Learning", 70, ("encoder", "lm", "mm")

    def content(self, run: Run) -> dict[str, Any] | None:
        curves = [
            {
                "title": TITLES[kind],
                "svg": plots.learning_curves(f"curve-{kind}", f"{TITLES[kind]} training", lines),
                "stages": analysis.stages(lines),
                "last": lines[-1]["step"],
            }
            for kind, lines in run.curves.items()
            if any("loss" in key or "accuracy" in key for line in lines for key in line)
        ]
        return {"curves": curves} if curves else None
