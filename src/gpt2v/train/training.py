"""A training in progress: its state, one step, validation, checkpoints; see `loop`."""

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor, nn

from gpt2v.config.loop import TrainConfig
from gpt2v.errors import UserError
from gpt2v.hardware.compilation import failed
from gpt2v.hardware.device import computes_alone
from gpt2v.hardware.memory import enough_memory
from gpt2v.hardware.precision import DTYPES, autocast, usable_precision
from gpt2v.progress import Reporter, progress
from gpt2v.run_layout import checkpoints_of
from gpt2v.train import checkpoints
from gpt2v.train.ahead import Ahead
from gpt2v.train.checkpoints import TrainerState
from gpt2v.train.distributed import (
    Losses,
    all_agree,
    from_rank_0,
    parallel,
    rank,
    sums,
    world_size,
)
from gpt2v.train.ema import Averages, running_statistics
from gpt2v.train.finite import check_finite
from gpt2v.train.loss_scale import LossScale
from gpt2v.train.metrics import Metrics
from gpt2v.train.optim import Optimizers
from gpt2v.train.sharding import collected, exchanging, free, local, shard, whole_on_rank_0
from gpt2v.train.stages import Stage, trained
from gpt2v.train.task import BatchT, Task
from gpt2v.train.throughput import Meter


