"""The headline accuracies and the baselines."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import analysis, plots
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.verdict import headline


@SECTIONS.register("baselines")
class Baselines(Section):
    """Accuracy by modality, compared with chance, blind and bag."""

    nav, order, kinds = "Baselines", 10, ("eval",)

    def content(self, run: Run) -> dict[str, Any] | None:
        head = headline(run)
        rates = [
            (f"{run.model_name}, text", head.text, "text"),
            (f"{run.model_name}, picture", head.image, "image"),
            ("Linear probe of the encoder, same palette", head.probe, "probe"),
            ("GPT-2 before it got eyes, text", head.lm, "lm"),
        ]
        bars = [plots.Bar(name, rate, colour) for name, rate, colour in rates if rate]
        if not bars:
            return None
        title = "Accuracy by modality, with baselines"
        tables = analysis.lookup_tables(run).values()
        return {
            "overview": plots.bars("overview", title, bars, head.baselines),
            "asked": analysis.asked(tables) if tables else None,
            "head": head,
            "models": "GPT-2v and GPT-2" if run.model == "gpt2v" else run.model_name,
        }
