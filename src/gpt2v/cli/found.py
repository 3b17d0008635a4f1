"""What a command has found, as a small table for the terminal; it is read from results.json.

Rates are in percent, with their 95% interval.
"""

from collections.abc import Callable
from typing import Any

from gpt2v.cli.found_language import language, texts
from gpt2v.cli.tables import interval, p_value, percent, table

Row = dict[str, Any]
_FEW = 0.5  # share of different grids below which it is said


def found(results: Row) -> list[str]:
    """The lines about the results of a training, an evaluation, a probe or a ladder.

    Args:
        results: the content of results.json.
    """
    lines = _TABLES.get(results["kind"], _training)(results)
    return [line for line in (_model(results), *lines) if line]


def show(results: Row) -> None:
    """Print them."""
    print("\n".join(found(results)))


def _model(results: Row) -> str:
    """Which weights were measured; empty: this is no measurement of a saved model."""
    known = results.get("checkpoint")
    if known is None:
        return ""
    chosen = " (the newest)" if known["chosen"] == "newest" else ""
    return f"model: {known['model']}: {known['checkpoint']}{chosen}, weights {known['weights']}"


def _training(results: Row) -> list[str]:
    """The last validation. An encoder is tested instead."""
    (row,) = results["results"]
    values = {key: value for key, value in row.items() if isinstance(value, float)}
    what = "tiles" if results["kind"] == "encoder" else "grids"
    has_grids = any(key.endswith("accuracy") for key in values)
    on = f" ({row['n_images']:,} {what})" if has_grids else ""
    cells = [[key.replace("_", " "), _value(key, value)] for key, value in values.items()]
    steps, best = results["steps"], results["best_step"]
    known = f"; the best was that after step {best:,}" if best not in (steps, None) else ""
    after = f"after {steps:,} steps, {results['seconds']:.0f} s"
    return [f"{after}, {row['split']}{on}{known}:", *table(cells, 1)]


def _evaluation(results: Row) -> list[str]:
    head = ["", "", "accuracy", "95% interval", "chance", "blind", "bag", "questions"]
    rows = [
        [
            " ".join(filter(None, [row.get("part"), row["instruction"]])),
            row["modality"],
            percent(row["accuracy"]),
            interval(row["ci95"]),
            *(_baseline(row[key]) for key in ("chance", "blind_accuracy", "bag_accuracy")),
            f"{row['n_questions']:,}",
        ]
        for row in results["results"]
    ]
    notes = [*_chained(results), *_contents(results), *_gap(results)]
    notes += [*_cells(results), *_borders(results), *_agreement(results), *_renderings(results)]
    return [*table([head, *rows], 2), *notes]


def _chained(results: Row) -> list[str]:
    chained = any(row.get("questions") == "chained" for row in results["results"])
    return ["each question is read after the earlier ones and their answers"] if chained else []


def _contents(results: Row) -> list[str]:
    """What a reader of accuracies on text should know of grids with few contents."""
    parts = {
        row.get("part"): row
        for row in results["results"]
        if row["modality"] != "image" and "held_out_contents" in row  # older ones do not say it
    }
    lines = []
    if old := [part or "grids" for part, row in parts.items() if not row["held_out_contents"]]:
        lines.append(f"text: training may have shown the same tables: {', '.join(old)}")
    for part, row in parts.items():
        if row["n_contents"] < _FEW * row["n_images"]:
            of = f" of {part}" if part else ""
            lines.append(f"text: {row['n_images']:,} grids{of} have {row['n_contents']:,} contents")
    return lines


def _demo(results: Row) -> list[str]:
    """The most important rates of a demo; all are about the same grids."""
    rates = {(row["model"], row["modality"]): row for row in results["results"]}
    shown = {
        "GPT-2v, text": rates["gpt2v", "text"],
        "GPT-2v, picture": rates["gpt2v", "image"],
        "GPT-2 alone, text": rates["lm", "text"],
    }
    rows = [[name, percent(r["accuracy"]), interval(r["ci95"])] for name, r in shown.items()]
    for name, key in (
        ("probe of the picture, told the palette", "probe_palette_accuracy"),
        ("blind", "blind_accuracy"),
        ("bag", "bag_accuracy"),
    ):
        rows.append([name, percent(results[key]), ""])
    asked = f"{results['n_questions']:,} questions about {results['n_images']:,} new grids"
    return [*table([[asked, "accuracy", "95% interval"], *rows], 1), *_gap(results)]


def _gap(results: Row) -> list[str]:
    """Empty: only one modality was measured."""
    if "gap" not in results:
        return []
    points = f"{100 * results['gap']:+.1f} points {_range(results['gap_ci95'])}"
    return [f"gap, text minus image: {points}"]


