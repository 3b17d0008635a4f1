"""The demo: trains an encoder, a GPT-2 and a GPT-2v, then evaluates, probes, climbs the ladder and
writes a report.

Each of these is a sub-run, a run in its own folder. The `results.json` of the demo itself has the
most important numbers.
"""

import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gpt2v import runs
from gpt2v.ablate.ladder import climb
from gpt2v.config.base import Config
from gpt2v.config.grids import LadderGridConfig
from gpt2v.config.load import dump
from gpt2v.config.measuring import LadderConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.stream import training_hash
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.demo.config import DemoConfig
from gpt2v.encoder_train.train import scenes_hash, train_encoder
from gpt2v.errors import within
from gpt2v.eval.evaluate import Part, Scorers, evaluate, evaluation_data
from gpt2v.features.sources import picture_source
from gpt2v.lm_train.train import train_lm
from gpt2v.mm_train.train import train_mm
from gpt2v.model.load import load_gpt2v, load_model
from gpt2v.probe.probe import probe
from gpt2v.report import write_report

T = TypeVar("T")


def run_demo(config: DemoConfig, preset: str, run: Path) -> dict[str, Any]:
    """Run all sub-runs below `run` and return the most important results.

    A training that is in `run` already, with the same configuration, is left as it is if it is
    finished, and otherwise continues from its last checkpoint. All sub-runs after the first
    training that was not finished are run again.
    """
    started = time.monotonic()
    seconds: dict[str, float] = {}
    reuse = True  # whether all sub-runs so far were finished already

    def sub_run(name: str, work: Callable[[], T], fresh: bool = True) -> T:
        print(f"== {name}", flush=True)
        begin = time.monotonic()
        if fresh:
            shutil.rmtree(run / name, ignore_errors=True)
        (run / name).mkdir(exist_ok=True)
        results = work()
        seconds[name] = round(time.monotonic() - begin, 1)
        return results

    def training(name: str, its_config: Config, hashed: str, work: Callable[..., Any]) -> None:
        nonlocal reuse
        begun = reuse and _is_begun(run / name, its_config)
        finished = (run / name / runs.FINISHED).is_file()
        same = finished and _results(run / name)["data_hash"] == hashed
        reuse = begun and finished and same
        if reuse:
            print(f"== {name}: kept as it is", flush=True)
            seconds[name] = _results(run / name)["seconds"]
        else:
            fresh = finished or not begun
            sub_run(name, lambda: work(run=run / name, bank=bank), fresh)

    (run / runs.FINISHED).unlink(missing_ok=True)  # from before, if the run is resumed
    runs.write_text(run / "config.yaml", dump(config))
    runs.mark(run)
    begin = time.monotonic()
    bank = load_bank(config.tiles)
    bank.content_hash("train")  # makes the bank draw its tiles
    seconds["tiles"] = round(time.monotonic() - begin, 1)
    _check_grids(config, bank)
    encoder, lm, mm = config.encoder, config.lm, config.mm
    training("encoder", encoder, scenes_hash(encoder, bank), partial(train_encoder, encoder))
    training("lm", lm, training_hash(lm.data, bank), partial(train_lm, lm))
    training("mm", mm, training_hash(mm.data, bank), partial(train_mm, mm))

    loaded, model = load_gpt2v(str(run / "mm"))
    before = load_model(str(run / "lm"))
    data = evaluation_data(config.eval, bank)
    picture = picture_source(model, [data], config.eval.features)
    scorers: Scorers = {
        "gpt2v": (loaded.scorer(bank, picture), ["text", "image"]),
        "lm": (before.scorer(bank), ["text"]),
    }
    measured = sub_run("eval", lambda: evaluate(scorers, [Part(data)], config.eval, run / "eval"))
    probed = sub_run("probe", lambda: probe(model, bank, config.probe, run / "probe"))
    sub_run("ladder", lambda: climb(loaded, data, ladder_config(config), run / "ladder"))

    rows = {(row["model"], row["modality"]): row for row in measured["results"]}
    text, image = rows["gpt2v", "text"], rows["gpt2v", "image"]
    everywhere = probed["results"][0]
    seconds["total"] = round(sum(seconds.values()), 1)
    results = {
        "preset": preset,
        "tiles": bank.name,
        "data_hash": measured["data_hash"],
        "seed": config.mm.train.seed,
        "text_accuracy": text["accuracy"],
        "image_accuracy": image["accuracy"],
        "gap": measured["gap"],
        "gap_ci95": measured["gap_ci95"],
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
    written = runs.write_results(run, "demo", started, **results)
    write_report(run)
    return written


def ladder_config(config: DemoConfig) -> LadderConfig:
    """The configuration of the ladder: the demo's GPT-2v on the grids of the evaluation."""
    shared = {name: getattr(config.eval, name) for name in ("tiles", "split", "seed", "n_images")}
    grid = {name: getattr(config.eval.grid, name) for name in LadderGridConfig.model_fields}
    return LadderConfig(
        **shared,
        grid=LadderGridConfig(**grid),
        features=config.eval.features,
        model=config.probe.model,
    )


def _check_grids(config: DemoConfig, bank: TileBank) -> None:
    """Before any training, refuse grids that the trained model could not be measured on.

    Raises:
        UserError: a grid cannot be drawn from the tiles or does not fit into the picture.
    """
    vision = config.encoder.vision
    geometry = PictureGeometry(vision.image_size, vision.patch_size * config.mm.pool)
    for name, grid in (("eval", config.eval.grid), ("probe", config.probe.grid)):
        with within(f"{name}.grid."):
            GridDataset(grid, bank, split="test").first()
            geometry.span(*grid.largest_shape, bank.size, grid.picture)


def _is_begun(run: Path, config: Config) -> bool:
    """Whether a run holds a training with this configuration, finished or not."""
    path = run / "config.yaml"
    return path.is_file() and path.read_text("utf-8") == dump(config)


def _results(run: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run / runs.FINISHED).read_text("utf-8"))
    return results
