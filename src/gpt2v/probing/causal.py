"""Does the model use what a probe finds? Its answers, when the class of a cell is changed.

A probe can read a class that the model never looks at. So the states of a cell's patches are
changed while the model runs, and it is asked about the cell. Erasing alone shows less than moving,
because what is erased can stand elsewhere too (Canby et al. 2024,
https://arxiv.org/abs/2408.15510). Each change has a control of the same rank and size in random
directions.

Shapes: P pictures, N patches of a picture, D width of a hidden state.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpt2v.config.sites import Site
from gpt2v.data import rng
from gpt2v.data.dataset import GridDataset
from gpt2v.data.rng import Ints
from gpt2v.hardware.device import to_device
from gpt2v.model.changes import changed
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.scoring import Scorer, portions_of
from gpt2v.probing.erasure import Eraser, Floats, Mover, random_directions, turned
from gpt2v.probing.probed import gain
from gpt2v.progress import progress
from gpt2v.stats.intervals import rate_interval
from gpt2v.stats.shared import Bools, Shared

CHANGES = ("none", "erase", "move", "random-erase", "random-move")
_LAYOUT = "image"

# From features (n_rows, n_features) of a cell, its patches concatenated, in the pictures with these
# numbers (n_rows,), to those that take their place.
Changed = Callable[[Floats, Ints], Floats]
_Inside = Callable[[Ints], AbstractContextManager[Any]]  # where some pictures are looked at


def is_read(site: Site, model: GPT2vModel) -> bool:
    """Whether answers can depend on the states of patches at a site."""
    layer = -1 if site.layer is None else site.layer
    if site.name == "lm":
        return layer < len(model.language_model.transformer.h)  # no later layer attends to the last
    if site.name == "vision":
        n_layers = int(model.config.vision_config.num_hidden_layers) + 1
        return layer <= int(model.config.vision_layer) % n_layers
    return site.name in ("pre-projector", "post-projector")


@dataclass(frozen=True)
class Asked:
    """What is asked about one cell of the test grids, and what it is changed to.

    Attributes:
        cell: its number in raster order.
        own: (n_images,) its classes.
        target: (n_images,) the classes that it is moved to, another of each grid's palette.
        tiles: (n_images,) its tiles.
    """

    cell: int
    own: Ints
    target: Ints
    tiles: Ints

    @classmethod
    def of(cls, data: GridDataset, cell: int, seed: int) -> "Asked":
        """Of the data set's grids; targets are drawn with `seed`."""
        grids = data.grids(np.arange(len(data)))
        n = len(grids.index)
        own = grids.classes.reshape(n, -1)[:, cell]
        keys = rng.keys(seed, f"causal/{cell}", grids.index)
        dice = rng.unit(rng.bits(keys, grids.palette.shape[1]))
        is_other = (grids.palette >= 0) & (grids.palette != own[:, None])
        drawn = np.where(is_other, dice, -1.0).argmax(1)
        target = grids.palette[np.arange(n), drawn]
        return cls(cell, own, target, grids.tiles.reshape(n, -1)[:, cell])


