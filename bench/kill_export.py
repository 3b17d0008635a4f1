"""Kill exports at random times, continue them, and compare every byte with an unbroken export.

    python bench/kill_export.py --kills 25

Each process is killed (SIGKILL) at a uniformly random time after it wrote its first file; the next
process continues. When an export is finished, all its files are compared and a new export begins.
This is done for every format and two executors.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpt2v.runs import versions

CONFIG = """
tiles: {per_class: 20, size: 16}
grid: {rows: [2, 3], cols: [2, 3], instructions: {lookup: 1, locate: 1}, questions: 3}
n_images: 240
shard_size: 8
"""
CASES = [(f, e) for e in ("serial", "processes") for f in ("parquet", "llava", "lm-eval", "folder")]
Tree = dict[str, str]


def start(config: Path, to: Path, format_name: str, executor: str) -> subprocess.Popen[str]:
    """Begin or continue an export; returns when it has written a file, or has ended."""
    command = [sys.executable, "-m", "gpt2v", "data", "export", str(config), "--to", str(to)]
    child = subprocess.Popen(
        [*command, "--format", format_name, "--executor", executor],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    before = count(to)
    while child.poll() is None and count(to) <= before:
        time.sleep(0.005)
    return child


def count(to: Path) -> int:
    """Number of files; a file that disappears meanwhile is no error."""
    return sum(len(names) for _, _, names in os.walk(to))


def is_finished(to: Path) -> bool:
    return (to / "manifest.json").is_file() and not (to / ".export").exists()


def finish(child: subprocess.Popen[str]) -> None:
    _, stderr = child.communicate()
    if child.returncode != 0:
        raise SystemExit(f"an export failed: {stderr}")


def tree(root: Path) -> Tree:
    """SHA-256 of every file, by path below the root."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def killed(root: Path, case: tuple[str, str], kills: int, draw: random.Random) -> dict[str, Any]:
    """Number of finished exports with one format and executor, and how many were equal."""
    format_name, executor = case
    config, whole, broken = root / "config.yaml", root / "whole", root / "cut"
    child = start(config, whole, format_name, "serial")
    begin = time.monotonic()
    finish(child)
    span = time.monotonic() - begin
    expected = tree(whole)
    done = equal = 0
    left = kills
    while left or broken.exists():
        child = start(config, broken, format_name, executor)
        time.sleep(draw.uniform(0, 0.6 * span) if left else 0)
        if left and child.poll() is None:
            child.kill()
            child.communicate()
            left -= 1
        else:
            finish(child)
        if is_finished(broken):
            done += 1
            equal += tree(broken) == expected
            shutil.rmtree(broken)
    shutil.rmtree(whole)
    return {
        "format": format_name,
        "executor": executor,
        "kills": kills,
        "exports": done,
        "equal": equal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="for each format and executor")
    parser.add_argument("--seed", type=int, default=0, help="of the random times")
    parser.add_argument("--out", default="kill-export.json")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    root = Path(tempfile.mkdtemp(prefix="kill-export-"))
    (root / "config.yaml").write_text(CONFIG)
    rows = []
    for case in CASES:
        rows.append(killed(root, case, args.kills, draw))
        print(json.dumps(rows[-1]), flush=True)
    content = {"kind": "bench", "versions": versions(), "seed": args.seed, "results": rows}
    Path(args.out).write_text(json.dumps(content, indent=1) + "\n")
    shutil.rmtree(root)
    if any(row["equal"] != row["exports"] for row in rows):
        raise SystemExit("an export that was killed and continued has other bytes")


if __name__ == "__main__":
    main()
