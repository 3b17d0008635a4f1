"""The demo's configuration and its presets, which are YAML files."""

from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from gpt2v.config.base import Config
from gpt2v.config.load import merge, read_mapping, read_yaml, validate
from gpt2v.config.measuring import EvalConfig, ProbeConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.config.training import EncoderConfig, LMConfig, MMConfig
from gpt2v.errors import UserError

_FOLDER = resources.files("gpt2v.demo") / "presets"
STAGES = ("encoder", "lm", "mm", "eval", "probe")


class DemoConfig(Config):
    """Every stage of the demo; `tiles` holds for all of them."""

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
            raise ValueError("eval.grid.instructions must be lookup: the probe and ladder are")
        return self


def presets() -> list[str]:
    """Names of the presets."""
    names = [file.name for file in _FOLDER.iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def demo_config(preset: str, overrides: dict[str, Any], out: Path) -> DemoConfig:
    """A preset, or a demo's own config.yaml, with overrides; the stages read each other's runs
    below `out`.

    The probe is tested on the evaluation's grids unless it says otherwise.

    Raises:
        UserError: there is no such preset or file, or something in it is wrong.
    """
    if preset.endswith(".yaml"):  # complete: nothing is filled in but for where its runs are
        data = merge(read_mapping(preset), overrides, preset)
        parts = {"mm.lm": "lm", "mm.encoder": "encoder", "probe.model": "mm"}
        moved = {key: str(out / name) for key, name in parts.items() if key not in overrides}
        return validate(DemoConfig, merge(data, moved, preset), preset)
    if preset not in presets():
        raise UserError(
            f"--preset: {preset}: no such preset; there are {', '.join(presets())}, or a demo's "
            "config.yaml"
        )
    source = f"preset {preset}"
    text = (_FOLDER / f"{preset}.yaml").read_text(encoding="utf-8")
    data = merge(read_yaml(text, source), overrides, source)
    for stage in STAGES:
        if not isinstance(data[stage], dict):
            raise UserError(f"{source}: {stage}: expected keys with values, not {data[stage]!r}")
        if "tiles" in data[stage]:
            raise UserError(f"{source}: {stage}.tiles: set tiles, which every stage shares")
        data[stage]["tiles"] = data["tiles"]
    data["mm"].setdefault("lm", str(out / "lm"))
    data["mm"].setdefault("encoder", str(out / "encoder"))
    data["probe"].setdefault("model", str(out / "mm"))
    if "seed" in data["eval"]:
        data["probe"].setdefault("seed", data["eval"]["seed"])
    if isinstance(shape := data["eval"].get("grid"), dict):
        shown = {key: shape[key] for key in ("rows", "cols", "palette") if key in shape}
        data["probe"].setdefault("grid", shown)
    return validate(DemoConfig, data, source)
