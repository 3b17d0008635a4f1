"""Prepare the report's sections: each function turns the run into what the template shows.

A section whose stage the run does not have is None (or empty), and the page leaves it out.
"""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from gpt2v.report import measure, plots
from gpt2v.report.measure import Rate
from gpt2v.report.read import Row, Run, Table
from gpt2v.report.verdict import Headline, probe_row

SERIES = {  # (model, modality) -> name on the page, colour
    ("gpt2v", "text"): ("GPT-2v, text", "text"),
    ("gpt2v", "image"): ("GPT-2v, picture", "image"),
    ("lm", "text"): ("GPT-2 before it got eyes, text", "lm"),
}
STAGE_TITLES = {"encoder": "Encoder", "lm": "Language model", "mm": "GPT-2v"}
MOST_CLASSES = 40  # more do not fit a confusion matrix


@dataclass(frozen=True)
class Answer:
    """One cell of a sample: what the grid holds there and what was answered."""

    truth: str
    prediction: str
    state: str  # right, wrong, or unspelt: the best choice is right, the free answer is not


def overview(head: Headline) -> Markup | None:
    known = [
        ("GPT-2v, text", head.text, "text"),
        ("GPT-2v, picture", head.image, "image"),
        ("Linear probe of the encoder, same palette", head.probe, "probe"),
        ("GPT-2 before it got eyes, text", head.lm, "lm"),
    ]
    bars = [plots.Bar(name, rate, colour) for name, rate, colour in known if rate]
    label = "Accuracy by modality with baselines"
    return plots.bars("overview", label, bars, head.baselines) if bars else None


def lost(run: Run, head: Headline) -> dict[str, Any] | None:
    """What the probe finds beside what the model says, overall and per cell."""
    if not head.probe or not head.image:
        return None
    encoder, reading = 1 - head.probe.value, head.probe.value - head.image.value
    steps = [
        (f"In the encoder: 100 {plots.MINUS} probe", encoder, "probe"),
        (f"In reading it: probe {plots.MINUS} picture", reading, "image"),
    ]
    if head.text:
        label = f"For comparison, in reading text: 100 {plots.MINUS} text"
        steps.append((label, 1 - head.text.value, "text"))
    bars = [plots.Bar(name, Rate(value), colour) for name, value, colour in steps]
    image = measure.lookups(run.records, "gpt2v", "image")
    found: dict[str, Any] = {
        "points": plots.lost_points("lost", "Percentage points lost by place", bars),
        "outcomes": None,
        "maps": None,
    }
    if run.probe_records is not None and len(image["sample"]):
        counts = measure.joint_outcomes(image, run.probe_records)
        found["outcomes"] = _outcomes(counts) if counts else None
    probe_cells = _probe_cells(run)
    if probe_cells is not None and len(image["sample"]):
        model_cells = measure.cell_accuracy(image, image["exact"])
        low = _low(probe_cells, model_cells)
        pairs = (("probe", probe_cells, "Probe"), ("image", model_cells, "GPT-2v"))
        found["low"] = low
        found["maps"] = [
            (title, plots.cell_map(f"lost-{colour}", f"{title} by cell", cells, low, colour))
            for colour, cells, title in pairs
        ]
    return found


def _outcomes(counts: dict[tuple[bool, bool], int]) -> dict[str, Any]:
    total = sum(counts.values())
    parts = [
        ("both right", (True, True), "lm"),
        ("only the probe right (lost in reading)", (True, False), "image"),
        ("only the model right", (False, True), "text"),
        ("both wrong (not found in the encoder)", (False, False), "bad"),
    ]
    bars = [plots.Bar(name, Rate(counts[key] / total), colour) for name, key, colour in parts]
    return {"svg": plots.stacked("outcomes", "Probe and model together", bars), "n": total}


def _probe_cells(run: Run) -> np.ndarray | None:
    """Palette-restricted probe accuracy by place: from the records, else from the rows."""
    table, main = run.probe_records, probe_row(run)
    if table is not None and len(table["sample"]):
        return measure.cell_accuracy(table, table["palette_prediction"] == table["truth"])
    if main is None:
        return None
    same = ("site", "layer", "control")
    cells = {
        (row["cell"][0], row["cell"][1]): row["palette_accuracy"]
        for row in run.probe
        if isinstance(row["cell"], list)
        and row.get("palette_accuracy") is not None
        and all(row.get(key) == main.get(key) for key in same)
    }
    if not cells:
        return None
    found = np.full((max(r for r, _ in cells) + 1, max(c for _, c in cells) + 1), np.nan)
    for (r, c), value in cells.items():
        found[r, c] = value
    return found


def _low(*cells: np.ndarray) -> float:
    """The pale end of a shade: the lowest value, rounded down to 5 points."""
    lowest = min(float(np.nanmin(array)) for array in cells)
    return float(min(np.floor(lowest * 20 + 1e-9) / 20, 0.95))


def samples(run: Run) -> list[dict[str, Any]]:
    """Sample grids: picture, text twin, and what was answered about each."""
    image = measure.lookups(run.records, "gpt2v", "image")
    text = measure.lookups(run.records, "gpt2v", "text")
    found = []
    for sample in measure.choose_samples(image, list(run.pictures)):
        answers = {"picture": _answers(image, sample), "text": _answers(text, sample)}
        answers = {name: grid for name, grid in answers.items() if grid}
        if not answers:
            continue
        cells = {
            name: [cell for row in grid for cell in row if cell] for name, grid in answers.items()
        }
        palettes = [table["palette"][table["sample"] == sample] for table in (image, text)]
        twin = next(iter(answers.values()))
        longest = max(len(cell.truth) for row in twin for cell in row if cell)
        found.append(
            {
                "index": sample,
                "uri": "data:image/png;base64," + base64.b64encode(run.pictures[sample]).decode(),
                "palette": next((p[0] for p in palettes if len(p)), None) or [],
                "twin": twin,
                "line_em": round(0.63 * len(twin[0]) * longest, 2),
                "answers": answers,
                "unspelt": any(cell.state == "unspelt" for row in cells.values() for cell in row),
                "score": {
                    name: (sum(cell.state == "right" for cell in row), len(row))
                    for name, row in cells.items()
                },
            }
        )
    return found


