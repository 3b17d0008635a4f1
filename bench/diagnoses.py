"""How frequently is a planted fault named, and how frequently anything else?

    python bench/diagnoses.py --repetitions 200 --out diagnoses
    python bench/diagnoses.py --repetitions 20 --grids 300 --faults left none --out smoke

Simulated models answer about 3x3 grids of four listed objects of ten classes. An answer is wrong
with a probability of `error`, and then each of the other listed objects as frequently. Three
decoders name 97% of the cells. On top, with a probability of `size`, an answer has a fault:

none: no fault. tiles: no fault, but all errors are about a few tiles, which are always misread.
prefers: no fault, but an error is mostly the same class, where the prompt lists it.
left: the object in the cell to the left; those in the first column are read.
rows, columns: the object in a random cell of the same column (row). bag: of the grid.
swap: two classes are taken for each other, where the prompt lists both.
reading: a class is blurred, so any listed object is named, but decoders find it.
encoder: the same, and decoders do not find it either.

Written are a table and, line by line, all cells as JSON. `found`: the fault is named (of a sound
model: nothing is). `other`: anything else is named; of a blurred class, a wrong `where`.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from gpt2v.messages import aligned
from gpt2v.probing.answered import Answered, Family
from gpt2v.probing.diagnoses import diagnose
from gpt2v.stats.shared import Ints

SIDE, LISTED, CLASSES = 3, 4, 10
TILES = 100  # of a class
PREFERENCE = 0.8  # of errors that could be the class that is preferred
DECODED = 0.97  # of the cells, by each decoder
SOUND = ("none", "tiles", "prefers")
ERRORS = (0.005, 0.02, 0.1)  # of sound models
SIZES = (0.03, 0.1, 0.3, 1.0)  # of faults
EXPECTED: dict[str, dict[str, Any]] = {
    "left": {"diagnosis": "reads-neighbour", "down": 0, "right": -1},
    "rows": {"diagnosis": "ignores-rows"},
    "columns": {"diagnosis": "ignores-columns"},
    "bag": {},
    "swap": {"diagnosis": "confuses-classes"},
    "reading": {"diagnosis": "blurs-class", "class": "0", "where": "reading"},
    "encoder": {"diagnosis": "blurs-class", "class": "0", "where": "encoder"},
}


@dataclass(frozen=True)
class Cell:
    """One cell of the simulation, and what came of it."""

    fault: str
    size: float
    error: float
    grids: int
    found: float = 0.0
    other: float = 0.0


def simulated(cell: Cell, seed: int) -> tuple[Answered, Family]:
    """A model with a fault, asked about each cell of some grids, and decoders."""
    rng = np.random.default_rng(seed)
    n, shape = cell.grids, (cell.grids, SIDE, SIDE)
    palette = rng.permuted(np.tile(np.arange(CLASSES), (n, 1)), axis=1)[:, :LISTED]
    listed = np.zeros((n, CLASSES), bool)
    np.put_along_axis(listed, palette, True, axis=1)
    grid = np.arange(n)[:, None, None]
    slot = rng.integers(0, LISTED, shape)
    truth = palette[grid, slot]
    tiles = truth * TILES + rng.integers(0, TILES, shape)

    def other() -> Ints:
        return np.asarray(palette[grid, (slot + rng.integers(1, LISTED, shape)) % LISTED])

    def any_listed() -> Ints:
        return np.asarray(palette[grid, rng.integers(0, LISTED, shape)])

    wrong = rng.random(shape) < cell.error
    if cell.fault == "tiles":
        wrong = (rng.random(CLASSES * TILES) < cell.error)[tiles]
    error = other()
    if cell.fault == "prefers":
        likes = (truth > 0) & listed[:, 0][:, None, None] & (rng.random(shape) < PREFERENCE)
        error = np.where(likes, 0, error)
    said = np.where(wrong, error, truth)
    faulty = (rng.random(shape) < cell.size) & (cell.fault not in SOUND)
    decoders = {
        name: np.where(rng.random(shape) < DECODED, truth, other())
        for name in ("ridge", "logistic", "knn")
    }
    row, col = np.indices((SIDE, SIDE))
    drawn = rng.integers(0, SIDE, shape)
    both = listed[:, 0] & listed[:, 1]
    is_faulty, answer = {
        "left": (True, truth[:, row, np.maximum(col - 1, 0)]),
        "rows": (True, truth[grid, drawn, col]),
        "columns": (True, truth[grid, row, drawn]),
        "bag": (True, truth[grid, drawn, rng.integers(0, SIDE, shape)]),
        "swap": ((truth < 2) & both[:, None, None], 1 - truth),
        "reading": (truth == 0, any_listed()),
        "encoder": (truth == 0, any_listed()),
    }.get(cell.fault, (False, truth))
    faulty &= is_faulty
    if cell.fault == "encoder":
        decoders = {name: np.where(faulty, any_listed(), own) for name, own in decoders.items()}
    said = np.where(faulty, answer, said)
    text = np.where(rng.random(shape) < 0.995, truth, other())
    names = [str(k) for k in range(CLASSES)]
    return Answered(truth, said, said, text, listed, np.arange(n), tiles, names), decoders


def _is_open(row: dict[str, Any]) -> bool:
    return row["diagnosis"] == "none" or row.get("where") == "not told"


def judged(cell: Cell, seed: int) -> tuple[bool, bool]:
    """Whether the fault is named, and whether anything else is."""
    rows = diagnose(*simulated(cell, seed))
    if cell.fault in SOUND:
        named = any(row["diagnosis"] != "none" for row in rows)
        return not named, named
    expected = EXPECTED[cell.fault].items()
    own = [row.items() >= expected for row in rows]
    if cell.fault == "swap":
        own = [row.get("classes") in (["0", "1"], ["1", "0"]) for row in rows]
    if cell.fault == "bag":
        own = [row["diagnosis"] in ("ignores-rows", "ignores-columns") for row in rows]
    other = [r for r, is_own in zip(rows, own, strict=True) if not is_own and not _is_open(r)]
    return any(own), bool(other)


def measured(cell: Cell, repetitions: int) -> Cell:
    """The cell with its rates."""
    outcomes = np.array([judged(cell, seed) for seed in range(repetitions)])
    found, other = outcomes.mean(0).tolist()
    return replace(cell, found=found, other=other)


def cells_of(faults: list[str], grids: list[int]) -> list[Cell]:
    """All cells of the simulation."""
    cells = []
    for fault, n in product(faults, grids):
        if fault in SOUND:
            cells += [Cell(fault, 0.0, error, n) for error in ERRORS]
        else:
            cells += [Cell(fault, size, 0.02, n) for size in SIZES]
    return cells


def main() -> None:
    """Simulate, print a table, and write all cells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--grids", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--faults", nargs="+", default=[*SOUND, *EXPECTED])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    cells = cells_of(args.faults, args.grids)
    with ProcessPoolExecutor(args.workers) as pool:
        done = list(pool.map(measured, cells, [args.repetitions] * len(cells)))
    heads = ("fault", "grids", "size", "error", "found", "other")
    rows = [
        (c.fault, str(c.grids), str(c.size), str(c.error), f"{c.found:.1%}", f"{c.other:.1%}")
        for c in done
    ]
    print("\n".join(aligned([heads, *rows])))
    args.out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(c)) for c in done]
    (args.out / "diagnoses.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
