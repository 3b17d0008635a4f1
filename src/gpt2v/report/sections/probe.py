"""Decoders of the object in each cell: their accuracy by site, their controls, and by cell."""

from collections.abc import Sequence
from typing import Any

from gpt2v.config.sites import Site
from gpt2v.registry import SECTIONS
from gpt2v.report import analysis, maps, plots
from gpt2v.report.chart import Chart
from gpt2v.report.checked import Row
from gpt2v.report.lines import Line, rate_lines
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.sections.lost import probe_cells
from gpt2v.report.sites import in_order, places, rate_of, site_of
from gpt2v.report.verdict import probe_row

_NONE = "none"  # the control of rows without one
_KINDS = (  # key of a rate, of its interval, what it is, its colour
    ("palette_accuracy", "palette_ci95", "among the listed objects", "probe"),
    ("accuracy", "ci95", "all classes", "image"),
)


@SECTIONS.register("probe")
class Probe(Section):
    """Decoders of each cell: accuracy by site and decoder, their controls, and by cell."""

    nav, order, kinds = "Probe", 25, ("probe",)

    def content(self, run: Run) -> dict[str, Any] | None:
        main = probe_row(run)
        whole = [row for row in run.probe if row["cell"] == "all"]
        here = [row for row in whole if main is not None and _site(row) == _site(main)]
        curve = _by_site(whole)
        if main is None or ("eval" in run.kinds and curve is None and len(_names(here)) < 2):
            return None  # section `lost` shows a single probe and the model together
        bars = [
            plots.Bar(_name(row), rate_of(row), "probe" if _control(row) == _NONE else "lm")
            for row in here
        ]
        table = run.probe_records
        return {
            "curve": curve,
            "chart": plots.bars("probe-bars", "Probe and controls, all classes", bars, {}),
            "site": _site(main),
            "by_cell": _by_cell(run),
            "n_train": main.get("n_train"),
            "asked": None if table is None else analysis.asked([table]),
        }


def _site(row: Row) -> str | None:
    return str(Site(row["site"], row.get("layer"))) if row.get("site") else None


def _control(row: Row) -> str:
    return row.get("control") or _NONE


def _name(row: Row) -> str:
    decoder, control = row.get("decoder"), _control(row)
    if control == _NONE:
        return decoder or "Probe"
    return f"Control: {control}{f', {decoder}' if decoder else ''}"


def _names(rows: Sequence[Row]) -> set[str]:
    """The decoders of rows without a control."""
    return {_name(row) for row in rows if _control(row) == _NONE}


def _by_cell(run: Run) -> dict[str, Any] | None:
    """Maps of the accuracy by cell; None if the results do not tell it."""
    cells = {
        title: probe_cells(run, palette)
        for title, palette in (("Among the listed objects", True), ("All classes", False))
    }
    known = {title: own for title, own in cells.items() if own is not None}
    if not known:
        return None
    low = analysis.shade_floor(*known.values())
    charts = [
        maps.cell_map(f"probe-cells-{number}", title, own, low, "probe")
        for number, (title, own) in enumerate(known.items())
    ]
    return {"low": low, "charts": charts}


def _by_site(rows: Sequence[Row]) -> Chart | None:
    """The accuracy of the first decoder, and of its controls, by site; None for a single site."""
    sited = [row for row in rows if row.get("site") and "layer" in row]
    own = [row for row in sited if row.get("decoder") == sited[0].get("decoder")]
    sites = in_order(own)
    if len(sites) < 2:
        return None
    at = places(sites)
    lines = []
    for control in dict.fromkeys(map(_control, own)):
        for key, ci, what, colour in _KINDS:
            rates = {
                at[site_of(row)]: rate_of(row, key, ci)
                for row in own
                if _control(row) == control and row.get(key) is not None
            }
            is_control = control != _NONE
            label = f"{control}, {what}" if is_control else what
            if rates:
                lines.append(Line(label, rates, "lm" if is_control else colour, is_control))
    names = {place: str(site) for site, place in at.items()}
    title = f"{_name(own[0])}: accuracy by site" if own[0].get("decoder") else "Accuracy by site"
    return rate_lines("probe-sites", title, "site", lines, places=names, joined=1)
