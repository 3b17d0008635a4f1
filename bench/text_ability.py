"""The text ability of a GPT-2 after MM-Train, with and without text in MM-Train.

    python bench/text_ability.py --corpus tinystories/train.txt --valid tinystories/valid.txt \\
        --encoder runs/sprites

A GPT-2 is trained on text grids and TinyStories. Then MM-Train teaches it pictures with three
mixtures, which have the same number of steps with pictures. Measured before and after: exact-match
accuracy on test grids (text and pictures, clustered 95% intervals), and bits per byte of held-out
stories.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from gpt2v.config.data import CorpusConfig
from gpt2v.config.measuring import EvalConfig
from gpt2v.config.training import LMConfig, MMConfig
from gpt2v.data.corpus.corpora import open_corpus
from gpt2v.data.corpus.encoding import token_bytes
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.eval.evaluate import evaluation_data
from gpt2v.eval.records import record_table
from gpt2v.eval.rows import summarise
from gpt2v.lm_train.train import train_lm
from gpt2v.mm_train.train import train_mm
from gpt2v.model.files import quiet_transformers
from gpt2v.model.found import find_checkpoint
from gpt2v.model.load import load_model
from gpt2v.model.losses import window_loss
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import score_all
from gpt2v.run_layout import FINISHED
from gpt2v.runs import versions

TILES = {"source": "sprites", "per_class": 2000}
MUON = {"optimizer": "muon"}
PICTURES = 400  # number of steps with pictures in every mixture


def lm_config(stories: dict[str, Any]) -> LMConfig:
    """The demo's configuration, but with two of five steps on stories."""
    share = {**stories, "weight": 0.67}
    tiled = {"form": "patch-tiled", "weight": 0.5}
    stages = [
        {"steps": 300, "mix": [{"rows": 2, "cols": 2}, share]},
        {"steps": 900, "mix": [{"weight": 0.5}, tiled, share]},
    ]
    return LMConfig.model_validate(
        {
            "tiles": TILES,
            "tokenizer": {"vocab_size": 2048},
            "model": {"n_layer": 2, "n_embd": 128, "n_head": 4, "n_positions": 512},
            "data": {"batch_size": 32, "stages": stages},
            "train": {
                "schedule": "wsd",
                "groups": [{"name": "lm", "pattern": "", "lr": 0.005, **MUON}],
            },
        }
    )


def mm_config(lm: str, encoder: str, mix: list[dict[str, Any]], seed: int) -> MMConfig:
    """The demo's MM-Train on a mixture; other specs add their steps to those with pictures."""
    share = sum(spec.get("weight", 1.0) for spec in mix)
    groups = [
        {"name": "vision_tower", "pattern": "^vision_tower", "lr": 0.001, **MUON},
        {"name": "projector", "pattern": "^projector", "lr": 0.004, **MUON},
        {"name": "language_model", "pattern": "^language_model", "lr": 0.005, **MUON},
    ]
    steps = round(PICTURES * share / mix[0].get("weight", 1.0))
    return MMConfig.model_validate(
        {
            "tiles": TILES,
            "lm": lm,
            "encoder": encoder,
            "data": {"batch_size": 32, "seed": seed, "stages": [{"steps": steps, "mix": mix}]},
            "train": {"precision": "bf16", "seed": seed, "groups": groups},
        }
    )


@torch.no_grad()
def bits_per_byte(reader: Reader, stories: dict[str, Any], model: str, windows: int) -> float:
    """Bits per byte of the first windows of the validation stories."""
    tokenizer = load_tokenizer(find_checkpoint(model, "model"))
    corpus = open_corpus(CorpusConfig.model_validate(stories).text, tokenizer)
    lengths = token_bytes(tokenizer)
    nats = n_bytes = 0.0
    for batch in corpus.valid.validation_batches(8, windows):
        nats += float(window_loss(reader.lm, batch))
        n_bytes += float(lengths[batch.targets].sum())
    return nats / math.log(2) / n_bytes


def measure(
    name: str, model: str, is_gpt2v: bool, bank: TileBank, stories: dict[str, Any], args: Any
) -> dict[str, Any]:
    """Text accuracy, picture accuracy and bits per byte of one model."""
    loaded = load_model(model, kind="gpt2v" if is_gpt2v else "gpt2")
    scorer = loaded.scorer(bank)
    data = evaluation_data(EvalConfig(n_images=args.grids), bank)
    row: dict[str, Any] = {"model": name}
    for modality in ["text", "image"] if is_gpt2v else ["text"]:
        with torch.no_grad():
            records = score_all(scorer, data, modality, f"{name}: {modality}")
            row[modality] = summarise(record_table(records))
    row["bits_per_byte"] = bits_per_byte(scorer.reader, stories, model, args.windows)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", required=True, help="TinyStories' training text")
    parser.add_argument("--valid", required=True, help="TinyStories' validation text")
    parser.add_argument("--encoder", required=True, help="run of gpt2v:encoder/sprites")
    parser.add_argument("--runs", default="runs/text-ability", help="folder of the trainings")
    parser.add_argument("--seeds", type=int, default=1, help="of MM-Train")
    parser.add_argument("--grids", type=int, default=1000)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--out", default="bench-text-ability.json")
    args = parser.parse_args()
    quiet_transformers()
    stories = {"corpus": args.corpus, "valid": args.valid, "context": 256, "windows": 16}
    bank = load_bank(LMConfig.model_validate(lm_config(stories)).tiles)
    root = Path(args.runs)
    lm = root / "lm"
    if not (lm / FINISHED).is_file():
        lm.mkdir(parents=True, exist_ok=True)
        train_lm(lm_config(stories), lm, bank)
    rows = [measure("GPT-2 before", str(lm), False, bank, stories, args)]
    picture: dict[str, Any] = {"modality": "image", "weight": 5.0}
    table: dict[str, Any] = {"modality": "text"}
    mixtures = {
        "pictures alone": [picture],
        "pictures, text grids": [picture, table],
        "pictures, text grids, stories": [picture, table, {**stories, "weight": 2.0}],
    }
    for seed in range(args.seeds):
        for name, mix in mixtures.items():
            run = root / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            if not (run / FINISHED).is_file():
                run.mkdir(parents=True, exist_ok=True)
                train_mm(mm_config(str(lm), args.encoder, mix, seed), run, bank)
            row = measure(f"after {name}", str(run), True, bank, stories, args)
            rows.append({**row, "seed": seed})
    print(f"\n{'':<38} {'text grids':>24} {'pictures':>24}   bits per byte")
    for row in rows:
        rates = [
            f"{row[m]['accuracy']:.1%} [{row[m]['ci95'][0]:.1%}, {row[m]['ci95'][1]:.1%}]"
            if m in row
            else ""
            for m in ("text", "image")
        ]
        print(f"{row['model']:<38} {rates[0]:>24} {rates[1]:>24}   {row['bits_per_byte']:.3f}")
    content = {"kind": "bench", "versions": versions(), "results": rows}
    Path(args.out).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
