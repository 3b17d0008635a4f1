"""The sections of bench/gpu.py that time. Times are medians, by CUDA events on a card.

Shapes: B samples of a batch, T token positions, D width of a hidden state.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import gpu_models as made
from gpt2v.config.grids import GridConfig
from gpt2v.config.models import GPT2ModelConfig, VisionConfig
from gpt2v.curriculum.fit import batch_loss
from gpt2v.hardware.compilation import compile_modules
from gpt2v.hardware.device import place
from gpt2v.hardware.peak import published_peak
from gpt2v.model.head import head_loss
from gpt2v.model.packed import Reader
from lm import new_model
from peers import Peer, hf_seconds

VOCAB = 50_257


def milliseconds(work: Callable[[], object], device: torch.device, repetitions: int = 10) -> float:
    """Median time of `work`, after three times that do not count."""
    times = []
    for _ in range(repetitions + 3):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        else:
            begin = time.perf_counter()
            work()
            times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[3:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peaks(device: torch.device, tiny: bool) -> dict[str, Any]:
    """FLOP/s of square products, by side and number format, and bytes/s of a copy."""
    rows: dict[str, Any] = {}
    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        rows[f"{name}, published"] = published_peak(device, dtype)
        for side in (512,) if tiny else (1536, 8192):
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            ms = milliseconds(lambda a=a, b=b: a @ b, device)
            rows[f"{name} {side}"] = 2 * side**3 / ms * 1e3
    x = torch.randn(2**22 if tiny else 2**29, device=device)
    rows["copy, bytes read and written"] = 8 * x.numel() / milliseconds(x.clone, device) * 1e3
    return rows


def gpt2_small(device: torch.device, tiny: bool) -> dict[str, Any]:
    """GPT-2 small in bf16 on 32 windows of 1,024: its blocks, its head, and a whole step."""
    return {name: _gpt2_small(device, tiny, name == "compiled") for name in ("plain", "compiled")}


def _gpt2_small(device: torch.device, tiny: bool, compiled: bool) -> dict[str, float]:
    rows, length = (2, 64) if tiny else (32, 1024)
    lm = _small(tiny)
    if compiled:
        compile_modules(tuple(lm.transformer.h))
    batch = made.windows(VOCAB, rows, length)
    ids = torch.from_numpy(batch.tokens).to(device)
    config = lm.config
    hidden_YD = torch.randn(rows * length, config.n_embd, device=device, requires_grad=True)
    optimizer = torch.optim.AdamW(lm.parameters(), fused=True)

    def blocks() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            embeds = lm.transformer.wte(ids[:, :-1])
            out = lm.transformer(inputs_embeds=embeds, use_cache=False).last_hidden_state
        out.sum().backward()

    def head() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = head_loss(hidden_YD, lm.lm_head.weight, ids[:, 1:].flatten())
        loss.backward()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            loss = batch_loss(Reader(lm, -1), batch)
        (loss / (rows * length)).backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    works = {"blocks_ms": blocks, "head_ms": head, "step_ms": step}
    row = {name: milliseconds(work, device, 7) for name, work in works.items()}
    n = sum(p.numel() for p in lm.parameters())
    flops = (6 * n + 12 * config.n_layer * config.n_embd * length) * rows * length
    row["step_flops_per_s"] = flops / row["step_ms"] * 1e3
    row["tokens_per_s"] = rows * length / row["step_ms"] * 1e3
    if device.type == "cuda":
        row["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return row


def _small(tiny: bool) -> Any:
    """A GPT-2 of GPT-2 small's size and words."""
    width, layers, heads = (64, 2, 4) if tiny else (768, 12, 12)
    return place(new_model(VOCAB, width, layers, heads, 1024, "gelu_pytorch_tanh"))


