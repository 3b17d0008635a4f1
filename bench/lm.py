"""Training throughput, compared with Hugging Face's Trainer and the peak of matrix products.

    python bench/lm.py --tokenizer gpt2

stories: 12M parameters, windows of 256 tokens, every token supervised.
grids: 3x3 grids, nine questions each, only answers supervised, GPT-2's 50,257-word vocabulary.

All have the same shapes, batches, threads, optimizer (AdamW, clipping) and precision (fp32, unless
bf16 is said).
Seconds per step are the medians over interleaved repetitions, each with a new model and without its
first steps. The peers' data are rendered before the clock starts, ours while it runs.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from gpt2v.config.data import DataConfig, StageConfig
from gpt2v.config.grids import GridConfig
from gpt2v.config.loop import TrainConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.curriculum.fit import batch_loss
from gpt2v.data.corpus.windows import TextBatch
from gpt2v.data.render.batches import Renderer
from gpt2v.data.stream import Stream
from gpt2v.data.text_pieces import IMAGE, PieceTable, special_id
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.hardware.device import place
from gpt2v.hardware.memory import keep_freed_memory
from gpt2v.hardware.onednn import product
from gpt2v.model.files import quiet_transformers
from gpt2v.model.packed import Reader
from gpt2v.runs import versions
from gpt2v.train.loop import fit
from gpt2v.train.task import Task
from peers import Peer, hf_seconds

WARM = 2  # first steps of a repetition, which are not counted
SIDE = 1536  # of the matrices whose product is the peak
Rows = list[dict[str, Any]]


def new_model(vocab: int, width: int, layers: int, heads: int, length: int, gelu: str) -> Any:
    """A GPT-2; its random weights are always the same. `gelu_new` is Hugging Face's default."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocab, n_embd=width, n_layer=layers, n_head=heads, n_positions=length,
        activation_function=gelu, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).train()


