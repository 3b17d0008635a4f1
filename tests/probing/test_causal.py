"""Planted models: one that ignores what a probe reads, and one that answers from it."""

import copy
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch

from gpt2v.config.grids import ProbeGridConfig
from gpt2v.config.sites import Site, sites_of
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.asked import question_columns
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.pictures import Pictures
from gpt2v.data.text_pieces import Strings
from gpt2v.data.tiles.bank import TileBank
from gpt2v.model.changes import changed
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.packed import Reader
from gpt2v.model.projector import LinearProjector
from gpt2v.model.scoring import PackedScorer
from gpt2v.model.states import picture_states, text_states
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.probing.causal import (
    CHANGES,
    Asked,
    causal_rows,
    changes_of,
    in_cell,
    is_read,
)
from gpt2v.probing.erasure import Eraser, Mover

SPEC = ProbeGridConfig(rows=1, cols=2)
N_TRAIN, N_TEST, CLASSES = 400, 120, 10  # scored in two portions
PRE = Site("pre-projector")


class Planted(ProjectedPatches):
    """The first ten features of each patch are the class of its cell, with noise."""

    def features(self, pictures):
        with torch.no_grad():
            features = super().features(pictures)
        span = self.model.geometry.span(1, 2, 16)
        classes = pictures.grids.classes.reshape(len(pictures), -1)[:, span.cell]
        noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
        features = 0.1 * noise  # alike in all directions
        features[:, span.patch, :CLASSES] += torch.from_numpy(np.eye(CLASSES)[classes]).float()
        return features


def states(model, bank, split, n, project=False):
    """States and labels of a split."""
    data, source = GridDataset(SPEC, bank, 1, split, n), Planted(model)
    parts = [source.features(pictures) for pictures in data.pictures(48)]
    if project:
        with torch.no_grad():
            parts = [model.project(features) for features in parts]
    return torch.cat(parts).numpy(), data.grids(np.arange(n)).classes.reshape(n, -1)


def cells(model):
    span = model.geometry.span(1, 2, 16)
    return {cell: span.patch[span.cell == cell] for cell in range(2)}


def probed(train, labels, test, truth):
    """Share of the test rows that plain least squares read right."""
    rows = [np.column_stack([x.reshape(len(x), -1), np.ones(len(x))]) for x in (train, test)]
    weight = np.linalg.lstsq(rows[0], np.eye(CLASSES)[labels], rcond=None)[0]
    return ((rows[1] @ weight).argmax(1) == truth).mean()


def with_projector(gpt2v, weight):
    model = copy.deepcopy(gpt2v)
    model.projector = LinearProjector(16, 32)
    with torch.no_grad():
        model.projector.linear_1.weight.copy_(weight)
        model.projector.linear_1.bias.zero_()
    return model


def by_change(rows, cell="all"):
    own = {row["change"]: row for row in rows if row["cell"] == cell}
    assert tuple(own) == CHANGES
    return own


def test_a_direction_that_the_model_ignores(gpt2v, bank, table):
    weight = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    weight[:, :CLASSES] = 0  # the projector sees no class
    model = with_projector(gpt2v, weight)
    data = GridDataset(SPEC, bank, 1, "test", N_TEST)
    train, labels = states(model, bank, "train", N_TRAIN)
    test, truth = states(model, bank, "test", N_TEST)
    for cell, patches in cells(model).items():
        planted = [x[:, patches][..., :CLASSES] for x in (train, test)]
        assert probed(planted[0], labels[:, cell], planted[1], truth[:, cell]) > 0.95
    train[..., CLASSES:] = 0  # so that erasers and movers change the planted direction alone
    render = Renderer(bank, table, model.token_geometry)
    scorer = PackedScorer(Reader.of(model, Planted(model)), render, generate=False)
    rows = causal_rows(model, scorer, data, PRE, train, labels, cells(model))
    for cell in ("all", [0, 0], [0, 1]):
        own = by_change(rows, cell)
        none = own["none"]
        for change in ("erase", "move"):
            for key in ("accuracy", "ci95", "followed", "followed_ci95"):
                assert own[change][key] == none[key]
            assert own[change]["minus_none"] == 0
            assert own[change]["minus_none_p"] == 1
            random = own[f"random-{change}"]["accuracy"]  # may be changed
            assert own[change]["minus_random"] == pytest.approx(none["accuracy"] - random)
            assert own[change]["rank"] == CLASSES - 1
        assert "minus_none" not in none


