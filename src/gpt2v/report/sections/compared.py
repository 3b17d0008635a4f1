"""Differences between evaluations of the same samples."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import plots
from gpt2v.report.analysis import Rate
from gpt2v.report.chart import Chart, Values
from gpt2v.report.checked import Row
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.words import p_value, percent, points, points_between

_TITLES = {"all": "Difference", "cell": "By cell (row, column)", "class": "By object"}
_ALL = ("all", "part", "instruction", "family", "phenomenon")


@SECTIONS.register("compared")
class Compared(Section):
    """Differences between evaluations of the same samples."""

    nav, order, kinds = "Compared", 10, ("compare",)

    def content(self, run: Run) -> dict[str, Any]:
        pairs = list(dict.fromkeys((str(row["other"]), str(row["modality"])) for row in run.rows))
        return {
            "first": run.rows[0]["first"],
            "over": "items of new words" if "n_items" in run.rows[0] else "grids of new tiles",
            "pairs": [
                {
                    "other": other,
                    "modality": modality,
                    "charts": _charts(run.rows, number, other, modality),
                    "table": _values([r for r in run.rows if _of(r, other, modality)]),
                }
                for number, (other, modality) in enumerate(pairs)
            ],
        }


def _of(row: Row, other: str, modality: str) -> bool:
    return (row["other"], row["modality"]) == (other, modality)


def _charts(rows: list[Row], number: int, other: str, modality: str) -> list[Chart]:
    """One chart of everything, parts and instructions, one of cells, and one of classes."""
    charts = []
    for by, title in (
        ("all", "Difference"),
        ("cell", "By cell (row, column)"),
        ("class", "By object"),
    ):
        kinds = _ALL if by == "all" else (by,)
        own = [row for row in rows if _of(row, other, modality) and row["by"] in kinds]
        bars = [
            plots.Bar(_label(row), Rate(row["difference"], tuple(row["ci95"])), modality)
            for row in own
        ]
        if bars:
            charts.append(plots.differences(f"compared-{number}-{by}", title, bars))
    return charts


def _label(row: Row) -> str:
    return "all questions" if row["value"] is None else str(row["value"])


def _values(rows: list[Row]) -> Values:
    heads = ("", "by", "first", "other", "difference", "95% interval", "p", "p (Holm)",
             "detectable", "questions")  # fmt: skip
    return Values(
        "Every difference",
        heads,
        [
            (
                _label(row),
                row["by"],
                percent(row["first_accuracy"]),
                percent(row["other_accuracy"]),
                points(row["difference"]),
                points_between(row["ci95"]),
                p_value(row["p"]),
                p_value(row["p_holm"]),
                points(row["smallest_difference"]),
                f"{row['n_questions']:,}",
            )
            for row in rows
        ],
        n_words=2,
    )
