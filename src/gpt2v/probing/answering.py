"""The model's own answers about every cell of the test grids, beside which decoders stand."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from gpt2v.data.dataset import GridDataset
from gpt2v.data.rng import Ints
from gpt2v.model.scoring import Records, score_all
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.probing.answered import NO_CLASS, Answered, classes_said
from gpt2v.probing.reading import StatesReader
from gpt2v.stats.shared import Bools


def answers_of(reader: StatesReader, data: GridDataset, listed: Bools) -> Answered:
    """Ask the model for the object in every cell, from text and from pictures.

    Args:
        data: grids of one size; each cell is looked up.
        listed: (n_grids, n_classes) classes that the prompts list.
    """
    names = reader.bank.class_names
    scorer = reader.loaded.scorer(reader.bank, ProjectedPatches(reader.model))
    data = replace(data, spec=reader.config.grid.asked())
    grids = data.grids(np.arange(len(data)))
    truth = grids.classes
    said = {}
    for layout in ("image", "text"):
        records = score_all(scorer, data, layout, f"probe: answers from {layout}")
        said[layout] = _placed(records, truth, names)
    image, likeliest = said["image"]
    return Answered(
        truth, image, likeliest, said["text"][0], listed, grids.index, grids.tiles, names
    )


def _placed(records: Records, truth: Ints, names: tuple[str, ...]) -> tuple[Ints, Ints]:
    """What is said of each cell, and its likeliest class, (n_grids, n_rows, n_cols) each."""
    table = pa.table({key: records[key] for key in ("sample", "row", "col", "exact")})
    where = tuple(table[key].to_numpy() for key in ("sample", "row", "col"))
    number = {name: i for i, name in enumerate(names)}
    found = [np.full(truth.shape, NO_CLASS) for _ in range(2)]
    exact = table["exact"].to_numpy()
    found[0][where] = classes_said(records["generated"], exact, truth[where], names)
    found[1][where] = [number.get(name, NO_CLASS) for name in records["prediction"]]
    return found[0], found[1]
