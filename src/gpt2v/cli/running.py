"""What commands that write a run directory, or run a model, have in common."""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from gpt2v.cli.overrides import Overrides, Parser, typed, whole_number
from gpt2v.errors import UserError
from gpt2v.hardware.memory import importing
from gpt2v.paths import expanded_text
from gpt2v.run_layout import CHECKPOINTS, CONFIG
from gpt2v.runs import new_numbered_run, new_run

RUNS_FOLDER = "runs"


def run_options(parser: Parser, default: str, resume: bool = False) -> None:
    """Add `--out`, `--overwrite` and, for what can be continued, `--resume`.

    Args:
        default: of `--out`, as the help shows it.
    """
    parser.add_argument("--out", type=expanded_text, help=f"run directory (default {default})")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run")
    if resume:
        parser.add_argument(
            "--resume",
            action="store_true",
            help="continue the run in --out where it was stopped",
        )


def hardware_options(parser: Parser) -> None:
    """Add `--device` and `--threads`; see `hardware`."""
    parser.add_argument(
        "--device",
        type=_device,
        default="auto",
        metavar="NAME",
        help="cpu, cuda, cuda:NUMBER, mps, or auto for the best one (default auto)",
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        metavar="N",
        help="number of threads on a CPU (default: OMP_NUM_THREADS, or all cores)",
    )
    parser.words["--device"] = lambda: ("auto", "cpu", "cuda", "mps")


def _device(text: str) -> str:
    if not re.fullmatch("auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise UserError(f"--device: must be cpu, cuda, cuda:NUMBER, mps or auto, not '{text}'")
    return text


def _threads(text: str) -> int:
    if not 1 <= whole_number(text) <= 1024:
        raise UserError(f"--threads: must be a number from 1 to 1024, not {text}")
    return int(text)


def on_hardware(args: argparse.Namespace) -> AbstractContextManager[None]:
    """The block runs models as `hardware_options` say; enter it after the configuration is checked.

    Raises:
        UserError: the device is not there.
    """
    _check_possible(args.device)
    with importing():
        from gpt2v.hardware.device import hardware  # imports torch

    return hardware(args.device, args.threads)


def _check_possible(device: str) -> None:
    """Raise UserError if a device cannot be there, as is known without torch."""
    if device == "mps" and sys.platform != "darwin":
        raise UserError("--device: mps: is not there; only Macs have it")
    if not device.startswith("cuda"):
        return
    if sys.platform == "darwin":
        raise UserError(f"--device: {device}: is not there; Macs have cpu and mps")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        raise UserError(
            f"--device: {device}: is not there; CUDA_VISIBLE_DEVICES={hidden} hides every device"
        )


def run_directory(args: argparse.Namespace) -> Path:
    """The run directory of a training: `--out`, or `runs/` and the name of its configuration."""
    return Path(args.out) if args.out else Path(RUNS_FOLDER) / Path(args.config).stem


@contextmanager
def shared_run(args: argparse.Namespace) -> Iterator[Path]:
    """The run directory. One process makes it; the others that torchrun started wait for it."""
    with ExitStack() as stack:
        run = new_run(run_directory(args), args.overwrite, args.resume)
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:  # a mistake is told without torch
            stack.enter_context(run)
        else:
            with importing():
                from gpt2v.train.distributed import from_rank_0, processes
            stack.enter_context(on_hardware(args))
            stack.enter_context(processes())
            from_rank_0(lambda: str(stack.enter_context(run)))
        yield run_directory(args)


@contextmanager
def measuring_run(
    args: argparse.Namespace, kind: str, model: str, of: str | None
) -> Iterator[Path]:
    """The run directory of a measurement: `--out`, or one with a name of its own, which is printed.

    Args:
        kind: eval, ...
        model: a run, a checkpoint or a hub id.
        of: what is measured, the name of a suite or a YAML file; none: nothing with a name.
    """
    names = filter(None, [kind, _name_of_model(model), _name_of_file(of)])
    out = Path(args.out) if args.out else Path(RUNS_FOLDER) / "-".join(names)
    resume = getattr(args, "resume", False)
    named = args.out or args.overwrite or resume
    with new_run(out, args.overwrite, resume) if named else new_numbered_run(out) as run:
        yield run
    note = f" ({out} exists; --out chooses another)" if run != out else ""
    print(f"run: {run}{note}")


def _name_of_model(model: str) -> str:
    """A name for files: those of a model's run and checkpoint, without folders that all share."""
    path = Path(model)
    parts = [part for part in path.parts if part not in (CHECKPOINTS, path.anchor, ".", "..")]
    if parts[:1] == [RUNS_FOLDER]:
        parts = parts[1:]
    elif path.parent.name == CHECKPOINTS:
        parts = parts[-2:]
    else:
        parts = parts[-1:]
    return re.sub(r"[^\w.+-]", "_", "-".join(parts))


def _name_of_file(name: str | None) -> str:
    """A name for files; that of a config.yaml, which is in every run, says nothing."""
    if name is None:
        return ""
    path = Path(name)
    named = path.name.removesuffix(".yaml")
    return re.sub(r"[^\w.+-]", "_", "" if path.name == CONFIG else named)


def no_fields(overrides: Overrides, command: str) -> None:
    """Refuse all options of fields, for a command that has no configuration."""
    if overrides:
        raise UserError(f"{typed(overrides)}: {command} has no such option")


def quiet() -> None:
    """Hide transformers' progress bars, and its warnings about things that are intended here."""
    with importing():
        from gpt2v.model.files import quiet_transformers

    quiet_transformers()
