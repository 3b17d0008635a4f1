"""Damage good inputs by seeded mutation and see that gpt2v says so, or that its result is right.

    python bench/fuzz_inputs.py --mutants 2000

Inputs are configurations, tile folders, text files, checkpoints and results (`fuzz_subjects.py`).
Each mutant is read by a real command in a forked child of one process that has everything imported.
It must end with status 0 and the right result, or with status 2 and one line on standard error.
Everything else is a fault: another status, a traceback or a warning, something left or changed
after status 2, a wrong result, more than ten seconds. A mutant is a function of its number and the
seed: `--only NUMBER` runs it again, and shows what it said.
"""

import argparse
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import torch

import gpt2v.ablate.ladder
import gpt2v.data.export.run
import gpt2v.encoder_train.train
import gpt2v.eval.evaluate
import gpt2v.lm_train.train
import gpt2v.mm_train.train
import gpt2v.probing.probe
import gpt2v.report  # noqa: F401
from fuzz_subjects import SUBJECTS, good_models
from gpt2v.cli.main import main as gpt2v_main
from gpt2v.runs import versions

LIMIT = 10.0  # seconds
MEMORY = 12 << 30  # bytes of address space of a child
WRONG, FAULTY_CHECK = 90, 91  # exit statuses of a child after status 0


@dataclass
class Mutant:
    """A damaged input that a child reads."""

    number: int
    subject: str
    folder: Path  # its working folder; the input is in `input`
    done: str
    words: list[str]
    before: str  # hash of the input
    pid: int
    started: float = field(default_factory=time.monotonic)


