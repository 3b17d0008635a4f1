"""A vision-token ladder: the same grids and the same GPT-2v weights on every rung.

Only the embeddings at the image positions change, one step per rung, from the text to the picture.
No rung is trained further. So if the language model never saw a rung's layout in training, its
accuracy shows that, too.
"""

import math
import time
from pathlib import Path
from typing import Any

import torch

from gpt2v import runs
from gpt2v.ablate.rungs import Rung
from gpt2v.config.choice import choose
from gpt2v.config.measuring import LadderConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.views import LAYOUTS
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.eval.evaluate import summarise
from gpt2v.eval.records import record_table
from gpt2v.features.sources import picture_source
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.load import LoadedModel, load_gpt2v
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import PackedScorer, score_all
from gpt2v.model.vision_tokens import ProjectedPatches, VisionTokenSource
from gpt2v.registry import RUNGS, TOKEN_SOURCES


def climb(
    loaded: LoadedModel, data: GridDataset, config: LadderConfig, run: Path
) -> dict[str, Any]:
    """Measure every rung; writes results, and returns the content of results.json."""
    started = time.monotonic()
    runs.write_config(run, config)
    model = loaded.gpt2v
    assert model is not None, "a ladder ends with pictures"
    render = loaded.renderer(data.bank)
    for layout in ("text", "image"):
        data.check(layout, render, loaded.lm.config.n_positions)
    patches = picture_source(model, [data], config.features)
    rungs = rungs_of(config)
    scorers = {name: scorer_of(rung, model, render, patches) for name, rung in rungs.items()}
    rows: list[dict[str, Any]] = []
    for name, rung in rungs.items():
        label = f"ladder: {name} {rung.title}"
        records = record_table(score_all(scorers[name], data, rung.layout, label))
        row = {
            "rung": name,
            "parent": rung.parent if rung.parent in rungs else None,
            "name": rung.title,
            "description": RUNGS[name].summary,
            "protocol": "zero-shot",
            "seed": data.seed,
            **summarise(records),
        }
        if rung.equals_parent and rung.parent in rungs:
            pair = [(scorers[n], rungs[n].layout) for n in (rung.parent, name)]
            row["max_logit_difference"] = logit_difference(data, *pair)
        rows.append(row)
    first, last = rows[0]["accuracy"], rows[-1]["accuracy"]
    for row in rows:
        gap = first - last
        row["gap_closed"] = (row["accuracy"] - last) / gap if gap else None
    return runs.write_results(
        run, "ladder", started, seed=data.seed, data_hash=data.hash, results=rows
    )


def rungs_of(config: LadderConfig) -> dict[str, Rung]:
    """The configured rungs, by name."""
    rungs: dict[str, Rung] = {str(name): choose(RUNGS, name).load()() for name in config.rungs}
    for name, rung in rungs.items():
        if rung.layout not in LAYOUTS:
            known = ", ".join(LAYOUTS)
            raise UserError(f"rungs: {name}: no such layout: '{rung.layout}'; choose from {known}")
    return rungs


def scorer_of(
    rung: Rung, model: GPT2vModel, render: Renderer, patches: ProjectedPatches
) -> PackedScorer:
    """The scorer of a rung.

    Args:
        patches: the token source for pictures, which may read cached features.
    """
    source: VisionTokenSource | None = None
    if rung.source is not None:
        source = choose(TOKEN_SOURCES, rung.source).load()(model, render)
    if type(source) is ProjectedPatches:
        source = patches
    return PackedScorer(Reader(model.language_model, render.table.image_id, source), render)


def climb_model(config: LadderConfig, run: Path) -> dict[str, Any]:
    """`gpt2v ablate tokens`: measure the ladder of a saved GPT-2v."""
    loaded, _ = load_gpt2v(config.model)
    c, bank = config, load_bank(config.tiles)
    data = GridDataset(c.grid, bank, c.seed, c.split, c.n_images, "grid.")
    return climb(loaded, data, config, run)


@torch.no_grad()
def logit_difference(data: GridDataset, *scorers: tuple[PackedScorer, str]) -> float:
    """Largest difference of a logit between two rungs, in the first batch of grids.

    Args:
        scorers: the scorer and the layout of each of the two rungs.
    """
    one, other = (
        scorer.reader(next(data.batches(layout, scorer.render)))[0] for scorer, layout in scorers
    )
    difference = float((one - other).abs().max())
    assert math.isfinite(difference), "scoring has refused such logits"
    return difference
