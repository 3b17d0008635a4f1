"""What decoders read beyond what they could learn by heart, elsewhere, or by more numbers."""

from collections.abc import Sequence
from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report.chart import Chart, Values
from gpt2v.report.checked import Row
from gpt2v.report.grouped import grouped_bars
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.sites import cell_name, in_order, rate_of, site_of
from gpt2v.report.words import percent, points, points_between

_RATES = {  # name on the page -> its keys, and its colour
    "true classes": ("accuracy", "ci95", "probe"),
    "random classes": ("control_accuracy", "control_ci95", "lm"),
}
_KINDS = {
    "all classes": ("accuracy", "ci95", "image"),
    "listed objects": ("palette_accuracy", "palette_ci95", "probe"),
}


@SECTIONS.register("selectivity")
class Selectivity(Section):
    """Decoders beside random classes, at other cells, and with equally many numbers."""

    nav, order, kinds = "Selectivity", 28, ("probe",)

    def content(self, run: Run) -> dict[str, Any] | None:
        names = ("selectivity", "equal-dimension", "transfer", "description-length")
        own, equal, moved, bits = (run.measures.get(name, []) for name in names)
        if not (own or equal or moved or bits):
            return None
        return {
            "bars": _selectivity(own) if own else None,
            "selectivity": "; ".join(_differences(own)),
            "equal": _equal(equal) if equal else None,
            "n_cells": len(equal[0].get("cells", [])) if equal else 0,
            "n_components": int(equal[0]["n_components"]) if equal else None,
            "moved": _moved(moved),
            "bits": _bits(bits),
        }


def _selectivity(rows: Sequence[Row]) -> Chart:
    groups = {
        f"{site}: {row['cell'][0]}, {row['cell'][1]}": {
            name: rate_of(row, key, ci) for name, (key, ci, _) in _RATES.items()
        }
        for site in in_order(rows)
        for row in rows
        if site_of(row) == site
    }
    colours = {name: colour for name, (_, _, colour) in _RATES.items()}
    return grouped_bars("selectivity-bars", "Selectivity", "site and cell", groups, colours)


def _differences(rows: Sequence[Row]) -> list[str]:
    """The lowest and the highest selectivity at each site."""
    found = []
    for site in in_order(rows):
        values = [row["selectivity"] for row in rows if site_of(row) == site]
        ends = dict.fromkeys(points(value) for value in (min(values), max(values)))
        found.append(f"{site} {' to '.join(ends)}")
    return found


def _equal(rows: Sequence[Row]) -> Chart:
    groups = {
        str(site): {name: rate_of(row, key, ci) for name, (key, ci, _) in _KINDS.items()}
        for site in in_order(rows)
        for row in rows
        if site_of(row) == site
    }
    colours = {name: colour for name, (_, _, colour) in _KINDS.items()}
    title = "Equally many numbers at each site"
    return grouped_bars("selectivity-equal", title, "site", groups, colours)


def _moved(rows: Sequence[Row]) -> Values | None:
    heads = ("trained at", "tested at", "site", "accuracy", "difference", "95% interval")
    lines = [
        (
            cell_name(row["trained"]),
            cell_name(row["tested"]),
            str(site),
            percent(row["accuracy"]),
            points(row["difference"]),
            points_between(row["difference_ci95"]),
        )
        for site in in_order(rows)
        for row in rows
        if site_of(row) == site and row["trained"] != row["tested"]
    ]
    return (
        Values("Decoders at cells where they were not trained", heads, lines, 3) if lines else None
    )


def _bits(rows: Sequence[Row]) -> Values | None:
    heads = ("cell", "site", "bits for each label", "compression", "training pictures")
    lines = [
        (
            cell_name(row["cell"]),
            str(site),
            f"{row['bits_per_label']:.3f}",
            f"{row['compression']:.2f}",
            f"{int(row['n_train']):,}",
        )
        for site in in_order(rows)
        for row in rows
        if site_of(row) == site
    ]
    return Values("Bits that the objects take", heads, lines, 2) if lines else None
