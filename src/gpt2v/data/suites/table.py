"""`gpt2v data suites NAME`: what a suite asks, and what needs no model to be right."""

from collections.abc import Iterator, Sequence

from gpt2v.config.measuring import SuiteTilesConfig
from gpt2v.data.grids.baselines import pooled, tally
from gpt2v.data.suites.load import load_suite
from gpt2v.data.suites.samples import check_bank, part_data, suite_hash
from gpt2v.data.tiles.load import load_bank
from gpt2v.progress import track

_HEAD = ["part", "instruction", "grids", "questions", "chance", "blind", "bag"]


def suite_table(config: SuiteTilesConfig) -> Iterator[str]:
    """Lines: for each part and instruction its size and baselines, then the suite's hash.

    Raises:
        UserError: there is no such suite, or the tiles are too few for it.
    """
    suite = load_suite(config.suite)
    bank = load_bank(config.tiles)
    check_bank(suite, config.suite, bank)
    rows = [_HEAD]
    for part in track(suite.parts, "suite: parts"):
        data = part_data(suite, part, bank)
        found = pooled(tally(data.samples(index)) for index in data.portions())
        for instruction, (n, shares) in found.items():
            sizes = [part.name, instruction, str(part.n_images), str(n)]
            rows.append(sizes + [f"{share:.4f}" for share in shares])
    yield from aligned(rows, right=2)
    yield f"hash of {config.suite} with {bank.name} tiles: {suite_hash(suite, bank)}"


def aligned(rows: Sequence[Sequence[str]], right: int | None = None) -> list[str]:
    """A line for each row, its cells in columns; those from number `right` on end flush."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if right is not None and i >= right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
