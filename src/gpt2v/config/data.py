"""Training data: plain text, and curricula over grids and text."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Self

from pydantic import Discriminator, Field, Tag

from gpt2v.config.base import Config
from gpt2v.config.grids import GridConfig


class CorpusConfig(Config):
    """Plain text: documents joined end to end and cut into windows, without padding."""

    corpus: str = Field(
        description="a .txt, .jsonl or .parquet file, a folder of such, a hub data set, or a "
        "folder made by `data tokenize`"
    )
    valid: str | None = Field(
        None, description="the same for validation; none: a hundredth of the documents"
    )
    field: str = Field("text", description="jsonl, parquet, hub: the column that holds the text")
    clean: bool = Field(True, description="normalise, drop broken and repeated documents")
    context: int = Field(256, ge=2, description="tokens in a window")
    windows: int | None = Field(None, ge=1, description="windows per step; none: data.batch_size")
    weight: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="share of this spec among its stage's specs"
    )

    @property
    def text(self) -> Self:
        """What is read, without how often: equal for specs that share their tokens and windows."""
        return self.model_copy(update={"weight": 1.0, "windows": None})

    @property
    def shown_as(self) -> str:
        """What is read, e.g. `text/train.txt`."""
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
    """Some steps of training on a mixture of data specs; stages in a row make a curriculum."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "groups": "set train.stage_groups, by the stage's name or number"
    }
    unhashed: ClassVar[tuple[str, ...]] = ("name",)

    name: str | None = Field(None, min_length=1, description="in logs; none: its number")
    steps: int = Field(ge=1, description="training steps in this stage")
    mix: list[DataSpec] = Field(min_length=1, description="data specs; each step draws one")


class DataConfig(Config):
    """Training data: a curriculum over data specs, grids and plain text."""

    seed: int = Field(0, ge=0, description="data set seed")
    batch_size: int = Field(32, ge=1, description="grids (or windows of text) per step")
    stages: list[StageConfig] = Field(min_length=1, description="the curriculum, in order")

    @property
    def stage_names(self) -> list[str]:
        """What the stages are called: by their names, or their numbers."""
        return [stage.name or str(i) for i, stage in enumerate(self.stages)]

    @property
    def corpora(self) -> list[CorpusConfig]:
        """The different texts of all stages, whatever their shares."""
        texts = [spec.text for _, spec in self.specs if isinstance(spec, CorpusConfig)]
        return list(dict.fromkeys(texts))

    @property
    def specs(self) -> list[tuple[str, DataSpec]]:
        """Every spec of every stage, after the key that leads to it."""
        return [
            (f"data.stages.{i}.mix.{j}.", spec)
            for i, stage in enumerate(self.stages)
            for j, spec in enumerate(stage.mix)
        ]

    @property
    def has_pictures(self) -> bool:
        """Whether any stage has grids that are shown as pictures."""
        grids = [spec for _, spec in self.specs if isinstance(spec, GridConfig)]
        return any(spec.modality != "text" for spec in grids)

    @property
    def has_grids(self) -> bool:
        """Whether any stage has grids."""
        return any(isinstance(spec, GridConfig) for _, spec in self.specs)
