"""How long ridge and logistic probes take, beside himalaya's and scikit-learn's, on planted rows.

    pip install --target SITE --no-deps himalaya
    PYTHONPATH=SITE python bench/probe.py
    python bench/probe.py --features x.npy --labels y.npy

`probe_peers.py` says what everyone does; `probe_layers.py` does it with the layers of a tower. A
repetition measures everyone once. Planted features are classes in noise whose variances fall by a
power law. Everyone computes in float64; `--peers_in float32` has the peers compute in float32.

Where others use the machine, one thread (OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1) and the time of
processors are what can be compared.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpt2v.config.decoders import LogisticOptions, RidgeOptions
from gpt2v.hardware.device import hardware, hardware_facts
from gpt2v.messages import aligned
from gpt2v.probing.decoders.linear import strengths_of
from gpt2v.probing.decoders.logistic import Logistic
from gpt2v.probing.decoders.ridge import Ridge
from probe_peers import (
    Done,
    Split,
    himalaya,
    himalayas,
    measured,
    ours,
    scikit_learns,
    slope_of,
    versions_of_all,
)


def planted(n: int, n_features: int, n_classes: int, gap: float, seed: int) -> Split:
    """Classes whose centres and noise have variances that fall as j^-1.2, turned at random."""
    world = np.random.default_rng([seed, 0])
    turn = np.linalg.qr(world.normal(size=(n_features, n_features)))[0]
    spread = np.arange(1, n_features + 1) ** -0.6
    centres = world.normal(size=(n_classes, n_features)) * spread * gap
    parts: list[np.ndarray] = []
    for k, rows in enumerate((n, n // 5, n // 5)):
        generator = np.random.default_rng([seed, k + 1])
        labels = generator.permutation(np.arange(rows) % n_classes)
        x = (centres[labels] + generator.normal(size=(rows, n_features)) * spread) @ turn + 0.5
        parts += [x.astype(np.float32), labels]
    return Split(*parts)


def saved(features: str, labels: str) -> Split:
    """Rows of two .npy files: five of seven train, and one each validates and tests."""
    x, y = np.load(features).astype(np.float32), np.load(labels).astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    parts = np.split(order, [len(x) * 5 // 7, len(x) * 6 // 7])
    return Split(*(array for part in parts for array in (x[part], y[part])))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--features", help=".npy file (n_rows, n_features); without it, planted")
    parser.add_argument("--labels", help=".npy file (n_rows,)")
    parser.add_argument("--n", type=int, default=20_000, help="planted training rows")
    parser.add_argument("--n_features", type=int, default=512)
    parser.add_argument("--n_classes", type=int, default=10)
    parser.add_argument("--gap", type=float, default=0.12, help="between planted classes")
    parser.add_argument("--cells", type=int, default=9, help="planted cells of ridge probes")
    parser.add_argument("--strengths", type=int, default=20, help="of ridge probes")
    parser.add_argument("--logistic_strengths", type=int, default=5)
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of scikit-learn")
    parser.add_argument("--peers_in", choices=["float64", "float32"], default="float64")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="bench-probe", help="folder")
    args = parser.parse_args()
    if himalaya is None:
        print("himalaya is not installed: it is left out", file=sys.stderr)
    if args.features:
        cells = [saved(args.features, args.labels)]
    else:
        shape = args.n, args.n_features, args.n_classes, args.gap
        cells = [planted(*shape, seed) for seed in range(args.cells)]
    ridge = RidgeOptions(n_strengths=args.strengths)
    logistic = LogisticOptions(n_strengths=args.logistic_strengths)
    grid = strengths_of(ridge)
    methods: dict[str, Callable[[Split], Done]] = {
        "ridge, gpt2v": lambda data: ours(Ridge(ridge), data)
    }
    if himalaya is not None:
        methods["ridge, himalaya"] = lambda data: himalayas(grid, data.cast(args.peers_in))
    slow: dict[str, Callable[[Split], Done]] = {
        "logistic, gpt2v": lambda data: ours(Logistic(logistic), data),
        "logistic, scikit-learn": lambda data: scikit_learns(
            strengths_of(logistic), args.tolerance, data.cast(args.peers_in)
        ),
    }
    rows: list[dict[str, Any]] = []
    with hardware(args.device):
        for group, some, n in ((methods, cells, args.strengths), (slow, cells[:1], None)):
            seconds, found = measured(group, some, args.repetitions)
            for name, pairs in seconds.items():
                done, (times, cpu) = found[name], zip(*pairs, strict=True)
                rows.append(
                    {
                        "method": name,
                        "cells": len(some),
                        "strengths": n or args.logistic_strengths,
                        "seconds": statistics.median(times),
                        "seconds_per_cell": statistics.median(times) / len(some),
                        "range": [min(times), max(times)],
                        "processor_seconds_per_cell": statistics.median(cpu) / len(some),
                        "accuracy": statistics.mean(one.accuracy for one in done),
                        "strength": [one.strength for one in done],
                        "slope": None if group is methods else slope_of(done[0], some[0]),
                    }
                )
        facts = hardware_facts()
    head = ["method", "cells", "strengths", "s per cell", "of processors", "accuracy", "slope"]
    lines = [
        [
            *(row["method"], str(row["cells"]), str(row["strengths"])),
            *(f"{row[name]:.3f}" for name in ("seconds_per_cell", "processor_seconds_per_cell")),
            f"{row['accuracy']:.4f}",
            "" if row["slope"] is None else f"{row['slope']:.1e}",
        ]
        for row in rows
    ]
    print(*aligned([head, *lines], right=1), sep="\n")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    content = {"kind": "bench", "versions": versions_of_all(), "hardware": facts}
    content |= {"settings": vars(args), "results": rows}
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
