"""Stop real commands at random moments by random signals, continue them, and compare the results.

    python bench/kill_runs.py --signals 200

A chain is one command in one way: into an empty folder, with `--overwrite` of a finished run, with
`--resume`, or two of it at once in one folder; trainings also in two processes. It is stopped, by
KILL, TERM, INT, HUP or USR1 at a random moment, and started again, until it ends by itself. Checked
after every signal: a finished result that was there is there. Checked at the end: the result equals
that of an uninterrupted command, nothing unfinished is left, and what was left in between was
mentioned on stderr. The configurations are those of the demo's smoke preset.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2v.runs import versions
from gpt2v.storage.names import lock_of, replaced

SIGNALS = ("KILL", "TERM", "INT", "HUP", "USR1")
MENTIONS = ("unfinished", "restored", "kept in", "removed")
EXPORT = """
tiles: {per_class: 20, size: 16}
grid: {rows: [2, 3], cols: [2, 3], questions: 3}
n_images: 2000
shard_size: 8
"""


@dataclass
class Work:
    """A command to stop.

    Args:
        words: the command, without the folder.
        out: the option of the folder.
        other: an option that makes another result.
        resumes: whether it has `--resume`.
        outcome: what must be equal in two results; None: there is no finished result.
    """

    words: list[str]
    out: str
    other: list[str]
    resumes: bool
    outcome: Callable[[Path], Any]
    processes: int = 1
    span: float = 0.0  # seconds of an uninterrupted command
    expected: Any = None

    def start(self, folder: Path, *options: str) -> subprocess.Popen[str]:
        torchrun = two_processes() if self.processes == 2 else []
        command = [sys.executable, *torchrun, "-m", "gpt2v", *self.words, self.out, str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True, preexec_fn=_heed_signals, env=environment,
        )  # fmt: skip

    def whole(self, folder: Path, *options: str) -> Any:
        """The outcome of an uninterrupted command."""
        begin = time.monotonic()
        child = self.start(folder, *options)
        said = child.communicate()[1]
        if child.returncode:
            raise SystemExit(f"{self.words}: {said}")
        self.span = time.monotonic() - begin
        return self.outcome(folder)


def two_processes() -> list[str]:
    """Python's options for two processes, at a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = ["--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", port]
    return ["-m", "torch.distributed.run", *options]


