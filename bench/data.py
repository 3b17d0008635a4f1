"""Samples per second on one core, compared with a generator that is written by hand.

    python bench/data.py                          # the trained tokenizer
    python bench/data.py --tokenizer gpt2         # GPT-2's own

Both make 3x3 composite pictures of 96 pixels, each with all nine questions chained below it. Both
return the tensors that training needs: token ids, labels (only answers are supervised) and pixels
(uint8; models normalise on their device). The hand-written generator is a Python loop with
`PIL.Image.paste` and one tokenizer call per sample; its tiles are decoded before. Repetitions are
interleaved; the table shows medians with [min, max].

Shapes: B samples of a batch, T token positions, S side of a picture in pixels.
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer

from gpt2v.config.grids import GridConfig
from gpt2v.config.models import TokenizerConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.text_pieces import PieceTable
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tokenizer import build_tokenizer, grid_texts
from gpt2v.model.files import quiet_transformers, wrap_tokenizer
from gpt2v.runs import versions

SIDE, CELL, PATCHES = 3, 32, 36
PEER_BATCH = 32
Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def ours(bank: TileBank, tokenizer: Tokenizer, size: int) -> Callable[[int], Tensors]:
    """Makes batches of `size` samples: ids (B, T), labels (B, T), pixels (B, S, S, 3)."""
    render = Renderer(bank, PieceTable(tokenizer), PictureGeometry(SIDE * CELL, 16))
    spec = GridConfig(rows=SIDE, cols=SIDE, modality="image", mode="chained")
    data = GridDataset(spec, bank)
    view = data.view("image", render)

    def batch(start: int) -> Tensors:
        rendered = data.batch(np.arange(start, start + size), view, render, mode=spec.mode)
        assert rendered.pixels is not None
        arrays = (rendered.input_ids, rendered.labels, rendered.pixels)
        return tuple(map(torch.from_numpy, arrays))  # type: ignore[return-value]

    return batch


def by_hand(
    bank: TileBank, encode: Callable[[str], tuple[list[int], list[tuple[int, int]]]]
) -> Callable[[int], Tensors]:
    """Makes the same tensors in a loop over samples; `encode` returns ids and character offsets."""
    names = bank.class_names
    tiles = [
        list(map(Image.fromarray, bank.take(bank.members("train", c)))) for c in range(len(names))
    ]
    cells = [(r, c) for r in range(SIDE) for c in range(SIDE)]

    def sample(rng: random.Random) -> Tensors:
        palette = rng.sample(range(len(names)), 4)
        grid = [[rng.choice(palette) for _ in range(SIDE)] for _ in range(SIDE)]
        picture = Image.new("RGB", (SIDE * CELL, SIDE * CELL))
        for r, c in cells:
            picture.paste(rng.choice(tiles[grid[r][c]]), (CELL * c, CELL * r))
        listed = ", ".join(f"'{names[c]}'" for c in palette)
        text = (
            "<image>" * PATCHES + f"\nThe grid above is size {SIDE} by {SIDE}. "
            f"Each cell contains an object from [{listed}].\n"
        )
        answers = []
        for r, c in rng.sample(cells, len(cells)):
            text += f"What object is in row {r}, column {c}? A:"
            answers.append((len(text), len(text) + len(names[grid[r][c]]) + 2))
            text += f" {names[grid[r][c]]}\n"
        ids, offsets = encode(text)
        labels, k = [-100] * len(ids), 0
        for i, (begin, _) in enumerate(offsets):
            while k < len(answers) and begin >= answers[k][1]:
                k += 1
            if k < len(answers) and begin >= answers[k][0]:
                labels[i] = ids[i]
        return torch.tensor(ids), torch.tensor(labels), torch.from_numpy(np.array(picture))

    def batch(start: int) -> Tensors:
        rng = random.Random(start)
        samples = [sample(rng) for _ in range(PEER_BATCH)]
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad([ids for ids, _, _ in samples], batch_first=True)
        labels = pad([labels for _, labels, _ in samples], batch_first=True, padding_value=-100)
        return ids, labels, torch.stack([pixels for *_, pixels in samples])

    return batch


def measure(
    makers: dict[str, tuple[Callable[[int], Tensors], int]], repetitions: int, seconds: float
) -> dict[str, list[float]]:
    """Samples per second of each generator, in interleaved repetitions of about `seconds`.

    Args:
        makers: name -> a function that makes a batch, and the number of samples in it.
    """
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(repetitions + 1):
        for name, (batch, size) in makers.items():
            batch(0)
            start = time.perf_counter()
            done = 0
            while time.perf_counter() - start < seconds:
                batch(done * size)
                done += 1
            rates[name].append(done * size / (time.perf_counter() - start))
    return {name: values[1:] for name, values in rates.items()}  # the first warms up


def far_away(bank: TileBank) -> dict[str, Any]:
    """Microseconds per sample at both ends of 10^12 samples, and the memory that was added."""
    data = GridDataset(GridConfig(rows=SIDE, cols=SIDE), bank)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds: dict[int, list[float]] = {0: [], 10**12 - 64: []}
    for _ in range(200):
        for first, times in seconds.items():
            start = time.perf_counter()
            data.samples(np.arange(first, first + 64))
            times.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first, last = (statistics.median(times) * 1e6 / 64 for times in seconds.values())
    return {"us_first": first, "us_last": last, "kilobytes": after - before}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tokenizer", default="trained")
    parser.add_argument("--per-class", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    quiet_transformers()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    bank = load_bank(TilesConfig(per_class=args.per_class))
    tokenizer = build_tokenizer(TokenizerConfig(source=args.tokenizer), grid_texts(bank))
    wrapped = wrap_tokenizer(tokenizer)

    def plain(text: str) -> Any:
        encoding = tokenizer.encode(text)
        return encoding.ids, encoding.offsets

    def hugging_face(text: str) -> Any:
        encoding = wrapped(text, return_offsets_mapping=True)
        return encoding["input_ids"], encoding["offset_mapping"]

    makers = {
        f"gpt2v, {size} at a time": (ours(bank, tokenizer, size), size) for size in (32, 256, 1024)
    }
    makers["by hand, tokenizers"] = by_hand(bank, plain), PEER_BATCH
    makers["by hand, transformers"] = by_hand(bank, hugging_face), PEER_BATCH
    rates = measure(makers, args.repetitions, args.seconds)
    base = statistics.median(rates["by hand, tokenizers"])
    rows = [
        {"name": name, "samples_per_s": statistics.median(values), "min": min(values),
         "max": max(values), "ratio": statistics.median(values) / base}
        for name, values in rates.items()
    ]  # fmt: skip
    print(f"{'':26} {'samples/s':>10} {'[min, max]':>20} {'x by hand':>10}")
    for row in rows:
        spread = f"[{row['min']:,.0f}, {row['max']:,.0f}]"
        print(f"{row['name']:26} {row['samples_per_s']:10,.0f} {spread:>20} {row['ratio']:10.1f}")
    distance = far_away(bank)
    print(
        f"a sample of a data set of 10^12: {distance['us_first']:.1f} us for the first, "
        f"{distance['us_last']:.1f} us for the last, 64 at a time; {distance['kilobytes']} kB more"
    )
    if args.out:
        content = {"kind": "bench", "versions": versions(), "command": " ".join(sys.argv),
                   "tokenizer": args.tokenizer, "results": rows, "distance": distance}  # fmt: skip
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)


if __name__ == "__main__":
    main()
