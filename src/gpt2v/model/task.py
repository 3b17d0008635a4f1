"""Training on grids, with or without pictures: the answers' loss, held-out accuracy, the run."""

from pathlib import Path

from transformers import PreTrainedModel

from gpt2v import runs
from gpt2v.configfile import dump
from gpt2v.data.batches import Batch
from gpt2v.data.stream import Stream, data_hash, validation_batches
from gpt2v.experiments import LMConfig, MMConfig
from gpt2v.model.files import save_checkpoint
from gpt2v.model.packed import answer_loss
from gpt2v.model.reader import Reader
from gpt2v.model.scoring import score
from gpt2v.train.loop import Loss, Task, fit


def fit_grids(
    kind: str,
    model: PreTrainedModel,
    reader: Reader,
    stream: Stream,
    config: LMConfig | MMConfig,
    run: Path,
    started: float,
) -> Path:
    """Train `model`, read through `reader`, on a stream of grids; returns the checkpoint.

    The run directory gets the configuration, metrics, checkpoint and results.
    """
    runs.write_text(run / "config.yaml", dump(config))
    eval_grids = config.train.eval_grids
    task: Task[Batch] = Task(
        model,
        stream.batch,
        lambda batch: answers_loss(reader, batch),
        lambda: held_out_accuracy(reader, stream, eval_grids),
        stream.describe,
    )
    found = fit(task, config.train, stream.steps, run, kind)
    checkpoint = save_checkpoint(run, stream.steps, model, stream.render.table.tokenizer)
    runs.write_results(
        run,
        kind,
        started,
        seed=config.train.seed,
        data_hash=data_hash(stream.render.bank, config.data),
        results=[{"split": "val", "n_images": eval_grids, **found}],
    )
    return checkpoint


def answers_loss(reader: Reader, batch: Batch) -> Loss:
    """The summed cross-entropy of a batch's answers."""
    logits, packed = reader(batch)
    return Loss(answer_loss(logits, packed), batch.n_supervised, len(batch.input_ids))


def held_out_accuracy(reader: Reader, stream: Stream, n_grids: int) -> dict[str, float]:
    """Exact-match accuracy on held-out grids of each spec of the last stage."""
    names = stream.render.bank.class_names
    exact: dict[str, list[bool]] = {}
    for spec in stream.config.stages[-1].mix:
        label = spec.label
        while f"{label}_accuracy" in exact:  # specs that differ in what the label does not say
            label += "'"
        right = exact.setdefault(f"{label}_accuracy", [])
        for batch in validation_batches(stream, spec, n_grids):
            right += score(reader, batch, names)["exact"]
    return {label: sum(right) / len(right) for label, right in exact.items()}
