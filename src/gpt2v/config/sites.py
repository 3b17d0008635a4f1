"""Sites: where in a GPT-2v hidden states are read or changed, by name.

`pixels`, `vision.0` to `vision.L` and `pre-projector` are of pictures, before the projector;
`post-projector` is the projector's output. `lm.0` (the input embeddings with their positions) to
`lm.L` are the GPT-2's hidden states at the image positions, `question.0` ... those at the last
token of a question's words, and `answer.0` ... those at the position that predicts the first token
of its answer. `random.0` ... are `vision.0` ... of a tower with random weights. Layers are indices
into `hidden_states`, as everywhere.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gpt2v.errors import UserError

OF_PICTURES = ("pixels", "random", "vision", "pre-projector", "post-projector")
OF_PATCHES = (*OF_PICTURES, "lm")  # the others are of questions
OF_QUESTIONS = ("question", "answer")
LAYERED = ("random", "vision", "lm", *OF_QUESTIONS)


@dataclass(frozen=True)
class Site:
    """A site.

    Attributes:
        name: what it is called, without its layer.
        layer: index into `hidden_states`; None: it has no layers.
    """

    name: str
    layer: int | None = None

    @property
    def fields(self) -> dict[str, str | int | None]:
        """It, as fields of a row of results."""
        return {"site": self.name, "layer": self.layer}

    def __str__(self) -> str:
        return self.name if self.layer is None else f"{self.name}.{self.layer}"


def sites_of(names: Iterable[str], n_vision: int, n_lm: int, key: str = "sites") -> list[Site]:
    """The sites with these names; `vision`, without a layer, means all of its layers.

    Args:
        names: such as `pre-projector`, `vision`, `lm.2`, `answer.-1` (the last layer).
        n_vision, n_lm: number of blocks of the vision tower and of the GPT-2.
        key: of the names in the configuration, for messages.

    Raises:
        UserError: no such site, or no such layer.
    """
    return list(dict.fromkeys(site for name in names for site in _named(name, n_vision, n_lm, key)))


def name_of(text: str) -> str:
    """The name of a site, without its layer.

    Raises:
        ValueError: no such site, whatever layers a model has.
    """
    name, dot, _ = text.partition(".")
    if name not in (*OF_PATCHES, *OF_QUESTIONS) or (dot and name not in LAYERED):
        raise ValueError(f"no such site: '{text}'; choose from {', '.join(OF_PATCHES)}")
    return name


def _named(text: str, n_vision: int, n_lm: int, key: str) -> Iterator[Site]:
    try:
        name = name_of(text)
    except ValueError as error:
        raise UserError(f"{key}: {error}") from None
    _, dot, layer = text.partition(".")
    if name not in LAYERED:
        yield Site(name)
        return
    depth = n_vision if name in ("vision", "random") else n_lm
    if not dot:
        yield from (Site(name, i) for i in range(depth + 1))
        return
    if not re.fullmatch("-?[0-9]{1,9}", layer) or not -depth - 1 <= int(layer) <= depth:
        raise UserError(f"{key}: {text}: the layer must lie in {-depth - 1}..{depth}")
    yield Site(name, int(layer) % (depth + 1))
