"""Checks and timings on one card, in one JSON file; under eight minutes on an H100.

    python bench/gpu.py --out bench-gpu.json

It needs nothing but the package with its `bench` extra: no data, no hub. Losses, gradients and
answers are compared with those of the CPU, waits for the card are counted, the peaks of the card
and the parts of a GPT-2 small are timed, and the loop is run with and without the thread that draws
batches, resumed, run out of memory, and compared with Hugging Face's Trainer.

`--tiny --device cpu` runs everything that a CPU can, in a minute, to check this script.
"""

import argparse
import json
import sys
import time
import traceback
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
    "muon": gpu_checks.muon,
    "gpt2-small": gpu_speed.gpt2_small,
    "lengths": gpu_speed.lengths,
    "drawing": gpu_speed.drawing,
    "trainer": gpu_speed.beside_trainer,
    "memory": gpu_checks.out_of_memory,  # last: it limits the memory of this process
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to check the script")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--out", default="bench-gpu.json")
    args = parser.parse_args()
    quiet_transformers()
    content: dict[str, Any] = {"kind": "bench", "versions": versions(), "seconds": {}}
    with hardware(args.device):
        device = chosen_device()
        content["hardware"] = hardware_facts()
        for name in args.only:
            print(f"== {name}", file=sys.stderr, flush=True)
            begin = time.perf_counter()
            try:
                found = SECTIONS[name](device, args.tiny)
            except Exception as error:  # the other sections still count
                traceback.print_exc()
                found = {"error": f"{type(error).__name__}: {error}"}
            content[name] = found
            content["seconds"][name] = round(time.perf_counter() - begin, 1)
            print(json.dumps({name: found}), flush=True)
            Path(args.out).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"seconds": content["seconds"]}))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"bench/gpu.py: {error}")
