"""The demo's configuration and its presets, which are the YAML files of this folder."""

from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from gpt2v.config import Config, TilesConfig
from gpt2v.configfile import merge, read_yaml, validate
from gpt2v.errors import UserError
from gpt2v.experiments import EncoderConfig, LMConfig, MMConfig
from gpt2v.measurements import EvalConfig, ProbeConfig

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
    names = [file.name for file in resources.files(__name__).iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def demo_config(preset: str, overrides: dict[str, Any], out: Path) -> DemoConfig:
    """A preset with overrides; the stages read each other's runs below `out`.

    The probe is tested on the evaluation's grids unless it says otherwise.
    """
    if preset not in presets():
        raise UserError(f"--preset: {preset}: no such preset; there are {', '.join(presets())}")
    source = f"preset {preset}"
    text = (resources.files(__name__) / f"{preset}.yaml").read_text(encoding="utf-8")
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
        data["probe"].setdefault("grid", {**shown, "modality": "image"})
    return validate(DemoConfig, data, source)