def our_seconds(
    model: PreTrainedModel,
    reader: Reader,
    batch: Callable[[int, int, int], Any],
    steps: int,
    frozen: str | None = None,
    precision: str = "fp32",
) -> list[float]:
    """Seconds of each step of `gpt2v`'s own loop, from one batch to the next.

    Parameters whose name matches `frozen` do not train.
    """
    starts: list[float] = []

    def timed(step: int, part: int, parts: int) -> Any:
        starts.append(time.perf_counter())
        return batch(step, part, parts)

    task = Task(
        model=model,
        batch=timed,
        loss=lambda b: batch_loss(reader, b),
        evaluate=lambda: starts.append(time.perf_counter()) or {},  # the end of the last step
        describe=lambda step: "bench",
        save=lambda folder: None,
        load=lambda folder: None,
        merit=lambda scores: 0.0,
    )
    groups: Rows = [{"name": "rest", "pattern": "", "lr": 3e-4}]
    if frozen is not None:
        groups.insert(0, {"name": "frozen", "pattern": frozen, "lr": 0})
    options = {
        "groups": groups, "log_every": 10**6, "tensorboard": False, "precision": precision,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as run:
        fit(task, TrainConfig.model_validate(options), steps, Path(run), "bench")
    return [b - a for a, b in pairwise(starts)][WARM:]


def peak() -> dict[str, float]:
    """FLOP/s of a fp32 product of 1536 x 1536 matrices, with torch.mm and with oneDNN."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    rates = {}
    for name, multiply in (("torch.mm", torch.mm), ("oneDNN", product)):
        seconds = []
        for _ in range(8):
            begin = time.perf_counter()
            multiply(a, b)
            seconds.append(time.perf_counter() - begin)
        rates[name] = 2 * SIDE**3 / statistics.median(seconds[2:])
    return rates


def stories(steps: int, with_compile: bool) -> tuple[dict[str, Callable[[], list[float]]], float]:
    """Set-ups, and the floating-point operations of one step.

    They are 6 * parameters + 12 * layers * width * length per token.
    """
    vocab, width, layers, heads, length, rows = 4096, 384, 6, 6, 256, 8
    draw = np.random.default_rng(0)
    data = draw.integers(3, vocab, ((steps + 1) * rows, length + 1))

    def model(gelu: str) -> Any:
        return new_model(vocab, width, layers, heads, length, gelu)

    def ours(precision: str, attention: str | None = None) -> list[float]:
        lm = place(model("gelu_pytorch_tanh"))
        if attention is not None:
            lm.set_attn_implementation(attention)
        return our_seconds(
            lm,
            Reader(lm, 1),
            lambda step, *_: TextBatch(data[step * rows : (step + 1) * rows]),
            steps,
            precision=precision,
        )

    examples = [{"input_ids": row[:-1], "labels": row[:-1]} for row in data]
    peers = {
        "HF Trainer": Peer("gelu_new", "sdpa"),
        "HF Trainer, fused GELU, bf16": Peer("gelu_pytorch_tanh", "sdpa", bf16=True),
        "HF Trainer, fused GELU, eager, bf16": Peer("gelu_pytorch_tanh", "eager", bf16=True),
        "HF Trainer, fused GELU": Peer("gelu_pytorch_tanh", "sdpa"),
        "HF Trainer, fused GELU, eager attention": Peer("gelu_pytorch_tanh", "eager"),
    }
    if with_compile:
        peers["HF Trainer, torch_compile"] = Peer("gelu_pytorch_tanh", "sdpa", compile=True)
    set_ups: dict[str, Callable[[], list[float]]] = {
        "gpt2v": lambda: ours("fp32"),
        "gpt2v, torch's fused attention": lambda: ours("fp32", "sdpa"),
        "gpt2v, bf16": lambda: ours("bf16"),
        "gpt2v, torch's fused attention, bf16": lambda: ours("bf16", "sdpa"),
    }
    for name, peer in peers.items():
        set_ups[name] = lambda peer=peer: hf_seconds(
            peer, model(peer.gelu), examples, rows, steps, WARM
        )
    n = sum(p.numel() for p in model("gelu_new").parameters())
    return set_ups, (6 * n + 12 * layers * width * length) * rows * length


def grids(steps: int, tokenizer_source: str) -> dict[str, Callable[[], list[float]]]:
    """Set-ups; a step of each answers 288 questions about grids."""
    bank = load_bank(TilesConfig(per_class=10))
    tokenizer = load_tokenizer(tokenizer_source, "--tokenizer")
    render = Renderer(bank, PieceTable(tokenizer))
    spec = GridConfig()
    stage = StageConfig(steps=steps, mix=[spec])
    stream = Stream(DataConfig(batch_size=32, stages=[stage]), render)
    vocab = tokenizer.get_vocab_size()

    def model(gelu: str) -> Any:
        return new_model(vocab, 128, 4, 4, 512, gelu)

    def ours() -> list[float]:
        lm = place(model("gelu_pytorch_tanh"))
        return our_seconds(lm, Reader(lm, special_id(tokenizer, IMAGE)), stream.batch, steps)

    def examples(questions: int, rows: int) -> list[dict[str, Any]]:
        chained = spec.model_copy(update={"mode": "chained", "questions": questions})
        data = stream.dataset(chained, "train")
        batch = data.batch(np.arange(rows * (steps + 1)), "text", render, mode="chained")
        lengths = (batch.segments >= 0).sum(1)
        pairs = zip(batch.input_ids, batch.labels, lengths, strict=True)
        return [{"input_ids": i[:n], "labels": label[:n]} for i, label, n in pairs]

    whole, single = examples(9, 32), examples(1, 288)
    plain, tuned = ("gelu_new", "sdpa"), ("gelu_pytorch_tanh", "sdpa")
    peers = {
        "HF Trainer, a sequence per question": (single, Peer(*plain, accumulate=9)),
        "HF Trainer, a sequence per grid": (whole, Peer(*plain)),
        "HF Trainer, per question, logits_to_keep": (
            single,
            Peer(*tuned, supervised_only=True, accumulate=9),
        ),
        "HF Trainer, per grid, logits_to_keep": (whole, Peer(*tuned, supervised_only=True)),
        "HF Trainer, per grid, logits_to_keep, eager": (
            whole,
            Peer("gelu_pytorch_tanh", "eager", supervised_only=True),
        ),
    }
    set_ups: dict[str, Callable[[], list[float]]] = {"gpt2v": ours}
    for name, (data, peer) in peers.items():
        set_ups[name] = lambda peer=peer, data=data: hf_seconds(
            peer, model(peer.gelu), data, 32, steps, WARM
        )
    return set_ups


def measure(
    set_ups: dict[str, Callable[[], list[float]]], repetitions: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each step of each set-up, and the median peaks; repetitions are interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in set_ups}
    peaks: dict[str, list[float]] = {}
    for repetition in range(repetitions):
        for name, run in set_ups.items():
            print(f"repetition {repetition + 1}: {name}", file=sys.stderr, flush=True)
            seconds[name] += run()
            for library, value in peak().items():
                peaks.setdefault(library, []).append(value)
    return seconds, {library: statistics.median(values) for library, values in peaks.items()}


def table(
    case: str, seconds: dict[str, list[float]], units: dict[str, float], unit: str, plain: str
) -> Rows:
    """Print and return one row for each set-up.

    Args:
        case: name of the case.
        seconds: set-up -> seconds of each step.
        units: set-up -> number of units in a step.
        unit: name of the units.
        plain: the set-up that the others are compared with.
    """
    rates = {n: sorted(units[n] / s for s in times) for n, times in seconds.items()}
    middle = {n: statistics.median(r) for n, r in rates.items()}
    rows = []
    print(f"\n{case:<42} {unit + '/s':>12} {'[min, max]':>18} {'ms/step':>8}  x {plain}")
    for name, rate in rates.items():
        step = 1e3 * statistics.median(seconds[name])
        ratio = middle[name] / middle[plain]
        span = f"[{rate[0]:,.0f}, {rate[-1]:,.0f}]"
        print(f"{name:<42} {middle[name]:>12,.0f} {span:>18} {step:>8.1f}  {ratio:.2f}")
        row = {"case": case, "set_up": name, "unit": unit, "per_second": middle[name]}
        rows.append({**row, "range": [rate[0], rate[-1]], "ms": step, "ratio": ratio})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="of each repetition")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tokenizer", default="gpt2", help="GPT-2's: a hub id or a folder")
    parser.add_argument("--case", choices=["stories", "grids", "both"], default="both")
    parser.add_argument("--no-compile", action="store_true", help="leave torch_compile out")
    parser.add_argument("--out", default="bench-lm.json")
    args = parser.parse_args()
    quiet_transformers()
    keep_freed_memory()  # as `gpt2v` does; it helps the peers, too
    torch.set_num_threads(args.threads)
    rows: Rows = []
    if args.case != "grids":
        set_ups, flops = stories(args.steps + WARM, not args.no_compile)
        seconds, peaks = measure(set_ups, args.repetitions)
        units = dict.fromkeys(set_ups, 8 * 256.0)
        stories_rows = table("stories", seconds, units, "tokens", "HF Trainer")
        for row in stories_rows:
            rate = flops / (row["ms"] / 1e3)
            row["share_of_peak"] = {library: rate / value for library, value in peaks.items()}
            shares = ", ".join(f"{s:.0%} of {k}'s" for k, s in row["share_of_peak"].items())
            print(f"{row['set_up']:<42} {rate / 1e9:.0f} GFLOP/s: {shares}")
        print("peaks: " + ", ".join(f"{k} {v / 1e9:.0f} GFLOP/s" for k, v in peaks.items()))
        rows += [{**row, "peaks": peaks} for row in stories_rows]
    if args.case != "stories":
        set_ups = grids(args.steps + WARM, args.tokenizer)
        seconds, _ = measure(set_ups, args.repetitions)
        units = dict.fromkeys(set_ups, 288.0)
        plain = "HF Trainer, a sequence per question"
        rows += table("grids", seconds, units, "questions", plain)
    content = {"kind": "bench", "versions": versions(), "threads": args.threads, "results": rows}
    Path(args.out).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
