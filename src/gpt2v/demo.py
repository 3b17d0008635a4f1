"""The main job end to end: encoder, GPT-2, GPT-2v, evaluation in both modalities, probe, ladder,
report. `results.json` at the top of the run holds the headline numbers.
"""

import json
import shutil
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from transformers import GPT2LMHeadModel

from gpt2v import runs
from gpt2v.ablate.ladder import climb
from gpt2v.config import (
    Config,
    EncoderConfig,
    EvalConfig,
    LMConfig,
    MMConfig,
    ProbeConfig,
    TilesConfig,
)
from gpt2v.configfile import dump, merge, read_yaml, validate
from gpt2v.data.batches import Renderer
from gpt2v.data.pieces import PieceTable
from gpt2v.data.stream import data_hash
from gpt2v.data.tiles import load_bank
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError
from gpt2v.eval.evaluate import HeldOut, evaluate
from gpt2v.lm_train.train import train_lm
from gpt2v.mm_train.encoder import train_encoder
from gpt2v.mm_train.train import train_mm
from gpt2v.model.device import place
from gpt2v.model.files import find_checkpoint, load_pretrained
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.reader import Reader
from gpt2v.probe.probe import probe
from gpt2v.report import write_report

T = TypeVar("T")


class DemoConfig(Config):
    """Every stage of the demo; `tiles` holds for all of them."""

    tiles: TilesConfig
    encoder: EncoderConfig
    lm: LMConfig
    mm: MMConfig
    eval: EvalConfig
    probe: ProbeConfig


def presets() -> list[str]:
    """Names of the presets."""
    folder = resources.files("gpt2v") / "presets"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name[-5:] == ".yaml")


def demo_config(preset: str, overrides: dict[str, Any], out: Path) -> DemoConfig:
    """A preset with overrides; the stages read each other's runs below `out`."""
    if preset not in presets():
        raise UserError(f"--preset: {preset}: no such preset; there are {', '.join(presets())}")
    source = f"preset {preset}"
    text = (resources.files("gpt2v") / "presets" / f"{preset}.yaml").read_text(encoding="utf-8")
    data = merge(read_yaml(text, source), overrides, source)
    for stage in ("encoder", "lm", "mm", "eval", "probe"):
        if not isinstance(data[stage], dict):
            raise UserError(f"{source}: {stage}: expected keys with values, not {data[stage]!r}")
        data[stage]["tiles"] = data["tiles"]
    data["mm"].setdefault("lm", str(out / "lm"))
    data["mm"].setdefault("encoder", str(out / "encoder"))
    data["probe"].setdefault("model", str(out / "mm"))
    return validate(DemoConfig, data, source)


def run_demo(config: DemoConfig, preset: str, run: Path) -> dict[str, Any]:
    """Run every stage into `run`; returns the headline results.

    A training that `run` already holds, finished and with the same configuration, is kept; once one
    is not, all that follow are run anew.
    """
    started = time.monotonic()
    seconds: dict[str, float] = {}
    keep = True

    def stage(name: str, work: Callable[[], T]) -> T:
        print(f"== {name}", flush=True)
        begin = time.monotonic()
        shutil.rmtree(run / name, ignore_errors=True)
        (run / name).mkdir()
        done = work()
        seconds[name] = round(time.monotonic() - begin, 1)
        return done

    def training(name: str, stage_config: Config, work: Callable[[], object]) -> None:
        nonlocal keep
        keep = keep and _is_finished(run / name, stage_config)
        if keep:
            print(f"== {name}: kept as it is", flush=True)
            seconds[name] = _results(run / name)["seconds"]
        else:
            stage(name, work)

    runs.write_text(run / "config.yaml", dump(config))
    begin = time.monotonic()
    bank = load_bank(config.tiles)
    seconds["tiles"] = round(time.monotonic() - begin, 1)
    encoder, lm, mm = config.encoder, config.lm, config.mm
    training("encoder", encoder, lambda: train_encoder(encoder, run / "encoder", bank))
    training("lm", lm, lambda: train_lm(lm, run / "lm", bank))
    training("mm", mm, lambda: train_mm(mm, run / "mm", bank))

    path = find_checkpoint(str(run / "mm"), "mm")
    model = place(load_pretrained(GPT2vModel, path, "mm")).eval()
    lm_path = find_checkpoint(str(run / "lm"), "lm")
    before = place(load_pretrained(GPT2LMHeadModel, lm_path, "lm")).eval()
    table = PieceTable(load_tokenizer(path))
    render = Renderer(bank, table, model.geometry.image_size)
    held_out = HeldOut(config.eval, render, model.token_geometry)
    readers = {
        "gpt2v": (Reader.of(model), ["text", "image"]),
        "lm": (Reader(before, table.image_id), ["text"]),
    }
    measured = stage("eval", lambda: evaluate(readers, held_out, run / "eval"))
    probed = stage("probe", lambda: probe(model, bank, config.probe, run / "probe"))
    stage("ladder", lambda: climb(model, held_out, run / "ladder"))

    rows = {(row["model"], row["modality"]): row for row in measured["results"]}
    text, image = rows["gpt2v", "text"], rows["gpt2v", "image"]
    everywhere = probed["results"][0]
    seconds["total"] = round(sum(seconds.values()), 1)
    results = {
        "preset": preset,
        "tiles": bank.name,
        "data_hash": data_hash(bank, config.eval),
        "seed": config.mm.train.seed,
        "text_accuracy": text["accuracy"],
        "image_accuracy": image["accuracy"],
        "gap": text["accuracy"] - image["accuracy"],
        "lm_text_accuracy": rows["lm", "text"]["accuracy"],
        "chance": text["chance"],
        "blind_accuracy": text["blind_accuracy"],
        "bag_accuracy": text["bag_accuracy"],
        "probe_accuracy": everywhere["accuracy"],
        "probe_palette_accuracy": everywhere["palette_accuracy"],
        "encoder": _results(run / "encoder")["results"][0],
        "n_images": text["n_images"],
        "n_questions": text["n_questions"],
        "results": measured["results"],
        "seconds": seconds,
    }
    found = runs.write_results(run, "demo", started, **results)
    write_report(run)
    return found


def _is_finished(run: Path, config: Config) -> bool:
    files = run / runs.FINISHED, run / "config.yaml"
    return all(f.is_file() for f in files) and files[1].read_text("utf-8") == dump(config)


def _results(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / runs.FINISHED).read_text("utf-8"))
    return found
