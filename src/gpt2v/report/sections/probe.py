"""A probe without an evaluation: its accuracy, its controls, and accuracy by cell."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import analysis, maps, plots
from gpt2v.report.analysis import Rate
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.sections.lost import probe_cells


@SECTIONS.register("probe")
class Probe(Section):
    """A linear probe of the encoder: its accuracy, its controls, and accuracy by cell."""

    nav, order, kinds = "Probe", 25, ("probe",)

    def content(self, run: Run) -> dict[str, Any] | None:
        if "eval" in run.kinds:  # section `lost` shows probe and model together
            return None
        bars = []
        for row in run.probe:
            if row["cell"] == "all":
                control = row.get("control") or "none"
                name = "Probe" if control == "none" else f"Control: {control}"
                pair = row.get("ci95")
                interval = (float(pair[0]), float(pair[1])) if pair else None
                colour = "probe" if control == "none" else "lm"
                bars.append(plots.Bar(name, Rate(row["accuracy"], interval), colour))
        if not bars:
            return None
        cells = probe_cells(run)
        by_cell = None
        if cells is not None:
            low = analysis.shade_floor(cells)
            chart = maps.cell_map("probe-cells", "Probe", cells, low, "probe")
            by_cell = {"low": low, "chart": chart}
        table = run.probe_records
        return {
            "chart": plots.bars("probe-bars", "Probe and controls, all classes", bars, {}),
            "by_cell": by_cell,
            "n_train": run.probe[0].get("n_train"),
            "asked": None if table is None else analysis.asked([table]),
        }
