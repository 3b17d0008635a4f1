"""How often do the 95% intervals of minimal pairs and of texts hold the truth?

    python bench/language_coverage.py --repetitions 1000

Pairs: those that `eval --pairs` draws, of one phenomenon, of a family, or all. A reader is right if
a normal variable of the pair's own and one of each word in an open slot, with standard deviation
`sd`, are together below a threshold; each repetition draws new words' variables, which are the same
in all phenomena. The difference is that of two readers who share half of the words' variance and
have the same rate, so that the true difference is 0.

Texts: documents with log-normal lengths (sd 1 of the logarithm) and a loss per byte that is
log-normal, too (sd 0.3), longer documents having a lower one (correlation -0.5).
"""

import argparse
from collections.abc import Iterator
from functools import cache
from math import exp, sqrt

import numpy as np
import pyarrow as pa
from scipy.stats import norm

from gpt2v.eval.language.pairs.base import draw
from gpt2v.eval.language.rates import Ratio, shared_by
from gpt2v.eval.language.shared_words import SharedWords
from gpt2v.messages import aligned
from gpt2v.registry import PHENOMENA
from gpt2v.stats.intervals import Difference, rate_interval
from gpt2v.stats.student import width

SDS, RATES, DOCUMENTS = (0.0, 0.3, 0.6, 1.0), (0.5, 0.8, 0.95), (3, 5, 10, 30, 300)
N_DESIGNS = 20  # different draws of pairs


@cache
def design(names: tuple[str, ...], seed: int, n_pairs: int) -> SharedWords:
    """What the pairs of some phenomena share."""
    pairs = [pair for name in names for pair in draw(name, seed, n_pairs)]
    keys = ("phenomenon", "item", "words", "slots")
    return shared_by(pa.table({key: [getattr(pair, key) for pair in pairs] for key in keys}))


def coverage(
    names: tuple[str, ...], rate: float, sd: float, repetitions: int, n_pairs: int
) -> tuple[float, float]:
    """How often the interval of a rate, and that of a difference, holds the truth."""
    rng = np.random.default_rng([round(100 * rate), round(10 * sd), len(names), *names[0].encode()])
    designs = [design(names, seed, n_pairs) for seed in range(min(N_DESIGNS, repetitions))]
    held = np.empty((repetitions, 2))
    for i in range(repetitions):
        shared = designs[i % len(designs)]
        assert shared.tiles is not None
        there = shared.tiles >= 0
        threshold = norm.ppf(rate) * np.sqrt(1 + sd**2 * there.sum(1))
        common, *own = rng.standard_normal((3, shared.tiles.max() + 1)) * sd * sqrt(0.5)
        right = [
            np.where(there, (common + mine)[shared.tiles], 0).sum(1) + rng.standard_normal(shared.n)
            < threshold
            for mine in own
        ]
        z = width(shared.n_drawn)
        low, high = rate_interval(right[0], shared, z)
        below, above = Difference.between(*right, shared).interval(z)
        held[i] = low <= rate <= high, below <= 0 <= above
    of_rate, of_difference = held.mean(0).tolist()
    return of_rate, of_difference


def of_texts(n_documents: int, repetitions: int) -> float:
    """How often the interval of a loss per byte holds the truth."""
    rng = np.random.default_rng(n_documents)
    held = 0
    for _ in range(repetitions):
        of_length, other = rng.standard_normal((2, n_documents))
        of_loss = -0.5 * of_length + sqrt(0.75) * other
        length = np.exp(of_length)
        ends = Ratio.of(length * np.exp(0.3 * of_loss), length).ci95
        assert ends is not None
        held += ends[0] <= exp(0.3**2 / 2 - 0.5 * 0.3) <= ends[1]  # E of the product, over exp(1/2)
    return held / repetitions


def rows(repetitions: int, n_pairs: int) -> Iterator[list[str]]:
    """Lines of a table: the least coverage over rates, by the words' sd."""
    every = tuple(PHENOMENA)
    families = dict.fromkeys(name.partition("-")[0] for name in every)
    groups = {name: (name,) for name in every}
    groups |= {f: tuple(n for n in every if n.startswith(f)) for f in families}
    yield ["", *(f"{what}, sd {sd}" for sd in SDS for what in ("rate", "difference"))]
    for label, names in {**groups, "all": every}.items():
        least = [
            np.min([coverage(names, rate, sd, repetitions, n_pairs) for rate in RATES], axis=0)
            for sd in SDS
        ]
        yield [label, *(f"{value:.1%}" for pair in least for value in pair)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000, help="of each cell")
    parser.add_argument("--n-pairs", type=int, default=200, help="of each phenomenon")
    args = parser.parse_args()
    for n_documents in DOCUMENTS:
        print(f"texts, {n_documents} documents: {of_texts(n_documents, 20 * args.repetitions):.1%}")
    print("least coverage of pairs over rates of 50, 80 and 95%")
    print(*aligned(list(rows(args.repetitions, args.n_pairs)), right=1), sep="\n")


if __name__ == "__main__":
    main()
