"""The facts that are needed to repeat a run, and all rows of its results."""

from typing import Any

from gpt2v.registry import SECTIONS
from gpt2v.report import plots
from gpt2v.report.chart import Values
from gpt2v.report.checked import Row
from gpt2v.report.read import Run
from gpt2v.report.section import ANY, Section
from gpt2v.report.words import interval, percent

# Columns of an evaluation's rows; the other keys of a row follow them.
_EVAL = ("model", "modality", "instruction", "questions", "accuracy", "ci95", "n_images",
         "n_questions", "chance", "blind_accuracy", "bag_accuracy")  # fmt: skip
_HEADS = {
    "ci95": "95% interval",
    "n_images": "images",
    "n_questions": "questions",
    "blind_accuracy": "blind",
    "bag_accuracy": "bag",
}
_HIDDEN = ("split", "description")


@SECTIONS.register("again")
class Again(Section):
    """The command, versions and seeds that repeat a run, and every row of its results."""

    nav, order, kinds = "Run it again", 100, (ANY,)

    def content(self, run: Run) -> dict[str, Any]:
        names = dict.fromkeys(key for row in run.rows for key in row)
        first = _EVAL if {"modality", "accuracy"} <= names.keys() else ()
        columns = [*first, *(name for name in names if name not in (*first, *_HIDDEN))]
        columns = [name for name in columns if name in _EVAL or _shown(run.rows, name)]
        columns.sort(key=lambda name: not _is_word(run.rows, name))
        return {
            "seconds": _seconds(run.results),
            "facts": _facts(run.results),
            "rows": Values(
                caption=f"Every row of {'the evaluation' if first else 'the results'}",
                heads=[_HEADS.get(name, name) for name in columns],
                rows=[[_cell(name, row.get(name)) for name in columns] for row in run.rows],
                n_words=sum(_is_word(run.rows, name) for name in columns),
            ),
        }


def _shown(rows: list[Row], name: str) -> bool:
    """Whether the values of a column fit into a table."""
    return all(not isinstance(row.get(name), dict) for row in rows)


def _is_word(rows: list[Row], name: str) -> bool:
    """Whether a column holds text."""
    return any(isinstance(row.get(name), str) for row in rows)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    rate = "accuracy" in name or name == "chance"
    if name.endswith("ci95") and value:
        return interval(value)
    if isinstance(value, float):
        return percent(value) if rate else f"{value:.4g}"
    return str(value)


def _seconds(results: Row) -> dict[str, Any] | None:
    """Wall time of each sub-run, as a chart, and in all."""
    seconds = results.get("seconds")
    parts = {"total": seconds} if isinstance(seconds, int | float) else dict(seconds or {})
    total = parts.pop("total", None)
    if not parts and total is None:
        return None
    chart = plots.seconds_bars("seconds", "Wall time by stage", parts) if parts else None
    return {"chart": chart, "total": sum(parts.values()) if total is None else total}


def _facts(results: Row) -> list[tuple[str, str]]:
    """(name, value) of each fact that is needed to repeat the run."""
    names = ("command", "kind", "preset", "tiles", "seed", "data_hash", "n_images", "n_questions")
    labels = {"data_hash": "data hash", "n_images": "test grids", "n_questions": "questions"}
    facts = [(labels.get(name, name), str(results[name])) for name in names if name in results]
    versions = results.get("versions")
    if isinstance(versions, dict):
        facts += [(str(name), str(version)) for name, version in versions.items()]
    return facts
