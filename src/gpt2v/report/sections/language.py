"""Language without grids: plain text, minimal pairs, tasks of lm-evaluation-harness."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import plots
from gpt2v.report.analysis import Rate
from gpt2v.report.chart import Chart, Values
from gpt2v.report.checked import Row
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.words import interval, percent

_MEASURES = {
    "loss": "loss, nats per token",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
}


@SECTIONS.register("language")
class Language(Section):
    """Loss of plain text, accuracy on minimal pairs, or the metrics of tasks."""

    nav, order, kinds = "Language", 12, ("language",)

    def content(self, run: Run) -> dict[str, Any]:
        first = run.rows[0]
        if "metric" in first:
            return {"task": "tasks", "charts": [], "table_of": _metrics(run.rows)}
        if "accuracy" in first:
            return {"task": "pairs", "charts": _charts(run.rows), "table_of": _accuracies(run.rows)}
        return {"task": "corpus", "charts": [], "table_of": _text(first)}


def _name(row: Row) -> str:
    return str(row["phenomenon"] or row["family"] or "all")


def _charts(rows: list[Row]) -> list[Chart]:
    """One chart of the families, and one of the phenomena."""
    charts = []
    for by, title in (("family", "By family"), ("phenomenon", "By phenomenon")):
        kinds = ("all", by) if by == "family" else (by,)
        bars = [
            plots.Bar(_name(row), Rate(row["accuracy"], tuple(row["ci95"])), "text")
            for row in rows
            if row["by"] in kinds
        ]
        charts.append(plots.bars(f"pairs-{by}", title, bars, {"chance": rows[0]["chance"]}))
    return charts


def _accuracies(rows: list[Row]) -> Values:
    cells = [
        (
            _name(row),
            percent(row["accuracy"]),
            interval(row["ci95"]),
            f"{row['n_pairs']:,}",
            f"{row['n_items']:,}",
        )
        for row in rows
    ]
    return Values("Minimal pairs", ("", "accuracy", "95% interval", "pairs", "items"), cells)


def _text(row: Row) -> Values:
    cells = [
        (name, f"{row[key]:.4f}", _between(row[f"{key}_ci95"])) for key, name in _MEASURES.items()
    ]
    counts = (f"{row[f'n_{key}']:,} {key}" for key in ("documents", "tokens", "bytes"))
    return Values(f"{row['corpus']}: {', '.join(counts)}", ("", "value", "95% interval"), cells)


def _between(ends: list[float] | None) -> str:
    return " to ".join(f"{end:.4f}" for end in ends) if ends else ""


def _metrics(rows: list[Row]) -> Values:
    heads = ("", "metric", "filter", "value", "standard error", "examples before", "questions")
    cells = [
        (
            row["task"],
            row["metric"],
            row["filter"],
            f"{row['value']:.4f}",
            "" if row["stderr"] is None else f"{row['stderr']:.4f}",
            _count(row["n_shot"]),
            _count(row["n_questions"]),
        )
        for row in rows
    ]
    return Values("Tasks of lm-evaluation-harness", heads, cells, n_words=3)


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
