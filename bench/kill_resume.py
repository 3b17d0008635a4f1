"""Kill a real training at random times, resume it, and compare its weights bit for bit.

    python bench/kill_resume.py --kills 100
    python bench/kill_resume.py --kills 100 --stages  # two stages, each with groups of its own

Each process is killed (SIGKILL) at a uniformly random time after it began to train; the next
process resumes. When a training is finished, its weights and its optimizers' state are compared
with those of an uninterrupted run, and a new training begins.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from gpt2v.run_layout import checkpoints_of
from gpt2v.runs import versions
from gpt2v.storage.manifest import verify
from gpt2v.train import checkpoints

CONFIG = """
tiles: {per_class: 10}
model: {n_layer: 2, n_embd: 128, n_head: 4, n_positions: 256, dropout: 0.1}
data:
  batch_size: 4
  stages:
  - {steps: 24, mix: [{rows: 2, cols: 2}, {}]}
train:
  groups:
  - {name: lm, pattern: "", lr: 0.01, optimizer: muon, weight_decay: 0.1}
  ema: 0.9
  log_every: 1
  eval_every: 12
  eval_grids: 20
  save_every: 1
  warmup: 4
"""
STAGES = """
- {steps: 12, mix: [{rows: 2, cols: 2}]}
- {steps: 12, mix: [{rows: 2, cols: 2}, {}]}
"""
STAGE_GROUPS = """
"0":
- {name: blocks, pattern: "[.]h[.]", lr: 0.01, optimizer: muon}
- {name: rest, pattern: "", lr: 0}
"1":
- {name: lm, pattern: "", lr: 0.01, optimizer: muon, weight_decay: 0.1}
"""


def start(config: Path, run: Path) -> subprocess.Popen[str]:
    """Begin or resume a training; returns directly before its first step."""
    command = [sys.executable, "-m", "gpt2v", "lm", "train", str(config), "--out", str(run)]
    child = subprocess.Popen(
        [*command, "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if "what trains" in line or "finished already" in line:
            return child
    raise SystemExit(f"the training did not begin: {child.communicate()[1]}")


def finish(child: subprocess.Popen[str]) -> None:
    _, stderr = child.communicate()
    if child.returncode != 0:
        raise SystemExit(f"a training failed: {stderr}")


def end_of(run: Path) -> tuple[bytes, bytes]:
    """The bytes of the last checkpoint's weights and optimizer state."""
    last = checkpoints_of(run)[-1]
    return tuple((last / f).read_bytes() for f in ("model.safetensors", checkpoints.OPTIMIZER))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the random times")
    parser.add_argument("--stages", action="store_true", help="two stages with groups of their own")
    parser.add_argument("--out", default="kill-resume.json")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    root = Path(tempfile.mkdtemp(prefix="kill-resume-"))
    config = root / "config.yaml"
    content = yaml.safe_load(CONFIG)
    if args.stages:
        content["data"]["stages"] = yaml.safe_load(STAGES)
        del content["train"]["groups"]
        content["train"]["stage_groups"] = yaml.safe_load(STAGE_GROUPS)
    config.write_text(yaml.safe_dump(content))
    child = start(config, root / "whole")
    begin = time.monotonic()
    finish(child)
    span = time.monotonic() - begin
    expected = end_of(root / "whole")
    print(f"an uninterrupted training takes {span:.1f} s after it has begun", flush=True)

    counts = {"kills": 0, "while_saving": 0, "before_first_checkpoint": 0, "finished_runs": 0}
    counts |= {"equal_runs": 0, "damaged_checkpoints": 0}
    run = root / "cut"

    def compare() -> None:
        counts["finished_runs"] += 1
        counts["equal_runs"] += end_of(run) == expected
        shutil.rmtree(run)

    while counts["kills"] < args.kills:
        child = start(config, run)
        time.sleep(draw.uniform(0, 0.7 * span))
        if child.poll() is not None:
            finish(child)
            compare()
            continue
        child.kill()
        child.communicate()
        counts["kills"] += 1
        counts["while_saving"] += any((run / "checkpoints").glob(".step-*"))
        counts["before_first_checkpoint"] += not checkpoints_of(run)
        counts["damaged_checkpoints"] += sum(bool(verify(path)) for path in checkpoints_of(run))
        print(f"kill {counts['kills']}: {[p.name for p in checkpoints_of(run)]}", flush=True)
    finish(start(config, run))
    compare()
    print("\n".join(f"{name:<24} {value}" for name, value in counts.items()))
    results = {"kind": "bench", "versions": versions(), "seed": args.seed, "results": [counts]}
    Path(args.out).write_text(json.dumps(results, indent=1) + "\n")
    shutil.rmtree(root)
    if counts["equal_runs"] != counts["finished_runs"] or counts["damaged_checkpoints"]:
        raise SystemExit("a resumed training ended with other weights, or a checkpoint is damaged")


if __name__ == "__main__":
    main()
