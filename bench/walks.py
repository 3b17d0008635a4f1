"""The number of files that a reader follows from a command to its tensor, in five small runs.

    python bench/walks.py                       # for the installed gpt2v
    PYTHONPATH=OTHER/src python bench/walks.py  # for another checkout

A walk is the list of gpt2v's files on the call stack, from the file of the command's own function
to the function that makes the tensor. That is GPT-2's first block (a training, an evaluation, the
ladder's first rung), the vision tower's first layer (a probe), or the bytes of a shard (an export).
A walk goes only downward if no file imports an earlier file of the walk, directly or indirectly,
and each file is imported, directly or indirectly, by an earlier one. The last column is the number
of files whose functions ran before the tensor was made, including helpers.
"""

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import gpt2v

ROOT = Path(gpt2v.__file__).parent
TINY = ["--tiles.per_class", "40"]
Test = Callable[[FrameType], bool]


class _Reached(BaseException):
    """The tensor is made."""


def block(class_name: str) -> Test:
    """A test whether a call is the forward pass of a module of this class."""

    def reached(frame: FrameType) -> bool:
        is_forward = frame.f_code.co_name == "forward"
        return is_forward and type(frame.f_locals.get("self")).__name__ == class_name

    return reached


def named(name: str) -> Test:
    """A test whether a call is of our function with this name."""
    return lambda frame: frame.f_code.co_name == name and own(frame) is not None


def own(frame: FrameType) -> str | None:
    """The path of a call's file below the package; None if it is not our file."""
    path = Path(frame.f_code.co_filename)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else None


def walk(argv: list[str], reached: Test) -> tuple[list[str], list[str]]:
    """The files on the stack when the tensor is made, and all files with calls until then."""
    try:
        from gpt2v.cli.main import main
    except ImportError:  # a checkout whose command line is one file
        from gpt2v.cli import main  # type: ignore[no-redef]

    stack: list[str] = []
    entered: dict[str, None] = {}

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        here = own(frame)
        if here is not None and frame.f_code.co_flags & 1:  # CO_OPTIMIZED: a function
            entered.setdefault(here)
        if reached(frame):
            frames: list[tuple[str, str]] = []
            above: FrameType | None = frame
            while above is not None:
                if (file := own(above)) is not None:
                    frames.append((file, above.f_code.co_name))
                above = above.f_back
            names = [file for file, name in reversed(frames) if name != "main"]
            stack.extend(file for file in dict.fromkeys(names) if file != "__main__.py")
            raise _Reached

    sys.setprofile(profile)
    try:
        main(argv)
    except _Reached:
        pass
    finally:
        sys.setprofile(None)
    return stack, list(entered)


def imports(file: str) -> set[str]:
    """Our files that a file imports, anywhere in it."""
    files = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gpt2v"):
            module = (node.module or "").removeprefix("gpt2v").lstrip(".").replace(".", "/")
            files |= {f"{module}.py", *(f"{module}/{n.name}.py".lstrip("/") for n in node.names)}
    return files


def reach(file: str) -> set[str]:
    """Our files that a file imports, directly or indirectly."""
    files: set[str] = set()
    todo = [file]
    while todo:
        new = {other for other in imports(todo.pop()) if (ROOT / other).is_file()} - files
        files |= new
        todo += new
    return files


def climbs(files: list[str]) -> list[str]:
    """Files of a walk that import an earlier one, or that no earlier one imports."""
    return [
        file
        for i, file in enumerate(files[1:], 1)
        if reach(file) & set(files[:i]) or not any(file in reach(f) for f in files[:i])
    ]


def main() -> None:
    if len(sys.argv) > 1:  # one walk, in a process of its own
        case, work = sys.argv[1], Path(sys.argv[2])
        run, out = str(work / "smoke" / "mm"), str(work / case)
        grids = [*TINY, "--n_images", "20"]
        config = str(work / "probe.yaml")
        cases: dict[str, tuple[list[str], Test]] = {
            "training": (["mm", "train", f"{run}/config.yaml", "--out", out], block("GPT2Block")),
            "evaluation": (["eval", run, *grids, "--out", out], block("GPT2Block")),
            "ladder": (
                ["ablate", "tokens", config, "--model", run, *grids, "--out", out],
                block("GPT2Block"),
            ),
            "probe": (
                ["probe", config, "--model", run, *TINY, "--out", out],
                block("CLIPEncoderLayer"),
            ),
            "export": (
                ["data", "export", config, *grids, "--to", out, "--format", "parquet"],
                named("parquet"),
            ),
        }
        argv, reached = cases[case]
        stack, entered = walk(argv, reached)
        wrong = climbs(stack)
        print(f"WALK | {case} | {len(stack)} | {' > '.join(stack)} | {', '.join(wrong) or '-'} | "
              f"{len(entered)} |")  # fmt: skip
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "probe.yaml").write_text("{}\n")
        demo = [sys.executable, "-m", "gpt2v", "demo", "--preset", "smoke"]
        subprocess.run(
            [*demo, "--out", str(work / "smoke")], check=True, capture_output=True, env=os.environ
        )
        print(
            "| | files | the walk | climbs | all files entered |\n| --- | --- | --- | --- | --- |"
        )
        for case in ("training", "evaluation", "probe", "ladder", "export"):
            said = subprocess.run(
                [sys.executable, __file__, case, folder], capture_output=True, text=True
            )
            lines = [line for line in said.stdout.splitlines() if line.startswith("WALK")]
            print(lines[-1].removeprefix("WALK ") if lines else said.stderr[-500:], flush=True)


if __name__ == "__main__":
    main()
