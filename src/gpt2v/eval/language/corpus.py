"""`gpt2v eval MODEL --corpus PATH`: loss, perplexity and bits per byte of whole documents."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from itertools import islice
from math import exp, log
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v.config.language import CorpusEvalConfig
from gpt2v.data.corpus.cleaning import CleaningReport, content_key
from gpt2v.errors import UserError
from gpt2v.eval.language.measured import Found
from gpt2v.eval.language.models import LanguageModel
from gpt2v.eval.language.rates import Ratio
from gpt2v.eval.language.scoring import logprobs_of
from gpt2v.eval.language.texts import batches_of, check_text, documents_of, say_files
from gpt2v.progress import alive


def measure_corpus(model: LanguageModel, config: CorpusEvalConfig) -> Found:
    """Score each document alone, after the token that begins a text.

    Raises:
        UserError: there is no text, or the tokenizer changes it.
    """
    check_text(config)
    say_files(config)
    report = CleaningReport() if config.clean else None
    records: dict[str, list[Any]] = {
        key: [] for key in ("document", "content", "n_tokens", "n_bytes", "nll")
    }
    with alive(lambda: f"corpus: {len(records['nll']):,} documents"):
        for texts in batches_of(islice(documents_of(config, report), config.limit)):
            tokens = list(model.encode(texts, f"corpus: {config.corpus}"))
            first = len(records["nll"])
            found = logprobs_of(model, tokens, config.batch_tokens, config.stride, first)
            records["document"] += range(first, first + len(texts))
            records["content"] += [content_key(text).hex() for text in texts]
            records["n_tokens"] += map(len, tokens)
            records["n_bytes"] += [len(text.encode()) for text in texts]
            records["nll"] += (-found).tolist()
    if not records["nll"]:
        raise UserError(
            f"corpus: {config.corpus}: no document is left" + (f" ({report})" if report else "")
        )
    contents = "".join(records["content"]).encode()
    return Found(
        [{"task": "corpus", "corpus": config.of, **_row(records)}],
        pa.table(records),
        sha256(contents).hexdigest()[:16],
        {"cleaning": report and asdict(report)},
    )


def _row(records: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The measures, each with its 95% interval over new documents; None of a single document."""
    nll, n_tokens, n_bytes = (
        np.array(records[key], np.float64) for key in ("nll", "n_tokens", "n_bytes")
    )
    loss, bits = Ratio.of(nll, n_tokens), Ratio.of(nll / log(2), n_bytes)
    try:
        perplexity, ends = exp(loss.value), loss.ci95 and [exp(end) for end in loss.ci95]
    except OverflowError:
        raise UserError(f"corpus: a loss of {loss.value:.0f} nats per token is no result") from None
    return {
        "loss": loss.value,
        "loss_ci95": loss.ci95,
        "perplexity": perplexity,
        "perplexity_ci95": ends,
        "bits_per_byte": bits.value,
        "bits_per_byte_ci95": bits.ci95,
        "n_documents": len(nll),
        "n_tokens": int(n_tokens.sum()),
        "n_bytes": int(n_bytes.sum()),
    }
