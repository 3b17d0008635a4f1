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
from gpt2v.errors import UserError
from gpt2v.eval.records import record_table
from gpt2v.eval.rows import summarise
from gpt2v.features.sources import picture_source
from gpt2v.hardware.device import hardware_facts
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.load import LoadedModel, load_gpt2v
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import PackedScorer, score_all
from gpt2v.model.vision_tokens import ProjectedPatches, VisionTokenSource
from gpt2v.registry import RUNGS, TOKEN_SOURCES
from gpt2v.trained.compare import NOT_COMPARED, Comparison, Measured
from gpt2v.trained.defaults import as_trained


def check_ladder(loaded: LoadedModel, data: GridDataset, config: LadderConfig) -> None:
    """Refuse grids that some rung cannot show.

    Raises:
        UserError: a rung has no such layout, or see `GridDataset.check`.
    """
    render = loaded.renderer(data.bank)
    for layout in dict.fromkeys(rung.layout for rung in rungs_of(config).values()):
        data.check(layout, render, loaded.lm.config.n_positions)


def climb(
    loaded: LoadedModel,
    data: GridDataset,
    config: LadderConfig,
    run: Path,
    comparison: Comparison = NOT_COMPARED,
) -> dict[str, Any]:
    """Measure every rung; writes results, and returns the content of results.json.

    Args:
        comparison: of what is measured with the training.
    """
    started = time.monotonic()
    model = loaded.gpt2v
    assert model is not None, "a ladder ends with pictures"
    check_ladder(loaded, data, config)
    runs.write_config(run, config)
    render, rungs = loaded.renderer(data.bank), rungs_of(config)
    patches = picture_source(model, [data], config.features)
    scorers = {name: scorer_of(rung, model, render, patches) for name, rung in rungs.items()}
    rows: list[dict[str, Any]] = []
    for name, rung in rungs.items():
        label = f"ladder: {name} {rung.title}"
        modality = "text" if rung.layout == "text" else "image"
        scored = score_all(scorers[name], data, rung.layout, label)
        records = record_table(scored, modality=modality)
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
    layouts = [rung.layout for rung in rungs.values()]
    gap = first - last if (layouts[0], layouts[-1]) == ("text", "image") else 0.0
    for row in rows:
        row["gap_closed"] = (row["accuracy"] - last) / gap if gap else None
    comparison.say()
    return runs.write_results(
        run,
        "ladder",
        started,
        hardware=hardware_facts(),
        seed=data.seed,
        data_hash=data.hash,
        results=rows,
        **comparison.results,
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
    reader = Reader(model.language_model, render.table.image_id, source)
    return PackedScorer(reader, render, generate=False)


def climb_model(config: LadderConfig, run: Path) -> dict[str, Any]:
    """`gpt2v ablate tokens`: measure the ladder of a saved GPT-2v.

    Args:
        config: what is not given in it is taken from the model's run.
    """
    loaded, _ = load_gpt2v(config.model)
    filled = as_trained(config, config.model)
    c = filled.config
    bank = filled.bank(c.tiles)
    data = GridDataset(c.grid, bank, c.seed, c.split, c.n_images, "grid.")
    measured = Measured(bank, [(data, ["text", "image"])])
    comparison = loaded.compared(measured, c.allow, filled.said)
    return climb(loaded, data, c, run, comparison)


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
