"""Questions per second of an evaluation, compared with other evaluators on the same weights.

    python bench/eval.py runs/demo --lmms-eval SITE

The 3x3 suite is asked of a GPT-2 in words and of a GPT-2v in pictures. The peers are
lm-evaluation-harness on the exported tasks; plain transformers that share a grid's keys and values
among its questions; lmms-eval's `llava_hf` and a stock LLaVA, both on the exported checkpoint. All
answer in fp32 with as many threads. The clock runs from samples to records for ours, from the rows
of the task to its scores for lm-evaluation-harness, from samples to answers for plain transformers,
from ready strings and pictures to answers for LLaVA; of lmms-eval only `generate_until` counts.
Models, tiles and data sets are loaded before. Rates are medians over interleaved repetitions. The
floor is the products of our packed pass at the speed of a large product. Every answer of a peer is
compared with ours, the likeliest choice among the listed objects. `commands` times the whole
commands `gpt2v eval` and `lm_eval`.

SITE is a folder made by `pip install --no-deps --target SITE lmms-eval==0.7.3 loguru tenacity
decord` (with its dependencies it would replace torch); without it that peer is left out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from eval_peers import Answer, BatchedLlava, Harness, LmmsEval, SharedPrefix, Timed
from gpt2v.config.measuring import SuiteEvalConfig, SuiteExportConfig
from gpt2v.config.models import FeaturesConfig
from gpt2v.data.export.run import export
from gpt2v.data.suites.load import with_tiles
from gpt2v.eval.evaluate import parts_of
from gpt2v.eval.records import record_table
from gpt2v.features.sources import picture_source
from gpt2v.hardware.device import hardware
from gpt2v.hardware.memory import keep_freed_memory
from gpt2v.hardware.peak import matmul_peak
from gpt2v.model.flops import stream_flops
from gpt2v.model.found import find_checkpoint
from gpt2v.model.load import load_model
from gpt2v.model.scoring import PackedScorer, score_all
from gpt2v.runs import versions
from gpt2v.trained.defaults import as_trained

SUITE = "grid-3x3-v2"
TASK = f"gpt2v_{SUITE}_{{}}_3x3_lookup"
BATCHES = (16, 50)  # grids that a peer reads at once; the faster one counts
SetUp = Callable[[], Timed]


class Setting:
    """The models, the grids of the suite, and what was exported from them."""

    def __init__(self, demo: Path, work: Path) -> None:
        self.lm, self.mm, self.work = str(demo / "lm"), str(demo / "mm"), work
        asked = SuiteEvalConfig.model_validate({"suite": SUITE, "modalities": ["text", "image"]})
        filled = as_trained(asked, self.mm)
        self.config = with_tiles(filled.config, None)
        self.bank = filled.bank(self.config.tiles)
        (self.part,) = parts_of(self.config, self.bank)
        spec = SuiteExportConfig(suite=SUITE, tiles=self.config.tiles)
        for name in ("lm-eval", "lmms-eval"):
            export(spec, work / name, name)
        self.llava = work / "llava"
        command = [sys.executable, "-m", "gpt2v", "mm", "export", self.mm, "--to", str(self.llava)]
        subprocess.run(command, check=True, capture_output=True)

    def examples(self, n: int) -> list[Any]:
        """The first `n` grids in words and pictures."""
        return self.part.data.examples(torch.arange(n).numpy())

    def ours(self, scorer: PackedScorer, layout: str) -> Timed:
        """All grids: from samples to records."""
        started = time.perf_counter()
        records = score_all(scorer, self.part.data, layout)
        record_table(records, model="gpt2v", modality=layout)
        seconds = {"all": time.perf_counter() - started}
        scored = zip(records["choices"], records["logprobs"], records["palette"], strict=True)
        best = [max(listed, key=dict(zip(*own, strict=True)).get) for *own, listed in scored]  # type: ignore[arg-type]
        pairs = zip(best, records["exact"], strict=True)
        return Timed(seconds, [Answer(*pair) for pair in pairs])

    def floor(self, scorer: PackedScorer, layout: str) -> float:
        """Seconds of the products for all grids at the speed of a large product."""
        data, flops = self.part.data, 0.0
        view = scorer.view(data.spec, layout)
        for index in data.portions():
            batch = scorer.render(data.samples(index), view, with_choices=True)
            flops += stream_flops(scorer.reader, batch) / 3  # without the backward pass
        return flops / matmul_peak(torch.device("cpu"), torch.float32)


def text(setting: Setting, n: int) -> tuple[dict[str, tuple[SetUp, int]], float, list[Answer]]:
    """The set-ups in words, each with its number of questions; our floor; the harness's answers."""
    loaded = load_model(setting.lm)
    scorer = loaded.scorer(setting.bank)
    checkpoint = find_checkpoint(setting.lm, "lm")
    harness = Harness(checkpoint, setting.work / "lm-eval", TASK.format("text"), 64)
    words = harness.lm.tokenizer
    words.pad_token = words.pad_token or words.eos_token
    set_ups: dict[str, tuple[SetUp, int]] = {
        "gpt2v": (partial(setting.ours, scorer, "text"), 9 * len(setting.part.data)),
        "lm-evaluation-harness": (partial(harness, n), n),
    }
    for size in BATCHES:
        peer = SharedPrefix(harness.lm.model, words, size)
        set_ups[f"transformers, shared prefix, {size} grids"] = (
            partial(peer, setting.part.data, n // 9),
            n,
        )
    return set_ups, setting.floor(scorer, "text"), harness.answers(n)


def pictures(
    setting: Setting, n: int, lmms: bool
) -> tuple[dict[str, tuple[SetUp, int]], dict[str, float]]:
    """The set-ups in pictures, each with its number of questions; our floors."""
    loaded = load_model(setting.mm)
    assert loaded.gpt2v is not None
    whole, floors = 9 * len(setting.part.data), {}
    set_ups: dict[str, tuple[SetUp, int]] = {}
    for name, mode in (("drawn", "off"), ("features ready", "require")):
        features = FeaturesConfig.model_validate(
            {"mode": mode, "path": str(setting.work / "features")}
        )
        patches = picture_source(loaded.gpt2v, [setting.part.data], features)
        scorer = loaded.scorer(setting.bank, patches)
        set_ups[f"gpt2v, {name}"] = (partial(setting.ours, scorer, "image"), whole)
        floors[name] = setting.floor(scorer, "image")
    examples = setting.examples(n // 9)
    for size in BATCHES:
        llava = BatchedLlava(setting.llava, size)
        set_ups[f"LLaVA, {size} grids, pictures read"] = (partial(llava, examples, None), n)
        ready = llava.prepared(examples)
        set_ups[f"LLaVA, {size} grids, features ready"] = (partial(llava, examples, ready), n)
    if lmms:
        peer = LmmsEval(setting.llava, setting.work / "lmms-eval", TASK.format("image"))
        n = min(n, 450)
        set_ups["lmms-eval, as the task says"] = (partial(peer, n, None), n)
        set_ups["lmms-eval, two tokens"] = (partial(peer, n, 2), n)
    return set_ups, floors


def measured(set_ups: dict[str, tuple[SetUp, int]], repetitions: int) -> list[dict[str, Any]]:
    """A row for each set-up: its rates, and how many of its answers differ from the first one's."""
    times: dict[str, list[Timed]] = {name: [run()] for name, (run, _) in set_ups.items()}
    for _ in range(repetitions):
        for name, (run, _) in set_ups.items():
            times[name].append(run())
    ours = next(iter(times.values()))[0].answers
    rows = []
    for name, (_, n) in set_ups.items():
        counted = times[name][1:]  # the first one warms up
        rates = {
            part: sorted(n / one.seconds[part] for one in counted) for part in counted[0].seconds
        }
        rows.append(
            {
                "set_up": name,
                "questions": n,
                "per_second": {part: statistics.median(rate) for part, rate in rates.items()},
                "range": {part: [rate[0], rate[-1]] for part, rate in rates.items()},
                "other_answers": n_other(ours, times[name][0].answers),
            }
        )
    return rows


def n_other(ours: list[Answer], theirs: list[Answer]) -> dict[str, int] | None:
    """How many answers differ: the likeliest choices, and whether greedy answers are right."""
    if not theirs:
        return None
    pairs = list(zip(ours, theirs, strict=False))
    best = sum(b.best is not None and a.best != b.best for a, b in pairs)
    return {"best": best, "exact": sum(a.exact != b.exact for a, b in pairs)}


def commands(setting: Setting, repetitions: int) -> list[dict[str, Any]]:
    """Seconds of whole commands, interleaved."""
    suite, checkpoint = ["--suite", SUITE], find_checkpoint(setting.lm, "lm")
    python = [sys.executable, "-m"]
    each = {
        "gpt2v eval": [*python, "gpt2v", "eval", setting.lm, *suite, "--modalities", "[text]"],
        "lm_eval": [
            *(*python, "lm_eval", "--model", "hf", "--device", "cpu", "--batch_size", "64"),
            *("--model_args", f"pretrained={checkpoint},dtype=float32"),
            *("--include_path", str(setting.work / "lm-eval"), "--tasks", TASK.format("text")),
        ],
    }
    seconds: dict[str, list[float]] = {name: [] for name in each}
    for k in range(repetitions):
        for name, command in each.items():
            out = [] if name == "lm_eval" else ["--out", str(setting.work / f"eval-{k}")]
            started = time.perf_counter()
            subprocess.run([*command, *out], check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - started)
    return [
        {"set_up": name, "seconds": statistics.median(own), "range": [min(own), max(own)]}
        for name, own in seconds.items()
    ]


def show(case: str, rows: list[dict[str, Any]], floors: dict[str, float]) -> None:
    """Print the rates of one case, and by how many times ours is faster."""
    print(f"\n{case:<42} {'questions/s':>12} {'[min, max]':>18}  ours x  other answers")
    for row in rows:
        ready = "features ready" in row["set_up"]  # compared with ours whose features are ready
        first = rows[1 if ready else 0]["per_second"]["all"]
        for part, rate in row["per_second"].items():
            low, high = row["range"][part]
            name = row["set_up"] if part == "all" else f"  of it {part}"
            other = row["other_answers"] if part == "all" else ""
            print(
                f"{name:<42} {rate:>12,.0f} {f'[{low:,.0f}, {high:,.0f}]':>18}  "
                f"{first / rate:6.1f}  {other or ''}"
            )
    for name, seconds in floors.items():
        row = next(r for r in rows if r["set_up"] == f"gpt2v{', ' if name else ''}{name}")
        share = seconds * row["per_second"]["all"] / row["questions"]
        print(f"floor{', ' if name else ''}{name}: {seconds:.2f} s, {share:.0%} of our time")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("demo", type=Path, help="a run of `gpt2v demo`")
    parser.add_argument("--lmms-eval", metavar="SITE", help="folder with lmms-eval")
    parser.add_argument("--n_questions", type=int, default=1800, help="of the peers")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--case", choices=["text", "pictures", "commands"], action="append")
    parser.add_argument("--out", default="bench-eval.json")
    args = parser.parse_args()
    if args.lmms_eval:
        sys.path.append(args.lmms_eval)
    keep_freed_memory()  # as `gpt2v` does; it helps the peers, too
    content: dict[str, Any] = {"kind": "bench", "versions": versions()}
    content["threads"] = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as work, hardware("cpu"):
        setting = Setting(args.demo, Path(work))
        cases = args.case or ["text", "pictures", "commands"]
        if "text" in cases:
            set_ups, floor, theirs = text(setting, args.n_questions)
            rows = measured(set_ups, args.repetitions)
            ours = set_ups["gpt2v"][0]().answers
            pairs = zip(ours, theirs, strict=False)
            rows[1]["other_answers"] = {"best": sum(a.best != b.best for a, b in pairs)}
            show("in words", rows, {"": floor})
            content["text"] = {"rows": rows, "floor": floor}
        if "pictures" in cases:
            set_ups, floors = pictures(setting, args.n_questions, bool(args.lmms_eval))
            rows = measured(set_ups, args.repetitions)
            show("in pictures", rows, floors)
            content["pictures"] = {"rows": rows, "floors": floors}
        if "commands" in cases:
            content["commands"] = commands(setting, 3)
            for row in content["commands"]:
                print(f"{row['set_up']:<42} {row['seconds']:>12.1f} s")
    Path(args.out).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
