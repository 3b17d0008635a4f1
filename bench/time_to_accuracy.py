"""Seconds until a GPT-2 with random weights learns 3x3 text grids, compared with a plain recipe.

    python bench/time_to_accuracy.py

The clock starts with the process and stops at the first of two consecutive validations (500 grids,
independent questions) at 99.5% or more; validation is included. The plain recipe is 3x3 grids from
the start with AdamW; it is stopped after ten times our median time.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from gpt2v.runs import versions

TARGET = 0.995


def seconds_to_target(config: str, seed: int, run: Path, limit: float) -> tuple[float, float]:
    """Seconds until the target (infinite if not within `limit`), and the last accuracy."""
    seeds = ["--train.seed", str(seed), "--data.seed", str(seed)]
    command = [sys.executable, "-m", "gpt2v", "lm", "train", config, "--out", str(run), *seeds]
    begin, begin_clock = time.monotonic(), time.time()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    passes: list[tuple[float, float]] = []
    try:
        while time.monotonic() - begin < limit:
            time.sleep(0.2)
            ended = child.poll() is not None
            passes = validations(run / "metrics.jsonl")
            for (at, one), (_, two) in pairwise(passes):
                if min(one, two) >= TARGET:
                    return at - begin_clock, two
            if ended:
                break
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()
    return float("inf"), passes[-1][1] if passes else 0.0


def validations(path: Path) -> list[tuple[float, float]]:
    """(Time, accuracy) of each validation so far."""
    if not path.is_file():
        return []
    lines = path.read_text().splitlines()
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    key = "val/text/markdown 3x3_accuracy"
    return [(row["time"], row[key]) for row in rows if key in row]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--plain-seeds", type=int, default=2)
    parser.add_argument("--out", default="time-to-accuracy.json")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as root:

        def measure(name: str, seed: int, limit: float) -> float:
            run = Path(root) / f"{name}-{seed}"
            seconds, accuracy = seconds_to_target(f"gpt2v:lm/{name}", seed, run, limit)
            row = {"recipe": name, "seed": seed, "seconds": seconds, "accuracy": accuracy}
            rows.append({**row, "limit": limit})
            print(f"{name:<14} seed {seed}  {seconds:6.1f} s  (last {accuracy:.1%})", flush=True)
            return seconds

        ours = [measure("grid-fast", seed, 600) for seed in range(args.seeds)]
        median = statistics.median(ours)
        plain = [measure("grid-plain", seed, 10 * median) for seed in range(args.plain_seeds)]
    print(f"median {median:.1f} s, worst {max(ours):.1f} s", end="")
    if plain:
        ratio = statistics.median(plain) / median
        print(f"; plain recipe: {ratio:.1f} times as long (inf: not within ten times)", end="")
    print()
    content = {"kind": "bench", "versions": versions(), "results": rows}
    Path(args.out).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
