"""Where a model looks: the attention of each answer's position, kept in `attention.parquet`.

Shapes: Q questions about a grid.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v.data.render.asked import question_columns
from gpt2v.data.render.edges import cell_edges
from gpt2v.data.render.views import picture_of
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError
from gpt2v.eval.series import Series
from gpt2v.model.attention import PatchGrid, attention_of_answers
from gpt2v.model.scoring import PackedScorer
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.run_layout import ATTENTION
from gpt2v.storage.files import write_parquet

_NUMBERS = ("sample", "rows", "cols", "slot", "row", "col", "other_row", "other_col")
_WORDS = ("instruction", "question", "object")
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("model", "modality", "part", "mode")),
        *((name, pa.int64()) for name in _NUMBERS),
        *((name, pa.string()) for name in _WORDS),
        ("layer", pa.int16()),
        ("patches_across", pa.int16()),
        ("patches", pa.list_(pa.float32())),
        *((name, pa.int32()) for name in ("patch_size", "height", "width")),
        *((name, pa.list_(pa.list_(pa.float64()))) for name in ("row_edges", "col_edges")),
        ("cells", pa.list_(pa.float32())),
        ("words", pa.float32()),
    ]
)


def shown(series: Sequence[Series]) -> list[Series]:
    """Those of the series whose attention can be kept: those that are shown pictures.

    Raises:
        UserError: there is none, or a model does not read pixels.
    """
    pictured = [one for one in series if one.modality != "text"]
    if not pictured:
        raise UserError("attention: nothing is shown as a picture; leave it out")
    for one in pictured:
        scorer = one.model.scorer
        source = scorer.reader.source if isinstance(scorer, PackedScorer) else None
        if not isinstance(source, ProjectedPatches):
            raise UserError("attention: this model was trained without pictures; leave it out")
    return pictured


def write_attention(run: Path, series: Sequence[Series], n: int) -> None:
    """Write where the answers to questions about the first grids come from.

    The file has one row for each question and layer.

    Args:
        series: see `shown`.
        n: number of grids of each part.
    """
    tables = (
        _table(one, np.array([index]))
        for one in series
        for index in range(min(n, len(one.part.data)))
    )
    write_parquet(run / ATTENTION, tables)


def _table(one: Series, index: Ints) -> pa.Table:
    """The rows of one grid.

    Args:
        index: (1,) its number.
    """
    scorer, data, mode = one.model.scorer, one.part.data, one.part.mode
    assert isinstance(scorer, PackedScorer)
    render = scorer.render
    batch = render(data.samples(index), scorer.view(data.spec, one.modality), mode)
    assert batch.images is not None
    assert render.geometry is not None
    weights = attention_of_answers(scorer.reader, batch)[:, 0].float().mean(1).cpu().numpy()
    asked = question_columns(batch.samples, render.bank.class_names, render.table)
    n_rows, n_cols = asked["rows"][0], asked["cols"][0]
    patches = PatchGrid.of(batch.images, render.geometry, n_cols)
    is_image = batch.input_ids[0] == render.table.image_id
    on_patches = patches.arrange(weights[:, :, is_image])  # (n_layers, Q, n_down, n_across)
    on_cells = np.stack(
        [on_patches[..., patches.cells == cell].sum(-1) for cell in range(n_rows * n_cols)], axis=-1
    )
    on_words = weights[:, :, ~is_image].sum(-1)
    names: dict[str, Any] = {"part": None, **one.names, "mode": mode}
    picture = picture_of(data.spec)
    shape = (1, 1) if picture.layout == "multi" else (int(n_rows), int(n_cols))
    drawn = (*shape, data.bank.size, picture, render.geometry)
    edges = cell_edges(*drawn)
    height, width = edges.size
    where = {
        "patches_across": patches.cells.shape[1],
        "patch_size": render.geometry.patch_size,
        "height": height,
        "width": width,
        "row_edges": edges.rows.tolist(),
        "col_edges": edges.cols.tolist(),
    }
    rows = [
        {
            **names,
            **{name: asked[name][number] for name in (*_NUMBERS, *_WORDS)},
            "layer": layer,
            **where,
            "patches": on_patches[layer, slot].ravel(),
            "cells": on_cells[layer, slot],
            "words": on_words[layer, slot],
        }
        for number, slot in enumerate(asked["slot"])
        for layer in range(len(weights))
    ]
    return pa.Table.from_pylist(rows, _SCHEMA)
