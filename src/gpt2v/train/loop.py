"""The training loop. It knows no task: batches, loss and validation reach it as callables.

The global batch is a function of the step; each process takes its slice of it, in `accumulate`
micro-batches, and the gradient is that of the mean over *all* supervised items of the step. So one
process, accumulation and several processes train on the same thing, and a resumed run repeats an
uninterrupted one bit for bit on the CPU.
"""

import hashlib
import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpt2v.config.training import TrainConfig
from gpt2v.errors import Stopped, UserError
from gpt2v.hardware.compilation import compile_modules, failed
from gpt2v.hardware.precision import has_bf16
from gpt2v.progress import Reporter, progress
from gpt2v.train import checkpoints
from gpt2v.train.checkpoints import Progress
from gpt2v.train.distributed import from_rank_0, parallel, rank, sums, world_size
from gpt2v.train.ema import Averages
from gpt2v.train.metrics import Metrics
from gpt2v.train.optim import Optimizers
from gpt2v.train.phases import Phase, left, phases_of, trained
from gpt2v.train.stopping import StopRequest, stop_signals
from gpt2v.train.throughput import Meter, matmul_peak, memory_mb


class Countable(Protocol):
    """What the loop asks of a batch."""

    @property
    def n_supervised(self) -> int:
        """Items that the summed loss is a sum over."""

    @property
    def n_tokens(self) -> int:
        """Tokens that the model reads."""

    @property
    def index(self) -> NDArray[np.int64]:
        """Numbers of its samples, (B,)."""


B = TypeVar("B", bound=Countable)


@dataclass(frozen=True)
class Task(Generic[B]):
    """What is trained: everything that the loop does not know itself."""

    model: nn.Module
    batch: Callable[[int, int, int], B]  # step, part, parts -> that slice of the step's batch
    loss: Callable[[B], Tensor]  # summed over the batch's supervised items
    evaluate: Callable[[], dict[str, float]]
    describe: Callable[[int], str]  # the data of a step, for the log
    save: Callable[[Path], None]  # writes the model into a directory
    load: Callable[[Path], None]  # takes the weights back from there
    merit: Callable[[dict[str, float]], float]  # of a validation; more is better
    flops: Callable[[B], float] = lambda batch: 0.0  # of one step on a batch
    compiled: tuple[nn.Module, ...] = ()  # what torch.compile takes
    data_hash: str = ""
    unused: bool = False  # whether some batches leave some parameters without a gradient


def reseed(seed: int, step: int, part: int = 0) -> None:
    """Make dropout a pure function of (seed, step, part of the batch)."""
    digest = hashlib.sha256(f"dropout/{seed}/{step}/{part}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def fit(
    task: Task[B], config: TrainConfig, plan: int | Sequence[Phase], run: Path, label: str
) -> dict[str, float]:
    """Train until all steps are done and return the last validation.

    Goes on from the newest whole checkpoint in `run`, where there is one. Metrics and checkpoints
    go to `run`; one checkpoint is measured and stays at the end of each phase.

    Args:
        plan: phases, each with groups of its own, or steps that all have `config.groups`.

    Raises:
        UserError: the loss or the gradient is not finite, or the disk is full.
        Stopped: SIGINT or SIGTERM came; a checkpoint of all steps done is saved.
    """
    training = _Training(task, config, phases_of(plan, config), run, label)
    if config.compile:
        compile_modules(task.compiled)
    task.model.train()
    with closing(training), stop_signals() as asked:
        for phase in left(training.phases, training.at.step):
            training.begin(phase)
            with training.bar() as report:
                for step in range(training.at.step, phase.end):
                    _one_step(training, step, asked, report)
        if training.averages:  # what was measured is what the caller goes on with
            training.averages.finish()
    task.model.eval()
    return training.at.validation or {}


def _one_step(training: "_Training[B]", step: int, asked: StopRequest, report: Reporter) -> None:
    """One step, and what is due after it; or the end, where a signal asks for it."""
    config, n = training.config, training.config.accumulate
    parts = [training.task.batch(step, rank() * n + i, world_size() * n) for i in range(n)]
    count, signum = training.sums([sum(b.n_supervised for b in parts), asked.signum])
    if signum:
        training.save()
        at = asked.signum or signal.SIGTERM  # of another process
        raise Stopped(f"stopped after step {step}, which is saved", at)
    loss = training.step(step, parts, count)
    report(f"loss {loss:.3f}")
    last = step + 1 == training.phase.end
    if last or (config.eval_every and (step + 1) % config.eval_every == 0):
        training.validate()
    if last or (config.save_every and (step + 1) % config.save_every == 0):
        training.save()


