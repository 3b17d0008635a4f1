"""The configuration of the demo, and its presets, which are the YAML files in `presets`."""

from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import model_validator

from gpt2v.config.base import Config
from gpt2v.config.effect import has_default, refuse_unused
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.grids import bounds
from gpt2v.config.load import merge, read_mapping, validate
from gpt2v.config.measuring import EvalConfig
from gpt2v.config.origins import told
from gpt2v.config.pictures import DRAWN, DRAWN_ONLY, TilesConfig
from gpt2v.config.probing import ProbeConfig
from gpt2v.config.training import LMConfig, MMConfig
from gpt2v.config.yaml12 import read_yaml
from gpt2v.demo.tiles import tiles_of
from gpt2v.demo.wishes import NO_WISHES, Wishes
from gpt2v.errors import UserError
from gpt2v.messages import shown
from gpt2v.trained.defaults import filled, grid_as_trained, grids_of, last_grids

_OWN_TILES = {"flip": True, "crop": 0.15, "jitter": 0.3}  # few pictures, so they vary in training
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
        "eval.mode",
        "eval.hf",
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
        if self.eval.mode != "independent":
            raise ValueError("eval.mode must be independent: the probe reads each cell by itself")
        refuse_unused(self.eval, ("hf",), "the demo measures its own models", "eval.")
        return self

    @model_validator(mode="after")
    def _one_vision_tower(self) -> Self:
        """The encoder's tower and its shape are told once; its training takes minutes."""
        same = self.mm.vision == self.encoder.vision or has_default(self.mm, "vision")
        if self.mm.encoder is not None and not same:
            raise ValueError("mm.vision: has no effect: set encoder.vision")
        return self


def presets() -> list[str]:
    """The names of the presets."""
    names = [file.name for file in _FOLDER.iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def demo_config(
    preset: str, overrides: dict[str, Any], out: Path, wishes: Wishes = NO_WISHES
) -> DemoConfig:
    """A preset, or the config.yaml of a demo, with wishes and overrides.

    Unless the preset, the wishes or the overrides say otherwise, the sub-runs read each other's
    models below `out`, the GPT-2v is measured on grids as in the last stage of its training, and
    the probe is tested on the grids of the evaluation.

    Args:
        overrides: values for dotted keys; they win over the wishes.

    Raises:
        UserError: no such preset or file, or a value is wrong.
    """
    if preset.endswith(".yaml"):  # complete, only the paths of the models change
        content = read_mapping(preset)
        if wishes != NO_WISHES:
            validate(DemoConfig, content, preset)
            overrides = _with_wishes(content, wishes, overrides, preset)
        models = {"mm.lm": "lm", "mm.encoder": "encoder", "probe.model": "mm"}
        moved = {key: str(out / name) for key, name in models.items() if key not in overrides}
        whole = merge(merge(content, overrides, preset), moved, preset)
        return validate(DemoConfig, whole, preset, overrides=overrides)
    origin = f"preset {preset}"
    content = _preset(preset)
    if (
        overrides.get("tiles.source", "sprites") not in DRAWN
        and content["tiles"]["source"] == "sprites"
    ):
        for name in DRAWN_ONLY:
            content["tiles"].pop(name, None)
        content["tiles"]["augment"] = dict(_OWN_TILES)
    overrides = _with_wishes(content, wishes, overrides, origin)
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


def _preset(name: str) -> dict[str, Any]:
    """The content of a preset. Raises UserError if there is none with this name."""
    if name not in presets():
        raise UserError(
            f"--preset: {name}: no such preset; choose from {', '.join(presets())}, or give a "
            "demo's config.yaml"
        )
    text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = read_yaml(text, f"preset {name}")
    return content


def _with_wishes(
    content: dict[str, Any], wishes: Wishes, overrides: dict[str, Any], origin: str
) -> dict[str, Any]:
    """The overrides, and before them the fields that the wishes decide and no override does.

    Raises:
        UserError: there are no such tiles, or a wish cannot be fulfilled with them.
    """
    from gpt2v.data.tiles.load import n_classes_of  # imports NumPy

    tiles = tiles_of(content, overrides, origin)
    with told(origin, overrides):
        n_classes = n_classes_of(tiles)
    wishes.check(n_classes)
    fields = wishes.fields(content, n_classes, tiles.size)
    given = tuple(f"{key}." for key in overrides)
    return {k: v for k, v in fields.items() if not f"{k}.".startswith(given)} | overrides