def _range(ends: list[float]) -> str:
    """The interval of a difference, in percentage points."""
    low, high = ends
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def _agreement(results: Row) -> list[str]:
    """Empty: no model was asked in several modalities."""
    rows = [
        [
            f"{row['instruction']}: {', '.join(row['modalities'])}",
            percent(row["agreement"]),
            interval(row["ci95"]),
            percent(row["independent"]),
        ]
        for row in results.get("agreement", [])
    ]
    head = ["", "same answer", "95% interval", "if errors were independent"]
    return table([head, *rows], 1) if rows else []


def _cells(results: Row) -> list[str]:
    """Empty: the metric `cell-accuracy` was not asked for, or no answer lists cells."""
    rows = [
        [
            " ".join(filter(None, [row.get("part"), row["instruction"]])),
            row["modality"],
            percent(row["cell_accuracy"]),
            interval(row["cell_ci95"]),
            f"{row['n_cells']:,}",
        ]
        for row in results["results"]
        if "cell_accuracy" in row
    ]
    return table([["", "", "cells right", "95% interval", "cells"], *rows], 2) if rows else []


def _borders(results: Row) -> list[str]:
    """Empty: borders of patches cut all cells of a grid alike, or nothing is known of patches."""
    rows = [
        [
            " ".join(filter(None, [row.get("part"), row["instruction"]])),
            row["modality"],
            f"{100 * row['difference']:+.1f}",
            _range(row["difference_ci95"]),
        ]
        for row in results.get("patch_borders", [])
        if row["difference"] is not None
    ]
    head = ["", "", "purest cells minus others", "95% interval"]
    return table([head, *rows], 2) if rows else []


def _renderings(results: Row) -> list[str]:
    """Empty: the parts are no renderings of the same grids."""
    return [
        f"{row['modality']}, {len(row['differences']) + 1} renderings: "
        f"{percent(row['lowest'])} ({row['lowest_part']}) to {percent(row['highest'])} "
        f"({row['highest_part']}), standard deviation {100 * row['sd']:.1f} points"
        for row in results.get("renderings", [])
    ]


def _probe(results: Row) -> list[str]:
    head = ["", "accuracy", "95% interval", "in palette", "95% interval"]
    rows = [
        [
            _decoder(row),
            percent(row["accuracy"]),
            interval(row["ci95"]),
            percent(row["palette_accuracy"]),
            interval(row["palette_ci95"]),
        ]
        for row in results["results"]
        if row["cell"] == "all"
    ]
    return table([head, *rows], 1)


def _decoder(row: Row) -> str:
    """Where it reads, and what it is."""
    site = row["site"] if row["layer"] is None else f"{row['site']}.{row['layer']}"
    control = "" if row["control"] == "none" else f", control {row['control']}"
    return f"{site}: {row['decoder']}{control}"


def _ladder(results: Row) -> list[str]:
    head = ["", "", "accuracy", "95% interval"]
    rows = [
        [row["rung"], row["name"], percent(row["accuracy"]), interval(row["ci95"])]
        for row in results["results"]
    ]
    return table([head, *rows], 2)


def _comparison(results: Row) -> list[str]:
    """All questions, parts and instructions; of cells and classes only the clear differences."""
    lines = []
    rows = results["results"]
    for other in results["compared"][1:]:
        own = [row for row in rows if row["other"] == other]
        many = ("cell", "class")
        shown = [row for row in own if row["by"] not in many or row["p_holm"] < 0.05]
        head = ["", "", "first", "other", "other - first", "95% interval", "p", "p (Holm)"]
        head += ["detectable", "questions"]
        cells = [
            [
                "all" if row["value"] is None else f"{row['by']} {row['value']}",
                row["modality"],
                percent(row["first_accuracy"]),
                percent(row["other_accuracy"]),
                f"{100 * row['difference']:+.1f}",
                "[{:+.1f}, {:+.1f}]".format(*(100 * end for end in row["ci95"])),
                p_value(row["p"]),
                p_value(row["p_holm"]),
                f"{100 * row['smallest_difference']:.1f}",
                f"{row['n_questions']:,}",
            ]
            for row in shown
        ]
        lines += [f"first: {results['compared'][0]}; other: {other}", *table([head, *cells], 2)]
        for by in many:
            family = [row for row in own if row["by"] == by]
            clear = sum(row["p_holm"] < 0.05 for row in family)
            if family:
                lines.append(f"  by {by}: {clear} of {len(family)} with p (Holm) below 0.05")
    return lines


_TABLES: dict[str, Callable[[Row], list[str]]] = {
    "eval": _evaluation,
    "demo": _demo,
    "probe": _probe,
    "ladder": _ladder,
    "compare": _comparison,
    "language": language,
    "text-compare": texts,
}


def _value(key: str, value: float) -> str:
    return percent(value) if key.endswith("accuracy") else f"{value:.4f}"


def _baseline(rate: float | None) -> str:
    """Empty: it is not known."""
    return "" if rate is None else percent(rate)