class _Training(Generic[B]):
    """The state of a training, and what is done with it."""

    phase: Phase  # these three are set by `begin`
    optimizers: Optimizers
    _loss: nn.Module

    def __init__(
        self, task: Task[B], config: TrainConfig, phases: list[Phase], run: Path, label: str
    ) -> None:
        self.task, self.config, self.phases, self.run, self.label = task, config, phases, run, label
        self.device = next(task.model.parameters()).device
        names = trained(task.model, phases)
        self.averages = Averages(task.model, config.ema, names) if config.ema else None
        self.at = Progress(data_hash=task.data_hash)
        self._saved = -1  # the step of the last checkpoint
        self._state: dict[str, Tensor] = {}  # of the optimizers in it, until the first phase begins
        self._restore()
        in_bf16 = config.precision == "bf16" and has_bf16(self.device)
        self.dtype = torch.bfloat16 if in_bf16 else torch.float32
        self._metrics = Metrics(run, config, self.at.step) if rank() == 0 else None
        self._meter = Meter(matmul_peak(self.device, self.dtype) * world_size())

    def begin(self, phase: Phase) -> None:
        """Train what a phase trains from here on."""
        self.phase = phase
        self._loss = nn.Identity()  # the gradients' exchange before this one ends
        self.optimizers = phase.optimizers(self.task.model, self.config)
        if self.at.step > phase.start:  # resumed within it; at its start, the state is another's
            self.optimizers.load_state_tensors(self._state)
        self._state = {}
        self._loss = parallel(self.task.model, self.task.loss, self.task.unused)
        if rank() == 0:
            title = f"{self.label}: {phase.heading(self.at.step)}"
            print(title, *self.optimizers.describe(), sep="\n", flush=True)

    def bar(self) -> AbstractContextManager[Reporter]:
        """Progress within the phase."""
        if rank() != 0:
            return nullcontext(lambda remark="": None)
        label = f"{self.label} {self.phase.name}".rstrip()
        return progress(label, self.phase.steps, self.at.step - self.phase.start)

    def close(self) -> None:
        if self._metrics:
            self._metrics.close()

    def sums(self, values: list[float]) -> list[float]:
        return sums(values, self.device)

    def _autocast(self) -> AbstractContextManager[None]:
        on = self.dtype == torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on)

    def step(self, step: int, parts: list[B], count: float) -> float:
        """One step on this process's parts of the batch; returns the mean loss of all of it."""
        rates = self.optimizers.set_lr(step - self.phase.start, self.phase.steps)
        total = self._gradient(step, parts, max(1.0, count))
        norms = self.optimizers.clip(self.config.clip)
        tokens, samples, flops, total = self.sums(
            [
                sum(part.n_tokens for part in parts),
                sum(len(part.index) for part in parts),
                sum(self.task.flops(part) for part in parts),
                total,
            ]
        )
        loss = total / max(1.0, count)
        if not (math.isfinite(loss) and math.isfinite(norms["total"])):
            index = [int(i) for part in parts for i in (part.index.min(), part.index.max())]
            raise UserError(
                f"{self.label}: at step {step} (samples {min(index)} to {max(index)} of "
                f"{self.task.describe(step)}) the loss is {loss} and the gradient's norm "
                f"{norms['total']}; lower the learning rates in {self.phase.key}"
            )
        self.optimizers.step()
        if self.averages:
            self.averages.update(step + 1)
        self.at = replace(self.at, step=step + 1, merit=None)
        self._meter.add(int(samples), int(tokens), flops)
        if step + 1 == self.phase.end or (step + 1) % self.config.log_every == 0:
            self._log(
                loss=loss,
                lr=rates,
                grad_norm=norms,
                **self._meter.read(),
                memory_mb=round(memory_mb(self.device), 1),
                data=self.task.describe(step),
            )
        return loss

    def _gradient(self, step: int, parts: list[B], count: float) -> float:
        """The gradient of the mean loss; returns the sum of this process's losses."""
        self.optimizers.zero_grad()
        total = 0.0
        try:
            for i, part in enumerate(parts):
                reseed(self.config.seed, step, rank() * len(parts) + i)
                total += self._backward(part, count, is_last=i + 1 == len(parts))
        except Exception as error:
            if not failed(self.task.compiled, error):
                raise
            return self._gradient(step, parts, count)
        return total

    def _backward(self, part: B, count: float, is_last: bool) -> float:
        waits = not is_last and world_size() > 1  # gradients travel with the last part only
        with self._loss.no_sync() if waits else nullcontext():  # type: ignore[operator]
            with self._autocast():
                total: Tensor = self._loss(part)
            if total.requires_grad:  # not so where a batch touches frozen parts only
                (total * (world_size() / count)).backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    def _measured(self) -> AbstractContextManager[None]:
        return self.averages.in_place() if self.averages else nullcontext()

    def _log(self, **values: object) -> None:
        if self._metrics:
            stage = {"stage": self.phase.name} if self.phase.name else {}
            self._metrics.log(self.at.step, **stage, **values)

    def validate(self) -> None:
        """Measure the model (its averages, where there are any) on rank 0."""
        begin = time.perf_counter()
        self.task.model.eval()
        with torch.no_grad(), self._autocast(), self._measured():
            found = from_rank_0(self.task.evaluate)
        self.task.model.train()
        self.at = replace(self.at, validation=found, merit=self.task.merit(found))
        self._log(**{f"val/{k}": v for k, v in found.items()})
        self._meter.pause(time.perf_counter() - begin)

    def save(self) -> None:
        """Write a checkpoint of the steps done, unless there is one."""
        if self._saved == self.at.step:
            return
        begin = time.perf_counter()

        def write() -> None:
            state = self.optimizers.state_tensors()
            if self.averages:
                state |= self.averages.raw_tensors()
            ends = [phase.end for phase in self.phases]
            with self._measured():
                checkpoints.save(self.run, self.at, self.task.save, state, self.config.keep, ends)

        from_rank_0(write)
        self._saved = self.at.step
        self._meter.pause(time.perf_counter() - begin)

    def _restore(self) -> None:
        """Take everything back from the newest whole checkpoint."""
        path = from_rank_0(lambda: checkpoints.newest_whole(self.run))
        if path is None:
            return
        self.at, self._state = checkpoints.load(path)
        if self.at.data_hash != self.task.data_hash:
            raise UserError(f"{path}: was trained on other data (tiles or corpora have changed)")
        self.task.load(path)
        if self.averages:
            self.averages.restore(self._state)
        self._saved = self.at.step
