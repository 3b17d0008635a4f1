"""Training data: plain text, data specs, and curricula of grids and text."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag

from gpt2v.config.base import MOST, Config
from gpt2v.config.effect import refuse_unused
from gpt2v.config.grids import GridConfig
from gpt2v.config.pictures import refuse_gap


class CorpusConfig(Config):
    """Plain text: documents are joined end to end and cut into windows, without padding."""

    corpus: str = Field(
        description="text to read: a .txt or .jsonl file (also with .gz, .bz2 or .xz), a .parquet "
        "file, a folder of such files (those of its training split), the hub id of a data set, or "
        "a folder written by `data tokenize`"
    )
    valid: str | None = Field(
        None,
        description="text for validation, given like corpus; none: files of the corpus that are "
        "named for validation, or else 1% of its documents",
    )
    field: str = Field("text", description="jsonl, parquet, hub: column with the text")
    separator: Literal["endoftext", "blank-lines"] = Field(
        "endoftext",
        description=".txt: what separates documents: <|endoftext|>, or also blank lines",
    )
    clean: bool = Field(
        True, description="normalise the text and drop broken and repeated documents"
    )
    context: int = Field(256, ge=2, le=1_000_000, description="length of a window in tokens")
    windows: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="number of windows per step; none: data.batch_size",
    )
    weight: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="relative chance that a step uses this data spec",
    )

    @property
    def text(self) -> Self:
        """This spec with default `weight` and `windows`: equal for specs that read the same text in
        the same way.
        """
        return self.model_copy(update={"weight": 1.0, "windows": None})

    @property
    def shown_as(self) -> str:
        """The text as logs name it, e.g. `text/train.txt`."""
        return f"text/{PurePath(self.corpus).name}"

    @property
    def label(self) -> str:
        """A short name for logs, e.g. `text/train.txt 256`."""
        return f"{self.shown_as} {self.context}"


def _kind_of_spec(spec: Any) -> str:
    is_corpus = "corpus" in spec if isinstance(spec, dict) else isinstance(spec, CorpusConfig)
    return "<corpus>" if is_corpus else "<grid>"


DataSpec = Annotated[
    Annotated[GridConfig, Tag("<grid>")] | Annotated[CorpusConfig, Tag("<corpus>")],
    Discriminator(_kind_of_spec),
]


class StageConfig(Config):
    """One stage of a training: a number of steps on a mixture of data specs."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "groups": "set train.stage_groups, by the stage's name or number"
    }
    unhashed: ClassVar[tuple[str, ...]] = ("name",)

    name: str | None = Field(
        None, min_length=1, description="name in logs; none: the number of the stage, from 0"
    )
    steps: int = Field(ge=1, le=MOST, description="number of training steps in this stage")
    mix: list[DataSpec] = Field(
        min_length=1, description="data specs; each step uses one at random"
    )


class DataConfig(Config):
    """Training data: stages, each with a mixture of grids and plain text."""

    seed: int = Field(0, ge=0, description="seed of the training data")
    batch_size: int = Field(
        32, ge=1, le=1_000_000, description="number of grids, or windows of text, per step"
    )
    stages: list[StageConfig] = Field(min_length=1, description="stages of the training, in order")

    @property
    def stage_names(self) -> list[str]:
        """The name of each stage, or its number if it has no name."""
        return [stage.name or str(i) for i, stage in enumerate(self.stages)]

    @property
    def corpora(self) -> list[CorpusConfig]:
        """The different texts of all stages, ignoring `weight` and `windows`."""
        texts = [spec.text for _, spec in self.specs if isinstance(spec, CorpusConfig)]
        return list(dict.fromkeys(texts))

    @property
    def specs(self) -> list[tuple[str, DataSpec]]:
        """Every data spec, each after its key, e.g. `data.stages.0.mix.0.`."""
        return [
            (f"data.stages.{i}.mix.{j}.", spec)
            for i, stage in enumerate(self.stages)
            for j, spec in enumerate(stage.mix)
        ]

    @property
    def has_pictures(self) -> bool:
        """Whether any stage shows grids as pictures."""
        return any(spec.modality != "text" for spec in self.grids)

    @property
    def grids(self) -> list[GridConfig]:
        """The data specs of grids."""
        return [spec for _, spec in self.specs if isinstance(spec, GridConfig)]

    @property
    def has_grids(self) -> bool:
        """Whether any stage has grids."""
        return bool(self.grids)

    def check_views(self, hides_text: bool) -> None:
        """Refuse what says how a grid is shown in a modality that it is not shown in.

        Args:
            hides_text: whether a picture has no place for the text form of its grid.

        Raises:
            ValueError: names the key.
        """
        for key, spec in self.specs:
            if not isinstance(spec, GridConfig):
                continue
            refuse_gap(spec.picture, f"{key}picture")
            if spec.modality == "text":
                refuse_unused(spec, ("picture",), "modality: text shows no picture", key)
            if spec.modality == "image" and hides_text:
                refuse_unused(spec, ("form",), "modality: image shows no text", key)
