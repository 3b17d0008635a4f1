"""A short vision-token ladder: the same grids and the same GPT-2v weights, with what stands at the
image positions changed one step at a time, from the text itself to the picture.

Every rung is read as it is, without further training: a rung whose layout the language model never
met in training shows that too.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gpt2v import runs
from gpt2v.data.images import cell_span
from gpt2v.data.text import ImageView, TextView, View
from gpt2v.data.tiles import load_bank
from gpt2v.eval.command import open_gpt2v, picture_of
from gpt2v.eval.evaluate import HeldOut, score_view, summarise
from gpt2v.measurements import LadderConfig
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.reader import Reader
from gpt2v.model.sources import CellEmbedding, Picture, SplicedText, VisionTokenSource


class Rung(NamedTuple):
    """What stands at the image positions."""

    rung: str
    name: str
    description: str
    view: View
    source: VisionTokenSource | None


def rungs(model: GPT2vModel, held_out: HeldOut, seen: Picture | None = None) -> list[Rung]:
    """The short ladder, from text to picture, which `seen` gives the features of."""
    lm, image_id = model.language_model, model.config.image_token_id
    render = held_out.render
    picture = held_out.view("image")
    assert isinstance(picture, ImageView)
    fixed = CellEmbedding(lm, render.table, render.bank.class_names)
    return [
        Rung("R0", "text", "the table as text", TextView("markdown"), None),
        Rung(
            "R1",
            "text through the splice",
            "the table's own word embeddings, put in at image positions",
            TextView("markdown", spliced=True),
            SplicedText(lm, image_id),
        ),
        Rung(
            "R2",
            "one embedding per cell",
            "one fixed embedding of the object for each cell, no delimiters",
            ImageView(lambda rows, cols: cell_span(rows * cols), with_pixels=False),
            fixed,
        ),
        Rung(
            "R3",
            "one embedding per vision token",
            "the cell's fixed embedding at each of its vision tokens, laid out as in a picture",
            replace(picture, with_pixels=False),
            fixed,
        ),
        Rung("R4", "picture", "the projected patches", picture, seen or Picture(model)),
    ]


def climb(model: GPT2vModel, held_out: HeldOut, run: Path) -> dict[str, Any]:
    """Measure every rung; writes results."""
    started = time.monotonic()
    runs.write_config(run, held_out.config)
    rows: list[dict[str, Any]] = []
    for modality in ("text", "image"):
        held_out.check(modality, model.config.text_config.n_positions)
    for rung in rungs(model, held_out, picture_of(model, [held_out])):
        reader = Reader(model.language_model, model.config.image_token_id, rung.source)
        records = score_view(reader, held_out, rung.view, f"ladder: {rung.rung} {rung.name}")
        row = {
            "rung": rung.rung,
            "parent": rows[-1]["rung"] if rows else None,
            "name": rung.name,
            "description": rung.description,
            "protocol": "zero-shot",
            "seed": held_out.config.seed,
            **summarise(records),
        }
        if rung.rung == "R1":
            row["max_logit_difference"] = splice_difference(model, held_out)
        rows.append(row)
    first, last = rows[0]["accuracy"], rows[-1]["accuracy"]
    for row in rows:
        gap = first - last
        row["gap_closed"] = (row["accuracy"] - last) / gap if gap else None
    return runs.write_results(
        run,
        "ladder",
        started,
        seed=held_out.config.seed,
        data_hash=held_out.data_hash,
        results=rows,
    )


def climb_model(config: LadderConfig, run: Path) -> dict[str, Any]:
    """`gpt2v ablate tokens`: the ladder of a saved GPT-2v."""
    model, render = open_gpt2v(config.model, load_bank(config.tiles))
    return climb(model, HeldOut(config, render, model.token_geometry), run)


@torch.no_grad()
def splice_difference(model: GPT2vModel, held_out: HeldOut) -> float:
    """Largest difference of any logit between R0 and R1, over the first batch of grids."""
    text, spliced = rungs(model, held_out)[:2]
    lm, image_id = model.language_model, model.config.image_token_id
    logits = [
        Reader(lm, image_id, rung.source)(next(held_out.batches(rung.view)))[0]
        for rung in (text, spliced)
    ]
    return float((logits[0] - logits[1]).abs().max())
