"""Do the intervals of a real model hold the truth? Many banks of fresh test tiles tell.

    python bench/fresh_banks.py runs/demo/mm --banks 100 --out fresh-banks

Each bank has sprites of a seed of its own, a hundred for test of each class, and grids of a seed of
its own. The mean accuracy over all banks is taken for the truth. Counted are the banks whose
interval holds it: the one of gpt2v.stats, and one that ignores that pictures share tiles. A bank is
measured once: the same command goes on with those that are missing.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

import gpt2v
from gpt2v.ask.model import Model
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.eval.metrics import column, tiles_of
from gpt2v.eval.records import record_table
from gpt2v.model.scoring import score_all
from gpt2v.runs import versions
from gpt2v.stats.intervals import rate_interval, wilson_interval
from gpt2v.stats.shared import Shared


@dataclass
class Bank:
    """What was measured with one bank."""

    seed: int
    accuracy: float
    two_way: tuple[float, float]
    one_way: tuple[float, float]


def measure(model: Model, seed: int, n_images: int, test_per_class: int) -> Bank:
    """Accuracy on pictures of fresh tiles, with two intervals."""
    config = model.filled.config
    changed = {"seed": seed, "test_per_class": test_per_class}
    bank = load_bank(config.tiles.model_copy(update=changed))
    data = gpt2v.GridDataset(model.spec, bank, seed, "test", n=n_images)
    scorer = model.scorer(bank)
    records = record_table(score_all(scorer, data, "image"), modality="image")
    right, picture = column(records, "exact").astype(bool), column(records, "sample")
    return Bank(
        seed,
        float(right.mean()),
        rate_interval(right, Shared(picture, tiles_of(records))),
        rate_interval(right, Shared(picture)),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", help="of `mm train` on sprites")
    parser.add_argument("--banks", type=int, default=100)
    parser.add_argument("--n_images", type=int, default=1000)
    parser.add_argument("--tiles", type=int, default=100, help="for test, of a class")
    parser.add_argument("--out", default="bench-fresh-banks", help="folder")
    args = parser.parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        model = gpt2v.load_model(args.run)
        if model.filled.config.tiles.source != "sprites":
            raise UserError(f"{args.run}: was trained on files, of which there are no fresh ones")
        weights = model.identity["weights"]
        lines = out / f"banks-{weights}-{args.n_images}-{args.tiles}.jsonl"
        before = lines.read_text("utf-8").splitlines() if lines.exists() else []
        done = [Bank(**json.loads(line)) for line in before if line.endswith("}")]
        with lines.open("a", encoding="utf-8") as file:
            for seed in range(1000 + len(done), 1000 + args.banks):
                done.append(measure(model, seed, args.n_images, args.tiles))
                print("\n" + json.dumps(vars(done[-1])), end="", file=file, flush=True)
                print(f"{len(done)}/{args.banks}", done[-1], flush=True)
    except UserError as error:
        print(f"fresh_banks: {error}", file=sys.stderr)
        return 2
    rates = np.array([bank.accuracy for bank in done])
    truth, n = float(rates.mean()), len(done)
    print(f"{n} banks: mean {truth:.2%}, standard deviation {rates.std(ddof=1):.2%}")
    found = {}
    for kind in ("two_way", "one_way"):
        ends = np.array([getattr(bank, kind) for bank in done])
        held = int(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).sum())
        low, high = wilson_interval(held / n, n)
        width = float((ends[:, 1] - ends[:, 0]).mean())
        print(f"{kind}: {held} of {n} intervals hold it [{low:.0%}, {high:.0%}], width {width:.2%}")
        found[kind] = {"held": held, "width": width}
    content = {"kind": "bench", "versions": versions(), "weights": weights, "mean": truth}
    content |= {"standard_error": float(rates.std(ddof=1)) / sqrt(n), "results": found}
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
