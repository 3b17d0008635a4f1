"""Seconds until a command answers, prints its first line, and has done its first step.

    python bench/startup.py --before ../older/src

Each number is the median over fresh processes, in alternation with the older checkout if there is
one; CPU seconds (user and system, all threads) beside wall seconds. The model that is evaluated is
a GPT-2v of the demo's sizes with random weights, made by each checkout itself. Both checkouts have
caches of their own: the first repetition of each, which fills them, is left out.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gpt2v.config.load import dump
from gpt2v.demo.config import DemoConfig, demo_config
from gpt2v.runs import versions

SOURCE = Path(__file__).parents[1] / "src"
TICKS = os.sysconf("SC_CLK_TCK")
IMPORTS = "import torch; from transformers import CLIPVisionModel, GPT2LMHeadModel"
Spent = tuple[float, float]  # CPU and wall seconds


class Checkout:
    """A source tree, with a folder for its configurations, runs and cache."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.folder = source.resolve(), folder
        self.n_commands = 0
        folder.mkdir()

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start Python with these words; standard error goes where standard output goes."""
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(self.source),
                "PYTHONUNBUFFERED": "1",
                "XDG_CACHE_HOME": str(self.folder / "cache"),
                "HF_HUB_OFFLINE": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def command(self, line: str) -> subprocess.Popen[str]:
        """Start a command; OUT in it is a new folder, as what is left of another would be told."""
        self.n_commands += 1
        return self.start("-m", "gpt2v", *line.replace("OUT", self.out).split())

    @property
    def out(self) -> str:
        """The folder of the last command."""
        return f"out-{self.n_commands}"

    def make_model(self, config: DemoConfig) -> None:
        """Write configurations of the demo's sizes, and train each part for one step."""
        for name in ("lm", "mm"):
            part = getattr(config, name)
            stages = [part.data.stages[-1].model_copy(update={"steps": 1})]
            changes = {
                "data": part.data.model_copy(update={"stages": stages}),
                "train": part.train.model_copy(update={"log_every": 1, "eval_grids": 1}),
            }
            if name == "mm":
                changes |= {"encoder": None, "vision": config.encoder.vision, "lm": "lm"}
            text = dump(part.model_copy(update=changes))
            (self.folder / f"{name}.yaml").write_text(text)
            child = self.command(f"{name} train {name}.yaml --out {name}")
            said, _ = child.communicate()
            assert child.returncode == 0, said


def to_end(child: subprocess.Popen[str]) -> Spent:
    """Seconds until a process ends."""
    begin = time.monotonic()
    while child.stdout is not None and child.stdout.read(1 << 16):
        pass
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, time.monotonic() - begin


def to_line(child: subprocess.Popen[str]) -> Spent:
    """Seconds until a process has printed a line; then it is stopped."""
    begin = time.monotonic()
    assert child.stdout is not None
    assert child.stdout.readline()
    return _stopped(child, begin)


def to_step(child: subprocess.Popen[str], metrics: Path) -> Spent:
    """Seconds until a training has logged its first step; then it is stopped."""
    begin = time.monotonic()
    while not (metrics.exists() and metrics.stat().st_size):
        assert child.poll() is None, child.communicate()[0]
        time.sleep(0.01)
    return _stopped(child, begin)


def _stopped(child: subprocess.Popen[str], begin: float) -> Spent:
    seconds = time.monotonic() - begin
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    return sum(map(int, fields[11:13])) / TICKS, seconds  # utime, stime


def step_of(checkout: Checkout) -> Spent:
    """Seconds until the GPT-2 has done its first step."""
    training = checkout.command(TRAIN)
    return to_step(training, checkout.folder / checkout.out / "metrics.jsonl")


EVAL = "eval mm --n_images 100 --out OUT"
TRAIN = "lm train lm.yaml --out OUT"
WORK: dict[str, Callable[[Checkout], Spent]] = {
    "import torch": lambda at: to_end(at.start("-c", "import torch")),
    "import torch, transformers": lambda at: to_end(at.start("-c", IMPORTS)),
    "--help": lambda at: to_end(at.command("--help")),
    "eval --help": lambda at: to_end(at.command("eval --help")),
    "a mistake in a key": lambda at: to_end(at.command("lm train lm.yaml --train.seeds 1")),
    "an unknown instruction": lambda at: to_end(at.command("eval mm --grid.instructions {a:1}")),
    "no such model": lambda at: to_end(at.command("eval ./none")),
    "no such tokenizer": lambda at: to_end(at.command("lm train lm.yaml --tokenizer.source ./no")),
    "eval, 100 grids": lambda at: to_end(at.command(EVAL)),
    "eval, its first line": lambda at: to_line(at.command(EVAL)),
    "eval of text, 100 grids": lambda at: to_end(at.command(f"{EVAL} --modalities [text]")),
    "lm train, its first line": lambda at: to_line(at.command(TRAIN)),
    "lm train, its first step": step_of,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, help="src folder of an older checkout")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", help="part of the names of what is measured")
    parser.add_argument("--out", default="startup.json")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as root:
        checkouts = {"now": Checkout(SOURCE, Path(root) / "now")}
        if args.before:
            checkouts["before"] = Checkout(args.before, Path(root) / "before")
        for checkout in checkouts.values():
            checkout.make_model(demo_config("default", {}, Path()))
        print(f"{'CPU s (wall s)':<28}" + "".join(f"{name:>16}" for name in checkouts), flush=True)
        for title, work in WORK.items():
            if args.only and args.only not in title:
                continue
            spent: dict[str, list[Spent]] = {name: [] for name in checkouts}
            for _ in range(args.repetitions + 1):
                for name, checkout in checkouts.items():
                    spent[name].append(work(checkout))
            line = f"{title:<28}"
            for name, pairs in spent.items():
                cpu, wall = (statistics.median(one) for one in zip(*pairs[1:], strict=True))
                rows.append({"what": title, "checkout": name, "cpu": cpu, "seconds": wall})
                line += f"{cpu:>9.2f} ({wall:.2f})"
            print(line, flush=True)
    content = {"kind": "bench", "versions": versions(), "results": rows}
    Path(args.out).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