def tree_hash(folder: Path) -> str:
    """Hash of the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(os.fsencode(p) for p in folder.rglob("*")):
        digest.update(path)
        if os.path.isfile(path) and not os.path.islink(path):
            digest.update(Path(os.fsdecode(path)).read_bytes())
    return digest.hexdigest()


def start(number: int, seed: int, root: Path, names: list[str]) -> Mutant:
    """Damage a copy of a good input and fork a child that reads it."""
    draw = Random(f"{seed}/{number}")
    subject = names[number % len(names)]
    kind = SUBJECTS[subject]
    folder = root / f"{number}"
    inside = folder / ("lm" if subject.startswith("lm") else "input")
    folder.mkdir()
    shutil.copytree(root / "originals" / subject, inside)
    (folder / "good").symlink_to(root / "good")
    done = kind.damage(inside, draw) if number >= 0 else "undamaged"
    words = kind.command(inside, draw)
    before = tree_hash(inside)
    pid = os.fork()
    if not pid:
        os._exit(child(folder, inside, words, subject))
    return Mutant(number, subject, folder, done, words, before, pid)


def child(folder: Path, inside: Path, words: list[str], subject: str) -> int:
    """Run the command, then check its result; returns the exit status."""
    os.setsid()
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for number, name in ((1, "printed"), (2, "said")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        status = gpt2v_main(words)
    except SystemExit as end:
        status = int(end.code or 0)
    if status:
        return status
    try:
        fault = SUBJECTS[subject].check(inside, words)
    except BaseException:
        fault = traceback.format_exc()
        status = FAULTY_CHECK
    Path("fault").write_text(fault, errors="replace")
    return status or (WRONG if fault else 0)


def judge(mutant: Mutant, status: int, seconds: float) -> str:
    """What is wrong with the end of a command; empty: nothing."""
    said = (mutant.folder / "said").read_text(errors="replace")
    lines = [line for line in said.splitlines() if line.startswith("gpt2v: ")]
    inside = mutant.folder / ("lm" if mutant.subject.startswith("lm") else "input")
    if seconds > LIMIT:
        return f"{seconds:.0f} seconds"
    if status in (WRONG, FAULTY_CHECK):
        return (mutant.folder / "fault").read_text(errors="replace")
    if status not in (0, 2):
        return f"status {status}: {said[-1500:]}"
    if "Traceback" in said or "Warning" in said:
        return f"on standard error: {said[:1500]}"
    if tree_hash(inside) != mutant.before:
        return "the input was changed"
    if status == 2:
        last = said.splitlines()[-1] if said.strip() else ""
        if not lines or last != lines[-1]:
            return f"no line: {said[-500:]}"
        if len(last) > 1000:
            return f"a line of {len(last)} characters: {last[:300]}"
        left = [p.name for p in mutant.folder.iterdir() if p.name.lstrip(".").startswith("out")]
        left = [name for name in left if not name.endswith(("-lock", "-owner"))]
        if left:
            return f"left: {left}: {last}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="children at once")
    parser.add_argument("--subject", choices=SUBJECTS, action="append", help="only these inputs")
    parser.add_argument("--only", type=int, help="one mutant, and show what it says")
    parser.add_argument("--good", type=Path, help="a finished tiny demo; default: make one")
    parser.add_argument("--out", default="fuzz-inputs.json")
    args = parser.parse_args()
    torch.set_num_threads(1)  # no pool of threads, which would not be there after a fork
    root = Path(tempfile.mkdtemp(prefix="fuzz-"))
    names = list(SUBJECTS)
    prepare(root, args.good)
    numbers = [
        n
        for n in range(args.mutants)
        if args.only in (None, n) and names[n % len(names)] in (args.subject or names)
    ]
    # First the good inputs themselves, which must be accepted: -1 is the last subject.
    numbers = [args.only] if args.only is not None else [*range(-len(names), 0), *numbers]
    faults, counts, slowest = [], Counter[str](), 0.0
    running: dict[int, Mutant] = {}
    while numbers or running:
        while numbers and len(running) < args.jobs:
            mutant = start(numbers.pop(0), args.seed, root, names)
            running[mutant.pid] = mutant
        mutant, status, seconds = wait_for_one(running)
        slowest = max(slowest, seconds)
        fault = judge(mutant, status, seconds)
        if mutant.number < 0 and status == 2:
            fault = f"refused: {(mutant.folder / 'said').read_text()}"
        ending = "fault" if fault else f"status {status}"
        counts[f"{mutant.subject}: {ending}"] += 1
        if args.only is not None:
            print(mutant.words, (mutant.folder / "said").read_text(errors="replace"))
        if fault:
            row = {"mutant": mutant.number, "subject": mutant.subject, "done": mutant.done}
            faults.append({**row, "command": mutant.words, "fault": fault})
            print(f"FAULT {row}: {fault[-800:]}", flush=True)
        if args.only is None:
            shutil.rmtree(os.fsencode(mutant.folder), ignore_errors=True)
    report(args, counts, faults, slowest)
    if args.only is None:
        shutil.rmtree(root)
    if faults:
        raise SystemExit(f"{len(faults)} faults")


def prepare(root: Path, good: Path | None) -> None:
    """Make the good models and the good input of each subject; each must be accepted."""
    if good:
        shutil.copytree(good, root / "good")
    else:
        pid = os.fork()  # threads that a training leaves would not be there after a fork
        if not pid:
            with contextlib.redirect_stdout(None):
                good_models(root / "good")
            os._exit(0)
        os.waitpid(pid, 0)
    for name, subject in SUBJECTS.items():
        folder = root / "originals" / name
        folder.mkdir(parents=True)
        subject.make(folder, root / "good")


def wait_for_one(running: dict[int, Mutant]) -> tuple[Mutant, int, float]:
    """The first child that ends, or that takes too long; its exit status and seconds."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        now = time.monotonic()
        if pid in running:
            mutant = running.pop(pid)
            return mutant, os.waitstatus_to_exitcode(status), now - mutant.started
        for mutant in running.values():
            if now - mutant.started > LIMIT + 1:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(mutant.pid, signal.SIGKILL)
        time.sleep(0.01)


def report(
    args: argparse.Namespace, counts: Counter[str], faults: list[dict[str, Any]], slowest: float
) -> None:
    """Print the counts, and write them with all faults."""
    for name, count in sorted(counts.items()):
        print(f"{count:6} {name}")
    print(f"{sum(counts.values())} mutants, {len(faults)} faults, slowest {slowest:.1f} s")
    content = {"kind": "bench", "versions": versions(), "seed": args.seed, "counts": counts}
    Path(args.out).write_text(json.dumps({**content, "results": faults}, indent=1) + "\n")


if __name__ == "__main__":
    main()
