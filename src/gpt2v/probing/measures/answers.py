"""Wrong answers about pictures: what they are due to, and how decoders stand beside the model."""

from gpt2v.config.probing import MAIN
from gpt2v.config.sites import Site
from gpt2v.data.rng import Ints
from gpt2v.probing import beside
from gpt2v.probing.answered import Family
from gpt2v.probing.diagnoses import attributed
from gpt2v.probing.probed import Outcomes, Probed, Row


class Attribution:
    """Every wrong answer by whether a decoder of the same cell names the object, and the faults
    that the answers show."""

    def __call__(self, probed: Probed) -> dict[str, list[Row]]:
        return attributed(probed.answered, family_of(probed))


class Beside:
    """The palette-restricted accuracy of each decoder minus the model's, by site."""

    def __call__(self, probed: Probed) -> list[Row]:
        ridge, cells = probed.config.ridge, list(range(probed.n_cells))
        families: dict[Site, Family] = {MAIN: family_of(probed)}
        for site in probed.sites[1:]:
            families[site] = {str(ridge): _named(probed, probed.outcomes(ridge, site, cells))}
        return beside.beside(probed.answered, families)


def family_of(probed: Probed) -> Family:
    """What each decoder at the projector's input names, chosen among the listed objects."""
    cells = list(range(probed.n_cells))
    return {
        str(decoder): _named(probed, probed.outcomes(decoder, MAIN, cells))
        for decoder in probed.config.decoders
    }


def _named(probed: Probed, outcomes: Outcomes) -> Ints:
    return outcomes.in_palette.reshape(len(outcomes.index), -1, probed.n_cols)