def reseed(seed: int, step: int, part: int = 0) -> None:
    """Make dropout a pure function of (seed, step, part of the batch)."""
    digest = hashlib.sha256(f"dropout/{seed}/{step}/{part}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class Training(Generic[BatchT]):
    """A training in progress.

    Attributes:
        stage: what trains now; `begin` sets it, and the optimizers.
        state: how far it has come.
        batches: the parts of this process in the batch of each step.
    """

    stage: Stage  # `begin` sets these three
    optimizers: Optimizers
    _loss: nn.Module

    def __init__(
        self, task: Task[BatchT], config: TrainConfig, stages: list[Stage], run: Path, label: str
    ) -> None:
        self.task, self.config, self.stages, self.run, self.label = task, config, stages, run, label
        self.device = next(task.model.parameters()).device
        self._parts = world_size() * config.accumulate
        self.state = TrainerState(data_hash=task.data_hash, parts=self._parts)
        self._saved = -1  # step of the last checkpoint
        self._at_once = 0  # samples in the largest part of the last batch
        self._restored: dict[str, Tensor] = {}  # optimizer state, until the first stage begins
        self._restore()
        self.precision = usable_precision(config.precision, self.device)
        self._scale = LossScale(self.precision == "fp16", self.state.loss_scale)
        names = trained(task.model, stages)
        self._sharded: nn.Module | None = None
        if config.shard:
            losses = Losses(task.model, task.loss)
            self._sharded = shard(losses, task.sharded, {f"model.{name}" for name in names})
        self.averages = Averages(task.model, config.ema, names) if config.ema else None
        if self.averages and self._restored:
            self.averages.restore(self._restored)
        self._metrics = Metrics(run, config, self.state.step) if rank() == 0 else None
        self._meter = Meter(self.device, DTYPES[self.precision], world_size())
        self.batches = Ahead(self._draw, stages[-1].end, threads=computes_alone(self.device))

    def _draw(self, step: int) -> list[BatchT]:
        """The parts of this process in the batch of a step."""
        n = self.config.accumulate
        parts = [self.task.batch(step, rank() * n + i, world_size() * n) for i in range(n)]
        for part in parts:
            self.task.prepare(part)
        return parts

    def begin(self, stage: Stage) -> None:
        """Start a stage: from now on train its groups."""
        self.stage = stage
        self._loss = nn.Identity()  # ends the gradient exchange of the stage before
        self.optimizers = stage.optimizers(self.task.model, self.config)
        if self.state.step > stage.start:  # else the restored state is that of the stage before
            self.optimizers.load_state_tensors(self._restored)
        self._restored = {}
        self._loss = self._sharded or parallel(self.task.model, self.task.loss, self.task.unused)
        if rank() == 0:
            title = f"{self.label}: {stage.heading(self.state.step)}"
            print(title, *self.optimizers.describe(), sep="\n", flush=True)
        self.task.begin(stage.start, stage.end)

    def bar(self) -> AbstractContextManager[Reporter]:
        """The progress display of the stage."""
        if rank() != 0:
            return nullcontext(lambda remark="": None)
        label = f"{self.label} {self.stage.name}".rstrip()
        return progress(label, self.stage.steps, self.state.step - self.stage.start)

    def close(self) -> None:
        self.batches.close()
        if self._metrics:
            self._metrics.close()

    def memory_advice(self) -> str:
        """What to change if memory is too small."""
        kept = [path.name for path in checkpoints_of(self.run)]
        at_once = f"{self._at_once} samples are read at once" if self._at_once else "this is"
        return (
            f"{at_once} with train.accumulate: {self.config.accumulate}; raise it, or lower the "
            "batch size" + (f" ({kept[-1]} is complete)" if kept else "")
        )

    def step(self, step: int, parts: list[BatchT], count: float) -> float:
        """One step on this process's parts of the batch.

        Args:
            count: supervised items of the whole batch, in all processes.

        Returns:
            the mean loss of the whole batch.
        """
        self._at_once = max(len(part.index) for part in parts)
        rates = self.optimizers.set_lr(step - self.stage.start, self.stage.steps)
        total = self._gradient(step, parts, max(1.0, count))
        self._scale.unscale(self.task.model)
        norm_tensors = self.optimizers.clip(self.config.clip)
        # A card is waited for here and nowhere else in the step.
        own, *values = torch.stack([total, *(n.to(total) for n in norm_tensors.values())]).tolist()
        norms = dict(zip(norm_tensors, values, strict=True))
        tokens, samples, flops, summed = sums(
            [
                sum(part.n_tokens for part in parts),
                sum(len(part.index) for part in parts),
                sum(self.task.flops(part) for part in parts),
                own,
            ]
        )
        loss = summed / max(1.0, count)
        finite = math.isfinite(norms["total"])
        if not (math.isfinite(loss) and (finite or self._scale.may_skip())):
            index = [int(i) for part in parts for i in (part.index.min(), part.index.max())]
            raise UserError(
                f"{self.label}: at step {step} (samples {min(index)} to {max(index)} of "
                f"{self.task.describe(step)}) the loss is {loss} and the gradient's norm "
                f"{norms['total']}; lower the learning rates in {self.stage.key}"
                + (", or use train.precision: fp32" if self.precision == "fp16" else "")
            )
        if finite:
            self.optimizers.step()
        if finite and self.averages:
            self.averages.update(step + 1)
        self._scale.update(finite)
        self.state = replace(self.state, step=step + 1, merit=None, loss_scale=self._scale.state)
        self._meter.add(int(samples), int(tokens), flops)
        if step + 1 == self.stage.end or (step + 1) % self.config.log_every == 0:
            self._log(
                loss=loss,
                lr=rates,
                grad_norm=norms if finite else {},
                **self._scale.read(),
                **self._meter.read(),
                data=self.task.describe(step),
            )
        return loss

    def _gradient(self, step: int, parts: list[BatchT], count: float) -> Tensor:
        """Compute the gradient of the mean loss; returns the sum of this process's losses."""
        self.optimizers.zero_grad()
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        total = torch.zeros((), dtype=exact, device=self.device)
        try:
            for i, part in enumerate(parts):
                reseed(self.config.seed, step, rank() * len(parts) + i)
                total += self._backward(part, count, is_last=i + 1 == len(parts))
        except Exception as error:
            if self._sharded or not failed(self.task.compiled, error):  # others would not repeat it
                raise
            return self._gradient(step, parts, count)
        return total

    def _backward(self, part: BatchT, count: float, is_last: bool) -> Tensor:
        with exchanging(self._loss, is_last):  # only the last part exchanges gradients
            with autocast(self.precision, self.device):
                total: Tensor = self._loss(part)
            if total.requires_grad:  # false if the batch uses frozen parameters only
                scale = self._scale.factor * world_size() / count
                (total * scale).backward()  # type: ignore[no-untyped-call]
            elif self._sharded:
                free(self._sharded)
        return total.detach()

    @contextmanager
    def _final_weights(self, device: torch.device) -> Iterator[None]:
        """The model holds what is validated and saved: the averages, if there are any.

        Args:
            device: where a sharded model is whole on rank 0.
        """
        averages = self.averages.in_place() if self.averages else nullcontext()
        with averages, whole_on_rank_0(self.task.model, device):
            yield

    def _check_weights(self) -> None:
        """The loss shows weights that are not finite only at the next step, after saving them."""
        advice = f"lower the learning rates in {self.stage.key}"
        where = f"{self.label}: after step {self.state.step}"
        model = self.task.model
        weights = {name: local(p) for name, p in model.named_parameters()}
        weights |= running_statistics(model)
        all_agree(lambda: check_finite(weights, where, advice))

    def _log(self, **values: object) -> None:
        if self._metrics:
            stage = {"stage": self.stage.name} if self.stage.name else {}
            self._metrics.log(self.state.step, **stage, **values)

    def validate(self) -> None:
        """Validate the model (its averages, if there are any) on rank 0."""
        self._check_weights()
        begin = time.perf_counter()
        self.task.model.eval()
        final = self._final_weights(self.device)
        with torch.no_grad(), autocast(self.precision, self.device), final:
            scores = from_rank_0(self._scores)
        self.task.model.train()
        self.state = replace(self.state, validation=scores, merit=self.task.merit(scores))
        self._log(**{f"val/{k}": v for k, v in scores.items()})
        self._meter.pause(time.perf_counter() - begin)

    def _scores(self) -> dict[str, float]:
        """The results of a validation; too little memory is told to all processes."""
        where = f"{self.label}: validation after step {self.state.step}"
        with enough_memory(where, lambda: "use a smaller model, or smaller grids or windows"):
            return self.task.evaluate()

    def save(self) -> None:
        """Write a checkpoint of the steps done, unless it exists already."""
        if self._saved == self.state.step:
            return
        self._check_weights()
        begin = time.perf_counter()

        tensors = self.optimizers.state_tensors()
        if self.averages:
            tensors |= self.averages.raw_tensors()
        ends = [stage.end for stage in self.stages]
        whole = collected(tensors)
        with self._final_weights(torch.device("cpu")):
            from_rank_0(
                lambda: checkpoints.save(
                    self.run, self.state, self.task.save, whole, self.config.keep, ends
                )
            )
        self._saved = self.state.step
        self._meter.pause(time.perf_counter() - begin)

    def _restore(self) -> None:
        """Restore everything from the newest undamaged checkpoint."""
        from_rank_0(lambda: checkpoints.clean(self.run))
        path = from_rank_0(lambda: checkpoints.newest_whole(self.run))
        if path is None:
            return
        self.state, self._restored = checkpoints.load(path)
        if self.state.data_hash != self.task.data_hash:
            raise UserError(f"{path}: was trained on other data ({self.task.hashed} have changed)")
        checkpoints.check_parts(path, self.state, self._parts, self.task.depends_on_parts)
        self.state = replace(self.state, parts=self._parts)
        self.task.load(path)
        self._saved = self.state.step
