"""`gpt2v eval MODEL --pairs NAMES`: which sentence of each pair is the more probable one."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pyarrow as pa

from gpt2v.config.language import PairsEvalConfig
from gpt2v.eval.language.measured import Found
from gpt2v.eval.language.models import LanguageModel
from gpt2v.eval.language.pairs.base import draw
from gpt2v.eval.language.rates import groups_of, shared_by
from gpt2v.eval.language.scoring import logprobs_of
from gpt2v.stats.intervals import rate_interval
from gpt2v.stats.student import width

CHANCE = 0.5


def measure_pairs(model: LanguageModel, config: PairsEvalConfig) -> Found:
    """Score both sentences of each pair; a pair is right if the good one is more probable.

    This is the criterion of BLiMP (https://arxiv.org/abs/1912.00582); equal ones are wrong.

    Raises:
        UserError: a phenomenon has fewer pairs than are asked for.
    """
    pairs = [pair for name in config.phenomena for pair in draw(name, config.seed, config.n_pairs)]
    texts = [sentence for pair in pairs for sentence in (pair.good, pair.bad)]
    tokens = list(model.encode(texts, "pairs"))
    good, bad = logprobs_of(model, tokens, config.batch_tokens).reshape(-1, 2).T
    records = pa.table(
        {
            "phenomenon": [pair.phenomenon for pair in pairs],
            "family": [pair.family for pair in pairs],
            "pair": [*range(config.n_pairs)] * len(config.phenomena),
            "item": [pair.item for pair in pairs],
            "words": [list(pair.words) for pair in pairs],
            "slots": [list(pair.slots) for pair in pairs],
            "good": [pair.good for pair in pairs],
            "bad": [pair.bad for pair in pairs],
            "logprob_good": good,
            "logprob_bad": bad,
            "exact": good > bad,
        }
    )
    content = "\n".join(texts).encode()
    data_hash = sha256(content).hexdigest()[:16]
    return Found(list(_rows(records)), records, data_hash, {"seed": config.seed})


def _rows(records: pa.Table) -> Iterator[dict[str, Any]]:
    shared, exact = shared_by(records), records["exact"].to_numpy()
    for names, here in groups_of(records):
        own = shared.of(here)
        yield {
            "task": "pairs",
            **names,
            "accuracy": float(exact[here].mean()),
            "ci95": list(rate_interval(exact[here], own, width(own.n_drawn))),
            "chance": CHANCE,
            "n_pairs": own.n,
            "n_items": own.n_pictures,
            "n_drawn": own.n_drawn,
        }