def lengths(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Seconds for grids of 40 different lengths, when each is new and when it is not."""
    shapes = [(r, c) for r in range(1, 6) for c in range(1, 9)][: 4 if tiny else 40]
    models = made.small(tiny)
    batches = []
    for rows, cols in shapes:
        spec = GridConfig.model_validate({"rows": rows, "cols": cols, "questions": 1})
        batches.append(models.batch(spec))
    found: dict[str, Any] = {"lengths": len({batch.input_ids.shape[1] for batch in batches})}
    backends = (True, False) if device.type == "cuda" else (False,)
    for cudnn in backends:
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.backends.cuda.enable_cudnn_sdp(cudnn)
        seconds = []
        for _ in range(3):
            _wait(device)
            begin = time.perf_counter()
            for batch in batches:
                with torch.autocast(device.type, torch.bfloat16):
                    loss = batch_loss(models.reader, batch)
                loss.backward()
            _wait(device)
            seconds.append(time.perf_counter() - begin)
        found["with cuDNN" if cudnn else "without cuDNN"] = dict(
            zip(("first", "second", "third"), seconds, strict=True)
        )
    return found


def drawing(device: torch.device, tiny: bool) -> dict[str, Any]:
    """32 pictures of 224 pixels: drawing, a step, and steps of the loop that draws them."""
    vision = VisionConfig(
        image_size=64 if tiny else 224, patch_size=16, hidden_size=64 if tiny else 768,
        num_hidden_layers=2 if tiny else 12, num_attention_heads=4 if tiny else 12,
    )  # fmt: skip
    lm = GPT2ModelConfig(n_layer=2, n_embd=128, n_head=4, n_positions=1024)
    models = made.gpt2v(lm, vision, made.PICTURES, 4 if tiny else 32)
    steps = 4 if tiny else 24

    def draw(step: int, *_: int) -> Any:
        return models.batch(made.PICTURES, step)

    drawn = draw(0)
    begin = time.perf_counter()
    for step in range(8):
        models.reader.prepare(draw(step))
    found: dict[str, Any] = {"draw_ms": 1e3 * (time.perf_counter() - begin) / 8}

    def loop_ms(batch: Callable[..., Any], threads: bool) -> float:
        made.with_ends(ends := [], threads, models.model, models.reader, batch, steps)
        return 1e3 * statistics.median(np.diff(ends[2:]))

    found["step_ms, the same batch"] = loop_ms(lambda *_: drawn, False)
    found["step_ms, without the thread"] = loop_ms(draw, False)
    found["step_ms, with the thread"] = loop_ms(draw, True)
    return found


def beside_trainer(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Tokens per second of gpt2v's loop and Hugging Face's Trainer, GPT-2 small in bf16."""
    found = {}
    for compiled in (False, True):
        name = ", compiled" if compiled else ""
        for trainer, rate in (("gpt2v", _our_rate), ("Trainer", _peer_rate)):
            found[trainer + name] = rate(tiny, compiled)
    return found


def _sizes(tiny: bool) -> tuple[int, int, int]:
    """Windows of a step, their length, and steps."""
    return (2, 64, 5) if tiny else (16, 1024, 16)


def _our_rate(tiny: bool, compiled: bool) -> float:
    rows, length, steps = _sizes(tiny)
    lm = _small(tiny)
    options = {"precision": "bf16", "compile": compiled}
    ends: list[float] = []
    made.with_ends(
        ends, True, lm, Reader(lm, -1), lambda step, *_: made.windows(VOCAB, rows, length, step),
        steps, **options,
    )  # fmt: skip
    return float(rows * length / statistics.median(np.diff(ends)[2:]))


def _peer_rate(tiny: bool, compiled: bool) -> float:
    rows, length, steps = _sizes(tiny)
    batches = [made.windows(VOCAB, rows, length, step).tokens for step in range(steps)]
    data = [{"input_ids": row[:-1], "labels": row[:-1]} for batch in batches for row in batch]
    torch.backends.cuda.enable_cudnn_sdp(True)  # torch's default, which ours switches off
    peer = Peer("gelu_pytorch_tanh", "sdpa", compile=compiled, bf16=True)
    seconds = hf_seconds(peer, _small(tiny), data, rows, steps, 2)
    return rows * length / (sum(seconds) / len(seconds))
