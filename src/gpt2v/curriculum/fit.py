"""Training on a stream of grids (with or without pictures) and plain text."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from gpt2v import runs
from gpt2v.config.training import LMConfig, MMConfig
from gpt2v.curriculum.validation import merit, validate
from gpt2v.data.corpus.windows import TextBatch
from gpt2v.data.render.batches import Batch
from gpt2v.data.stream import Stream
from gpt2v.hardware.device import hardware_facts
from gpt2v.model.files import load_weights, save_pretrained
from gpt2v.model.flops import stream_flops
from gpt2v.model.losses import window_loss
from gpt2v.model.packed import Reader, answer_loss
from gpt2v.train.checkpoints import best_step
from gpt2v.train.distributed import from_rank_0, rank, world_size
from gpt2v.train.loop import fit
from gpt2v.train.sharding import check_sharding
from gpt2v.train.stages import Stage, trained
from gpt2v.train.task import Task
from gpt2v.trained.record import TrainedOn


@dataclass(frozen=True)
class Prepared:
    """A training of which everything that can be checked before the first step has been checked.

    Attributes:
        kind: of the training, "lm" or "mm", for the log and the results.
        model: what is trained.
        tokenizer: is saved with it.
        reader: calls `model` on batches.
        stream: the training data.
        record: what the model will have been trained on, for its checkpoints.
        stages: of the training loop.
        begin: called by all processes when the steps from the first number to the one before the
            second begin; which parameters train is decided then.
        layers: of the vision tower, if it trains.
    """

    kind: str
    model: PreTrainedModel
    tokenizer: Tokenizer
    reader: Reader
    stream: Stream
    record: TrainedOn
    stages: list[Stage]
    begin: Callable[[int, int], None] = lambda start, end: None
    layers: tuple[nn.Module, ...] = ()

    def save(self, folder: Path) -> None:
        """Write the files of a checkpoint that the optimizer does not need."""
        save_pretrained(folder, self.model, self.tokenizer)
        self.record.write(folder)


def prepared(
    kind: str,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    reader: Reader,
    stream: Stream,
    record: TrainedOn,
    config: LMConfig | MMConfig,
) -> Prepared:
    """See `Prepared`.

    Raises:
        UserError: the groups of a stage do not fit the model, or it cannot be sharded here.
    """
    if config.train.shard:
        check_sharding(model.device)
    stages = stage_plan(config)
    trained(model, stages)
    return Prepared(kind, model, tokenizer, reader, stream, record, stages)


def check_stream(stream: Stream, n_positions: int, config: LMConfig | MMConfig) -> None:
    """Check the data of all stages; tokenized corpora are not needed for it.

    Raises:
        UserError: a batch cannot be cut into so many parts, or see `Stream.check`.
    """
    stream.check(n_positions, world_size() * config.train.accumulate)


def fit_stream(ready: Prepared, config: LMConfig | MMConfig, run: Path, started: float) -> None:
    """Train a model on a stream of grids and text.

    Writes the configuration, metrics, checkpoints and results into the run directory.

    Args:
        started: `time.monotonic()` at the start of the command.

    Raises:
        UserError: the loss or the gradient is not finite, or files cannot be written.
        Stopped: a signal asked to stop.
    """
    model, reader, stream = ready.model, ready.reader, ready.stream
    from_rank_0(lambda: runs.write_config(run, config))
    train = config.train
    task: Task[Batch | TextBatch] = Task(
        model=model,
        batch=stream.batch,
        loss=lambda batch: batch_loss(reader, batch),
        evaluate=lambda: validate(reader, stream, train.eval_grids, train.eval_windows),
        describe=stream.describe,
        save=ready.save,
        load=lambda folder: load_weights(folder, model),
        merit=merit,
        prepare=reader.prepare,
        flops=lambda batch: stream_flops(reader, batch),
        compiled=(*reader.lm.transformer.h, *ready.layers),
        sharded=(*reader.lm.transformer.h[:-1], *ready.layers),  # parts of the last are read
        begin=ready.begin,
        data_hash=stream.data_hash,
        unused=model is not reader.lm,  # text does not use a GPT-2v's vision tower
    )
    scores = fit(task, train, ready.stages, run, ready.kind)
    if rank() == 0:
        runs.write_results(
            run,
            ready.kind,
            started,
            hardware=hardware_facts(),
            seed=train.seed,
            steps=ready.stages[-1].end,
            best_step=best_step(run),
            data_hash=stream.data_hash,
            class_names=ready.record.class_names,
            results=[{"split": "val", "n_images": train.eval_grids, **scores}],
        )


def stage_plan(config: LMConfig | MMConfig) -> list[Stage]:
    """The stages of the training loop, which differ in their groups.

    Stages of `data.stages` without their own groups are joined to the stage before them.
    """
    data, train = config.data, config.train
    names = data.stage_names
    starts = [i for i, name in enumerate(names) if i == 0 or name in train.stage_groups]
    named = len(starts) > 1 or any(stage.name for stage in data.stages)
    stages: list[Stage] = []
    for first, end in pairwise([*starts, len(names)]):
        groups, key = train.groups, "train.groups"
        if names[first] in train.stage_groups:
            groups, key = train.stage_groups[names[first]], f"train.stage_groups.{names[first]}"
        name = "+".join(names[first:end]) if named else ""
        start = stages[-1].end if stages else 0
        steps = sum(stage.steps for stage in data.stages[first:end])
        stages.append(Stage(name, start, steps, groups, key))
    return stages


def batch_loss(reader: Reader, batch: Batch | TextBatch) -> Tensor:
    """Sum of the cross-entropy in nats over the answers of a batch, or over all of plain text."""
    if isinstance(batch, TextBatch):
        return window_loss(reader.lm, batch)
    hidden, packed = reader.hidden(batch)
    return answer_loss(reader.lm, hidden, packed)
