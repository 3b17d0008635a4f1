"""The configuration of the demo, and its presets, which are the YAML files in `presets`."""

from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import model_validator

from gpt2v.config.base import Config
from gpt2v.config.grids import bounds
from gpt2v.config.load import merge, read_mapping, validate
from gpt2v.config.measuring import EvalConfig, ProbeConfig
from gpt2v.config.models import VisionConfig
from gpt2v.config.pictures import SPRITES_ONLY, TilesConfig
from gpt2v.config.training import EncoderConfig, LMConfig, MMConfig
from gpt2v.config.yaml12 import read_yaml
from gpt2v.errors import UserError
from gpt2v.messages import shown
from gpt2v.trained.defaults import filled, grid_as_trained, grids_of, last_grids

_FOLDER = resources.files("gpt2v.demo") / "presets"
SUB_RUNS = ("encoder", "lm", "mm", "eval", "probe")  # those with a configuration


class DemoConfig(Config):
    """The configurations of all sub-runs. They share `tiles`, in the evaluation not augmented."""

    only_default: ClassVar[tuple[str, ...]] = (
        "eval.grid.form",
        "eval.grid.noise",
        "eval.grid.patches",
        "eval.grid.augment.position_offset",
        "eval.tiles.augment",
    )

    tiles: TilesConfig
    encoder: EncoderConfig
    lm: LMConfig
    mm: MMConfig
    eval: EvalConfig
    probe: ProbeConfig

    @model_validator(mode="after")
    def _compares_text_with_pictures(self) -> Self:
        if set(self.eval.modalities) != {"text", "image"}:
            raise ValueError("eval.modalities must be [text, image]: the demo compares them")
        if self.eval.grid.form != "markdown":
            raise ValueError("eval.grid.form must be markdown: the ladder starts from the table")
        if list(self.eval.grid.instructions) != ["lookup"]:
            raise ValueError("eval.grid.instructions must be lookup: it is compared with the probe")
        if self.eval.split == "train":
            raise ValueError("eval.split must be test or val: the demo measures new grids")
        return self

    @model_validator(mode="after")
    def _one_vision_tower(self) -> Self:
        """The shape of the encoder's tower is told once; its training takes minutes."""
        if self.mm.encoder is not None and self.mm.vision not in (
            self.encoder.vision,
            VisionConfig(),
        ):
            raise ValueError("mm.vision: has no effect: set encoder.vision")
        return self


def presets() -> list[str]:
    """The names of the presets."""
    names = [file.name for file in _FOLDER.iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def demo_config(preset: str, overrides: dict[str, Any], out: Path) -> DemoConfig:
    """A preset, or the config.yaml of a demo, with overrides.

    Unless the preset or the overrides say otherwise, the sub-runs read each other's models below
    `out`, the GPT-2v is measured on grids as in the last stage of its training, and the probe is
    tested on the grids of the evaluation.

    Raises:
        UserError: no such preset or file, or a value is wrong.
    """
    if preset.endswith(".yaml"):  # complete, only the paths of the models change
        data = merge(read_mapping(preset), overrides, preset)
        models = {"mm.lm": "lm", "mm.encoder": "encoder", "probe.model": "mm"}
        moved = {key: str(out / name) for key, name in models.items() if key not in overrides}
        whole = merge(data, moved, preset)
        return validate(DemoConfig, whole, preset, overrides=overrides)
    if preset not in presets():
        raise UserError(
            f"--preset: {preset}: no such preset; choose from {', '.join(presets())}, or give a "
            "demo's config.yaml"
        )
    origin = f"preset {preset}"
    text = (_FOLDER / f"{preset}.yaml").read_text(encoding="utf-8")
    content = read_yaml(text, origin)
    if overrides.get("tiles.source", "sprites") != "sprites":
        for name in SPRITES_ONLY:  # of the preset's own sprites
            content["tiles"].pop(name, None)
    data = merge(content, overrides, origin)
    for name in ("tiles", *SUB_RUNS):
        if not isinstance(data[name], dict):
            raise UserError(f"{origin}: {name}: expected keys with values, not {shown(data[name])}")
    for name in SUB_RUNS:
        if "tiles" in data[name]:
            raise UserError(f"{origin}: {name}.tiles: set tiles, which all sub-runs share")
        data[name]["tiles"] = data["tiles"]
    data["eval"]["tiles"] = {key: value for key, value in data["tiles"].items() if key != "augment"}
    data["mm"].setdefault("lm", str(out / "lm"))
    data["mm"].setdefault("encoder", str(out / "encoder"))
    data["probe"].setdefault("model", str(out / "mm"))
    if "seed" in data["eval"]:
        data["probe"].setdefault("seed", data["eval"]["seed"])
    given = validate(DemoConfig, data, origin, overrides=overrides)
    if specs := last_grids(grids_of(given.mm.data)):
        trained = grid_as_trained(specs, given.eval.grid)
        data["eval"]["grid"] = filled(given.eval.grid, trained, "", {})
        largest = {key: bounds(data["eval"]["grid"][key])[1] for key in ("rows", "cols", "palette")}
        data["probe"].setdefault("grid", largest)
    return validate(DemoConfig, data, origin, overrides=overrides)
