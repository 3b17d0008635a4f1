"""How long ridge and logistic probes take, beside himalaya's and scikit-learn's.

    pip install --target SITE --no-deps himalaya
    PYTHONPATH=SITE python bench/probe.py
    python bench/probe.py --features x.npy --labels y.npy

All have the same features and the same protocol: strengths on a grid, from the strongest to the
weakest; the one with the best accuracy on validation rows is fitted again on training and
validation rows together; the accuracy is that on test rows. A repetition measures everyone once.

- `ridge, himalaya`: `RidgeCV` with these two sets as its only split, and accuracy as its score.
  With `svd` it does what is usual there: one decomposition for all strengths, one for the last fit.
- `logistic, scikit-learn`: `LogisticRegression` (L-BFGS) with `warm_start`, so that each fit starts
  from the one before. Its tolerance is its own (1e-4, of the largest slope), or `--tolerance`.

`slope` is the largest of the last fit's objective, divided by the root of the mean variance of the
features: how far a solution is from the minimum. Planted features are classes in noise whose
variances fall by a power law. Everyone computes in float64; `--peers_in float32` has the peers
compute in float32.

Where others use the machine, one thread (OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1) and the time of
processors are what can be compared.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit

from gpt2v.config.decoders import LogisticOptions, RidgeOptions
from gpt2v.hardware.device import hardware, hardware_facts
from gpt2v.messages import aligned
from gpt2v.probing.decoders.linear import strengths_of
from gpt2v.probing.decoders.logistic import Logistic
from gpt2v.probing.decoders.ridge import Ridge
from gpt2v.runs import versions

try:
    import himalaya
    from himalaya.ridge import RidgeCV
except ImportError:
    himalaya = None


@dataclass(frozen=True)
class Split:
    """Features and labels of training, validation and test rows."""

    x: np.ndarray
    labels: np.ndarray
    x_val: np.ndarray
    val_labels: np.ndarray
    x_test: np.ndarray
    test_labels: np.ndarray

    @property
    def n_classes(self) -> int:
        return int(self.labels.max()) + 1

    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation rows together."""
        both = np.concatenate([self.x, self.x_val]), np.concatenate([self.labels, self.val_labels])
        return both

    def cast(self, dtype: str) -> "Split":
        """With features of another type."""
        x, x_val, x_test = (part.astype(dtype) for part in (self.x, self.x_val, self.x_test))
        return Split(x, self.labels, x_val, self.val_labels, x_test, self.test_labels)


@dataclass(frozen=True)
class Done:
    """A path of one method on one cell."""

    accuracy: float
    strength: float
    weight: np.ndarray  # (n_features, n_classes)
    bias: np.ndarray


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


def ours(decoder: Any, data: Split) -> Done:
    """A decoder of gpt2v."""
    (own,) = decoder.fit(
        data.x, data.labels[None], data.x_val, data.val_labels[None], data.n_classes
    )
    predicted = own.scores(data.x_test).argmax(1)
    accuracy = float((predicted == data.test_labels).mean())
    return Done(accuracy, own.strength, own.weight, own.bias - own.mean @ own.weight)


def himalayas(strengths: list[float], data: Split) -> Done:
    """`RidgeCV` of himalaya."""
    x, labels = data.both()
    targets = (2 * np.eye(data.n_classes)[labels] - 1).astype(x.dtype)

    def accuracy(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        right = (predicted.argmax(-1) == truth.argmax(-1)).mean(-1)
        return np.repeat(right[..., None], truth.shape[-1], -1)

    fold = np.where(np.arange(len(x)) < len(data.x), -1, 0)
    unit = len(data.x) * float(data.x.var(0).mean())
    model = RidgeCV(
        alphas=[strength * unit for strength in strengths],
        fit_intercept=True,
        cv=PredefinedSplit(fold),
        solver_params={"score_func": accuracy, "local_alpha": False},
    ).fit(x, targets)
    predicted = model.predict(data.x_test).argmax(1)
    found = float((predicted == data.test_labels).mean())
    return Done(found, float(model.best_alphas_[0]) / unit, model.coef_, model.intercept_)


def scikit_learns(strengths: list[float], tolerance: float, data: Split) -> Done:
    """`LogisticRegression` of scikit-learn, along the path."""
    best, chosen = -1.0, strengths[0]
    model = LogisticRegression(warm_start=True, tol=tolerance, max_iter=100_000)
    unit = len(data.x) * float(data.x.var(0).mean())
    weights: dict[float, tuple[np.ndarray, np.ndarray]] = {}
    for strength in strengths:
        model.set_params(C=1 / (unit * strength)).fit(data.x, data.labels)
        rate = float((model.predict(data.x_val) == data.val_labels).mean())
        weights[strength] = model.coef_.copy(), model.intercept_.copy()
        if rate > best:
            best, chosen = rate, strength
    x, labels = data.both()
    model.coef_, model.intercept_ = weights[chosen]
    model.set_params(C=1 / (len(x) * float(x.var(0).mean()) * chosen)).fit(x, labels)
    rate = float((model.predict(data.x_test) == data.test_labels).mean())
    return Done(rate, chosen, model.coef_.T, model.intercept_)


def slope_of(done: Done, data: Split) -> float:
    """How far the last logistic fit is from the minimum; see above."""
    x, labels = data.cast("float64").both()
    unit = x.var(0).mean()
    error = softmax(x @ done.weight + done.bias, 1) - np.eye(data.n_classes)[labels]
    slope = (x - x.mean(0)).T @ error / len(x) + unit * done.strength * done.weight
    return float(np.abs(slope).max() / unit**0.5)


def measured(
    methods: dict[str, Callable[[Split], Done]], cells: list[Split], repetitions: int
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, list[Done]]]:
    """Wall and processor seconds of each repetition over all cells; what was found, by method."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    found: dict[str, list[Done]] = {}
    for _ in range(repetitions):
        for name, method in methods.items():
            started = time.perf_counter(), time.process_time()
            found[name] = [method(cell) for cell in cells]
            wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
            seconds[name].append((wall, cpu))
            print(f"{name}: {wall:.2f} s, {cpu:.2f} s of processors", file=sys.stderr, flush=True)
    return seconds, found


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
    peers = {"scikit-learn": sklearn.__version__}
    if himalaya is not None:
        peers["himalaya"] = himalaya.__version__
    content = {"kind": "bench", "versions": {**versions(), **peers}, "hardware": facts}
    content |= {"settings": vars(args), "results": rows}
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
