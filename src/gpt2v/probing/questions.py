"""States at the positions of questions, for some grids."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from gpt2v.config.sites import Site
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.samples import Samples
from gpt2v.model.states import text_states
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.probing.cells import States
from gpt2v.probing.reading import StatesReader
from gpt2v.probing.routing import Questions
from gpt2v.probing.splits import Split
from gpt2v.progress import progress


def read_questions(
    reader: StatesReader, data: GridDataset, split: Split, sites: Sequence[Site], n_questions: int
) -> tuple[Questions, Mapping[Site, States]]:
    """Questions about cells of the first grids of a data set, and the states at their positions.

    Args:
        data: as many grids as are read.
        split: which has at least these grids.
        sites: `question.L` and `answer.L`.
        n_questions: number, about different cells.

    Returns:
        The questions, and their states at each site, (n_grids, n_questions, width).
    """
    asked = replace(data, spec=reader.config.grid.asked(n_questions))
    scorer = reader.loaded.scorer(reader.bank, ProjectedPatches(reader.model))
    found: dict[Site, list[States]] = {site: [] for site in sites}
    drawn: list[Samples] = []
    with progress(f"probe: {data.split} questions", data.n_portions()) as report:
        for index in data.portions():
            batch = asked.batch(index, "image", scorer.render)
            states = text_states(scorer.reader, batch, sites, scorer.render.table)
            for site, x in states.items():
                found[site].append(x.float().cpu().numpy())
            drawn.append(batch.samples)
            report()
    cell = np.concatenate([own.row * own.tiles.shape[2] + own.col for own in drawn])
    n, n_cols = len(data), drawn[0].tiles.shape[2]
    questions = Questions(
        split.grids.index[:n],
        cell,
        split.labels[:n],
        split.tiles[:n],
        split.allowed(len(reader.bank.class_names))[:n],
        n_cols,
    )
    return questions, {site: np.concatenate(parts) for site, parts in found.items()}
