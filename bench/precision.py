"""fp32 against bf16 on this processor: tokens per second, and the validation loss after 300 steps.

    python bench/precision.py --corpus train.txt --valid valid.txt

A GPT-2 of 12M parameters (6 layers, 384 wide, 4,096 words) is trained on text, windows of 256, with
AdamW; each seed once in either number format, in turn. Rates are medians over the logged lines.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gpt2v.runs import versions

OPTIONS = [
    *("--tokenizer.vocab_size", "4096", "--model.n_embd", "384", "--data.batch_size", "8"),
    *("--train.groups.0.optimizer", "adamw", "--train.groups.0.lr", "0.001"),
    *("--train.eval_every", "0", "--train.save_every", "0", "--train.tensorboard", "false"),
]


def trained(corpus: str, valid: str, steps: int, seed: int, precision: str) -> dict[str, Any]:
    """The validation loss and the tokens per second of one training, a command of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [
            *(sys.executable, "-m", "gpt2v", "lm", "train", "gpt2v:lm/tinystories-tiny"),
            *("--out", str(run), "--data.stages.0.steps", str(steps)),
            *("--data.stages.0.mix.0.corpus", corpus, "--data.stages.0.mix.0.valid", valid),
            *("--train.seed", str(seed), "--data.seed", str(seed)),
            *("--train.precision", precision, *OPTIONS),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found = json.loads((run / "results.json").read_text())["results"][0]
    rates = [line["tokens_per_s"] for line in lines[1:] if "tokens_per_s" in line]
    loss = next(value for key, value in found.items() if key.endswith("_loss"))
    return {"seed": seed, "precision": precision, "loss": loss, "rate": statistics.median(rates)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", required=True, help="text file")
    parser.add_argument("--valid", required=True, help="text file")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", default="bench-precision.json")
    args = parser.parse_args()
    rows = []
    for seed in args.seeds:
        for precision in ("fp32", "bf16"):
            rows.append(trained(args.corpus, args.valid, args.steps, seed, precision))
            text = "seed {seed} {precision}: loss {loss:.4f}, {rate:,.0f} tokens/s"
            print(text.format(**rows[-1]), flush=True)
            content = {"kind": "bench", "versions": versions(), "results": rows}
            Path(args.out).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    fp32, bf16 = (
        statistics.median(row["rate"] for row in rows if row["precision"] == precision)
        for precision in ("fp32", "bf16")
    )
    print(f"bf16 / fp32: {bf16 / fp32:.2f}")


if __name__ == "__main__":
    main()