def test_other_directions_of_the_same_model_are_used(gpt2v, bank, table):
    """So its answers could have changed."""
    model = with_projector(gpt2v, torch.randn(32, 16, generator=torch.Generator().manual_seed(0)))
    data = GridDataset(SPEC, bank, 1, "test", 8)
    render = Renderer(bank, table, model.token_geometry)
    scorer = PackedScorer(Reader.of(model, Planted(model)), render, generate=False)
    train, labels = states(model, bank, "train", N_TRAIN)
    about, patches = Asked.of(data, 0, 0), cells(model)[0]
    x = train[:, patches].reshape(N_TRAIN, -1)
    fitted = [part.fit(x, labels[:, 0], CLASSES) for part in (Eraser, Mover)]
    changes = changes_of(about, *fitted, 0)
    number = np.arange(8)
    before = np.array(scorer.score(data, number, "image")["logprobs"])
    for change in changes:
        with changed(model, PRE, partial(in_cell, patches, change, number)):
            after = np.array(scorer.score(data, number, "image")["logprobs"])
        assert np.abs(after - before).max() > 1e-3


class Pointing:
    """A stand-in for a reader: it says the class that the tokens of the asked cell show."""

    def __init__(self, model, bank):
        self.model, self.bank, self.source = model, bank, Planted(model)

    def score(self, data, index, layout, mode="independent"):
        pictures = Pictures(data.grids(index), self.bank, 48, SPEC.picture)
        with torch.no_grad():
            tokens = self.model.project(self.source.features(pictures))
        samples = data.samples(index)
        records = question_columns(samples, self.bank.class_names, Strings())
        shown = [tokens[:, patches, :CLASSES].mean(1) for patches in cells(self.model).values()]
        place = zip(np.repeat(np.arange(len(index)), 2), records["col"], strict=True)
        records["prediction"] = [self.bank.class_names[int(shown[c][i].argmax())] for i, c in place]
        return records


@pytest.mark.parametrize("site", [PRE, Site("post-projector")], ids=str)
def test_a_direction_that_the_model_answers_from(gpt2v, bank, site):
    model = with_projector(gpt2v, torch.eye(32, 16))
    data = GridDataset(SPEC, bank, 1, "test", N_TEST)
    train, labels = states(model, bank, "train", N_TRAIN, project=site != PRE)
    rows = causal_rows(model, Pointing(model, bank), data, site, train, labels, cells(model))
    assert [row["site"] for row in rows] == [site.name] * 15
    for cell in ("all", [0, 0], [0, 1]):
        own = by_change(rows, cell)
        assert own["none"]["accuracy"] > 0.95
        assert own["none"]["followed"] < 0.05
        assert own["move"]["followed"] > 0.95
        assert own["move"]["accuracy"] < 0.05
        assert own["move"]["minus_none"] == own["move"]["accuracy"] - own["none"]["accuracy"]
        assert own["move"]["followed_minus_random_ci95"][0] > 0.7
        assert own["erase"]["accuracy"] < 0.4
        assert own["erase"]["followed"] < 0.4
        for change in ("move", "erase"):
            assert own[change]["minus_none_ci95"][1] < 0
            assert own[change]["minus_none_p"] < 0.001
            random = own[f"random-{change}"]
            assert own[change]["minus_random"] == pytest.approx(
                own[change]["accuracy"] - random["accuracy"]
            )
            assert own[change]["minus_random_ci95"][1] < 0
            assert "minus_random" not in random
            assert own[f"random-{change}"]["accuracy"] > 0.8
            assert own[f"random-{change}"]["followed"] < 0.1