def _answers(table: Table, sample: int) -> list[list[Answer | None]]:
    """The answers about one sample in the shape of its grid; None where no question was asked."""
    here = np.flatnonzero(table["sample"] == sample)
    if not len(here):
        return []
    n_rows, n_cols = int(table["row"][here].max()) + 1, int(table["col"][here].max()) + 1
    grid: list[list[Answer | None]] = [[None] * n_cols for _ in range(n_rows)]
    for i in here:
        truth, prediction = str(table["truth"][i]), str(table["prediction"][i])
        state = "right" if table["exact"][i] else "unspelt" if truth == prediction else "wrong"
        grid[table["row"][i]][table["col"][i]] = Answer(truth, prediction, state)
    return grid


def _tables(run: Run) -> dict[tuple[str, str], Table]:
    tables = {key: measure.lookups(run.records, *key) for key in SERIES}
    return {key: table for key, table in tables.items() if len(table["sample"])}


def cell_maps(run: Run) -> dict[str, Any] | None:
    cells = {key: measure.cell_accuracy(t, t["exact"]) for key, t in _tables(run).items()}
    if not cells:
        return None
    low = _low(*cells.values())
    drawn = []
    for key, values in cells.items():
        title, colour = SERIES[key]
        name = f"cells-{key[0]}-{key[1]}"
        drawn.append((title, plots.cell_map(name, f"{title} by cell", values, low, colour)))
    return {"low": low, "maps": drawn}


def objects(run: Run) -> dict[str, Any] | None:
    """Accuracy by class and who is taken for whom."""
    tables = {key: table for key, table in _tables(run).items() if key[0] == "gpt2v"}
    if not tables:
        return None
    asked = {name for table in tables.values() for name in table["truth"]}
    classes = [name for name in run.classes if name in asked]
    found = {
        SERIES[key][0]: (measure.class_accuracy(table, classes), SERIES[key][1])
        for key, table in tables.items()
    }
    confusions = []
    if len(run.classes) <= MOST_CLASSES:
        counts = {key: measure.confusion(tables[key], run.classes) for key in sorted(tables)}
        shares = {key: measure.row_shares(count) for key, count in counts.items()}
        worst = max(float(measure.off_diagonal(share).max()) for share in shares.values())
        for key, share in shares.items():
            title, colour = SERIES[key]
            name, label = f"confusion-{key[1]}", f"{title}: confusions"
            svg = plots.confusion_map(name, label, share, run.classes, colour, worst)
            frequent = _worst(counts[key], run.classes)
            confusions.append({"title": title, "svg": svg, "worst": frequent})
    dots = plots.class_dots("classes", "Accuracy by true object", classes, found)
    return {"dots": dots, "confusions": confusions}


def _worst(counts: np.ndarray, classes: list[str], n: int = 3) -> list[tuple[str, str, int]]:
    """The most frequent mistakes: (truth, answer, count)."""
    wrong = measure.off_diagonal(counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:n]
    pairs = [divmod(int(i), len(classes)) for i in order]
    return [(classes[a], classes[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b] > 0]


def ladder(run: Run, head: Headline) -> dict[str, Any] | None:
    if not run.ladder:
        return None
    bars = []
    for row in run.ladder:
        label = " · ".join(str(row[key]) for key in ("rung", "name") if row.get(key))
        ci = tuple(row["ci95"]) if row.get("ci95") else None
        colour = {"text": "text", "picture": "image"}.get(str(row.get("name")), "probe")
        bars.append(plots.Bar(label, Rate(row["accuracy"], ci), colour))
    return {
        "svg": plots.bars("ladder", "Accuracy by rung", bars, head.baselines),
        "rows": run.ladder,
    }


def curves(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "title": STAGE_TITLES[stage],
            "svg": plots.learning_curves(
                f"curve-{stage}", f"{STAGE_TITLES[stage]} training", lines
            ),
            "phases": measure.phases(lines),
            "last": lines[-1]["step"],
        }
        for stage, lines in run.curves.items()
        if any("loss" in key or "accuracy" in key for line in lines for key in line)
    ]


def seconds(results: Row) -> dict[str, Any] | None:
    seconds = results.get("seconds")
    stages = {"total": seconds} if isinstance(seconds, int | float) else dict(seconds or {})
    total = stages.pop("total", None)
    if not stages and total is None:
        return None
    svg = plots.seconds_bars("seconds", "Seconds by stage", stages) if stages else None
    return {"svg": svg, "total": sum(stages.values()) if total is None else total}


def facts(results: Row) -> list[tuple[str, str]]:
    """What is needed to repeat the run."""
    names = ("command", "kind", "preset", "tiles", "seed", "data_hash", "n_images", "n_questions")
    said = {"data_hash": "data hash", "n_images": "test grids", "n_questions": "questions"}
    facts = [(said.get(name, name), str(results[name])) for name in names if name in results]
    versions = results.get("versions")
    if isinstance(versions, dict):
        facts += [(str(name), str(version)) for name, version in versions.items()]
    return facts
