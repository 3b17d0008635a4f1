"""Accuracy by object, and which objects are confused."""

from typing import Any

import numpy as np

from gpt2v.registry import SECTIONS
from gpt2v.report import analysis, plots
from gpt2v.report.analysis import SERIES
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.standing import reads
from gpt2v.report.verdict import headline

MOST_CLASSES = 40  # more do not fit into a confusion matrix


@SECTIONS.register("objects")
class Objects(Section):
    """Accuracy by object, and which objects are confused."""

    nav, order, kinds = "By object", 50, ("eval",)

    def content(self, run: Run) -> dict[str, Any] | None:
        tables = {
            key: table for key, table in analysis.lookup_tables(run).items() if key[0] == "gpt2v"
        }
        if not tables:
            return None
        asked = {name for table in tables.values() for name in table["truth"]}
        classes = [name for name in run.classes if name in asked]
        accuracies = {
            SERIES[key][0]: (analysis.class_accuracy(table, classes), SERIES[key][1])
            for key, table in tables.items()
        }
        confusions = []
        if len(run.classes) <= MOST_CLASSES:
            counts = {key: analysis.confusion(tables[key], run.classes) for key in sorted(tables)}
            shares = {key: analysis.row_shares(count) for key, count in counts.items()}
            worst = max(float(analysis.off_diagonal(share).max()) for share in shares.values())
            for key, share in shares.items():
                title, colour = SERIES[key]
                name, label = f"confusion-{key[1]}", f"{title}: confusions"
                svg = plots.confusion_map(name, label, share, run.classes, colour, worst)
                frequent = _worst(counts[key], run.classes)
                confusions.append({"title": title, "svg": svg, "worst": frequent})
        dots = plots.class_dots("classes", "Accuracy by true object", classes, accuracies)
        head = headline(run)
        compared = reads(head.text, head.baselines) and head.image is not None
        return {"dots": dots, "confusions": confusions, "compared": compared}


def _worst(counts: np.ndarray, classes: list[str], n: int = 3) -> list[tuple[str, str, int]]:
    """The most frequent mistakes: (truth, answer, count)."""
    wrong = analysis.off_diagonal(counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:n]
    pairs = [divmod(int(i), len(classes)) for i in order]
    return [(classes[a], classes[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b] > 0]
