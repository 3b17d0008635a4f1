"""Whether one model answers the same in each modality."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import plots
from gpt2v.report.analysis import Rate
from gpt2v.report.chart import Values
from gpt2v.report.checked import Row
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.words import percent, points, points_between


@SECTIONS.register("agreement")
class Agreement(Section):
    """Whether one model answers the same in each modality, beyond what independent errors give."""

    nav, order, kinds, whole = "Agreement", 25, ("eval",), True

    def content(self, run: Run) -> dict[str, Any] | None:
        rows: list[Row] = run.results.get("agreement", [])
        if not rows:
            return None
        bars = []
        for row in rows:
            bars.append(plots.Bar(_label(row), Rate(row["agreement"], tuple(row["ci95"])), "probe"))
            bars.append(plots.Bar("if errors were independent", Rate(row["independent"]), "lm"))
        return {
            "chart": plots.bars("agreement", "The same answer in each modality", bars, {}),
            "table_of": _values(rows),
        }


def _label(row: Row) -> str:
    return f"{row['instruction']}: {', '.join(row['modalities'])}"


def _values(rows: list[Row]) -> Values:
    heads = ("", "right (+), wrong (-)", "same answer", "independent", "random", "beyond",
             "95% interval")  # fmt: skip
    return Values(
        "Agreement",
        heads,
        [
            (
                _label(row),
                ", ".join(f"{kind} {n:,}" for kind, n in row["outcomes"].items()),
                percent(row["agreement"]),
                percent(row["independent"]),
                percent(row["random"]),
                "" if row["beyond"] is None else points(row["beyond"]),
                "" if row["beyond"] is None else points_between(row["beyond_ci95"]),
            )
            for row in rows
        ],
        n_words=2,
    )
