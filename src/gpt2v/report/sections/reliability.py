"""Whether the model is as often right as it is sure."""

from typing import Any

from gpt2v.eval.reliability import COLUMNS, N_BINS, reliability
from gpt2v.registry import SECTIONS
from gpt2v.report import analysis, rates
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.words import counted, percent


@SECTIONS.register("reliability")
class Reliability(Section):
    """Whether the model is as often right as it is sure; expected calibration error."""

    nav, order, kinds = "Reliability", 55, ("eval",)

    def content(self, run: Run) -> dict[str, Any] | None:
        items = []
        for label, (table, colour) in analysis.own_series(run, *COLUMNS).items():
            found = reliability(table)
            if not found.n_questions:
                continue
            chart = rates.reliability_diagram(f"reliability-{colour}", label, found, colour)
            left_out = f"; {found.n_left_out:,} without listed answers are left out"
            items.append(
                {
                    "chart": chart,
                    "label": label,
                    "ece": percent(found.ece),
                    "brier": f"{found.brier:.4f}",
                    "n": counted(found.n_questions, "question")
                    + (left_out if found.n_left_out else ""),
                }
            )
        return {"items": items, "n_bins": N_BINS} if items else None
