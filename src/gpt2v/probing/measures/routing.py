"""Routing: which cells' objects can be read where a question is read, layer by layer."""

from dataclasses import replace

from gpt2v.config.sites import OF_QUESTIONS, Site
from gpt2v.probing.probed import Probed, Row
from gpt2v.probing.questions import read_questions
from gpt2v.probing.routing import routing_rows

_MOST_GRIDS = {"train": 4000, "val": 500, "test": 500}
_QUESTIONS = 2  # about a grid


class Routing:
    """Ridge decoders at the last word of a question and where its answer is predicted.

    They read the object of the cell that is asked about, of another one in its row, in its column,
    and of any other, in every layer of the GPT-2.
    """

    def __call__(self, probed: Probed) -> list[Row]:
        reader, n_layers = probed.reader, probed.reader.model.config.text_config.n_layer
        sites = [Site(name, i) for name in OF_QUESTIONS for i in range(n_layers + 1)]
        read = []
        for name, most in _MOST_GRIDS.items():
            data, split = probed.data[name], probed.splits[name]
            some = replace(data, n=min(most, len(split)))
            n_questions = min(_QUESTIONS, probed.n_cells)
            read.append(read_questions(reader, some, split, sites, n_questions))
        decoder = probed.config.ridge.load()()
        return [
            row
            for site in sites
            for row in routing_rows(
                site,
                [states[site] for _, states in read],
                [questions for questions, _ in read],
                decoder,
                probed.config.seed,
            )
        ]
