"""Invented results of a probe, with everything that a report shows of one."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from gpt2v.run_layout import mark
from invented_run import Rows, write

SIDE = 3  # rows and columns of the grids
CELLS = [[r, c] for r in range(SIDE) for c in range(SIDE)]
SITES: list[tuple[str, int | None]] = [
    ("pre-projector", None),
    ("pixels", None),
    ("random", 4),
    *(("vision", layer) for layer in range(4)),
    ("post-projector", None),
    *(("lm", layer) for layer in range(3)),
]


def rate(value: float, name: str = "accuracy", ci: str = "ci95", half: float = 0.02) -> Any:
    return {name: value, ci: [max(value - half, -1.0), min(value + half, 1.0)]}


def both(value: float) -> dict[str, Any]:
    low = max(value - 0.05, 0.1)
    return {**rate(low), **rate(value, "palette_accuracy", "palette_ci95"), "n_images": 500}


def at(site: tuple[str, int | None]) -> dict[str, Any]:
    return {"site": site[0], "layer": site[1]}


def main_rows(rng: np.random.Generator) -> Rows:
    rows: Rows = []
    decoders = [(site, "ridge") for site in SITES]
    decoders += [(SITES[0], name) for name in ("logistic", "projector", "knn")]
    facts = {"n_train": 4000, "n_features": 512, "n_tiles": 900}
    for site, decoder in decoders:
        value = 0.5 if site[0] in ("pixels", "random") else float(rng.uniform(0.93, 0.97))
        own = {**at(site), "decoder": decoder}
        rows.append({**own, "cell": "all", "control": "none", **both(value), **facts})
        if decoder == "ridge":
            control = {**rate(0.1), **rate(0.25, "palette_accuracy", "palette_ci95")}
            rows.append({**own, "cell": "all", "control": "shuffled-labels", **control, **facts})
        for cell in CELLS:
            shown = both(value + float(rng.uniform(-0.02, 0.02)))
            rows.append({**own, "cell": cell, "control": "none", **shown, **facts})
    return rows


def cell_map(across: int = 7) -> dict[str, Any]:
    """A 3x3 grid on 7 by 7 patches: borders cut some of them."""
    ends = np.linspace(0, across, SIDE + 1)
    first = np.arange(across)
    low, high = np.maximum(ends[:-1, None], first), np.minimum(ends[1:, None], first + 1)
    share = np.maximum(high - low, 0)
    overlap = np.einsum("ri,cj->rcij", share, share).reshape(SIDE**2, across**2)
    return {
        "rule": "concat",
        "threshold": 0.5,
        "patches": [np.flatnonzero(own >= 0.5).tolist() for own in overlap],
        "patches_across": across,
        "overlap": overlap.round(4).tolist(),
    }


def measures(rng: np.random.Generator) -> dict[str, Any]:
    some, measured = [SITES[3], SITES[0]], [CELLS[0], CELLS[4], CELLS[8]]
    curve: Rows = []
    for decoder, (low, gain) in {"ridge": (0.9, 0.004), "projector": (0.7, 0.03)}.items():
        for step in range(5):
            row = {"decoder": decoder, "n_train": 250 * 2**step, **at(SITES[0])}
            row |= both(low + gain * step)
            curve.append(row | (rate(gain, "gain", "gain_ci95", 0.005) if step else {}))
        curve[-1]["levelled"] = gain < 0.005
    leakage: Rows = []
    for site, of, read in product(some, CELLS, CELLS):
        row = {**at(site), "of": of, "read": read, **rate(0.95 if of == read else 0.2)}
        if of != read:
            beside = abs(of[0] - read[0]) + abs(of[1] - read[1]) == 1
            leaks = 0.12 + 0.01 * of[1] if beside and site == SITES[0] else float(rng.normal()) / 99
            row |= rate(leaks, "excess", "excess_ci95")
            row["p_holm"] = 0.001 if leaks > 0.1 else 1.0
            row |= {"beyond_bag": leaks - 0.1, "beyond_bag_p_holm": 0.01 if leaks > 0.13 else 1.0}
        leakage.append(row)
    selectivity = [
        {
            **at(site), "cell": cell, **rate(0.97), **rate(0.3, "control_accuracy", "control_ci95"),
            **rate(0.67, "selectivity", "selectivity_ci95"), "n_images": 500,
        }
        for site, cell in product(some, measured)
    ]  # fmt: skip
    transfer = [
        {**at(site), "trained": a, "tested": b, **rate(0.95 if a == b else 0.8),
         **rate(0.0 if a == b else -0.15, "difference", "difference_ci95")}
        for site, a, b in product(some, measured, measured)
    ]  # fmt: skip
    equal = [{**at(s), "n_components": 64, **both(0.6 + 0.03 * i)} for i, s in enumerate(SITES)]
    bits = [
        {**at(site), "cell": cell, "bits": 3000.0, "bits_per_label": 0.75, "compression": 4.43,
         "n_train": 4000}
        for site, cell in product(some, measured)
    ]  # fmt: skip
    reached = {"asked": 0.95, "row": 0.4, "column": 0.37, "other": 0.26}
    routing = [
        {"position": position, "layer": layer, "target": target, "chance": 0.25, "bag": 0.43,
         "n_images": 500,
         **both(0.25 + (value - 0.25) * max(layer - (position == "question"), 0) / 4)}
        for position, layer, (target, value) in product(
            ("question", "answer"), range(5), reached.items()
        )
    ]  # fmt: skip
    changes = {
        "none": (0.96, 0.01), "erase": (0.3, 0.22), "move": (0.1, 0.85),
        "random-erase": (0.94, 0.02), "random-move": (0.9, 0.03),
    }  # fmt: skip
    beyond = {
        "minus_random": -0.64, "minus_random_ci95": [-0.7, -0.5],
        "followed_minus_random": 0.82, "followed_minus_random_ci95": [0.7, 0.9],
    }  # fmt: skip
    none = {name: [-0.1, 0.1] if "ci95" in name else 0.0 for name in beyond}
    causal = [
        {**at(site), "cell": cell, "change": change, "rank": 9, "n_images": 200,
         **rate(right if site == SITES[0] else 0.9), **rate(
             follows if site == SITES[0] else 0.05, "followed", "followed_ci95"),
         **((beyond if site == SITES[0] else none) if change in ("erase", "move") else {})}
        for site, cell, (change, (right, follows)) in product(
            some, ["all", *measured], changes.items()
        )
    ]  # fmt: skip
    return {
        "learning-curve": curve, "leakage": leakage, "selectivity": selectivity,
        "transfer": transfer, "equal-dimension": equal, "description-length": bits,
        "routing": routing, "causal": causal,
    }  # fmt: skip


def probe_results() -> dict[str, Any]:
    """The content of a probe's results.json."""
    rng = np.random.default_rng(2)
    sites = [name if layer is None else f"{name}.{layer}" for name, layer in SITES]
    return {
        "kind": "probe",
        "command": "gpt2v probe gpt2v:probe/grid-3x3",
        "results": main_rows(rng),
        "cells": {site: cell_map() for site in sites},
        "measures": measures(rng),
    }


def make_probe(run: Path) -> Path:
    """The run directory of a probe, without records."""
    write(run / "results.json", probe_results())
    mark(run)
    return run
