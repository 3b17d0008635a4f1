"""The grid task as the training loop takes it: the loss of the answers, and held-out accuracy."""

from torch import nn

from gpt2v.data.batches import Batch
from gpt2v.data.stream import Stream, validation_batches
from gpt2v.model.packed import answer_loss
from gpt2v.model.reader import Reader
from gpt2v.model.scoring import score
from gpt2v.train.loop import Loss, Task


def grid_task(model: nn.Module, reader: Reader, stream: Stream, eval_grids: int) -> Task[Batch]:
    """Train `model`, read through `reader`, on a stream of grids."""
    return Task(
        model,
        stream.batch,
        lambda batch: answers_loss(reader, batch),
        lambda: held_out_accuracy(reader, stream, eval_grids),
        stream.describe,
    )


def answers_loss(reader: Reader, batch: Batch) -> Loss:
    """The summed cross-entropy of a batch's answers."""
    logits, packed = reader(batch)
    return Loss(answer_loss(logits, packed), batch.n_supervised, len(batch.input_ids))


def held_out_accuracy(reader: Reader, stream: Stream, n_grids: int) -> dict[str, float]:
    """Exact-match accuracy on held-out grids of each spec of the last stage."""
    names = stream.render.bank.class_names
    exact: dict[str, list[bool]] = {}
    for spec in stream.config.stages[-1].mix:
        for batch in validation_batches(stream, spec, n_grids):
            exact.setdefault(f"{spec.label}_accuracy", []).extend(
                score(reader, batch, names)["exact"]
            )
    return {label: sum(right) / len(right) for label, right in exact.items()}
