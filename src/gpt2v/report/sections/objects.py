"""Accuracy by object, and which objects are confused."""

from typing import Any

import numpy as np

from gpt2v.registry import SECTIONS
from gpt2v.report import analysis, maps, plots
from gpt2v.report.analysis import Confusion
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.standing import reads
from gpt2v.report.verdict import headline
from gpt2v.report.words import counted_range

MOST_CLASSES = 40  # more do not fit into a confusion matrix


@SECTIONS.register("objects")
class Objects(Section):
    """Accuracy by object, and which objects are confused."""

    nav, order, kinds = "By object", 50, ("eval",)

    def content(self, run: Run) -> dict[str, Any] | None:
        tables = {
            key: table for key, table in analysis.lookup_tables(run).items() if key[0] == run.model
        }
        if not tables:
            return None
        named = analysis.series_of(run)
        asked = {name for table in tables.values() for name in table["truth"]}
        classes = [name for name in run.classes if name in asked]
        accuracies = {
            named[key][0]: (analysis.class_accuracy(table, classes), named[key][1])
            for key, table in tables.items()
        }
        confusions = []
        if len(run.classes) <= MOST_CLASSES:
            counts = {key: analysis.confusion(table, run.classes) for key, table in tables.items()}
            worst = max(float((count.shares * count.wrong).max()) for count in counts.values())
            for key, count in counts.items():
                title, colour = named[key]
                name, title = f"confusion-{key[1]}", f"{title}: what is taken for what"
                confusions.append(
                    {
                        "chart": maps.confusion_map(name, title, count, colour, worst),
                        "each": counted_range(count.counts.sum(axis=1).tolist(), "question"),
                        "numbers": maps.has_numbers(count),
                        "unspelt": analysis.UNSPELT in count.answers,
                        "worst": _worst(count),
                    }
                )
        dots = plots.class_dots("classes", "Accuracy by true object", classes, accuracies)
        n = [int((t["truth"] == name).sum()) for t in tables.values() for name in classes]
        head = headline(run)
        compared = reads(head.text, head.baselines) and head.image is not None
        return {
            "dots": dots,
            "each": counted_range(n, "question"),
            "confusions": confusions,
            "compared": compared,
        }


def _worst(confusion: Confusion, n: int = 3) -> list[tuple[str, str, int]]:
    """What is taken for what most frequently: (truth, answer, count)."""
    named = np.array([answer != analysis.UNSPELT for answer in confusion.answers])
    wrong = confusion.counts * (confusion.wrong & named)  # (n_truths, n_answers)
    order = np.argsort(-wrong, axis=None, kind="stable")[:n]
    pairs = [divmod(int(i), len(confusion.answers)) for i in order]
    return [
        (confusion.truths[row], confusion.answers[col], int(wrong[row, col]))
        for row, col in pairs
        if wrong[row, col] > 0
    ]
