"""Parameter groups by pattern, their optimizers, and learning-rate schedules."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gpt2v.config import GroupConfig, TrainConfig
from gpt2v.errors import UserError
from gpt2v.train.muon import Muon, matrix_layout

_ADAMW_SHARE = 0.15  # of a Muon group's rate, for the parameters that Muon does not take
_DECAY_SHARE = 0.2  # of the steps after warm-up, in warmup-stable-decay
_EMBEDDINGS_AND_HEADS = re.compile(r"embed|wte|wpe|lm_head|projection\.weight$")


@dataclass(frozen=True)
class ParameterGroup:
    """The parameters that one GroupConfig took."""

    config: GroupConfig
    names: tuple[str, ...]
    params: tuple[nn.Parameter, ...]

    @property
    def frozen(self) -> bool:
        return self.config.lr == 0

    @property
    def size(self) -> int:
        """Number of scalars."""
        return sum(p.numel() for p in self.params)


class Optimizers:
    """AdamW and Muon behind one `step`; frozen groups have `requires_grad` switched off."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.config = config
        self.groups = group_parameters(model, config.groups)
        adamw: list[dict[str, Any]] = []
        muon: list[dict[str, Any]] = []
        for group in self.groups:
            for p in group.params:
                p.requires_grad_(not group.frozen)
            if group.frozen:
                continue
            named = list(zip(group.names, group.params, strict=True))
            for matrices in (True, False):
                by_muon = matrices and group.config.optimizer == "muon"
                entry = {
                    "params": [p for name, p in named if _is_matrix(name, p) == matrices],
                    "lr": group.config.lr if by_muon else _adamw_lr(group.config),
                    "weight_decay": group.config.weight_decay if matrices else 0.0,
                    "name": group.config.name,
                }
                if entry["params"]:
                    (muon if by_muon else adamw).append(entry)
        if not adamw and not muon:
            raise UserError("train.groups: every group is frozen (lr: 0), so nothing would train")
        self.optimizers: list[torch.optim.Optimizer] = []
        if adamw:
            fused = next(model.parameters()).device.type != "mps"
            self.optimizers.append(torch.optim.AdamW(adamw, betas=(0.9, 0.95), fused=fused))
        if muon:
            transposed, splits = matrix_layout(model)
            self.optimizers.append(Muon(muon, transposed, splits))
        for entry in self._entries():
            entry["peak_lr"] = entry["lr"]

    def _entries(self) -> Iterable[dict[str, Any]]:
        for optimizer in self.optimizers:
            yield from optimizer.param_groups

    def set_lr(self, factor: float) -> dict[str, float]:
        """Scale every peak rate; returns the configured rate of each group now."""
        for entry in self._entries():
            entry["lr"] = entry["peak_lr"] * factor
        return {g.config.name: g.config.lr * factor for g in self.groups}

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def clip(self, norm: float | None) -> float:
        """Clip the global gradient norm in place; returns the norm before clipping."""
        params = [p for g in self.groups if not g.frozen for p in g.params if p.grad is not None]
        total = torch.nn.utils.clip_grad_norm_(params, norm if norm else math.inf)
        return float(total)

    def describe(self) -> list[str]:
        """One line per group: what trains, how, and what is frozen."""
        lines = []
        for group in self.groups:
            how = "frozen"
            if not group.frozen:
                how = f"{group.config.optimizer}, lr {group.config.lr:g}"
            lines.append(
                f"  {group.config.name:<16} {len(group.params):>4} tensors "
                f"{group.size:>11,} parameters  {how}"
            )
        return lines


def _adamw_lr(config: GroupConfig) -> float:
    """Vectors and embeddings of a Muon group train with AdamW at a rate of its usual scale."""
    return config.lr * _ADAMW_SHARE if config.optimizer == "muon" else config.lr


def _is_matrix(name: str, p: nn.Parameter) -> bool:
    return p.ndim == 2 and not _EMBEDDINGS_AND_HEADS.search(name)


def group_parameters(model: nn.Module, configs: list[GroupConfig]) -> list[ParameterGroup]:
    """First match wins; a parameter that no pattern takes is the user's mistake."""
    names: list[list[str]] = [[] for _ in configs]
    params: list[list[nn.Parameter]] = [[] for _ in configs]
    for name, p in model.named_parameters():
        for i, config in enumerate(configs):
            if re.search(config.pattern, name):
                names[i].append(name)
                params[i].append(p)
                break
        else:
            raise UserError(f"train.groups: no pattern matches the parameter {name}")
    for i, config in enumerate(configs):
        if not params[i]:
            raise UserError(
                f"train.groups.{i}.pattern: '{config.pattern}' matches no parameter that is left"
            )
    return [
        ParameterGroup(config, tuple(n), tuple(p))
        for config, n, p in zip(configs, names, params, strict=True)
    ]


def lr_factor(config: TrainConfig, step: int, steps: int) -> float:
    """Share of the peak rate at `step` of `steps`: warm-up, then the schedule."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, steps - config.warmup)
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "wsd":
        return min(1.0, (1.0 - done) / _DECAY_SHARE)
    if config.schedule == "linear":
        return 1.0 - done
    return 0.5 * (1.0 + math.cos(math.pi * done))
