"""`gpt2v data suites NAME`: the parts of a suite, and the accuracy of answers without a model."""

from collections.abc import Iterator

from gpt2v.config.measuring import SuiteTilesConfig
from gpt2v.data.grids.baselines import pooled, tally
from gpt2v.data.suites.load import as_suited, load_suite, with_tiles
from gpt2v.data.suites.samples import check_bank, part_data, suite_hash
from gpt2v.data.tiles.load import load_bank
from gpt2v.messages import aligned
from gpt2v.progress import track

_HEAD = ["part", "instruction", "grids", "questions", "chance", "blind", "bag"]


def suite_table(config: SuiteTilesConfig) -> Iterator[str]:
    """Lines of text: size and baselines of each part and instruction, then the suite's hash.

    Raises:
        UserError: no such suite, or too few tiles for it.
    """
    suite = load_suite(config.suite)
    config = as_suited(config)
    bank = load_bank(with_tiles(config, config.tiles.test_per_class).tiles)
    check_bank(suite, config.suite, bank)
    rows = [_HEAD]
    for part in track(suite.parts, "suite: parts"):
        data = part_data(suite, part, bank)
        results = pooled(tally(data.samples(index)) for index in data.portions())
        for instruction, (n, shares) in results.items():
            sizes = [part.name, instruction, str(part.n_images), str(n)]
            rows.append(sizes + [f"{share:.4f}" for share in shares])
    yield from aligned(rows, right=2)
    yield f"hash of {config.suite} with {bank.name} tiles: {suite_hash(suite, bank)}"
