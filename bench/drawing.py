"""Does drawing starve the device? A training of pictures whose device takes 40 ms a step.

    python bench/drawing.py

The device is pretended: a step's loss sleeps, as the processor does while a card computes. Each
step draws 32 pictures of 224 pixels (3x3 grids of sprites, resized). Milliseconds are medians over
the steps of interleaved repetitions, from one loss to the next.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gpt2v.config.grids import GridConfig
from gpt2v.config.loop import TrainConfig
from gpt2v.config.models import TokenizerConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.text_pieces import PieceTable
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tokenizer import build_tokenizer, grid_texts
from gpt2v.runs import versions
from gpt2v.train import training
from gpt2v.train.loop import fit
from gpt2v.train.task import Task

WARM = 3  # first steps of a repetition, which are not counted
SPEC = GridConfig.model_validate({"modality": "image", "picture": {"resize": True}})


class Drawing:
    """Batches of pictures, drawn when they are asked for."""

    def __init__(self, pictures: int, side: int) -> None:
        bank = load_bank(TilesConfig(per_class=100))
        table = PieceTable(build_tokenizer(TokenizerConfig(), grid_texts(bank)))
        self.render = Renderer(bank, table, PictureGeometry(side, 16))
        self.data, self.n = GridDataset(SPEC, bank), pictures

    def __call__(self, step: int, *_: int) -> Any:
        index = np.arange(self.n) + step * self.n
        return self.data.batch(index, "image", self.render)


def _draw(batch: Any) -> None:
    assert batch.pixels is not None


@contextmanager
def drawn_ahead(threads: bool) -> Iterator[None]:
    before = training.computes_alone
    training.computes_alone = lambda device: threads
    try:
        yield
    finally:
        training.computes_alone = before


def step_ms(draw: Any, delay: float, steps: int, threads: bool) -> list[float]:
    """Milliseconds of each step."""
    model, ends = nn.Linear(4, 1), []

    def loss(batch: Any) -> torch.Tensor:
        ends.append(time.perf_counter())
        assert batch.pixels is not None
        time.sleep(delay)
        return model(torch.ones(4)).sum()

    task: Task[Any] = Task(
        model=model,
        batch=draw,
        loss=loss,
        evaluate=dict,
        describe=lambda step: "bench",
        save=lambda folder: None,
        load=lambda folder: None,
        merit=lambda scores: 0.0,
        prepare=_draw,
    )
    options = {
        "groups": [{"name": "all", "pattern": ""}], "log_every": 10**6, "tensorboard": False,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as run, drawn_ahead(threads):
        fit(task, TrainConfig.model_validate(options), steps + WARM + 1, Path(run), "bench")
    return [1e3 * (b - a) for a, b in pairwise(ends)][WARM:]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--delay", type=float, default=40.0, help="of the device, in ms a step")
    parser.add_argument("--pictures", type=int, default=32, help="of a step")
    parser.add_argument("--side", type=int, default=224, help="of a picture, in pixels")
    parser.add_argument("--steps", type=int, default=30, help="of each repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", default="bench-drawing.json")
    args = parser.parse_args()
    draw = Drawing(args.pictures, args.side)
    delay = args.delay / 1e3
    found: dict[str, list[float]] = {}
    for _ in range(args.repetitions):
        set_ups = {
            "drawing alone": (0.0, False),
            "device, drawing between the steps": (delay, False),
            "device, drawing in a thread": (delay, True),
        }
        for name, (seconds, threads) in set_ups.items():
            found.setdefault(name, []).extend(step_ms(draw, seconds, args.steps, threads))
    rows = []
    for name, times in found.items():
        rows.append(
            {"set_up": name, "ms": statistics.median(times), "range": [min(times), max(times)]}
        )
        print(f"{name:<36} {rows[-1]['ms']:6.1f} ms [{min(times):.1f}, {max(times):.1f}]")
    content = {"kind": "bench", "versions": versions(), "delay_ms": args.delay, "results": rows}
    Path(args.out).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
