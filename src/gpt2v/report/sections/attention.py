"""Where the model looks when it answers."""

from typing import Any

import pyarrow.compute as pc

from gpt2v.registry import SECTIONS
from gpt2v.report import attention, maps
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.words import counted, percent

EXAMPLES = 4  # pictures with the attention over them


@SECTIONS.register("attention")
class Attention(Section):
    """Where the model looks when it answers: attention by layer, by distance, over pictures."""

    nav, order, kinds = "Attention", 60, ("eval",)

    def content(self, run: Run) -> dict[str, Any] | None:
        if run.attention is None:
            return None
        table = attention.about_one_cell(run.attention, "image")
        if not len(table):
            return None
        places = attention.by_place(table)
        layer = int(places["the cell"].argmax())
        here = table.filter(pc.field("layer") == layer)
        chosen = _examples(here.to_pylist(), sorted(run.pictures))
        most = max((max(row["patches"]) for row in chosen), default=1.0)
        title = f"Attention by distance from the cell, layer {layer}"
        return {
            "bars": attention.place_bars("attention-by-layer", "Attention by layer", places),
            "around": maps.offset_map(
                "attention-around", title, attention.around(table, layer), "image"
            ),
            "pictures": [
                attention.heat_map(f"attention-{number}", row, run.pictures[row["sample"]], most)
                for number, row in enumerate(chosen)
            ],
            "layer": layer,
            "most": percent(most),
            "on_cell": percent(float(places["the cell"][layer])),
            "n": counted(len(here), "question"),
            "grids": counted(len(set(here["sample"].to_pylist())), "grid"),
        }


def _examples(rows: list[dict[str, Any]], pictured: list[int]) -> list[dict[str, Any]]:
    """A question about each of the first grids whose pictures are saved, each its own number."""
    chosen: list[dict[str, Any]] = []
    for sample in pictured:
        own = [row for row in rows if row["sample"] == sample]
        if own and len(chosen) < EXAMPLES:
            chosen.append(own[len(chosen) % len(own)])
    return chosen
