"""Validation of a training on held-out data, and the number that decides its best checkpoint."""

import math

import numpy as np

from gpt2v.config.data import CorpusConfig
from gpt2v.data.corpus.encoding import token_bytes
from gpt2v.data.stream import Stream
from gpt2v.errors import UserError
from gpt2v.model.losses import window_loss
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import PackedScorer, accuracy, score_all
from gpt2v.train.finite import OVERFLOW

_ACCURACY, _BITS = "_accuracy", "_bits_per_byte"  # ends of the names of scores


def validate(reader: Reader, stream: Stream, n_grids: int, n_windows: int) -> dict[str, float]:
    """The scores of each spec of the last stage on held-out data, by name.

    Grids give the exact-match accuracy. Text gives loss (nats per token), perplexity and bits per
    byte.

    Args:
        n_grids: grids of each spec.
        n_windows: maximum number of windows of each corpus.

    Raises:
        UserError: a logit or a loss is NaN or infinite.
    """
    scores: dict[str, float] = {}
    for spec in stream.config.stages[-1].mix:
        label = spec.label
        while any(name.startswith(label + "_") for name in scores):
            label += "'"  # another spec with the same label
        if isinstance(spec, CorpusConfig):
            scores |= {f"{label}{k}": v for k, v in _text_scores(reader, stream, spec, n_windows)}
            continue
        assert stream.render is not None, "grids need tiles"
        data = stream.dataset(spec, "val", n_grids)
        scorer = PackedScorer(reader, stream.render, generate=False)
        records = score_all(scorer, data, stream.layout(spec))
        scores[label + _ACCURACY] = accuracy(records)
    return scores


def _text_scores(
    reader: Reader, stream: Stream, spec: CorpusConfig, n_windows: int
) -> list[tuple[str, float]]:
    corpus = stream.corpora[spec.text]
    lengths = token_bytes(corpus.tokenizer)
    nats = n_tokens = n_bytes = 0.0
    for batch in corpus.valid.validation_batches(8, n_windows):
        nats += float(window_loss(reader.lm, batch))
        n_tokens += batch.n_supervised
        n_bytes += int(lengths[batch.targets].sum())
    loss = nats / n_tokens
    if not math.isfinite(loss):
        raise UserError(f"{spec.label}: the validation loss is {loss}; {OVERFLOW}")
    bits = nats / math.log(2) / n_bytes
    return [("_loss", loss), ("_perplexity", math.exp(min(loss, 700))), (_BITS, bits)]


def merit(scores: dict[str, float]) -> float:
    """One number to choose the best checkpoint by; higher is better.

    It is the mean over all accuracies and all negated bits per byte.
    """
    signs = {_ACCURACY: 1, _BITS: -1}
    return float(
        np.mean([sign * v for k, v in scores.items() for e, sign in signs.items() if k.endswith(e)])
    )
