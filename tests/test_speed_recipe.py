"""The pieces of bench/speed_recipe.py, and that the whole learns."""

import json
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gpt2v.config.pictures import TilesConfig
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.hardware.device import hardware
from helpers import REPO

sys.path.insert(0, str(REPO / "bench"))

import speed_recipe as recipe


@pytest.fixture(scope="module")
def bank():
    return load_bank(TilesConfig(per_class=100))


@pytest.fixture
def pixels():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, 8, 8, 3), generator=generator, dtype=torch.uint8)


def _moved(pixels, mirrored, shifts):
    index = torch.arange(len(pixels))
    return recipe.views(pixels, index, torch.tensor(mirrored), torch.tensor(shifts))


def test_whitening_decorrelates_neighbouring_pixels():
    torch.manual_seed(0)
    x = F.avg_pool2d(torch.randn(200, 3, 18, 18), 3, 1)  # neighbours are alike
    filters = recipe.whitening(x)
    assert filters.shape == (24, 3, 2, 2)
    assert torch.equal(filters[12:], -filters[:12])
    raw = F.unfold(x, 2).transpose(0, 1).flatten(1)
    assert torch.corrcoef(raw).fill_diagonal_(0).abs().max() > 0.5
    y = F.conv2d(x, filters[:12]).transpose(0, 1).flatten(1)
    moments = y @ y.T / y.shape[1]
    assert moments.clone().fill_diagonal_(0).abs().max() < 1e-3
    # A variance v becomes v / (v + SMALLEST): 1 but for the smallest.
    assert ((moments.diagonal() > 0.9) & (moments.diagonal() < 1)).all()


def test_each_tile_is_mirrored_in_exactly_every_other_epoch():
    torch.manual_seed(0)
    first = torch.rand(1000) < 0.5
    epochs = torch.stack([recipe.alternating(first, epoch) for epoch in range(6)])
    assert torch.equal(epochs[0], first)
    assert 400 < int(first.sum()) < 600
    assert (epochs[1:] ^ epochs[:-1]).all()


def test_a_moved_tile_is_a_crop_of_its_reflected_padding(pixels):
    shifts = [[0, 0], [1, 0], [-2, 1], [2, 2], [0, -1], [-2, -2]]
    moved = _moved(pixels, [False] * 6, shifts)
    padded = F.pad(pixels.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="reflect")
    for tile, whole, (down, right) in zip(moved, padded, shifts, strict=True):
        crop = whole[:, 2 - down : 10 - down, 2 - right : 10 - right]
        assert torch.equal(tile.permute(2, 0, 1).float(), crop)
    mirrored = _moved(pixels, [True] * 6, shifts)
    assert torch.equal(mirrored, _moved(pixels.flip(2), [False] * 6, shifts))


def test_the_rate_is_a_triangle():
    shares = [recipe.share_of_peak(step, 1000) for step in range(1001)]
    assert shares[0] == pytest.approx(0.2)
    assert max(shares) == shares[230] == 1
    assert shares[115] == pytest.approx(0.6)
    assert shares[1000] == pytest.approx(0.07)
    assert shares == sorted(shares[:230]) + sorted(shares[230:], reverse=True)


def test_the_six_views_of_a_tile_are_weighted_to_one(pixels):
    constant = torch.tensor([1.0, -2.0, 0.5])
    seen = []

    def net(views):
        seen.append(views)
        return constant.expand(len(views), 3)

    torch.testing.assert_close(recipe.seen_six_times(net, pixels), constant.expand(6, 3))
    assert len(seen) == 6
    assert torch.equal(seen[1], pixels.flip(2))
    # The middle of a tile, one pixel further up and left.
    assert torch.equal(seen[2][:, 2:5, 2:5], pixels[:, 3:6, 3:6])
    total = recipe.seen_six_times(lambda views: views[:, 4, 4, :1].float(), pixels)
    mirror = pixels.flip(2).float()
    near = [(p[:, 4, 4, :1], p[:, 5, 5, :1], p[:, 3, 3, :1]) for p in (pixels.float(), mirror)]
    expected = sum(middle / 4 + (up + down) / 8 for middle, up, down in near)
    torch.testing.assert_close(total, expected)


def test_the_network_starts_with_identities_and_trains_what_the_paper_trains():
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    net = recipe.Network(pixels, 10, (64, 256, 256))
    assert net(pixels).shape == (4, 10)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(1.97e6, rel=0.01)
    x = torch.randn(1, 24, 5, 5)
    torch.testing.assert_close(net.blocks[0](x)[:, :24], x)
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    norms = {n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert frozen == {"stem.weight", *(f"{name}.weight" for name in norms)}
    biases, others = recipe.optimizer_of(net, 1024).param_groups
    assert len(biases["params"]) == 6
    assert biases["lr"] == pytest.approx(64 * others["lr"])
    # The decay of a step is the same for both, and no bias is decayed more.
    assert biases["lr"] * biases["weight_decay"] == pytest.approx(
        others["lr"] * others["weight_decay"]
    )


def test_under_a_constant_gradient_an_example_moves_a_weight_by_the_rate():
    """SGD's own sum of a gradient and its momentum is divided out."""
    net = recipe.Network(torch.zeros(1, 16, 16, 3), 2, (4,))
    optimizer = recipe.optimizer_of(net, 512)
    group = optimizer.param_groups[1]
    group["weight_decay"] = 0
    weight = net.head.weight
    for _ in range(100):
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    repeated = 1 / (1 - recipe.MOMENTUM)  # times that momentum repeats a gradient
    expected = recipe.LR * 512 / 1024 * repeated / (1 + repeated)
    torch.testing.assert_close(before - weight.detach(), torch.full_like(weight, expected))


def test_lookahead_puts_a_network_between_its_slow_weights_and_its_fast_ones():
    net = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(net.weight)
    lookahead = recipe.Lookahead(net)
    nn.init.ones_(net.weight)
    lookahead.pull(0.75)
    torch.testing.assert_close(net.weight.data, torch.full((1, 2), 0.25))
    nn.init.ones_(net.weight)
    lookahead.pull(1)  # the end: back to the slow ones
    torch.testing.assert_close(net.weight.data, torch.full((1, 2), 0.25))


def test_a_small_recipe_learns_sprites_and_never_reads_the_test_split(bank, tmp_path, monkeypatch):
    asked = []
    tiles = type(bank).tiles
    monkeypatch.setattr(type(bank), "tiles", lambda self, s: asked.append(s) or tiles(self, s))
    small = recipe.Recipe(epochs=3.5, batch=64, widths=(16, 32, 32))
    with hardware(threads=1):
        recipe.train_recipe(bank, tmp_path / "run", small)
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [15, 30, 45, 53]
    assert lines[-1]["val/cell_accuracy"] > 0.2  # chance: 0.1
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert set(asked) == {"train", "val"}


def test_too_few_tiles_for_a_batch(bank, tmp_path):
    with pytest.raises(UserError, match="sprites: 1000 training tiles, but a batch has 1024"):
        recipe.train_recipe(bank, tmp_path / "run")
    assert not (tmp_path / "run").exists()
