"""The demo: trains an encoder, a GPT-2 and a GPT-2v, then evaluates, probes, climbs the ladder and
writes a report.

Each of these is a sub-run, a run in its own folder. The `results.json` of the demo itself has the
most important numbers.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gpt2v import runs
from gpt2v.ablate.ladder import climb
from gpt2v.config.grids import LadderGridConfig
from gpt2v.config.measuring import LadderConfig
from gpt2v.data.stream import training_hash
from gpt2v.data.tiles.load import load_bank
from gpt2v.demo.check import check_demo
from gpt2v.demo.config import SUB_RUNS, DemoConfig
from gpt2v.encoder_train.train import scenes_hash, settled_encoder, train_encoder
from gpt2v.errors import UserError, within
from gpt2v.eval.evaluate import evaluate, evaluation_data
from gpt2v.eval.series import Part, ScoredModel
from gpt2v.features.sources import picture_source
from gpt2v.hardware.device import hardware_facts
from gpt2v.lm_train.train import settled_lm, train_lm
from gpt2v.mm_train.train import train_mm
from gpt2v.model.load import load_gpt2v, load_model
from gpt2v.probing.probe import probe
from gpt2v.report import write_report
from gpt2v.run_layout import FINISHED, RUNS, has_checkpoint, is_finished, mark
from gpt2v.storage.files import writing
from gpt2v.storage.ownership import owned
from gpt2v.trained.compare import Measured


def run_demo(config: DemoConfig, preset: str, run: Path) -> dict[str, Any]:
    """Run all sub-runs below `run` and return the most important results.

    In a run that is resumed, finished sub-runs are kept, and a training continues from its last
    checkpoint.

    Raises:
        UserError: the run was begun with another configuration or other tiles, or a sub-run fails.
    """
    started = time.monotonic()
    seconds: dict[str, float] = {}

    def sub_run(name: str, work: Callable[[], Any]) -> dict[str, Any]:
        """The content of its results.json; a measurement that was stopped begins again."""
        begin, folder = time.monotonic(), run / name
        if is_finished(folder):
            print(f"== {name}: kept as it is", flush=True)
            seconds[name] = _results(folder)["seconds"]
            return _results(folder)
        print(f"== {name}", flush=True)
        with owned(folder):
            if folder.exists() and not has_checkpoint(folder):
                RUNS.remove(folder)
            with writing(folder):
                folder.mkdir(exist_ok=True)
            work()
        seconds[name] = round(time.monotonic() - begin, 1)
        return _results(folder)

    def training(name: str, hashed: str, work: Callable[..., Any]) -> None:
        done = sub_run(name, lambda: work(run=run / name, bank=bank))
        if done["data_hash"] != hashed:
            what = "tiles or encoder.teacher" if name == "encoder" and encoder.teacher else "tiles"
            raise UserError(f"{run / name}: was trained on other data ({what} have changed)")

    config = settled_demo(config)
    runs.write_config(run, config)
    grid = config.eval.grid
    print(f"== grids: {grid.size}, palettes of {grid.palette} objects", flush=True)
    mark(run, (*SUB_RUNS, "ladder"))
    begin = time.monotonic()
    bank = load_bank(config.tiles)
    assert len(bank.splits["train"].pixels)  # draws them, so that this time is told apart
    seconds["tiles"] = round(time.monotonic() - begin, 1)
    if not all(is_finished(run / name) for name in ("encoder", "lm", "mm")):
        check_demo(config, ladder_config(config), bank, run)
    encoder, lm, mm = config.encoder, config.lm, config.mm
    training("encoder", scenes_hash(encoder, bank), partial(train_encoder, encoder))
    training("lm", training_hash(lm.data, bank), partial(train_lm, lm))
    training("mm", training_hash(mm.data, bank), partial(train_mm, mm))

    loaded, model = load_gpt2v(str(run / "mm"))
    before = load_model(str(run / "lm"))
    data = evaluation_data(config.eval, bank)
    picture = picture_source(model, [data], config.eval.features)
    models = [
        ScoredModel(
            "gpt2v",
            loaded.scorer(bank, picture),
            ["text", "image"],
            loaded.identity,
            loaded.geometry,
        ),
        ScoredModel("lm", before.scorer(bank), ["text"], before.identity),
    ]
    comparison = loaded.compared(
        Measured(bank, [(data, ["text", "image"])]),
        config.eval.allow,
    )
    measured = sub_run(
        "eval", lambda: evaluate(models, [Part(data)], config.eval, run / "eval", comparison)
    )
    probed = sub_run("probe", lambda: probe(loaded, bank, config.probe, run / "probe", comparison))
    sub_run(
        "ladder", lambda: climb(loaded, data, ladder_config(config), run / "ladder", comparison)
    )

    rows = {(row["model"], row["modality"]): row for row in measured["results"]}
    text, image = rows["gpt2v", "text"], rows["gpt2v", "image"]
    everywhere = probed["results"][0]
    seconds["total"] = round(sum(seconds.values()), 1)
    results = {
        "hardware": hardware_facts(),
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


def keep_demo(config: DemoConfig, run: Path) -> None:
    """Check that a finished demo has this configuration, and write its report if it lacks it.

    Raises:
        UserError: it has another one.
    """
    runs.write_config(run, settled_demo(config))
    if not (run / "report" / "index.html").is_file():  # stopped before its last step
        write_report(run)


def settled_demo(config: DemoConfig) -> DemoConfig:
    """The configuration with what `encoder.teacher` and `lm.init` decide; its sub-runs are not
    there yet.

    Raises:
        UserError: `encoder.teacher` is no encoder, `lm.init` is no GPT-2, or the configuration has
            other values.
    """
    with within("encoder."):
        encoder = settled_encoder(config.encoder)
    with within("lm."):
        return config.model_copy(update={"encoder": encoder, "lm": settled_lm(config.lm)})


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


def _results(run: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run / FINISHED).read_text("utf-8"))
    return results
