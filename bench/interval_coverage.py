"""How often do the 95% intervals of gpt2v.stats hold the truth?

    python bench/interval_coverage.py --repetitions 3000 --out coverage
    python bench/interval_coverage.py --repetitions 20 --pictures 50 --tiles 100 --out smoke

Simulated evaluations: each picture has nine cells, each a tile of one of ten classes, and one
question about each cell. Outcomes are correlated where they share a picture, a tile, or either:

latent: an answer is wrong if the sum of normal variables of picture, of tile and its own is above a
    threshold; the correlation is that of the sums.
binary: with a probability of the correlation's root, an answer repeats one draw of its picture (of
    its tile); the correlation is that of the answers.

With `both`, each of the two has half of the correlation. Paired: a second reader whose sums share
half of the first one's own part, with the same rate, so that the true difference is 0; the share of
its intervals that leave 0 out is the type I error of the p-value.

hard, turned: a picture (a tile) is hard with a probability of 1 - rate; all answers about others
    are right. About a hard one, only the first reader is right in 25% and only the other one in
    70% (turned: or the reverse, at random, so that the true difference is 0).

suite: four parts show the same grids. On pictures an answer is latent with `correlation` of tile,
the same in all parts; on text it is right with 0.999. The difference is the suite's gap.

Written are a table for each question (rate, difference) and, line by line, all cells as JSON. The
same command goes on with the cells that are missing.
"""

import argparse
import itertools
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from gpt2v.messages import aligned
from gpt2v.runs import versions
from gpt2v.stats.intervals import Difference, rate_interval
from gpt2v.stats.shared import Shared

CELLS, CLASSES = 9, 10
RATES = (0.5, 0.9, 0.99, 0.999)
CORRELATIONS = (0.0, 0.3, 0.8)
KINDS = ("latent picture", "latent tile", "latent both", "binary picture", "binary tile")
HARD = ("hard picture", "hard tile", "turned picture", "turned tile")
ONLY_FIRST, ONLY_OTHER = 0.25, 0.7  # of the answers about what is hard
SUITE, PARTS, TEXT_RATE = "suite", 4, 0.999
SUITE_RATES, SUITE_CORRELATIONS = (0.5, 0.9, 0.98, 0.998), (0.3, 0.9)


@dataclass(frozen=True)
class Cell:
    """One cell of the simulation, and what came of it."""

    pictures: int
    tiles: int  # of a class
    rate: float
    kind: str
    correlation: float
    rate_coverage: float = 0.0
    rate_width: float = 0.0
    difference_coverage: float = 0.0
    difference_width: float = 0.0


