"""Parameter groups, their optimizers with their state, and learning-rate schedules."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices as _fused_devices

from gpt2v.config.loop import GroupConfig, Schedule, TrainConfig
from gpt2v.errors import UserError
from gpt2v.train.muon import Muon, matrix_layout
from gpt2v.train.sharding import local, shared_as, total_norms

_ADAMW_SHARE = 0.15  # of a Muon group's rate, for its parameters that AdamW trains
_DECAY_SHARE = 0.2  # of the steps after warm-up, in the schedule wsd (warmup-stable-decay)
_EMBEDDINGS_AND_HEADS = re.compile(r"embed|wte|wpe|lm_head|projection\.weight$")


@dataclass(frozen=True)
class ParameterGroup:
    """The parameters that belong to one GroupConfig."""

    config: GroupConfig
    names: tuple[str, ...]
    params: tuple[nn.Parameter, ...]

    @property
    def frozen(self) -> bool:
        """Whether the group does not train."""
        return self.config.lr == 0

    @property
    def size(self) -> int:
        """Number of scalars in the parameters."""
        return sum(p.numel() for p in self.params)


class Optimizers:
    """AdamW and Muon together, with one `step`. Frozen groups get `requires_grad = False`.

    Args:
        key: key of the groups in the configuration, for messages.

    Raises:
        UserError: the groups do not fit the model, or train nothing.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, key: str = "train.groups") -> None:
        self.config = config
        self.groups = group_parameters(model, config.groups, key)
        adamw: list[dict[str, Any]] = []
        muon: list[dict[str, Any]] = []
        for group in self.groups:
            for p in group.params:
                p.requires_grad_(not group.frozen)
                p.grad = None  # left by earlier optimizers
            if group.frozen:
                continue
            named = list(zip(group.names, group.params, strict=True))
            for matrices in (True, False):
                by_muon = matrices and group.config.optimizer == "muon"
                entry = {
                    "params": [p for name, p in named if _is_matrix(name, p) == matrices],
                    "lr": group.config.lr if by_muon else _adamw_lr(group.config),
                    "weight_decay": group.config.weight_decay if matrices else 0.0,
                    "group": group.config,
                }
                if by_muon:
                    entry["momentum"] = group.config.momentum
                if entry["params"]:
                    (muon if by_muon else adamw).append(entry)
        self.optimizers: list[torch.optim.Optimizer] = []
        if adamw:
            fused = next(model.parameters()).device.type in _fused_devices()
            self.optimizers.append(torch.optim.AdamW(adamw, betas=(0.9, 0.95), fused=fused))
        if muon:
            transposed, splits = matrix_layout(model)
            self.optimizers.append(Muon(muon, transposed, splits))
        for entry in self._entries():
            entry["peak_lr"] = entry["lr"]

    def _entries(self) -> Iterable[dict[str, Any]]:
        for optimizer in self.optimizers:
            yield from optimizer.param_groups

    def set_lr(self, step: int, steps: int) -> dict[str, float]:
        """Set every rate for `step` of `steps` by its schedule; returns each group's rate."""
        for entry in self._entries():
            entry["lr"] = entry["peak_lr"] * self._factor(entry["group"], step, steps)
        return {
            g.config.name: g.config.lr * self._factor(g.config, step, steps) for g in self.groups
        }

    def _factor(self, group: GroupConfig, step: int, steps: int) -> float:
        train = self.config
        warmup = train.warmup if group.warmup is None else group.warmup
        return lr_factor(group.schedule or train.schedule, warmup, step, steps)

    def step(self) -> None:
        """One update of all parameters that train."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Delete the gradients of all parameters that train."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def clip(self, largest: float | None) -> dict[str, Tensor]:
        """Clip the norm of the whole gradient to `largest`, in place.

        Returns:
            the norm of each group that trains, before clipping, and that of all, as `total`: a
            number each, on the device.
        """
        grads = {
            g.config.name: [p.grad for p in g.params if p.grad is not None]
            for g in self.groups
            if not g.frozen
        }
        # The norm of a group without gradients, e.g. of the vision tower on a batch of text.
        zero = torch.zeros((), device=self.groups[0].params[0].device)
        own = [
            torch.nn.utils.get_total_norm([local(grad) for grad in tensors]) if tensors else zero
            for tensors in grads.values()
        ]
        every = total_norms(torch.stack(own), self.config.shard)
        norms = dict(zip(grads, every, strict=True))
        total = every.norm()
        if largest:
            params = [p for g in self.groups if not g.frozen for p in g.params]
            torch.nn.utils.clip_grads_with_norm_(params, largest, total)
        return {**norms, "total": total}

    def state_tensors(self) -> dict[str, Tensor]:
        """All state tensors, named `PARAMETER/KEY` (e.g. `transformer.wte.weight/exp_avg`)."""
        return {
            f"{name}/{key}": value
            for name, p, optimizer in self._trained()
            for key, value in optimizer.state[p].items()
        }

    def load_state_tensors(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_tensors` returned; other names are ignored."""
        states: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for full, value in state.items():
            name, _, key = full.rpartition("/")
            states[name][key] = value
        for name, p, optimizer in self._trained():
            if name in states:
                optimizer.state[p] = {k: shared_as(v, p) for k, v in states[name].items()}

    def _trained(self) -> Iterator[tuple[str, nn.Parameter, torch.optim.Optimizer]]:
        """Every parameter that trains, with its name and its optimizer."""
        names = {p: name for g in self.groups for name, p in zip(g.names, g.params, strict=True)}
        for optimizer in self.optimizers:
            for entry in optimizer.param_groups:
                for p in entry["params"]:
                    yield names[p], p, optimizer

    def describe(self) -> list[str]:
        """One line per group: its size, and its optimizer and rate, or that it is frozen."""
        lines = []
        for group in self.groups:
            how = "frozen"
            if not group.frozen:
                how = f"{group.config.optimizer}, lr {group.config.lr:g}"
                how += f", {group.config.schedule}" if group.config.schedule else ""
            lines.append(
                f"  {group.config.name:<16} {len(group.params):>4} tensors "
                f"{group.size:>11,} parameters  {how}"
            )
        return lines


