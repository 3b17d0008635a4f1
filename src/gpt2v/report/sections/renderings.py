"""The spread of accuracy over renderings of the same grids."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import plots
from gpt2v.report.analysis import Rate
from gpt2v.report.checked import Row
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.words import percent


@SECTIONS.register("renderings")
class Renderings(Section):
    """The spread of accuracy over renderings of the same grids."""

    nav, order, kinds, whole = "Renderings", 15, ("eval",), True

    def content(self, run: Run) -> dict[str, Any] | None:
        rows: list[Row] = run.results.get("renderings", [])
        items = []
        for number, row in enumerate(rows):
            if not row["differences"]:
                continue
            bars = [
                plots.Bar(
                    f"{one['part']} ({percent(one['accuracy'])})",
                    Rate(one["difference"], tuple(one["ci95"])),
                    COLOURS.get(row["modality"], "probe"),
                )
                for one in row["differences"]
            ]
            title = f"{row['modality']}: minus {row['reference']} ({percent(row['accuracy'])})"
            chart = plots.differences(f"renderings-{number}", title, bars)
            found = [one["part"] for one in row["differences"] if one["p_holm"] < 0.05]
            items.append({"chart": chart, "row": row, "found": found})
        return {"items": items} if items else None


COLOURS = {"text": "text", "image": "image"}