def _heed_signals() -> None:
    """A command in the background would ignore them."""
    for name in SIGNALS[1:]:
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_DFL)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def results(run: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((run / "results.json").read_text())
    except FileNotFoundError:
        return None
    return {key: value for key, value in content.items() if key in ("kind", "results", "data_hash")}


def training(run: Path) -> Any:
    """Results, and the bytes of the last checkpoint."""
    steps = sorted(run.glob("checkpoints/step-*"))
    names = ("model.safetensors", "optimizer.safetensors")
    found = results(run)
    return found and [found, steps[-1].name, *(digest(steps[-1] / name) for name in names)]


def measurement(run: Path) -> Any:
    found = results(run)
    return found and [found, digest(run / "records.parquet")]


def demo(run: Path) -> Any:
    parts = [training(run / name) for name in ("encoder", "lm", "mm")]
    parts += [measurement(run / name) for name in ("eval", "probe")]
    found = results(run)
    return found and all(parts) and [found, *parts]


def export(folder: Path) -> Any:
    """The bytes of all files."""
    if not (folder / "manifest.json").is_file():
        return None
    files = sorted(p for p in folder.rglob("*") if p.is_file() and ".export" not in p.parts)
    return {str(file.relative_to(folder)): digest(file) for file in files}


@dataclass
class Tally:
    """What happened."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        self.faults.append(text)
        print(f"FAULT: {text}", flush=True)


def hidden(folder: Path) -> set[str]:
    """Names that stopped processes left beside and in a folder, but for locks."""
    paths = [*folder.parent.glob(f".{folder.name}.*"), *folder.rglob(".*")]
    ends = ("-lock", "-owner")
    return {p.name for p in paths if not p.name.endswith(ends) and p.name != ".export"}


def children_of(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def stop(
    work: Work, child: subprocess.Popen[str], name: str, folder: Path, wait: float, alone: float
) -> None:
    """Send a signal after a while, if `wait` is negative only after the command owns its folder."""
    if wait < 0:
        lock = lock_of(folder)
        while child.poll() is None and not lock.exists():
            time.sleep(0.002)
    time.sleep(abs(wait))
    if child.poll() is None:
        number = getattr(signal, f"SIG{name}")
        for pid in [*children_of(child.pid), child.pid] if work.processes == 2 else [child.pid]:
            if pid == child.pid or alone > 0.5:  # sometimes torchrun alone, whose workers must end
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


def chain(work: Work, mode: str, folder: Path, draw: random.Random, tally: Tally, left: int) -> int:
    """Stop one command until it ends; returns the number of signals sent."""
    old = None
    first: tuple[str, ...] = ()
    if mode == "overwrite":
        shutil.copytree(folder.with_name("old"), folder)
        old, first = work.outcome(folder), ("--overwrite",)
    elif mode == "resume":
        shutil.copytree(folder.with_name("half"), folder)
        first = ("--resume",)
    options, sent, before = first, 0, set[str]()
    while True:
        count = 2 if mode == "two" else 1
        children = []
        for _ in range(count):
            children.append(work.start(folder, *options))
            time.sleep(draw.uniform(0, 0.3) * (count - 1))
        if sent < left:
            name = draw.choice(SIGNALS)
            early = draw.random() < 0.4
            span = work.span * count
            wait = draw.uniform(0, span) if early else -draw.uniform(0, span * 0.4)
            stop(work, draw.choice(children), name, folder, wait, draw.random())
            sent += 1
            tally.counts[f"{mode}: {name}"] += 1
        said = [child.communicate()[1] for child in children]
        codes = [child.returncode for child in children]
        for text in said:
            # Not while Python still imports, and not torchrun's own.
            ours = text.find("gpt2v/cli/main.py")
            if "Traceback" in text and ours >= 0 and "in _run" in text:
                tally.fault(f"{work.words[:2]} {mode}: a traceback: {text[ours : ours + 2500]}")
        if before and 0 in codes:
            tally.counts["leftovers mentioned"] += 1
            if not any(word in text for word in MENTIONS for text in said):
                tally.fault(f"{work.words[:2]} {mode}: unmentioned: {before}: {said}")
        done = work.outcome(folder)
        if old is not None and old not in (done, *map(work.outcome, replaced(folder))):
            tally.counts["old results replaced"] += 1
            if done != work.expected:
                tally.fault(f"{work.words[:2]} {mode}: the old result is lost")
            old = None
        before = hidden(folder)
        if 0 in codes or (done == work.expected and not before):
            break
        if sent > left:
            tally.fault(f"{work.words[:2]} {mode}: does not continue: {said}")
            break
        sent += sent == left  # the next one is not stopped; a second failure is a fault
        options = continued(work, folder, done, old)
    if done != work.expected:
        tally.fault(f"{work.words[:2]} {mode}: another result than the uninterrupted one")
    if rest := hidden(folder):
        tally.fault(f"{work.words[:2]} {mode}: left at the end: {rest}")
    tally.counts["chains"] += 1
    shutil.rmtree(folder)
    return min(sent, left)


def continued(work: Work, folder: Path, done: Any, old: Any) -> tuple[str, ...]:
    """The options with which a user would go on."""
    unused = done == old or not work.resumes or not any_checkpoint(folder)
    if done == work.expected or (old is not None and unused):
        return ("--overwrite",)
    return ("--resume",) if work.resumes else ()


def any_checkpoint(folder: Path) -> bool:
    return any(folder.glob("**/checkpoints/step-*"))


def works(root: Path) -> dict[str, Work]:
    """The commands, on the models and configurations of a smoke demo."""
    made = root / "demo"
    smoke = Work(["demo", "--preset", "smoke"], "--out", ["--mm.train.seed", "5"], True, demo)
    smoke.whole(made)
    (root / "export.yaml").write_text(EXPORT)
    lm = ["lm", "train", str(made / "lm" / "config.yaml"), "--train.save_every", "2"]
    mm = ["mm", "train", str(made / "mm" / "config.yaml"), "--train.save_every", "2"]
    seed = ["--train.seed", "5"]
    evaluate = ["eval", str(made / "mm"), "--suite", str(made / "eval" / "config.yaml")]
    probe = ["probe", str(made / "probe" / "config.yaml")]
    shards = ["data", "export", str(root / "export.yaml"), "--format", "folder"]
    return {
        "lm train": Work(lm, "--out", seed, True, training),
        "mm train": Work(mm, "--out", seed, True, training),
        "lm train, two processes": Work(lm, "--out", seed, True, training, processes=2),
        "eval": Work(evaluate, "--out", ["--seed", "5"], False, measurement),
        "probe": Work(probe, "--out", ["--seed", "5"], False, measurement),
        "export": Work(shards, "--to", ["--seed", "5"], False, export),
        "demo": smoke,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--signals", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and signals")
    parser.add_argument("--only", default="", help="of the commands with this in their name")
    parser.add_argument("--out", default="kill-runs.json")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    root = Path(tempfile.mkdtemp(prefix="kill-runs-"))
    rows, faults = [], []
    cases = {title: work for title, work in works(root).items() if args.only in title}
    for number, (title, work) in enumerate(cases.items()):
        place = root / str(number)
        made = place / "run"  # always the same folder: some configurations hold its name
        work.expected = work.whole(made, *work.other)
        made.rename(place / "old")
        before, work.expected = work.expected, work.whole(made)
        made.rename(place / "whole")
        assert work.expected not in (None, before), f"{title}: the option makes no other result"
        assert work.whole(made) == work.expected, f"{title}: two runs differ"
        shutil.rmtree(made)
        if work.resumes:
            half = shutil.copytree(place / "whole", place / "half")
            (half / "results.json").unlink()
            if title != "demo":
                shutil.rmtree(sorted(half.glob("checkpoints/step-*"))[-1])
        tally, sent = Tally(), 0
        share = args.signals * (number + 1) // len(cases) - args.signals * number // len(cases)
        modes = ["plain", "overwrite", "two", *(["resume"] if work.resumes else [])]
        while sent < share:
            for mode in modes:
                if sent < share:
                    sent += chain(work, mode, place / "run", draw, tally, min(4, share - sent))
        rows.append({"command": title, "signals": sent, **tally.counts, "faults": tally.faults})
        faults += tally.faults
        print(json.dumps(rows[-1]), flush=True)
        content = {"kind": "bench", "versions": versions(), "seed": args.seed, "results": rows}
        Path(args.out).write_text(json.dumps(content, indent=1) + "\n")
    shutil.rmtree(root)
    if faults:
        raise SystemExit(f"{len(faults)} faults")


if __name__ == "__main__":
    main()
