"""Whether the model uses what a decoder finds: its answers, when the class of a cell is changed."""

from dataclasses import replace

from gpt2v.model.packed import Reader
from gpt2v.model.scoring import PackedScorer
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.probing.causal import causal_rows, is_read
from gpt2v.probing.probed import Probed, Row

_MOST_GRIDS = 200


class CausalUse:
    """Answers about the measured cells, with their class erased or moved at the measured sites."""

    def __call__(self, probed: Probed) -> list[Row]:
        reader, model = probed.reader, probed.reader.model
        test, grid = probed.data["test"], probed.config.grid
        if grid.largest.palette == 1:
            return []  # no other class is listed
        data = replace(test, spec=grid.asked(), n=min(len(test), _MOST_GRIDS))
        source = ProjectedPatches(model)  # runs the vision tower, in which states are changed
        render = reader.loaded.renderer(reader.bank)
        scorer = PackedScorer(Reader.of(model, source), render, generate=False)
        train = probed.splits["train"]
        return [
            row
            for site in probed.measured_sites
            if is_read(site, model) and site not in reader.pools
            for row in causal_rows(
                model,
                scorer,
                data,
                site,
                train.states[site],
                train.labels,
                {cell: probed.maps[site].patches(cell) for cell in probed.measured_cells},
                probed.config.seed,
            )
        ]