def outcomes(
    rng: np.random.Generator,
    shared: Shared,
    n_tiles: int,
    cell: Cell,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether two readers answer each question right, (J,) each."""
    assert shared.tiles is not None
    n, picture, tile = shared.n, shared.picture, shared.tiles[:, 0]
    scale, who = cell.kind.split()
    shares = {"picture": (1, 0), "tile": (0, 1), "both": (0.5, 0.5)}[who]
    of_picture, of_tile = (cell.correlation * share for share in shares)
    if scale == "binary":
        draws = rng.random(cell.pictures if of_picture else n_tiles)
        common = draws[picture if of_picture else tile]
        repeats = rng.random((2, n)) < sqrt(cell.correlation)
        own = np.where(repeats, common, rng.random((2, n)))
        one, other = own < cell.rate
        return one, other
    common = sqrt(of_picture) * rng.standard_normal(cell.pictures)[picture]
    common += sqrt(of_tile) * rng.standard_normal(n_tiles)[tile]
    left = sqrt((1 - cell.correlation) / 2)
    between = rng.standard_normal(n)
    one, other = (
        common + left * (between + rng.standard_normal(n)) < norm.ppf(cell.rate) for _ in range(2)
    )
    return one, other


def simulate(cell: Cell, repetitions: int, seed: int) -> Cell:
    """The cell with coverages and mean widths."""
    rng = np.random.default_rng([seed, *cell_key(cell)])
    n_tiles = CLASSES * cell.tiles
    if cell.kind == SUITE:
        return simulate_suite(cell, repetitions, rng)
    if cell.kind in HARD:
        return simulate_hard(cell, repetitions, rng)
    picture = np.repeat(np.arange(cell.pictures), CELLS)
    rows = np.empty((repetitions, 4))
    for i in range(repetitions):
        shared = Shared(picture, rng.integers(n_tiles, size=(len(picture), 1)))
        one, other = outcomes(rng, shared, n_tiles, cell)
        low, high = rate_interval(one, shared)
        below, above = Difference.between(one, other, shared).interval()
        rows[i] = low <= cell.rate <= high, high - low, below <= 0 <= above, above - below
    names = ("rate_coverage", "rate_width", "difference_coverage", "difference_width")
    return replace(cell, **dict(zip(names, rows.mean(0).tolist(), strict=True)))


def simulate_hard(cell: Cell, repetitions: int, rng: np.random.Generator) -> Cell:
    """The cell of two readers who err on the same groups with coverage and mean width."""
    n_tiles, n = CLASSES * cell.tiles, cell.pictures * CELLS
    picture = np.repeat(np.arange(cell.pictures), CELLS)
    how, who = cell.kind.split()
    true = 0.0 if how == "turned" else (1 - cell.rate) * (ONLY_FIRST - ONLY_OTHER)
    rows = np.empty((repetitions, 2))
    for i in range(repetitions):
        tile = rng.integers(n_tiles, size=n)
        n_groups, group = (cell.pictures, picture) if who == "picture" else (n_tiles, tile)
        hard = (rng.random(n_groups) > cell.rate)[group]
        turned = (rng.random(n_groups) < (0.5 if how == "turned" else 0))[group]
        draw = rng.random(n)
        only_first = hard & (draw < np.where(turned, ONLY_OTHER, ONLY_FIRST))
        only_other = hard & (draw > 1 - np.where(turned, ONLY_FIRST, ONLY_OTHER))
        shared = Shared(picture, tile[:, None])
        low, high = Difference.between(~only_other, ~only_first, shared).interval()
        rows[i] = low <= true <= high, high - low
    coverage, width = rows.mean(0).tolist()
    return replace(cell, difference_coverage=coverage, difference_width=width)


def simulate_suite(cell: Cell, repetitions: int, rng: np.random.Generator) -> Cell:
    """The cell of a suite with coverage and mean width of its gap."""
    n_tiles, n = CLASSES * cell.tiles, PARTS * cell.pictures * CELLS
    picture = np.tile(np.repeat(np.arange(cell.pictures), CELLS), PARTS)
    part = np.repeat(np.arange(PARTS), cell.pictures * CELLS)
    threshold, own = norm.ppf(cell.rate), sqrt(1 - cell.correlation)
    rows = np.empty((repetitions, 2))
    for i in range(repetitions):
        tile = np.tile(rng.integers(n_tiles, size=cell.pictures * CELLS), PARTS)
        of_tile = sqrt(cell.correlation) * rng.standard_normal(n_tiles)
        image = of_tile[tile] + own * rng.standard_normal(n) < threshold
        text = rng.random(n) < TEXT_RATE
        gap = Difference.between(text, image, Shared(picture, tile[:, None], part))
        low, high = gap.interval()
        rows[i] = low <= TEXT_RATE - cell.rate <= high, high - low
    coverage, width = rows.mean(0).tolist()
    return replace(cell, difference_coverage=coverage, difference_width=width)


def cell_key(cell: Cell) -> list[int]:
    """Numbers that tell the cell from others, for its seed."""
    return [
        cell.pictures,
        cell.tiles,
        round(1000 * cell.rate),
        (*KINDS, SUITE, *HARD).index(cell.kind),
        round(1000 * cell.correlation),
    ]


def cells(pictures: list[int], tiles: list[int]) -> list[Cell]:
    """All cells; without correlation, the kinds are one."""
    every = itertools.product(pictures, tiles, RATES, KINDS, CORRELATIONS)
    alone = [
        Cell(p, t, rate, kind, correlation)
        for p, t, rate, kind, correlation in every
        if correlation or kind == KINDS[0]
    ]
    hard = itertools.product(pictures, tiles, RATES, HARD, [0.0])
    suites = itertools.product(pictures, tiles, SUITE_RATES, [SUITE], SUITE_CORRELATIONS)
    return alone + list(itertools.starmap(Cell, [*suites, *hard]))


def table(done: list[Cell], what: str) -> list[str]:
    """Lines of text: the least coverage over rates and correlations, by kind and size."""
    sizes = sorted({(c.pictures, c.tiles) for c in done})
    rows = [["pictures, tiles of a class", *(f"{p}, {t}" for p, t in sizes)]]
    for kind in KINDS if what == "rate" else (*KINDS, SUITE, *HARD):
        own = [c for c in done if c.kind == kind]
        least = [
            min(getattr(c, f"{what}_coverage") for c in own if (c.pictures, c.tiles) == size)
            for size in sizes
        ]
        rows.append([kind, *(f"{value:.1%}" for value in least)])
    return aligned(rows, right=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3000, help="of each cell")
    parser.add_argument("--pictures", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--tiles", type=int, nargs="+", default=[100, 200, 1000], help="of a class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", default="bench-coverage", help="folder")
    args = parser.parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    lines = out / f"cells-{args.seed}-{args.repetitions}.jsonl"
    before = lines.read_text("utf-8").splitlines() if lines.exists() else []
    every = cells(args.pictures, args.tiles)
    keys = [cell_key(cell) for cell in every]
    whole = [Cell(**json.loads(line)) for line in before if line.endswith("}")]
    done = [cell for cell in whole if cell_key(cell) in keys]
    known = [cell_key(cell) for cell in done]
    todo = [cell for cell in every if cell_key(cell) not in known]
    n = len(todo)
    with ProcessPoolExecutor(args.workers) as pool, lines.open("a", encoding="utf-8") as file:
        for cell in pool.map(simulate, todo, [args.repetitions] * n, [args.seed] * n):
            done.append(cell)
            print("\n" + json.dumps(asdict(cell)), end="", file=file, flush=True)
            print(f"{len(done)}/{len(every)}", cell, flush=True)
    for what in ("rate", "difference"):
        print(f"least coverage of a {what}", *table(done, what), sep="\n")
    content = {"kind": "bench", "versions": versions(), "seed": args.seed}
    content |= {"repetitions": args.repetitions, "results": [asdict(cell) for cell in done]}
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
