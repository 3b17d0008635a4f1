"""The sections of bench/gpu.py that check: is a card's result the CPU's, is it waited for?"""

import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gpu_models as made
from gpt2v.curriculum.fit import batch_loss
from gpt2v.errors import UserError
from gpt2v.hardware.device import hardware
from gpt2v.model.scoring import PackedScorer, Records
from gpt2v.train import muon as muons

BATCHES = ("text grid", "picture grid", "windows")


def _batch(case: str, models: made.Made, step: int = 0) -> Any:
    if case == "windows":
        return made.windows(models.model.config.text_config.vocab_size, 8, 128, step)
    return models.batch(made.TEXT if case == "text grid" else made.PICTURES, step)


def _gradients(models: made.Made, batch: Any, precision: str) -> tuple[float, dict[str, Any]]:
    """The loss, and the gradient of each parameter as fp64 on the CPU."""
    models.model.zero_grad()
    kind = models.model.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
        loss = batch_loss(models.reader, batch)
    loss.backward()
    named = models.model.named_parameters()
    return float(loss.detach()), {n: p.grad.cpu().double() for n, p in named if p.grad is not None}


def equality(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Losses and gradients on the device, relative to fp32 on the CPU."""
    with hardware("cpu"):
        on_cpu = made.small(tiny)
    on_device = made.small(tiny)
    rows = {}
    for case in BATCHES:
        batch = _batch(case, on_cpu)
        loss, expected = _gradients(on_cpu, batch, "fp32")
        whole = torch.stack([g.norm() for g in expected.values()]).norm()
        for where, models in (("cpu", on_cpu), (device.type, on_device)):
            for precision in ("fp32", "bf16"):
                if (where, precision) == ("cpu", "fp32"):
                    continue
                found, gradients = _gradients(models, batch, precision)
                assert gradients.keys() == expected.keys()
                off = {n: (gradients[n] - expected[n]).norm() for n in expected}
                # The gradient of a key's bias is 0 but for rounding, so norms are at least 1%.
                shares = {n: float(off[n] / max(expected[n].norm(), 0.01 * whole)) for n in off}
                worst = max(shares, key=shares.__getitem__)
                rows[f"{case}, {where} {precision}"] = {
                    "loss": abs(found - loss) / abs(loss),
                    "gradient": float(torch.stack(list(off.values())).norm() / whole),
                    "worst": {worst: shares[worst]},
                }
    return rows


def scoring(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Answers and log-probabilities of choices on the device against the CPU."""
    rows = {}
    for case in BATCHES[:2]:
        found = [_scored(case, name, tiny) for name in ("cpu", str(device))]
        one, two = found
        logp = [torch.tensor(r["logprobs"], dtype=torch.float64) for r in found]
        rows[case] = {
            "questions": len(one["exact"]),
            "other predictions": _differ(one["prediction"], two["prediction"]),
            "other exact": _differ(one["exact"], two["exact"]),
            "logprobs": float((logp[0] - logp[1]).abs().max()),
        }
    return rows


def _scored(case: str, device: str, tiny: bool) -> Records:
    with hardware(device):
        models = made.small(tiny, batch=64)
        spec = made.TEXT if case == "text grid" else made.PICTURES
        data = models.stream.dataset(spec, "test", 64)
        scorer = PackedScorer(models.reader, models.stream.render)
        return scorer.score(data, np.arange(64), spec.modality)


def _differ(one: list[Any], two: list[Any]) -> int:
    return sum(a != b for a, b in zip(one, two, strict=True))


@contextmanager
def _counted(device: torch.device, found: Counter[str]) -> Iterator[None]:
    """Count what waits for the card, by its line."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if "synchronizing" in str(warning.message):
            found[f"{Path(warning.filename).name}:{warning.lineno}"] += 1


def waits(device: torch.device, tiny: bool) -> dict[str, Any]:
    """How often a micro-batch (loss and gradient), and a whole step, wait for the card."""
    models = made.small(tiny)
    rows: dict[str, Any] = {}
    for case in BATCHES:
        batches = [_batch(case, models, step) for step in range(3)]
        for i, batch in enumerate(batches):  # the first ones warm up
            found: Counter[str] = Counter()
            with _counted(device, found), torch.autocast(device.type, torch.bfloat16):
                batch_loss(models.reader, batch).backward()
            rows[f"{case}, a micro-batch"] = dict(found) if i == 2 else {}
        per_run = []
        for steps in (2, 4, 12):  # the first one warms up
            found = Counter()
            with _counted(device, found):
                made.trained(
                    models.model, models.reader, lambda step, *_, c=case: _batch(c, models, step),
                    steps, precision="bf16", log_every=10**6, accumulate=1,
                )  # fmt: skip
            per_run.append(sum(found.values()))
        rows[f"{case}, a step"] = (per_run[2] - per_run[1]) / 8
    return rows


def resume(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Losses of a training that is saved and resumed, against one that is not interrupted."""

    def losses(run: Path, steps: int) -> list[float]:
        models = made.small(tiny)
        return made.train(
            models.model,
            models.reader,
            lambda step, *_: _batch(BATCHES[step % 2], models, step),
            steps,
            run,
            models.tokenizer,
            precision="bf16",
        )

    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        whole = losses(Path(one), 20)
        losses(Path(two), 10)
        resumed = losses(Path(two), 20)
    off = [abs(a - b) for a, b in zip(whole, resumed, strict=True)]
    return {"first 10": max(off[:10]), "step 11": off[10], "all": max(off), "last loss": whole[-1]}


def formats(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Losses of 50 steps on text grids in each number format."""
    options: dict[str, dict[str, Any]] = {
        "fp32": {}, "tf32": {"tf32": True}, "bf16": {"precision": "bf16"},
        "fp16": {"precision": "fp16"},
    }  # fmt: skip
    rows = {}
    for name, given in options.items():
        models = made.small(tiny)

        def batch(step: int, *_: int, made_of: made.Made = models) -> Any:
            return _batch("text grid", made_of, step)

        losses = made.trained(models.model, models.reader, batch, 50, **given)
        rows[name] = {"first": losses[0], "last five": sum(losses[-5:]) / 5}
    return rows


def muon(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Losses of 50 steps with Muon's iteration in bf16 and in fp32."""
    group = {"name": "all", "pattern": "", "lr": 0.02, "optimizer": "muon"}
    rows, plain = {}, muons.orthogonalise
    for name in ("as it is", "fp32"):
        models = made.small(tiny)
        if name == "fp32":
            muons.orthogonalise = _orthogonalised_in_fp32
        try:
            losses = made.trained(
                models.model, models.reader,
                lambda step, *_, m=models: _batch("text grid", m, step), 50, groups=[group],
            )  # fmt: skip
        finally:
            muons.orthogonalise = plain
        rows[name] = {"first": losses[0], "last five": sum(losses[-5:]) / 5}
    return rows


def _orthogonalised_in_fp32(matrices: torch.Tensor) -> torch.Tensor:
    """On the CPU, where the iteration always runs in fp32."""
    return muons_on_cpu(matrices.cpu()).to(matrices.device)


muons_on_cpu = muons.orthogonalise


def out_of_memory(device: torch.device, tiny: bool) -> dict[str, Any]:
    """What is said when a step needs more memory than the card has; a checkpoint is there."""
    if device.type != "cuda":
        return {"skipped": "needs a card"}
    models = made.small(tiny)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.05)
    try:
        with tempfile.TemporaryDirectory() as folder:
            vocab = models.model.config.text_config.vocab_size

            def batch(step: int, *_: int) -> Any:
                return made.windows(vocab, 8 if step < 3 else 20_000, 256, step)

            try:
                made.train(models.model, models.reader, batch, 5, Path(folder), models.tokenizer,
                           save_every=2)  # fmt: skip
                return {"error": "there was enough memory"}
            except UserError as error:
                left = sorted(path.name for path in Path(folder, "checkpoints").iterdir())
                return {"message": str(error), "checkpoints": left}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
