"""Training on a stream of grids (with or without pictures) and plain text: losses, validation."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from gpt2v import runs
from gpt2v.data.batches import Batch
from gpt2v.data.stream import Stream, validation_batches
from gpt2v.data.windows import TextBatch, token_bytes
from gpt2v.experiments import LMConfig, MMConfig
from gpt2v.model.files import load_weights, save_pretrained
from gpt2v.model.flops import stream_flops
from gpt2v.model.packed import answer_loss
from gpt2v.model.plain import window_loss
from gpt2v.model.reader import Reader
from gpt2v.model.scoring import score
from gpt2v.specs import CorpusConfig
from gpt2v.train.distributed import from_rank_0, rank
from gpt2v.train.loop import Task, fit
from gpt2v.train.phases import Phase

_ACCURACY, _BITS = "_accuracy", "_bits_per_byte"  # ends of the names of what is measured


def fit_stream(
    kind: str,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    reader: Reader,
    stream: Stream,
    config: LMConfig | MMConfig,
    run: Path,
    started: float,
) -> None:
    """Train `model`, read through `reader`, on a stream of grids and text.

    The run directory gets the configuration, metrics, checkpoints and results.
    """
    from_rank_0(lambda: runs.write_config(run, config))
    train = config.train
    task: Task[Batch | TextBatch] = Task(
        model=model,
        batch=stream.batch,
        loss=lambda batch: batch_loss(reader, batch),
        evaluate=lambda: held_out(reader, stream, train.eval_grids, train.eval_windows),
        describe=stream.describe,
        save=lambda folder: save_pretrained(folder, model, tokenizer),
        load=lambda folder: load_weights(folder, model),
        merit=merit,
        flops=lambda batch: stream_flops(reader, batch),
        compiled=tuple(reader.lm.transformer.h),
        data_hash=stream.data_hash,
        unused=model is not reader.lm,  # text leaves a GPT-2v's vision tower alone
    )
    found = fit(task, train, stage_plan(config), run, kind)
    if rank() == 0:
        runs.write_results(
            run,
            kind,
            started,
            seed=train.seed,
            data_hash=stream.data_hash,
            results=[{"split": "val", "n_images": train.eval_grids, **found}],
        )


def stage_plan(config: LMConfig | MMConfig) -> list[Phase]:
    """One phase for each stage with groups of its own, with the stages after it that have none."""
    stages = config.data.stages
    starts = [i for i, stage in enumerate(stages) if i == 0 or stage.groups is not None]
    told = len(starts) > 1 or any(stage.name for stage in stages)
    names = [stage.name or str(i) for i, stage in enumerate(stages)]
    phases: list[Phase] = []
    for first, end in pairwise([*starts, len(stages)]):
        groups, key = stages[first].groups, f"data.stages.{first}.groups"
        if groups is None:
            groups, key = config.train.groups, "train.groups"
        name = "+".join(names[first:end]) if told else ""
        start = phases[-1].end if phases else 0
        steps = sum(stage.steps for stage in stages[first:end])
        phases.append(Phase(name, start, steps, groups, key))
    return phases


def batch_loss(reader: Reader, batch: Batch | TextBatch) -> Tensor:
    """The summed cross-entropy in nats of a batch's answers, or of every token of plain text."""
    if isinstance(batch, TextBatch):
        return window_loss(reader.lm, batch)
    hidden, packed = reader.hidden(batch)
    return answer_loss(reader.lm, hidden, packed)


def held_out(reader: Reader, stream: Stream, n_grids: int, n_windows: int) -> dict[str, float]:
    """What each spec of the last stage gives on held-out data.

    Grids give the exact-match accuracy; text gives loss (nats per token), perplexity and bits per
    byte, over `n_windows` windows at most.
    """
    found: dict[str, float] = {}
    for spec in stream.config.stages[-1].mix:
        label = spec.label
        while any(name.startswith(label + "_") for name in found):
            label += "'"  # specs that differ in what the label does not say
        if isinstance(spec, CorpusConfig):
            found |= {f"{label}{k}": v for k, v in _text_scores(reader, stream, spec, n_windows)}
            continue
        assert stream.render is not None, "grids need tiles"
        right: list[bool] = []
        for batch in validation_batches(stream, spec, n_grids):
            right += score(reader, batch, stream.render)["exact"]
        found[label + _ACCURACY] = sum(right) / len(right)
    return found


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
    bits = nats / math.log(2) / n_bytes
    return [("_loss", loss), ("_perplexity", math.exp(min(loss, 700))), (_BITS, bits)]


def merit(found: dict[str, float]) -> float:
    """One number to choose the best checkpoint by: accuracies and bits per byte, more is better."""
    signs = {_ACCURACY: 1, _BITS: -1}
    return float(
        np.mean([sign * v for k, v in found.items() for e, sign in signs.items() if k.endswith(e)])
    )
