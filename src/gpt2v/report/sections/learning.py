"""Learning curves of the trainings."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import analysis
from gpt2v.report.curves import FEWEST_AVERAGED, learning_curves
from gpt2v.report.read import Run
from gpt2v.report.section import Section

TITLES = {"encoder": "encoder", "lm": "language model", "mm": "GPT-2v"}


@SECTIONS.register("learning")
class Learning(Section):
    """Learning curves of the trainings."""

    nav, order, kinds = "Learning", 70, ("encoder", "lm", "mm")

    def content(self, run: Run) -> dict[str, Any] | None:
        curves = [
            {
                "chart": learning_curves(f"curve-{kind}", f"Training, {TITLES[kind]}", lines),
                "averaged": sum("loss" in line for line in lines) >= FEWEST_AVERAGED,
                "stages": analysis.stages(lines),
                "last": lines[-1]["step"],
            }
            for kind, lines in run.curves.items()
            if any("loss" in key or "accuracy" in key for line in lines for key in line)
        ]
        return {"curves": curves} if curves else None