def _adamw_lr(config: GroupConfig) -> float:
    """AdamW's rate: in a Muon group, for vectors and embeddings, a share of the group's rate."""
    return config.lr * _ADAMW_SHARE if config.optimizer == "muon" else config.lr


def _is_matrix(name: str, p: nn.Parameter) -> bool:
    """Whether it is a matrix, or the kernels of a convolution."""
    return p.ndim in (2, 4) and not _EMBEDDINGS_AND_HEADS.search(name)


def group_parameters(
    model: nn.Module, configs: list[GroupConfig], key: str = "train.groups"
) -> list[ParameterGroup]:
    """Assign each parameter to the first group whose pattern matches its name.

    Args:
        key: key of the groups in the configuration, for messages.

    Raises:
        UserError: a parameter without a group, a group without parameters, or only frozen groups.
    """
    names: list[list[str]] = [[] for _ in configs]
    params: list[list[nn.Parameter]] = [[] for _ in configs]
    for name, p in model.named_parameters():
        for i, config in enumerate(configs):
            if re.search(config.pattern, name):
                names[i].append(name)
                params[i].append(p)
                break
        else:
            raise UserError(f"{key}: no pattern matches the parameter {name}")
    for i, config in enumerate(configs):
        if not params[i]:
            raise UserError(
                f"{key}.{i}.pattern: '{config.pattern}' matches no parameter, or only those of "
                "earlier groups"
            )
    if all(config.lr == 0 for config in configs):
        raise UserError(f"{key}: every group is frozen (lr: 0), so nothing would train")
    return [
        ParameterGroup(config, tuple(n), tuple(p))
        for config, n, p in zip(configs, names, params, strict=True)
    ]


def lr_factor(schedule: Schedule, warmup: int, step: int, steps: int) -> float:
    """Share of the peak rate at `step` of `steps`: first the warm-up, then the schedule."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    if schedule == "constant":
        return 1.0
    if schedule == "wsd":
        return min(1.0, (1.0 - done) / _DECAY_SHARE)
    if schedule == "linear":
        return 1.0 - done
    return 0.5 * (1.0 + math.cos(math.pi * done))
