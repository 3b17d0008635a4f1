"""Checks and timings on one card, in one JSON file; under eight minutes on an H100.

    python bench/gpu.py --out bench-gpu.json

It needs nothing but the package with its `bench` extra: no data, no hub. Losses, gradients and
answers are compared with those of the CPU, waits for the card are counted, the peaks of the card
and the parts of a GPT-2 small are timed, and the loop is run with and without the thread that draws
batches, in each number format, resumed, run out of memory, and compared with Hugging Face's
Trainer. Each section runs in a process of its own.

`--tiny --device cpu` runs everything that a CPU can, in a minute, to check this script.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import gpu_checks
import gpu_speed
from gpt2v.errors import UserError
from gpt2v.hardware.device import chosen_device, hardware, hardware_facts
from gpt2v.model.files import quiet_transformers
from gpt2v.runs import versions

Section = Callable[[torch.device, bool], dict[str, Any]]
SECTIONS: dict[str, Section] = {
    "peaks": gpu_speed.peaks,
    "equality": gpu_checks.equality,
    "scoring": gpu_checks.scoring,
    "waits": gpu_checks.waits,
    "resume": gpu_checks.resume,
    "formats": gpu_checks.formats,
    "muon": gpu_checks.muon,
    "gpt2-small": gpu_speed.gpt2_small,
    "lengths": gpu_speed.lengths,
    "drawing": gpu_speed.drawing,
    "trainer": gpu_speed.beside_trainer,
    "memory": gpu_checks.out_of_memory,
}


def alone(name: str, device: str, tiny: bool) -> dict[str, Any]:
    """Run one section in a process of its own: what one leaves behind must not slow another."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found.json")
        own = [sys.executable, __file__, "--device", device, "--section", name, "--out", str(found)]
        begin = time.perf_counter()
        done = subprocess.run(own + (["--tiny"] if tiny else []), stdout=sys.stderr, check=False)
        seconds = round(time.perf_counter() - begin, 1)
        if done.returncode:
            return {"error": f"ended with status {done.returncode}", "seconds": seconds}
        return {**json.loads(found.read_text("utf-8")), "seconds": seconds}


def section(name: str, device: str, tiny: bool) -> dict[str, Any]:
    """What a section finds, with the hardware."""
    quiet_transformers()
    with hardware(device):
        found = SECTIONS[name](chosen_device(), tiny)
        return {"hardware": hardware_facts(), "found": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to check the script")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--section", choices=list(SECTIONS), help="this one, in this process")
    parser.add_argument("--out", default="bench-gpu.json")
    args = parser.parse_args()
    if args.section:
        content = section(args.section, args.device, args.tiny)
        Path(args.out).write_text(json.dumps(content) + "\n", encoding="utf-8")
        return
    content = {"kind": "bench", "versions": versions()}
    for name in args.only:
        print(f"== {name}", file=sys.stderr, flush=True)
        content[name] = alone(name, args.device, args.tiny)
        print(json.dumps({name: content[name]}), flush=True)
        Path(args.out).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"bench/gpu.py: {error}")
