"""The training loop. It is independent of the task, which gives it batches, loss and validation.

The global batch is a function of the step. Each process takes its slice of it, in `accumulate`
micro-batches, and the gradient is that of the mean over *all* supervised items of the step. So one
process, accumulation and several processes compute the same gradient, and on the CPU a resumed run
repeats an uninterrupted one bit for bit.
"""

import signal
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from gpt2v.config.loop import TrainConfig
from gpt2v.errors import Stopped
from gpt2v.hardware.compilation import compile_modules
from gpt2v.hardware.memory import enough_memory
from gpt2v.hardware.precision import tf32_products
from gpt2v.progress import Reporter
from gpt2v.stopping import StopRequest, stop_signals
from gpt2v.train.distributed import sums
from gpt2v.train.stages import Stage, remaining, stages_of
from gpt2v.train.task import BatchT, Task
from gpt2v.train.training import Training


def fit(
    task: Task[BatchT], config: TrainConfig, plan: int | Sequence[Stage], run: Path, label: str
) -> dict[str, float]:
    """Train until all steps are done and return the last validation results.

    Resumes from the newest undamaged checkpoint in `run`, if it has one. Metrics and checkpoints
    are written to `run`. The end of each stage is validated, and its checkpoint is always kept.

    Args:
        plan: stages, each with its own groups, or a number of steps with `config.groups`.
        run: the run directory, which exists.
        label: starts the lines about this training.

    Raises:
        UserError: the loss, the gradient or a weight is not finite, memory is too small, or the
            disk is full.
        Stopped: a signal asked to stop; a checkpoint of all steps done is saved.
    """
    with tf32_products(config.tf32, next(task.model.parameters()).device):
        return _fit(task, config, plan, run, label)


def _fit(
    task: Task[BatchT], config: TrainConfig, plan: int | Sequence[Stage], run: Path, label: str
) -> dict[str, float]:
    training = Training(task, config, stages_of(plan, config), run, label)
    if config.compile:
        compile_modules(task.compiled)
    task.model.train()
    with closing(training), stop_signals() as request:
        for stage in remaining(training.stages, training.state.step):
            training.begin(stage)
            with training.bar() as report:
                for step in range(training.state.step, stage.end):
                    with enough_memory(f"{label}: at step {step}", training.memory_advice):
                        _one_step(training, step, request, report)
            if sums([request.signum])[0]:  # it has come in the last step
                _stop(training, request)
        if training.averages:  # the caller gets the weights that were validated
            training.averages.finish()
    task.model.eval()
    return training.state.validation or {}


def _stop(training: Training[BatchT], request: StopRequest) -> NoReturn:
    """Save and stop, because a signal has come to this process or to another one."""
    training.save()
    saved = f"stopped after step {training.state.step}, which is saved"
    received = request.signum or signal.SIGTERM  # 0 if another process received it
    raise Stopped(f"{saved}; rerun with --resume to continue", received)


def _one_step(
    training: Training[BatchT], step: int, request: StopRequest, report: Reporter
) -> None:
    """One step, then validation and a checkpoint if they are due; or stop, if a signal came."""
    config = training.config
    parts = training.batches.take(step)
    count, signum = sums([sum(b.n_supervised for b in parts), request.signum])
    if signum:
        _stop(training, request)
    loss = training.step(step, parts, count)
    report(f"loss {loss:.3f}")
    last = step + 1 == training.stage.end
    if last or (config.eval_every and (step + 1) % config.eval_every == 0):
        training.validate()
    if last or (config.save_every and (step + 1) % config.save_every == 0):
        training.save()
