"""An invented run directory of a demo, with the files that a report reads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gpt2v.run_layout import mark

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]
Rows = list[dict[str, Any]]


def answer(rng: np.random.Generator, truth: str, palette: list[str], accuracy: float) -> str:
    others = [name for name in palette if name != truth]
    return truth if rng.random() < accuracy else str(rng.choice(others))


def make_records(n: int, accuracy: dict[str, float], names: list[str]) -> tuple[Rows, Rows]:
    """Random but consistent (eval records, probe records) of 3x3 grids with 4-object palettes."""
    rng = np.random.default_rng(7)
    records, probed = [], []
    for sample in range(n):
        palette = [str(name) for name in rng.permutation(names)[:4]]
        for cell in range(9):
            truth = str(rng.choice(palette))
            cell_fields = {"sample": sample, "row": cell // 3, "col": cell % 3, "truth": truth}
            for key, share in accuracy.items():
                model, modality = key.split("/")
                said = answer(rng, truth, palette, share - 0.01 * (cell == 8))
                exact = said == truth and not (said == "cat" and rng.random() < 0.005)
                record = {"model": model, "modality": modality, "instruction": "lookup"}
                record |= cell_fields
                generated = "cattle" if said == truth and not exact else said
                record |= {"generated": generated, "prediction": said, "exact": exact}
                record |= {"palette": palette}
                records.append({**record, "choices": names, "logprobs": [-0.1] * len(names)})
            said = answer(rng, truth, palette, 0.98)
            probed.append({**cell_fields, "prediction": said, "palette_prediction": said})
    return records, probed


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(content), path)
    else:
        path.write_text(json.dumps(content))


def make_run(run: Path, n_images: int = 60, classes: list[str] = CLASSES) -> Path:
    """A whole run directory of a demo with every sub-run."""
    share = {"gpt2v/text": 0.999, "gpt2v/image": 0.965, "lm/text": 0.998}
    records, probed = make_records(n_images, share, classes)
    write(run / "eval/records.parquet", records)
    write(run / "probe/records.parquet", probed)
    baselines = {"chance": 0.1, "blind_accuracy": 0.25, "bag_accuracy": 0.4312}
    counts = {"n_images": n_images, "n_questions": 9 * n_images}
    rows: Rows = []
    for model, modality in (key.split("/") for key in share):
        mine = [r for r in records if (r["model"], r["modality"]) == (model, modality)]
        value = float(np.mean([r["exact"] for r in mine]))
        ci = [max(0.0, value - 0.004), min(1.0, value + 0.004)]
        row = {"model": model, "modality": modality, "accuracy": value, "ci95": ci, **baselines}
        rows.append({**row, "instruction": "lookup", "questions": "independent", **counts})
    text, image, lm = (row["accuracy"] for row in rows)
    palette = float(np.mean([r["palette_prediction"] == r["truth"] for r in probed]))
    seconds = {"tiles": 3.2, "encoder": 310.5, "lm": 140.9, "mm": 402.3, "eval": 41.0}
    results = {
        "kind": "demo", "preset": "default", "tiles": "sprites", "command": "gpt2v demo",
        "versions": {"gpt2v": "0.1.0", "python": "3.11.7", "torch": "2.9.0"},
        "seed": 0, "data_hash": "5f2c9a0e", "seconds": {**seconds, "total": 976.4},
        "text_accuracy": text, "image_accuracy": image, "gap": text - image,
        "gap_ci95": [text - image - 0.004, text - image + 0.004],
        "lm_text_accuracy": lm, **baselines, **counts,
        "probe_accuracy": 0.9512, "probe_palette_accuracy": palette, "results": rows,
    }  # fmt: skip
    write(run / "results.json", results)
    mark(run)
    probe = {"site": "pre-projector", "layer": -1, "cell": "all", "control": "none"}
    probe |= {"accuracy": 0.9512, "palette_accuracy": palette, "ci95": [0.944, 0.957]}
    shuffled = {**probe, "control": "shuffled-labels", "accuracy": 0.1, "palette_accuracy": 0.25}
    write(run / "probe/results.json", {"kind": "probe", "results": [probe, shuffled]})
    names = ("text", "text through the splice", "one embedding per cell", "picture")
    rungs: Rows = [
        {"rung": f"R{i}", "name": name, "accuracy": 0.99 - i / 100, "ci95": [0.9, 0.995]}
        for i, name in enumerate(names)
    ]
    rungs[1] |= {"description": "The same embeddings.", "max_logit_difference": 1.2e-6}
    write(run / "ladder/results.json", {"kind": "ladder", "results": rungs})
    scores = {
        "encoder": ["cell"],
        "lm": ["text/markdown 3x3", "text/patch-tiled 3x3"],
        "mm": ["image 3x3", "text/markdown 3x3"],
    }
    for sub_run, keys in scores.items():
        (run / sub_run).mkdir()
        lines = map(json.dumps, curve([f"val/{name}_accuracy" for name in keys]))
        (run / sub_run / "metrics.jsonl").write_text("\n".join(lines))
    rng = np.random.default_rng(3)
    (run / "eval/examples").mkdir()
    for sample in range(min(n_images, 24)):
        picture = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8))
        picture.resize((96, 96)).save(run / f"eval/examples/{sample}.png")
    return run


def curve(keys: list[str]) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(5)
    for step in range(10, 810, 10):
        scores = {} if step % 200 else dict.fromkeys(keys, 1 - np.exp(-step / 200))
        line = {"step": step, "loss": 2.3 * np.exp(-step / 200) + rng.random() / 9, **scores}
        yield {**line, "data": "small grids" if step <= 200 else "3x3"}
