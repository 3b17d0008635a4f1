"""What a measurement is not told, it takes from the run of the model: tiles and grids.

The grids are those of the last stage that has grids: sizes, palette and questions of the first data
spec there, the text form of the first that is shown as text, the pictures of the first that is
shown as pictures. A model without a run is measured with the defaults of the configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gpt2v.config.base import Config
from gpt2v.config.data import DataConfig
from gpt2v.config.effect import EffectConfig
from gpt2v.config.grids import GridConfig, ProbeGridConfig, ViewConfig
from gpt2v.config.load import read_mapping, validate
from gpt2v.config.pictures import PictureConfig, TilesConfig
from gpt2v.errors import UserError, within
from gpt2v.run_layout import CHECKPOINTS, CONFIG
from gpt2v.runs import restored

if TYPE_CHECKING:
    from gpt2v.data.tiles.bank import TileBank

C = TypeVar("C", bound=EffectConfig)

# Where tiles of one source come from.
_FILES = ("path", "per_class", "test_per_class", "seed", "decode", "corrupt")
_ALWAYS_SAID = ("source", "path", "size", "rows", "cols", "palette")


@dataclass(frozen=True)
class Training:
    """What the configuration of a training says about its data.

    Attributes:
        run: the run directory.
        tiles: its tiles.
        stages: the data specs of grids in each stage; an encoder has no stages.
        scenes: whether it trains an encoder, on scenes.
    """

    run: Path
    tiles: TilesConfig
    stages: list[list[GridConfig]]
    scenes: bool

    @property
    def grids(self) -> list[GridConfig]:
        """The data specs of grids in all stages."""
        return [spec for stage in self.stages for spec in stage]

    @property
    def last(self) -> list[GridConfig]:
        """The grids of the last stage that has some; empty: no stage has."""
        return last_grids(self.stages)


def grids_of(data: DataConfig) -> list[list[GridConfig]]:
    """The data specs of grids in each stage."""
    return [[spec for spec in stage.mix if isinstance(spec, GridConfig)] for stage in data.stages]


def last_grids(stages: list[list[GridConfig]]) -> list[GridConfig]:
    """The grids of the last stage that has some; empty: no stage has."""
    return next((stage for stage in reversed(stages) if stage), [])


def training_of(model: str) -> Training | None:
    """The training of a model.

    Args:
        model: a run, a checkpoint or a hub id.

    Returns:
        None: the model is neither a run nor in one.

    Raises:
        UserError: the run's configuration cannot be read.
    """
    run = _run_of(model)
    if run is None:
        return None
    file = str(run / CONFIG)
    values = read_mapping(file)
    tiles = validate(TilesConfig, values.get("tiles") or {}, f"{file}: tiles")
    stages: list[list[GridConfig]] = []
    if "data" in values:
        stages = grids_of(validate(DataConfig, values["data"], f"{file}: data"))
    return Training(run, tiles, stages, "scenes" in values)


def _run_of(model: str) -> Path | None:
    path = restored(Path(model))
    if (path / CONFIG).is_file() and (path / CHECKPOINTS).is_dir():
        return path
    folder = path.resolve().parent  # of a checkpoint: RUN/checkpoints
    inside = path.is_dir() and folder.name == CHECKPOINTS and (folder.parent / CONFIG).is_file()
    return folder.parent if inside else None


@dataclass(frozen=True)
class Filled(Generic[C]):
    """A complete configuration of a measurement.

    Attributes:
        config: with `tiles`.
        run: the run from which the rest was taken; None: nothing was taken.
        taken: key -> what a user should know of it.
        differs: whether the default of something that was taken is another.
    """

    config: C
    run: Path | None = None
    taken: Mapping[str, Any] = field(default_factory=dict)
    differs: bool = False

    @property
    def said(self) -> str:
        """What was taken, in one line; empty: nothing that differs from the defaults."""
        what = ", ".join(f"{key} {value}" for key, value in self.taken.items())
        return f"{self.run}: measured as trained: {what}" if self.differs else ""

    @property
    def origin_of_tiles(self) -> str:
        """Before messages about the path of the tiles: where it was taken from, or empty."""
        return f"{self.run / CONFIG}: " if self.run and "tiles.path" in self.taken else ""

    def bank(self, tiles: TilesConfig) -> "TileBank":
        """The tiles of the configuration.

        Raises:
            UserError: they cannot be loaded; names the run if its path was taken.
        """
        from gpt2v.data.tiles.load import load_bank  # every command reads this file

        with within(self.origin_of_tiles):
            return load_bank(tiles)


def as_trained(config: C, model: str) -> Filled[C]:
    """Fill what is not given in a measurement's configuration from the run of its model.

    Args:
        config: with `tiles` and perhaps `grid`; what was given in it stays.
        model: a run, a checkpoint or a hub id.

    Raises:
        UserError: the run's configuration is needed, but cannot be read; or what was given does
            not fit it.
    """
    names = [name for name in ("tiles", "grid") if name in type(config).model_fields]
    if all(name in config.model_fields_set and _complete(getattr(config, name)) for name in names):
        _check_whole(config)
        return Filled(config)
    try:
        training = training_of(model)
    except UserError as error:
        raise UserError(f"{error}; set all of {' and '.join(names)}") from None
    if training is None:
        _check_whole(config)
        return Filled(config)
    values = config.model_dump(exclude_unset=True)
    taken: dict[str, Any] = {}
    for name in names:
        given = getattr(config, name)
        if name == "grid" and not training.last:
            continue
        base = _tiles(training, given) if name == "tiles" else grid_as_trained(training.last, given)
        values[name] = filled(given, base, f"{name}.", taken)
    for key in config.without_effect:
        _leave_out(values, key)
        taken = {name: taken[name] for name in taken if not f"{name}.".startswith(f"{key}.")}
    whole = validate(type(config), values, f"{training.run / CONFIG}, as trained")
    return Filled(whole, training.run, taken, whole != config)


def _check_whole(config: Config) -> None:
    """Check a configuration in which what is not given has its default.

    Raises:
        UserError: its values do not fit together.
    """
    validate(type(config), config.model_dump(exclude_unset=True), "")


def _complete(given: Config) -> bool:
    """Whether every field was given, at any depth."""
    names = set(type(given).model_fields)
    values = (getattr(given, name) for name in names)
    return given.model_fields_set == names and all(
        _complete(value) for value in values if isinstance(value, Config)
    )


def _tiles(training: Training, given: TilesConfig) -> TilesConfig:
    """The tiles of a training; if another source was given, only how its tiles are shown."""
    if "source" in given.model_fields_set and given.source != training.tiles.source:
        fresh = {name: TilesConfig.model_fields[name].get_default() for name in _FILES}
        return training.tiles.model_copy(update={**fresh, "source": given.source})
    return training.tiles


def grid_as_trained(specs: list[GridConfig], given: Config) -> Config:
    """The grids of a stage, as a configuration of the class of `given`; see above.

    A probe needs one size, so it gets the largest one. If another text form, layout or scale is
    given, what belongs to that of the training is left out.
    """
    kind = type(given)
    content = specs[0].largest if issubclass(kind, ProbeGridConfig) else specs[0]
    words = next((spec for spec in specs if spec.modality != "image"), GridConfig())
    shown = next((spec for spec in specs if spec.modality != "text"), content)
    values = {name: getattr(content, name) for name in kind.model_fields}
    for spec, names in ((words, ("form", "patches", "noise")), (shown, ("picture",))):
        values |= {name: getattr(spec, name) for name in names if name in kind.model_fields}
    if "form" in given.model_fields_set and given.form != words.form:  # type: ignore[attr-defined]
        fresh = ViewConfig()
        values |= {"patches": fresh.patches, "noise": fresh.noise}
        values["augment"] = content.augment.model_copy(update={"delimiters": ["|"]})
    own = getattr(given, "picture", PictureConfig())
    if "layout" in own.model_fields_set and own.layout == "multi":
        values["picture"] = values["picture"].model_copy(update={"gap": 0})
    if "scale" in own.model_fields_set and own.scale[0] == 1:
        values["picture"] = values["picture"].model_copy(update={"jitter": 0})
    return kind.model_construct(**values)


def _leave_out(values: dict[str, Any], key: str) -> None:
    """Remove a dotted key from nested mappings, if it is there."""
    *above, name = key.split(".")
    for part in above:
        values = values.get(part, {})
    values.pop(name, None)


def filled(given: Config, base: Config, key: str, taken: dict[str, Any]) -> dict[str, Any]:
    """The values of `base`, replaced by what was given.

    Args:
        taken: gets what a user should know, by key: the most important values of `base`, and those
            that differ from their defaults.
    """
    values: dict[str, Any] = {}
    for name, entry in type(given).model_fields.items():
        own, other = getattr(given, name), getattr(base, name)
        is_given = name in given.model_fields_set
        if isinstance(other, Config):
            inner = own if is_given else type(own)()
            values[name] = filled(inner, other, f"{key}{name}.", taken)
            continue
        values[name] = own if is_given else other
        said = name in _ALWAYS_SAID or other != entry.get_default()
        if said and not is_given and other is not None:
            taken[key + name] = _said(other)
    return values


def _said(value: Any) -> Any:
    """A value in one line, as a user writes it."""
    return list(map(str, value)) if isinstance(value, dict) else value
