"""What can be read of a cell from the patches of another one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt2v.config.sites import Site
from gpt2v.probing.excess import stands_out
from gpt2v.registry import SECTIONS
from gpt2v.report import maps
from gpt2v.report.chart import Chart
from gpt2v.report.checked import Row
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.sites import cell_name, in_order, site_of
from gpt2v.report.words import p_value, points, points_between

_MOST = 36  # cells of a map


@SECTIONS.register("leakage")
class Leakage(Section):
    """How well the object of one cell is read from the patches of another."""

    nav, order, kinds = "Leakage", 28, ("probe",)

    def content(self, run: Run) -> dict[str, Any] | None:
        rows: list[Row] = run.measures.get("leakage", [])
        if not rows:
            return None
        by_site = {site: [r for r in rows if site_of(r) == site] for site in in_order(rows)}
        charts = [_map(number, *one) for number, one in enumerate(by_site.items())]
        return {
            "sentences": [leak_sentence(site, own) for site, own in by_site.items()],
            "charts": [chart for chart in charts if chart is not None],
        }


def leak_sentence(site: Site, rows: Sequence[Row]) -> str:
    """How much leaks at a site, in a sentence."""
    others = [row for row in rows if "excess" in row]
    if not others:
        return f"{site}: only one cell was read."
    beyond = [row for row in others if stands_out(row)]
    of = f"of {len(others)} pairs of cells"
    if not beyond:
        return f"{site}: in none {of} is another cell's object read beyond what is expected."
    most = max(beyond, key=lambda row: float(row["excess"]))
    shown = f"95% interval {points_between(most['excess_ci95'])}, p after Holm " + p_value(
        most["p_holm"]
    )
    placed = [row for row in others if stands_out(row, "beyond_bag", "beyond_bag_p_holm")]
    return (
        f"{site}: in {len(beyond)} {of} another cell's object is read beyond what is expected, in "
        f"{len(placed)} beyond the bag; the most, by {points(most['excess'])} points ({shown}), "
        f"that of {cell_name(most['of'])} from the patches of {cell_name(most['read'])}."
    )


def _map(number: int, site: Site, rows: Sequence[Row]) -> Chart | None:
    """The excess of each pair, and the accuracy of each cell; None if there are too many."""
    cells = sorted({tuple(row[key]) for row in rows for key in ("of", "read")})
    if len(cells) > _MOST:
        return None
    found = np.full((len(cells), len(cells)), np.nan)
    for row in rows:
        at = cells.index(tuple(row["read"])), cells.index(tuple(row["of"]))
        found[at] = row["accuracy"] if at[0] == at[1] else row.get("excess", np.nan)
    names = [f"{row}, {col}" for row, col in cells]
    return maps.leakage_map(f"leakage-{number}", str(site), names, found)
