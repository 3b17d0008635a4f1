"""The training loop. It knows no task: batches, loss and validation reach it as callables."""

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from gpt2v.config import TrainConfig
from gpt2v.errors import UserError
from gpt2v.progress import progress
from gpt2v.train.metrics import Metrics
from gpt2v.train.optim import Optimizers, lr_factor

B = TypeVar("B")


@dataclass(frozen=True)
class Loss:
    """A loss summed over `count` supervised items, with how many samples it came from."""

    total: Tensor
    count: int
    samples: int


@dataclass(frozen=True)
class Task(Generic[B]):
    """What is trained: everything that the loop does not know itself."""

    model: nn.Module
    batch: Callable[[int], B]  # the global batch of a step
    loss: Callable[[B], Loss]
    evaluate: Callable[[], dict[str, float]]
    describe: Callable[[int], str]  # the data of a step, for the log


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 by itself; emulating it is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        find = getattr(torch.cpu, "get_capabilities", None)  # not in the oldest torch we take
        units: dict[str, object] = find() if find else {}
        return any(units.get(unit) for unit in ("avx512_bf16", "amx_bf16", "bf16"))
    return True


def reseed(seed: int, step: int) -> None:
    """Make dropout a pure function of (seed, step)."""
    digest = hashlib.sha256(f"dropout/{seed}/{step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def fit(task: Task[B], config: TrainConfig, steps: int, run: Path, label: str) -> dict[str, float]:
    """Train for `steps` steps and return the last validation.

    Metrics go to `run`/metrics.jsonl; a loss or gradient that is not finite stops the training.
    """
    found: dict[str, float] = {}
    optimizers = Optimizers(task.model, config)
    print(f"{label}: what trains", *optimizers.describe(), sep="\n", flush=True)
    device = next(task.model.parameters()).device
    in_bf16 = config.precision == "bf16" and has_bf16(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=in_bf16)
    task.model.train()
    samples, since = 0, time.perf_counter()
    with closing(Metrics(run)) as metrics, progress(label, steps) as report:
        for step in range(steps):
            rates = optimizers.set_lr(lr_factor(config, step, steps))
            reseed(config.seed, step)
            batch = task.batch(step)
            with autocast:
                loss = task.loss(batch)
            mean = loss.total / max(1, loss.count)
            optimizers.zero_grad()
            if mean.requires_grad:  # not so where a batch touches frozen parts only
                mean.backward()  # type: ignore[no-untyped-call]
            norm = optimizers.clip(config.clip)
            value = float(mean.detach())
            if not (math.isfinite(value) and math.isfinite(norm)):
                raise UserError(
                    f"{label}: at step {step} ({task.describe(step)}) the loss is {value} and the "
                    f"gradient's norm {norm}; lower the learning rates in train.groups"
                )
            optimizers.step()
            samples += loss.samples
            report(f"loss {value:.3f}")
            last = step + 1 == steps
            if last or (step + 1) % config.log_every == 0:
                now = time.perf_counter()
                metrics.log(
                    step + 1,
                    loss=value,
                    lr=rates,
                    grad_norm=norm,
                    samples_per_s=samples / (now - since),
                    data=task.describe(step),
                )
                samples, since = 0, now
            if last or (config.eval_every and (step + 1) % config.eval_every == 0):
                begin = time.perf_counter()
                task.model.eval()
                with torch.no_grad(), autocast:
                    found = task.evaluate()
                task.model.train()
                metrics.log(step + 1, **{f"val/{k}": v for k, v in found.items()})
                since += time.perf_counter() - begin  # no time of training
    task.model.eval()
    return found
