"""Wishes for a whole demo: grids of another size, another palette, another seed.

Each wish is one option, and becomes values of single fields in every part of the demo, which are
options, too: those win.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gpt2v.config.choice import OneOf
from gpt2v.config.grids import ContentConfig, bounds
from gpt2v.config.models import GPT2ModelConfig
from gpt2v.config.origins import Option
from gpt2v.config.pictures import TilesConfig
from gpt2v.config.scenes import LayoutConfig, SceneConfig
from gpt2v.errors import UserError
from gpt2v.registry import VISION_TOWERS

LARGEST = 8  # rows and columns: an encoder's scenes have at most so many cells along each side
_SEEDS = (
    "encoder.data_seed",
    "encoder.train.seed",
    "lm.data.seed",
    "lm.train.seed",
    "mm.data.seed",
    "mm.train.seed",
    "eval.seed",
    "probe.seed",
)
_Content = Mapping[str, Any]  # of a preset, without defaults
_Size = int | list[int]


@dataclass(frozen=True)
class Wishes:
    """What is the same in every part of a demo; none: as in the preset.

    Attributes:
        rows: number of rows of the grids.
        cols: number of columns of the grids.
        palette: number of different objects that a grid may hold; none: as in the preset, or all
            classes of the tiles if these are fewer.
        seed: of the trainings, of their data, and of the grids that are measured. Drawn tiles have
            their own.
    """

    rows: int | None = None
    cols: int | None = None
    palette: int | None = None
    seed: int | None = None

    def check(self, n_classes: int) -> None:
        """Raise UserError for a wish that tiles of so many classes, or no demo, can fulfil."""
        for name in ("rows", "cols"):
            given = getattr(self, name)
            if given is not None and not 1 <= given <= LARGEST:
                raise UserError(f"{name}: must be a number from 1 to {LARGEST}, not {given}")
        if self.palette is not None and self.palette < 2:
            raise UserError(f"palette: must be 2 objects or more, not {self.palette}")
        if self.palette is not None and self.palette > n_classes:
            raise UserError(
                f"palette: {self.palette} objects, but the tiles have {n_classes} classes"
            )
        if self.seed is not None and self.seed < 0:
            raise UserError(f"seed: must be 0 or more, not {self.seed}")

    def fields(self, content: _Content, n_classes: int, tile_size: int) -> dict[str, Any]:
        """The values of all fields that the wishes decide, by dotted key.

        Grids of the preset's largest size get the wished one; smaller ones, which a training begins
        with, stay as they are if they are not larger than that. Scenes, pictures and positions grow
        with the grids.

        Args:
            content: of a preset or of a demo's config.yaml.
            n_classes: of the tiles that are used.
            tile_size: side of these tiles in pixels.
        """
        grids = dict(_grids(content))
        fields: dict[str, Any] = {}
        was: dict[str, int] = {}
        now: dict[str, int] = {}
        for side in ("rows", "cols"):
            was[side] = max(bounds(_value(grid, side))[1] for grid in grids.values())
            now[side] = getattr(self, side) or was[side]
            for key, grid in grids.items():
                size = _resized(_value(grid, side), was[side], now[side])
                fields[self._key(f"{key}.{side}", side)] = size
        for key, grid in grids.items():
            most = _capped(_value(grid, "palette"), n_classes)
            fields[self._key(f"{key}.palette", "palette")] = self.palette or most
        if self.seed is not None:
            fields |= {self._key(key, "seed"): self.seed for key in _SEEDS}
        fields |= _scenes(content, max(was.values()), max(now.values()))
        before = content["tiles"].get("size", TilesConfig().size)
        growth = Fraction(max(now.values()) * tile_size, max(was.values()) * before)
        fields |= _pictures(content, growth, tile_size)
        growth = Fraction(now["rows"] * now["cols"], was["rows"] * was["cols"])
        fields |= _positions(content, growth)
        return fields

    def _key(self, key: str, wish: str) -> str:
        """The key of a field; messages name the option of the wish that decides it."""
        return key if getattr(self, wish) is None else Option(key, f"--{wish}")


NO_WISHES = Wishes()


def _grids(content: _Content) -> Iterator[tuple[str, _Content]]:
    """Every mapping of grids, with its dotted key."""
    for part in ("lm", "mm"):
        for i, stage in enumerate(content[part]["data"]["stages"]):
            for j, spec in enumerate(stage["mix"]):
                if "corpus" not in spec:
                    yield f"{part}.data.stages.{i}.mix.{j}", spec
    for part in ("eval", "probe"):
        if "grid" in content[part]:
            yield f"{part}.grid", content[part]["grid"]


def _scenes(content: _Content, was: int, now: int) -> dict[str, Any]:
    """Scenes with as many cells along a side as the grids."""
    layouts = content["encoder"].get("scenes", SceneConfig().model_dump())["layouts"]
    return {
        f"encoder.scenes.layouts.{i}.lattice": _resized(
            layout.get("lattice", LayoutConfig().lattice), was, now
        )
        for i, layout in enumerate(layouts)
    }


def _pictures(content: _Content, growth: Fraction, tile_size: int) -> dict[str, Any]:
    """Pictures that grow with the grids and their tiles, in whole patches.

    Windows of a tower are the cells, if these are whole patches, else there are none.
    """
    tower = OneOf(VISION_TOWERS, "clip").validate(content["encoder"].get("vision", {}))
    shape = tower.options
    patches = math.ceil(shape.image_size // shape.patch_size * growth)
    size = patches * shape.patch_size
    fields: dict[str, Any] = {"encoder.vision.image_size": size}
    if getattr(shape, "window", None) is not None:
        fits = tile_size % shape.patch_size == 0 and size % tile_size == 0
        fields["encoder.vision.window"] = tile_size if fits else None
    return fields


def _positions(content: _Content, growth: Fraction) -> dict[str, Any]:
    """More positions of the GPT-2 for more cells."""
    own = GPT2ModelConfig(**content["lm"].get("model", {})).n_positions
    return {"lm.model.n_positions": math.ceil(own * max(growth, Fraction(1)))}


def _value(grid: _Content, name: str) -> _Size:
    value: _Size = grid.get(name, ContentConfig.model_fields[name].default)
    return value


def _resized(size: _Size, was: int, now: int) -> _Size:
    """A size, or a range, whose largest value `was` becomes `now`."""
    if isinstance(size, list):
        return [_one(end, was, now) for end in size]
    return _one(size, was, now)


def _one(size: int, was: int, now: int) -> int:
    return now if size == was else min(size, now)


def _capped(size: _Size, most: int) -> _Size:
    return [min(end, most) for end in size] if isinstance(size, list) else min(size, most)
