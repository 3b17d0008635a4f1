"""A projector, instruction, token source, rung, metric, report section and executor of your own.

They are in one file, as one of your own could be. Every command can import it:

    gpt2v mm train CONFIG --import gpt2v:own_parts --projector gated

Shapes: V words of the vocabulary, D width of a hidden state.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from markupsafe import Markup
from pydantic import Field
from torch import Tensor, nn

from gpt2v.ablate.rungs import Rung
from gpt2v.config.base import Config
from gpt2v.data.grids.cells import Dice, Grids
from gpt2v.data.grids.instructions.base import (
    Asked,
    Fields,
    Floats,
    Slots,
    Vocabulary,
    YesOrNo,
    cells_in_turn,
)
from gpt2v.data.render.batches import Batch, Renderer
from gpt2v.data.rng import Ints
from gpt2v.execute.job import Job
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.projector import Projector
from gpt2v.registry import (
    EXECUTORS,
    INSTRUCTIONS,
    METRICS,
    PROJECTORS,
    RUNGS,
    SECTIONS,
    TOKEN_SOURCES,
)
from gpt2v.report.read import Run
from gpt2v.report.section import Section

# ---- a projector, with an option ---------------------------------------------------------------


class GatedOptions(Config):
    """Options of the gated projector."""

    bias: float = Field(0.0, description="bias of the gates before training")


@PROJECTORS.register("gated", options=GatedOptions)
class GatedProjector(Projector):
    """One affine map; each of its outputs is multiplied by a gate (GLU, Dauphin et al. 2017)."""

    def __init__(self, d_vision: int, d_text: int, pool: int, options: GatedOptions) -> None:
        super().__init__(d_vision, d_text, pool)
        self.value = nn.Linear(d_vision, d_text)
        self.gate = nn.Linear(d_vision, d_text)
        nn.init.constant_(self.gate.bias, options.bias)

    def each(self, x: Tensor, words_VD: Tensor) -> Tensor:
        gated: Tensor = self.value(x) * self.gate(x).sigmoid()
        return gated


# ---- an instruction ----------------------------------------------------------------------------


@INSTRUCTIONS.register("corner")
class Corner(YesOrNo):
    """Whether a cell has the same object as the top left corner. `... corner hold? A: yes`"""

    wordings = ("Does row {row}, column {col} hold what the top left corner holds? A:",)
    held_out = ("Is row {row}, column {col} like the top left corner? A:",)

    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        return rows * cols

    def ask(self, grids: Grids, dice: Dice, slots: Slots) -> Fields:
        return cells_in_turn(grids, dice, slots, "corner/cells")

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        corner = np.zeros_like(asked.row)
        same = asked.at(asked.row, asked.col) == asked.at(corner, corner)
        return v.choose(same, " yes", " no")[:, None]

    def blind(self, asked: Asked) -> Floats:
        first = (asked.row == 0) & (asked.col == 0)
        same = np.where(first, 1.0, 1 / asked.n_objects)
        best: Floats = np.maximum(same, 1 - same)
        return best

    def bag(self, asked: Asked) -> Floats:
        return self.blind(asked)  # a lower bound: the object counts help a little


# ---- a token source and its rung ---------------------------------------------------------------


@TOKEN_SOURCES.register("one-word")
class OneWord:
    """The embedding of the word `cat` at every image position, for every grid."""

    layout: ClassVar[str] = "positions"

    def __init__(self, model: GPT2vModel, render: Renderer) -> None:
        self.wte = model.language_model.get_input_embeddings()
        self.token = render.table.tokens(" cat")[0]

    def __call__(self, batch: Batch) -> Tensor:
        assert batch.images is not None
        ids = torch.full((len(batch.images.cell),), self.token, device=self.wte.weight.device)
        embeds: Tensor = self.wte(ids)
        return embeds


@RUNGS.register("blank")
class Blank(Rung):
    """The same word at every image position, so only the prompt has information."""

    title = "one word everywhere"
    layout, source, parent = "positions", "one-word", "R3"


# ---- a metric and its section of the report ----------------------------------------------------


@METRICS.register("confidence")
def confidence(records: pa.Table) -> dict[str, Any]:
    """Mean probability of the likeliest choice, relative to all choices."""
    best = []
    for logprobs in records["logprobs"].to_pylist():
        if logprobs:
            p = np.exp(np.array(logprobs) - max(logprobs))
            best.append(float(p.max() / p.sum()))
    return {"confidence": float(np.mean(best)) if best else None}


@SECTIONS.register("confidence")
class Confidence(Section):
    """Accuracy and confidence of each row."""

    nav, order, kinds = "Confidence", 45, ("eval",)

    def body(self, run: Run) -> str | None:
        rows = [row for row in run.rows if row.get("confidence") is not None]
        if not rows:
            return None
        items = [
            Markup("<li>{} from {}: right {:.1%}, confident {:.1%}</li>").format(
                row["instruction"], row["modality"], row["accuracy"], row["confidence"]
            )
            for row in rows
        ]
        return Markup("<h2>Confidence</h2>\n<ul>{}</ul>\n").format(Markup("").join(items))


# ---- an executor, with an option ---------------------------------------------------------------


class BackwardsOptions(Config):
    """Options of the executor `backwards`."""

    loud: bool = Field(False, description="print the number of each piece")


@EXECUTORS.register("backwards", options=BackwardsOptions)
def backwards(
    job: Job, pieces: Sequence[int], workers: int | None, options: BackwardsOptions
) -> Iterator[int]:
    """In this process, from the last piece to the first."""
    for piece in reversed(pieces):
        if options.loud:
            print(f"piece {piece}")
        job.do(piece)
        yield piece
