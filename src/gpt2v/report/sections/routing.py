"""Which cells' objects stand where a question is read, by layer of the GPT-2."""

from collections.abc import Sequence
from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report.chart import Chart
from gpt2v.report.checked import Row
from gpt2v.report.lines import Line, rate_lines
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.sites import rate_of
from gpt2v.report.words import percent

_POSITIONS = {
    "question": "At the end of the question",
    "answer": "Where the answer is predicted",
}
_TARGETS = {
    "asked": ("the asked cell", "image"),
    "row": ("another cell of its row", "text"),
    "column": ("another cell of its column", "probe"),
    "other": ("any other cell", "lm"),
}


@SECTIONS.register("routing")
class Routing(Section):
    """Which cells' objects stand where a question is read, by layer."""

    nav, order, kinds = "Routing", 29, ("probe",)

    def content(self, run: Run) -> dict[str, Any] | None:
        rows: list[Row] = run.measures.get("routing", [])
        names = dict.fromkeys([*_POSITIONS, *(row["position"] for row in rows)])
        by_position = {name: [row for row in rows if row["position"] == name] for name in names}
        shown = {name: own for name, own in by_position.items() if own}
        if not shown:
            return None
        return {
            "sentences": [arrival(own) for own in shown.values()],
            "elsewhere": percent(
                max(
                    (row["bag"] for row in rows if "bag" in row and row["target"] != "asked"),
                    default=1.0,
                )
            ),
            "charts": [_chart(number, own) for number, own in enumerate(shown.values())],
        }


def _title(rows: Sequence[Row]) -> str:
    position: str = rows[0]["position"]
    return _POSITIONS.get(position, position)


def arrival(rows: Sequence[Row]) -> str:
    """In which layers the object of the asked cell stands, in a sentence.

    Args:
        rows: of one position.
    """
    asked = sorted((r for r in rows if r["target"] == "asked"), key=lambda row: float(row["layer"]))
    others = [row["palette_accuracy"] for row in rows if row["target"] != "asked"]
    if not asked:
        return f"{_title(rows)}: the asked cell was not read."
    what = "the bag" if "bag" in asked[0] else "chance"
    above = [row for row in asked if row["palette_ci95"][0] > row.get("bag", row["chance"])]
    if not above:
        return f"{_title(rows)}, in no layer is the object of the asked cell read above {what}."
    best = max(asked, key=lambda row: float(row["palette_accuracy"]))
    rest = f"; that of other cells is read to {percent(max(others))} at most" if others else ""
    return (
        f"{_title(rows)}, the object of the asked cell is read above {what} in {len(above)} "
        f"of {len(asked)} layers, the first being layer {above[0]['layer']}, and best in layer "
        f"{best['layer']}, to {percent(best['palette_accuracy'])}{rest}."
    )


def _chart(number: int, rows: Sequence[Row]) -> Chart:
    targets = dict.fromkeys([*_TARGETS, *(row["target"] for row in rows)])
    lines = []
    for target in targets:
        label, colour = _TARGETS.get(target, (target, ""))
        rates = {
            row["layer"]: rate_of(row, "palette_accuracy", "palette_ci95")
            for row in rows
            if row["target"] == target
        }
        if rates:
            lines.append(Line(label, rates, colour))
    layers = {layer: f"{layer}" for layer in sorted({row["layer"] for row in rows})}
    name = f"routing-{number}"
    known = ("chance", "bag")
    baselines = {key: float(value) for key, value in rows[0].items() if key in known}
    return rate_lines(name, _title(rows), "layer", lines, places=layers, baselines=baselines)