def test_only_the_patches_of_the_cell_are_changed_in_one_picture_or_in_one_of_each_cell():
    """Three grids of two cells with four patches: in one picture, or in a picture for each cell."""
    states = torch.arange(3 * 8 * 5.0).reshape(3, 8, 5)
    patches, number = np.array([4, 5, 6, 7]), np.array([1, 4, 6])

    def change(x, number):
        assert x.shape == (3, 20)
        return -x - number[:, None]

    one = in_cell(patches, change, number, states)
    torch.testing.assert_close(one[:, :4], states[:, :4])
    torch.testing.assert_close(
        one[:, 4:], -states[:, 4:] - torch.tensor([1.0, 4, 6])[:, None, None]
    )
    each = in_cell(patches, change, number, states.reshape(6, 4, 5))
    assert torch.equal(each, one.reshape(6, 4, 5))


def test_cells_are_moved_to_another_object_of_the_palette(bank):
    data = GridDataset(SPEC, bank, 1, "test", N_TEST)
    grids = data.grids(np.arange(N_TEST))
    drawn = partial(Asked.of, data, 1)
    one, same, other = (drawn(seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.target, same.target)
    assert (one.target != other.target).mean() > 0.4
    np.testing.assert_array_equal(one.own, grids.classes[:, 0, 1])
    np.testing.assert_array_equal(one.tiles, grids.tiles[:, 0, 1])
    assert (one.target != one.own).all()
    assert (grids.palette == one.target[:, None]).any(1).all()


@dataclass(frozen=True)
class States:
    """States of a model, and which of them belong to a cell."""

    model: GPT2vModel
    bank: TileBank
    render: Renderer

    def of(self, data, site):
        batches = data.batches("image", self.render, with_choices=False)
        if site.name == "lm":
            reader, table = Reader.of(self.model), self.render.table
            parts = [text_states(reader, batch, [site], table)[site] for batch in batches]
        else:
            parts = [picture_states(self.model, batch.pixels, [site])[site] for batch in batches]
        return torch.cat(parts).numpy()

    def patches(self, site, cell):
        span = self.model.geometry.span(1, 2, 16)
        own = np.flatnonzero(span.cell == cell)
        return own if site.name == "lm" else span.patch[own]


def test_every_site_that_answers_can_depend_on_is_changed(gpt2v, bank, table):
    names = ("pixels", "random", "vision", "pre-projector", "post-projector", "lm", "answer")
    render = Renderer(bank, table, gpt2v.token_geometry)
    known = States(gpt2v, bank, render)
    scorer = PackedScorer(Reader.of(gpt2v, ProjectedPatches(gpt2v)), render, generate=False)
    data, train = (GridDataset(SPEC, bank, 1, s, n) for s, n in (("test", 8), ("train", 60)))
    labels = train.grids(np.arange(60)).classes.reshape(60, -1)
    rows = [
        row
        for site in sites_of(names, 2, 2)
        if is_read(site, gpt2v)
        for row in causal_rows(
            gpt2v, scorer, data, site, known.of(train, site), labels,
            {cell: known.patches(site, cell) for cell in range(2)},
        )
    ]  # fmt: skip
    sites = dict.fromkeys((row["site"], row["layer"]) for row in rows)
    # the projector reads vision.1; nothing after lm.1 reads image positions
    vision, lm = ([(name, layer) for layer in range(2)] for name in ("vision", "lm"))
    assert list(sites) == [*vision, ("pre-projector", None), ("post-projector", None), *lm]
    by_site = {site: [row for row in rows if (row["site"], row["layer"]) == site] for site in sites}
    for own in by_site.values():
        assert len(own) == 3 * len(CHANGES)
        assert own[0]["accuracy"] == rows[0]["accuracy"]  # without a change
    # the same states at two sites
    same = ("accuracy", "followed", "minus_none", "rank")
    for one, other in zip(by_site["vision", 1], by_site["pre-projector", None], strict=True):
        assert [one.get(key) for key in same] == [other.get(key) for key in same]
