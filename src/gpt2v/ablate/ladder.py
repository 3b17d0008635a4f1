"""A short vision-token ladder: the same grids and the same GPT-2v weights, with what stands at the
image positions changed one step at a time, from the text itself to the picture.

Every rung is read as it is, without further training: a rung whose layout the language model never
met in training shows that too.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gpt2v import runs
from gpt2v.config.measuring import LadderConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.batches import Renderer
from gpt2v.data.tiles.load import load_bank
from gpt2v.eval.evaluate import summarise
from gpt2v.features.sources import picture_source
from gpt2v.model.load import LoadedModel, load_model
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import score_all
from gpt2v.model.vision_tokens import CellEmbedding, Picture, SplicedText, VisionTokenSource


class Rung(NamedTuple):
    """What stands at the image positions."""

    rung: str
    name: str
    description: str
    view: str  # a layout's name
    source: VisionTokenSource | None


def rungs(loaded: LoadedModel, render: Renderer, picture: Picture | None = None) -> list[Rung]:
    """The short ladder, from text to picture, which `picture` gives the features of."""
    lm, model = loaded.lm, loaded.gpt2v
    assert model is not None, "a ladder ends with pictures"
    fixed = CellEmbedding(lm, render.table, render.bank.class_names)
    return [
        Rung("R0", "text", "the table as text", "text", None),
        Rung(
            "R1",
            "text through the splice",
            "the table's own word embeddings, put in at image positions",
            "spliced",
            SplicedText(lm, render.table.image_id),
        ),
        Rung(
            "R2",
            "one embedding per cell",
            "one fixed embedding of the object for each cell, no delimiters",
            "cells",
            fixed,
        ),
        Rung(
            "R3",
            "one embedding per vision token",
            "the cell's fixed embedding at each of its vision tokens, laid out as in a picture",
            "positions",
            fixed,
        ),
        Rung("R4", "picture", "the projected patches", "image", picture or Picture(model)),
    ]


def climb(
    loaded: LoadedModel, data: GridDataset, config: LadderConfig, run: Path
) -> dict[str, Any]:
    """Measure every rung; writes results."""
    started = time.monotonic()
    runs.write_config(run, config)
    render = loaded.renderer(data.bank)
    for layout in ("text", "image"):
        data.check(layout, render, loaded.lm.config.n_positions)
    assert loaded.gpt2v is not None, "a ladder ends with pictures"
    rows: list[dict[str, Any]] = []
    for rung in rungs(loaded, render, picture_source(loaded.gpt2v, [data], config.features)):
        reader = Reader(loaded.lm, render.table.image_id, rung.source)
        records = score_all(reader, data, rung.view, render, f"ladder: {rung.rung} {rung.name}")
        row = {
            "rung": rung.rung,
            "parent": rows[-1]["rung"] if rows else None,
            "name": rung.name,
            "description": rung.description,
            "protocol": "zero-shot",
            "seed": data.seed,
            **summarise(records),
        }
        if rung.rung == "R1":
            row["max_logit_difference"] = splice_difference(loaded, data)
        rows.append(row)
    first, last = rows[0]["accuracy"], rows[-1]["accuracy"]
    for row in rows:
        gap = first - last
        row["gap_closed"] = (row["accuracy"] - last) / gap if gap else None
    return runs.write_results(
        run, "ladder", started, seed=data.seed, data_hash=data.hash, results=rows
    )


def climb_model(config: LadderConfig, run: Path) -> dict[str, Any]:
    """`gpt2v ablate tokens`: the ladder of a saved GPT-2v."""
    loaded = load_model(config.model, kind="gpt2v")
    c, bank = config, load_bank(config.tiles)
    data = GridDataset(c.grid, bank, c.seed, c.split, c.n_images, "grid.")
    return climb(loaded, data, config, run)


@torch.no_grad()
def splice_difference(loaded: LoadedModel, data: GridDataset) -> float:
    """Largest difference of any logit between R0 and R1, over the first batch of grids."""
    render = loaded.renderer(data.bank)
    text, spliced = (
        Reader(loaded.lm, render.table.image_id, rung.source)(
            next(data.batches(rung.view, render))
        )[0]
        for rung in rungs(loaded, render)[:2]
    )
    return float((text - spliced).abs().max())
