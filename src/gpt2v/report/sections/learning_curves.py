"""How the accuracy of decoders grows with the number of their training pictures."""

from collections.abc import Sequence
from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report.analysis import Rate
from gpt2v.report.checked import Row
from gpt2v.report.lines import Line, rate_lines
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.sites import rate_of
from gpt2v.report.words import points, points_between


@SECTIONS.register("learning-curves")
class LearningCurves(Section):
    """Accuracy of the decoders of a probe by the number of their training pictures."""

    nav, order, kinds = "Training pictures", 27, ("probe",)

    def content(self, run: Run) -> dict[str, Any] | None:
        rows: list[Row] = run.measures.get("learning-curve", [])
        if not rows:
            return None
        by_decoder = {
            decoder: [row for row in rows if row["decoder"] == decoder]
            for decoder in dict.fromkeys(row["decoder"] for row in rows)
        }
        lines = [Line(decoder, _rates(own)) for decoder, own in by_decoder.items()]
        sizes = {n: f"{n:,}" for n in sorted({row["n_train"] for row in rows})}
        title = "Accuracy among the listed objects by training pictures"
        return {
            "n_cells": len(rows[0].get("cells", [])),
            "sentences": [growth(own) for own in by_decoder.values()],
            "chart": rate_lines(
                "learning-curves", title, "training pictures", lines, places=sizes, doubling=True
            ),
        }


def _rates(rows: Sequence[Row]) -> dict[float, Rate]:
    return {row["n_train"]: rate_of(row, "palette_accuracy", "palette_ci95") for row in rows}


def growth(rows: Sequence[Row]) -> str:
    """Whether more pictures would help a decoder, in a sentence.

    Args:
        rows: of one decoder, from the fewest training pictures to the most.
    """
    last = rows[-1]
    decoder = last["decoder"]
    if "gain" not in last:
        return f"{decoder}: with a single number of training pictures, no growth can be told."
    gain, within = points(last["gain"]), points_between(last["gain_ci95"])
    by = f"{gain} points (95% interval {within}) with the last doubling"
    if last.get("levelled"):
        return f"{decoder} has levelled off: it gains {by}."
    if last["gain_ci95"][0] > 0:
        return f"{decoder} still grows by {by}."
    return f"{decoder} may still grow: it gains {by}."
