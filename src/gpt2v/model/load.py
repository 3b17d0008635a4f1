"""Load a trained model with its tokenizer from a run, a checkpoint or a hub id."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.text_pieces import IMAGE, PieceTable, n_ids
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError
from gpt2v.hardware.device import place
from gpt2v.model.files import load_gpt2, load_pretrained
from gpt2v.model.found import (
    LLAVA,
    check_is_gpt2v,
    check_run_imports,
    find_checkpoint,
    is_gpt2v,
    read_config,
)
from gpt2v.model.from_llava import load_llava
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.identity import Traceable
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import PackedScorer
from gpt2v.model.vision_tokens import ProjectedPatches, token_source
from gpt2v.trained.compare import Comparison, Measured, compare


@dataclass(frozen=True)
class LoadedModel(Traceable):
    """A GPT-2, or a GPT-2v, with its tokenizer."""

    lm: GPT2LMHeadModel
    gpt2v: GPT2vModel | None  # the GPT-2v that contains `lm`; None for a GPT-2 alone
    tokenizer: Tokenizer
    path: str  # a checkpoint directory or a hub id
    name: str = ""  # a run, a checkpoint or a hub id, as the user named it
    key: str = "model"  # name of the setting that it came from, for messages

    def compared(self, measured: Measured, allow: Sequence[str], taken: str = "") -> Comparison:
        """What is measured, compared with the training; the results also tell the `identity`.

        Args:
            measured, allow, taken: see `trained.compare.compare`.

        Raises:
            UserError: see there.
        """
        found = compare(self.name, self.trained_on, measured, allow, taken)
        return replace(found, results={"checkpoint": self.identity, **found.results})

    @property
    def geometry(self) -> PictureGeometry | None:
        """Of the pictures that its vision tower takes; None: it reads no patches of pictures."""
        if self.gpt2v is None or self.gpt2v.config.vision_tokens != "patches":
            return None
        return self.gpt2v.geometry

    @cached_property
    def table(self) -> PieceTable:
        """A table of text pieces with its tokenizer's token ids.

        Raises:
            UserError: `<image>` is another token than the GPT-2v's.
        """
        table = PieceTable(self.tokenizer, f"{self.key}: {self.path}")
        if self.gpt2v is not None and table.image_id != self.gpt2v.config.image_token_id:
            raise UserError(
                f"{table.where}: tokenizer.json: {IMAGE} is token {table.image_id}, but the "
                f"model's image_token_id is {self.gpt2v.config.image_token_id}"
            )
        return table

    def renderer(self, bank: TileBank) -> Renderer:
        """A renderer of grids from a tile bank, for this model."""
        return Renderer(bank, self.table, self.gpt2v and self.gpt2v.token_geometry)

    def scorer(self, bank: TileBank, patches: ProjectedPatches | None = None) -> PackedScorer:
        """A scorer for questions about grids from a tile bank; it uses the model's token source.

        Args:
            patches: the token source for pictures, which may read cached features; None: the
                vision tower runs on each picture.
        """
        render = self.renderer(bank)
        if self.gpt2v is None:
            return PackedScorer(Reader(self.lm, self.table.image_id), render)
        source = token_source(self.gpt2v, render)
        layouts = {"image": source.layout}
        if type(source) is ProjectedPatches:
            source = patches or source
        return PackedScorer(Reader(self.lm, self.table.image_id, source), render, layouts)


def load_model(
    model: str,
    key: str = "model",
    kind: Literal["gpt2", "gpt2v"] | None = None,
    for_inference: bool = True,
) -> LoadedModel:
    """Load a run's newest checkpoint, a checkpoint directory, or a hub id.

    An export as LLaVA is loaded as the GPT-2v that it was.

    Args:
        model: a run, a checkpoint directory or a hub id.
        key: name of the setting, for messages.
        kind: the only type to load; None: both.
        for_inference: move the model to the best device and into eval mode; otherwise it stays as
            it was loaded.

    Raises:
        UserError: there is no such model, its files are damaged, or it is of another type.
    """
    path = find_checkpoint(model, key)
    check_run_imports(path)
    config = read_config(path, key)
    if kind == "gpt2v":
        check_is_gpt2v(config, f"{key}: {model}")
    gpt2v: GPT2vModel | None = None
    if is_gpt2v(config) and kind != "gpt2":
        is_export = config["model_type"] == LLAVA
        gpt2v = load_llava(path, key) if is_export else load_pretrained(GPT2vModel, path, key)
        lm, tokenizer = gpt2v.language_model, load_tokenizer(path, key)
        _check_tokens(gpt2v, tokenizer, f"{key}: {path}")
    else:
        lm, tokenizer = load_gpt2(path, key)
    if for_inference:
        place(lm if gpt2v is None else gpt2v).eval()
    return LoadedModel(lm, gpt2v, tokenizer, path, model, key)


def load_gpt2v(
    model: str, key: str = "model", for_inference: bool = True
) -> tuple[LoadedModel, GPT2vModel]:
    """Load a GPT-2v as `load_model` does; returns the loaded model, and the GPT-2v in it.

    Raises:
        UserError: there is no such model, its files are damaged, or it is no GPT-2v.
    """
    loaded = load_model(model, key, "gpt2v", for_inference)
    assert loaded.gpt2v is not None
    return loaded, loaded.gpt2v


def _check_tokens(model: GPT2vModel, tokenizer: Tokenizer, where: str) -> None:
    """Raise UserError unless every token has an embedding."""
    largest, rows = n_ids(tokenizer) - 1, model.config.text_config.vocab_size
    if largest >= rows:
        raise UserError(
            f"{where}: its tokenizer has tokens up to {largest}, but its GPT-2 has a vocabulary of "
            f"{rows} tokens; they do not belong together"
        )
