"""Configurations of language-only tasks: plain text, minimal pairs, lm-evaluation-harness."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from gpt2v.config.effect import EffectConfig
from gpt2v.registry import PHENOMENA

_GRIDS = ("suite", "tiles", "grid", "modalities", "mode", "metrics", "n_images", "parts", "allow")
_MEASURES = ("corpus", "pairs", "lm_eval")
_BATCH_TOKENS = Field(
    8192,
    ge=1,
    le=10**9,
    description="number of tokens that are read together; less needs less memory",
)
_LIMIT = "that are measured, from the first; none: all"


def families() -> list[str]:
    """The families of phenomena, in the order of their registration."""
    return list(dict.fromkeys(entry.load().family for entry in PHENOMENA.values()))


def _each_once(names: list[str]) -> list[str]:
    if len({*names}) < len(names):
        raise ValueError("must name each once")
    return names


def _known(names: list[str]) -> list[str]:
    known = ["all", *families(), *PHENOMENA]
    for name in names:
        if name not in known:
            raise ValueError(
                f"no such phenomenon or family: '{name}'; choose from {', '.join(known)}"
            )
    return names


class LanguageConfig(EffectConfig):
    """A measurement of language without grids; one of its classes is chosen by its key."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(_GRIDS, "a measurement of language has no grids"),
        **dict.fromkeys(_MEASURES, "each of corpus, pairs and lm_eval is a measurement of its own"),
    }

    @property
    def of(self) -> str:
        """What is measured, as the name of the run has it."""
        raise NotImplementedError


class CorpusEvalConfig(LanguageConfig):
    """Loss, perplexity and bits per byte of plain text."""

    changeable: ClassVar[tuple[str, ...]] = ("batch_tokens",)

    corpus: str = Field(
        description="text to measure: a .txt or .jsonl file (also with .gz, .bz2 or .xz), a "
        ".parquet file, a folder of such files, or the hub id of a data set"
    )
    split: Literal["train", "val", "test"] = Field(
        "val", description="the split of a folder or of a hub data set"
    )
    field: str = Field("text", description="jsonl, parquet, hub: column with the text")
    separator: Literal["endoftext", "blank-lines"] = Field(
        "endoftext",
        description=".txt: what separates documents: <|endoftext|>, or also blank lines",
    )
    clean: bool = Field(
        True, description="normalise the text and drop broken and repeated documents"
    )
    limit: int | None = Field(None, ge=2, description=f"number of documents {_LIMIT}")
    stride: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="number of tokens that each further window of a long document predicts, after "
        "as many as there is room for; none: as many as the model reads",
    )
    batch_tokens: int = _BATCH_TOKENS

    @property
    def of(self) -> str:
        return PurePath(self.corpus).name


class PairsEvalConfig(LanguageConfig):
    """Minimal pairs: a good sentence, and one that a single word makes bad."""

    pairs: Annotated[list[str], AfterValidator(_each_once), AfterValidator(_known)] = Field(
        min_length=1,
        description="phenomena, or families of them (agreement, reference, story), or all",
    )
    n_pairs: int = Field(
        200, ge=2, le=100_000, multiple_of=2, description="even number of pairs of each phenomenon"
    )
    seed: int = Field(1, ge=0, description="seed of the pairs")
    batch_tokens: int = _BATCH_TOKENS

    @property
    def of(self) -> str:
        return "pairs"

    @property
    def phenomena(self) -> list[str]:
        """The names of the phenomena, in the order of the registry."""
        return [
            name
            for name, entry in PHENOMENA.items()
            if {"all", name, entry.load().family} & {*self.pairs}
        ]


class HarnessConfig(LanguageConfig):
    """Tasks of lm-evaluation-harness."""

    lm_eval: Annotated[list[str], AfterValidator(_each_once)] = Field(
        min_length=1, description="names of tasks, or of groups of tasks"
    )
    include_path: str | None = Field(None, description="folder with task files of your own")
    num_fewshot: int | None = Field(
        None, ge=0, le=1000, description="examples before each question; none: as the task says"
    )
    limit: int | None = Field(None, ge=2, description=f"number of questions of each task {_LIMIT}")
    batch_size: int = Field(8, ge=1, le=100_000, description="number of texts read together")

    @property
    def of(self) -> str:
        return "lm-eval"


KINDS: dict[str, type[LanguageConfig]] = dict(
    zip(_MEASURES, (CorpusEvalConfig, PairsEvalConfig, HarnessConfig), strict=True)
)


def language_kind(keys: Iterable[str]) -> type[LanguageConfig] | None:
    """The class of the measurement that top-level keys name; None: they name no such one."""
    given = set(keys)
    return next((kind for key, kind in KINDS.items() if key in given), None)
