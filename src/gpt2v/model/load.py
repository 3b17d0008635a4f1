"""Opening what was trained: a run, a checkpoint or a hub id becomes a model and its tokenizer."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel, PreTrainedConfig

from gpt2v.data.render.batches import Renderer
from gpt2v.data.text_pieces import PieceTable
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError, first_line
from gpt2v.extensions import check_imports
from gpt2v.hardware.device import place
from gpt2v.model.files import find_checkpoint, load_gpt2, load_pretrained
from gpt2v.model.gpt2v import GPT2vConfig, GPT2vModel
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import PackedScorer
from gpt2v.model.vision_tokens import ProjectedPatches, token_source


@dataclass(frozen=True)
class LoadedModel:
    """A GPT-2, or a GPT-2v, with its tokenizer."""

    lm: GPT2LMHeadModel
    gpt2v: GPT2vModel | None  # that `lm` is part of, where there is one
    tokenizer: Tokenizer
    path: str  # of the checkpoint, or a hub id

    @cached_property
    def table(self) -> PieceTable:
        """What its tokenizer makes of strings."""
        return PieceTable(self.tokenizer)

    def renderer(self, bank: TileBank) -> Renderer:
        """What renders grids of a tile bank for it."""
        return Renderer(bank, self.table, self.gpt2v and self.gpt2v.token_geometry)

    def scorer(self, bank: TileBank, patches: ProjectedPatches | None = None) -> PackedScorer:
        """What answers questions about grids of a tile bank, as the model was trained to.

        Args:
            patches: the source for pictures, which may read cached features; none: the vision
                tower looks at each picture.
        """
        render = self.renderer(bank)
        if self.gpt2v is None:
            return PackedScorer(Reader(self.lm, self.table.image_id), render)
        source = token_source(self.gpt2v, render)
        layouts = {"image": source.layout}
        if isinstance(source, ProjectedPatches):
            source = patches or source
        return PackedScorer(Reader(self.lm, self.table.image_id, source), render, layouts)


def load_model(
    source: str,
    key: str = "model",
    kind: Literal["gpt2", "gpt2v"] | None = None,
    measured: bool = True,
) -> LoadedModel:
    """Open a run (its newest checkpoint), a checkpoint directory, or a hub id.

    Args:
        key: what the source is called in messages.
        kind: refuse any other.
        measured: put it on the best device, in eval mode; else it stays as it was loaded.

    Raises:
        UserError: nothing is there, it is damaged, or of another kind.
    """
    path = find_checkpoint(source, key)
    for folder in (Path(path), *list(Path(path).parents)[:2]):  # checkpoint, checkpoints/, run
        check_imports(folder)
    found = _kind(source, path, key)
    if kind == "gpt2v" and found != GPT2vConfig.model_type:
        raise UserError(f"{key}: {source}: a {found} checkpoint; expected a GPT-2v, of `mm train`")
    model: GPT2vModel | None = None
    if found == GPT2vConfig.model_type and kind != "gpt2":
        model = load_pretrained(GPT2vModel, path, key)
        lm, tokenizer = model.language_model, load_tokenizer(path, key)
    else:
        lm, tokenizer = load_gpt2(path, key)
    if measured:
        place(lm if model is None else model).eval()
    return LoadedModel(lm, model, tokenizer, path)


def load_gpt2v(
    source: str, key: str = "model", measured: bool = True
) -> tuple[LoadedModel, GPT2vModel]:
    """The same for what must have eyes: all of it, and the GPT-2v in it."""
    loaded = load_model(source, key, "gpt2v", measured)
    assert loaded.gpt2v is not None
    return loaded, loaded.gpt2v


def _kind(source: str, path: str, key: str) -> str:
    """The `model_type` that a checkpoint's configuration names."""
    config: dict[str, Any]
    try:
        config, _ = PreTrainedConfig.get_config_dict(path)
    except Exception as error:  # hub, file and format errors have no common type
        raise UserError(f"{key}: {source}: cannot be loaded: {first_line(error)}") from None
    return str(config.get("model_type"))