def causal_rows(
    model: GPT2vModel,
    scorer: Scorer,
    data: GridDataset,
    site: Site,
    train: NDArray[np.float32],
    labels: Ints,
    cells: Mapping[int, Ints],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """How answers about some cells change with the states of these cells.

    Args:
        model: which is changed.
        scorer: of this model, with a token source that runs its vision tower.
        data: test grids of one size with at least two objects in each palette; all cells are
            looked up.
        site: `vision.L`, `pre-projector`, `post-projector` or `lm.L`.
        train: (n_train, n_patches, D) states at the site, of training grids: all patches of a grid.
        labels: (n_train, n_cells) classes of their cells.
        cells: of each cell that is changed, the patches that belong to it.
        seed: of the classes that cells are moved to, and of the random directions.

    Returns:
        For all these cells together and for each, a row for each of `CHANGES`: `accuracy`, the
        share of answers (likeliest choices) that are what the cell shows; `followed`, the share
        that is the class it would be moved to; both with 95% intervals; `minus_none`, accuracy
        minus that without a change; `minus_random` and `followed_minus_random`, both shares minus
        those with the random control; all differences are of the same questions, paired, with
        their intervals and p; `rank`, the number of dimensions that are changed.
    """
    n_classes = len(data.bank.class_names)
    asked, answers, ranks = [], [], []
    label = f"causal use: {site}"
    with progress(label, 1 + len(cells) * (len(CHANGES) - 1)) as report:
        unchanged = _answers(scorer, data)
        report()
        for cell, patches in cells.items():
            about = Asked.of(data, cell, seed)
            x = train[:, patches].reshape(len(train), -1).astype(np.float64)
            eraser = Eraser.fit(x, labels[:, cell], n_classes)
            mover = Mover.fit(x, labels[:, cell], n_classes)
            said = [unchanged[:, cell]]
            for change in changes_of(about, eraser, mover, seed):
                inside = partial(_changed, model, site, patches, change)
                said.append(_answers(scorer, data, inside)[:, cell])
                report()
            asked.append(about)
            answers.append(np.stack(said))
            ranks.append(eraser.rank)
    groups: list[tuple[Any, list[int]]] = [("all", list(range(len(asked))))]
    n_cols = data.spec.largest_shape[1]
    groups += [(list(divmod(about.cell, n_cols)), [i]) for i, about in enumerate(asked)]
    return [
        {**site.fields, "cell": name, **row}
        for name, of in groups
        for row in _rows([asked[i] for i in of], [answers[i] for i in of], [ranks[i] for i in of])
    ]


def changes_of(about: Asked, eraser: Eraser, mover: Mover, seed: int) -> list[Changed]:
    """What each of `CHANGES` but the first does with the features of a cell."""
    directions = random_directions(len(eraser.mean), eraser.rank, (seed, about.cell))

    def erase(x: Floats, number: Ints) -> Floats:
        return eraser(x)

    def move(x: Floats, number: Ints) -> Floats:
        return mover(x, about.own[number], about.target[number])

    def at_random(change: Changed, x: Floats, number: Ints) -> Floats:
        other: Floats = x + turned(change(x, number) - x, eraser.basis, directions)
        return other

    return [erase, move, partial(at_random, erase), partial(at_random, move)]


def _answers(scorer: Scorer, data: GridDataset, inside: _Inside = nullcontext) -> Ints:
    """The class that the model says each cell of each grid shows, (n_images, n_cells); -1: none.

    Args:
        inside: gives the context in which pictures with these numbers are looked at.
    """
    number_of = {name: number for number, name in enumerate(data.bank.class_names)}
    n_rows, n_cols = data.spec.largest_shape
    said = np.full((len(data), n_rows * n_cols), -1)
    for number in portions_of(data, _LAYOUT):
        with inside(number):
            records = scorer.score(data, number, _LAYOUT)
        assert set(records["instruction"]) == {"lookup"}
        cell = np.array(records["row"]) * n_cols + np.array(records["col"])
        said[records["sample"], cell] = [number_of.get(name, -1) for name in records["prediction"]]
    return said


def _changed(
    model: GPT2vModel, site: Site, patches: Ints, change: Changed, number: Ints
) -> AbstractContextManager[None]:
    """The context in which a cell of the pictures `number` is changed at a site."""
    return changed(model, site, partial(in_cell, patches, change, number))


def in_cell(patches: Ints, change: Changed, number: Ints, states: Tensor) -> Tensor:
    """States (P, N, D) of the pictures of the grids `number`, changed in the patches of one cell.

    Args:
        patches: their numbers among the patches of a grid, those of its pictures one after another.
        number: (n_images,) a grid has P / n_images pictures.
    """
    at = to_device(patches, states.device)
    of_grids = states.reshape(len(number), -1, states.shape[-1])
    cell = of_grids[:, at]
    x = cell.flatten(1).float().cpu().numpy().astype(np.float64)
    other = to_device(change(x, number).astype(np.float32), states.device)
    return of_grids.index_copy(1, at, other.view_as(cell).to(states.dtype)).view_as(states)


def _rows(asked: list[Asked], answers: list[Ints], ranks: list[int]) -> Iterator[dict[str, Any]]:
    """A row for each change, of the questions about some cells together.

    Args:
        answers: of each cell (n_changes, n_images), see `CHANGES`.
    """
    n_images = len(asked[0].own)
    shared = Shared(
        np.tile(np.arange(n_images), len(asked)),
        np.concatenate([about.tiles for about in asked])[:, None],
    )
    own = np.concatenate([about.own for about in asked])
    target = np.concatenate([about.target for about in asked])
    said = np.concatenate(answers, axis=1)
    right = {name: these == own for name, these in zip(CHANGES, said, strict=True)}
    followed = {name: these == target for name, these in zip(CHANGES, said, strict=True)}
    for name in CHANGES:
        row = {
            "change": name,
            **_rate("accuracy", "ci95", right[name], shared),
            **_rate("followed", "followed_ci95", followed[name], shared),
            "rank": max(ranks) if name != "none" else 0,
            "n_images": n_images,
        }
        if name != "none":
            row |= gain(right[name], right["none"], shared, "minus_none")
        if (control := f"random-{name}") in CHANGES:
            row |= gain(right[name], right[control], shared, "minus_random")
            row |= gain(followed[name], followed[control], shared, "followed_minus_random")
        yield row


def _rate(name: str, interval: str, these: Bools, shared: Shared) -> dict[str, Any]:
    return {name: float(these.mean()), interval: list(rate_interval(these, shared))}
