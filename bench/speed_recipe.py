"""The speed recipe for CIFAR-10 of Jordan 2024 (https://arxiv.org/abs/2404.00498), on single tiles.

It is that of the paper's 94%, written from its description, at its settings: a network of 2M
parameters, which starts as a whitening of the pixels followed by identities, and 9.9 epochs. Tiles
are those of a tile bank. The training split is trained on, the validation split is measured after
each epoch, and the test split is not read. The authors use fp16 on one A100; here it is bf16, or
fp32 where the hardware has no bf16.

Shapes: P tiles, S side of a tile in pixels, D channels, H side of a feature map, K classes.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2v.data.tiles.bank import TileBank
from gpt2v.errors import UserError
from gpt2v.hardware.device import chosen_device, hardware_facts
from gpt2v.hardware.precision import Precision, autocast, has_bf16
from gpt2v.runs import versions

WHITENED = 2  # side of the whitened squares of pixels
SMALLEST = 5e-4  # added to the variances that whitening divides by
WHITENED_TILES = 5000  # from which the whitening is computed
BIAS_EPOCHS = 3  # for which the bias of the whitening trains
SHIFT = 2  # pixels that a tile moves at most
SMOOTHING = 0.2
MOMENTUM = 0.85
LR, DECAY, UNIT = 11.5, 0.0153, 1024  # rate and weight decay for each UNIT examples
BIAS_LR = 64  # times LR, for the biases of the normalisations
START, PEAK_AT, END = 0.2, 0.23, 0.07  # of the rate: first share, where in the training 1, last
LOOKAHEAD_EVERY, LOOKAHEAD = 5, 0.95**5
AT_ONCE = 1000  # tiles of a pass in a validation


@dataclass(frozen=True)
class Recipe:
    """What is not the same in a test."""

    epochs: float = 9.9
    batch: int = 1024
    widths: tuple[int, ...] = (64, 256, 256)


DEFAULT = Recipe()


class _Conv(nn.Conv2d):
    """3x3 convolution that passes its inputs on, on as many channels as there are inputs."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__(d_in, d_out, 3, padding=1, bias=False)
        with torch.no_grad():
            nn.init.dirac_(self.weight[:d_in])


def _norm(d: int) -> nn.BatchNorm2d:
    """Batch normalisation whose scale stays 1."""
    norm = nn.BatchNorm2d(d, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


class Network(nn.Module):
    """Tiles, (P, S, S, 3) from 0 to 255 -> logits, (P, K).

    Args:
        pixels: (P, S, S, 3) training tiles, for the means and deviations of colours.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, pixels: Tensor, n_classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        colours = pixels.reshape(-1, 3).cpu().double()  # Metal has no fp64
        self.register_buffer("mean", colours.mean(0).float())
        self.register_buffer("deviation", colours.std(0).clamp(min=1).float())
        n = 2 * 3 * WHITENED**2
        self.stem = nn.Conv2d(3, n, WHITENED)
        self.stem.weight.requires_grad_(False)
        with torch.no_grad():
            cast(Tensor, self.stem.bias).zero_()
        blocks: list[nn.Module] = []
        for d_in, d_out in pairwise((n, *widths)):
            blocks += [_Conv(d_in, d_out), nn.MaxPool2d(2), _norm(d_out), nn.GELU()]
            blocks += [_Conv(d_out, d_out), _norm(d_out), nn.GELU()]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], n_classes, bias=False)

    def normalised(self, pixels: Tensor) -> Tensor:
        """(P, S, S, 3) -> (P, 3, S, S), channels last in memory."""
        return ((pixels.float() - self.mean) / self.deviation).permute(0, 3, 1, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.blocks(F.gelu(self.stem(self.normalised(pixels))))
        return self.head(F.max_pool2d(x, x.shape[-1]).flatten(1)) / 9  # 3x3 of tiles of 32 pixels


def whitening(x: Tensor) -> Tensor:
    """Filters that decorrelate squares of pixels, each with both signs.

    Args:
        x: (P, 3, S, S) normalised tiles.

    Returns:
        (24, 3, 2, 2), the largest variance first.
    """
    squares = F.unfold(x.float(), WHITENED).mT.flatten(0, 1)  # (n, 12)
    moments = (squares.T @ squares / len(squares)).cpu()  # Metal has no eigh
    variances, directions = torch.linalg.eigh(moments)
    filters = (directions / (variances + SMALLEST).sqrt()).T.flip(0).view(-1, 3, WHITENED, WHITENED)
    return torch.cat([filters, -filters]).to(x.device)


def views(pixels: Tensor, index: Tensor, mirrored: Tensor, shifts: Tensor) -> Tensor:
    """Tiles, some of them mirrored left to right, then moved; what comes in is reflected.

    Args:
        pixels: (n, S, S, 3).
        index: (P,) rows of `pixels`.
        mirrored: (P,) whether to mirror.
        shifts: (P, 2) pixels down and to the right.

    Returns:
        (P, S, S, 3).
    """
    last = pixels.shape[1] - 1
    places = torch.arange(last + 1, device=pixels.device) - shifts.T[:, :, None]  # (2, P, S)
    rows, cols = last - (last - places.abs()).abs()  # reflected at both ends
    cols = torch.where(mirrored[:, None], last - cols, cols)
    return pixels[index[:, None, None], rows[:, :, None], cols[:, None, :]]


def alternating(first: Tensor, epoch: int) -> Tensor:
    """Which tiles are mirrored in an epoch, (n,): those that were not in the epoch before.

    Args:
        first: (n,) those of epoch 0.
    """
    return first ^ (epoch % 2 == 1)


def share_of_peak(step: int, steps: int) -> float:
    """The learning rate of a step as a share of its peak: a triangle."""
    peak = max(1, int(steps * PEAK_AT))
    if step < peak:
        return START + (1 - START) * step / peak
    return 1 + (END - 1) * (step - peak) / max(1, steps - peak)


def optimizer_of(net: Network, batch: int) -> torch.optim.SGD:
    """SGD for the mean loss of a batch.

    The recipe's rates are those of the whole update that an example causes. Nesterov's momentum
    repeats an update, so it is divided by the number of repetitions.
    """
    examples = batch / UNIT / (1 + 1 / (1 - MOMENTUM))
    lr, decay = LR * examples, DECAY * examples
    norms = [m.bias for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    taken = set(map(id, norms))
    others = [p for p in net.parameters() if p.requires_grad and id(p) not in taken]
    return torch.optim.SGD(
        [
            {"params": norms, "lr": lr * BIAS_LR, "weight_decay": decay / (lr * BIAS_LR)},
            {"params": others, "lr": lr, "weight_decay": decay / lr},
        ],
        momentum=MOMENTUM,
        nesterov=True,
    )


class Lookahead:
    """Slow weights that follow those of a network, which is put back to them (Zhang et al. 2019,
    https://arxiv.org/abs/1907.08610). Running statistics are among the weights.
    """

    def __init__(self, net: nn.Module) -> None:
        self._fast = [t for t in net.state_dict().values() if t.is_floating_point()]
        self._slow = [t.clone() for t in self._fast]

    @torch.no_grad()
    def pull(self, kept: float) -> None:
        """Move the slow weights to the fast ones, but for the share `kept`, and these onto them."""
        for slow, fast in zip(self._slow, self._fast, strict=True):
            slow.lerp_(fast, 1 - kept)
            fast.copy_(slow)


def seen_six_times(net: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Logits (P, K), averaged over views: each tile and its mirror image count half, and half these
    moved by a pixel up and left, or down and right. `pixels` is (P, S, S, 3).
    """
    n, total = len(pixels), torch.zeros(())
    index = torch.arange(n, device=pixels.device)
    for shift, weight in ((0, 1 / 2), (-1, 1 / 4), (1, 1 / 4)):
        shifts = index.new_full((n, 2), shift)
        for mirror in (False, True):
            mirrored = torch.full_like(index, mirror, dtype=torch.bool)
            total = weight / 2 * net(views(pixels, index, mirrored, shifts)) + total
    return total


class _Split:
    """The tiles of a split on a device: pixels (n, S, S, 3), classes (n,)."""

    def __init__(self, bank: TileBank, split: str, device: torch.device) -> None:
        self.pixels = torch.from_numpy(bank.take(bank.tiles(split))).to(device)
        self.classes = torch.from_numpy(bank.splits[split].labels).to(device)

    @torch.no_grad()
    def accuracy(self, logits_of: Callable[[Tensor], Tensor]) -> float:
        """Share of the tiles whose class has the largest logit."""
        named = torch.cat([logits_of(part).argmax(1) for part in self.pixels.split(AT_ONCE)])
        return float((named == self.classes).float().mean())


def train_recipe(bank: TileBank, folder: Path, recipe: Recipe = DEFAULT, seed: int = 0) -> None:
    """Train, and write recipe.json and, for each epoch, a line of metrics.jsonl to a new folder.

    A line has the seconds of training so far, without those of the validations, and the accuracy
    on all validation tiles with the six views of each (`val/cell_accuracy`) and without them.

    Raises:
        UserError: there are fewer training tiles than in a batch.
    """
    device = chosen_device()
    train, val = _Split(bank, "train", device), _Split(bank, "val", device)
    n, batch = len(train.classes), recipe.batch
    if n < batch:
        raise UserError(f"{bank.name}: {n} training tiles, but a batch has {batch}")
    folder.mkdir(parents=True)
    precision: Precision = "bf16" if has_bf16(device) else "fp32"
    torch.manual_seed(seed)
    net = Network(train.pixels, len(bank.class_names), recipe.widths).to(device)
    if device.type != "mps":  # https://github.com/pytorch/pytorch/issues/175189
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = sum(p.numel() for p in net.parameters())
    about = {"parameters": parameters, "precision": precision, "hardware": hardware_facts()}
    content = {"kind": "bench", "versions": versions(), **asdict(recipe), **about}
    (folder / "recipe.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    steps, step, seconds = ceil(n // batch * recipe.epochs), 0, 0.0
    begin = time.perf_counter()
    some = train.pixels[:: max(1, n // WHITENED_TILES)]  # sorted by class, so of all classes
    with torch.no_grad():
        net.stem.weight.copy_(whitening(net.normalised(some)))
    optimizer, lookahead = optimizer_of(net, batch), Lookahead(net)
    peaks = [group["lr"] for group in optimizer.param_groups]
    first = torch.rand(n, device=device) < 0.5
    for epoch in range(ceil(recipe.epochs)):
        net.train()
        cast(Tensor, net.stem.bias).requires_grad_(epoch < BIAS_EPOCHS)
        mirrored, before = alternating(first, epoch), step
        # The last tiles of the order, which do not fill a batch, are left out.
        for index in torch.randperm(n, device=device).split(batch)[: min(n // batch, steps - step)]:
            shifts = torch.randint(-SHIFT, SHIFT + 1, (batch, 2), device=device)
            pixels = views(train.pixels, index, mirrored[index], shifts)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * share_of_peak(step, steps)
            optimizer.zero_grad()
            with autocast(precision, device):
                logits = net(pixels)
                loss = F.cross_entropy(logits, train.classes[index], label_smoothing=SMOOTHING)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            if step % LOOKAHEAD_EVERY == 0:
                lookahead.pull(LOOKAHEAD * (step / steps) ** 3)
        if step == steps:
            lookahead.pull(1)
        last_loss = loss.item()  # waits for the device
        spent = time.perf_counter() - begin
        seconds += spent
        net.eval()
        with autocast(precision, device):
            plain, seen = val.accuracy(net), val.accuracy(partial(seen_six_times, net))
        line = {
            "step": step,
            "time": round(time.time(), 3),
            "seconds": seconds,
            "samples_per_s": batch * (step - before) / spent,
            "loss": last_loss,
            "val/cell_accuracy": seen,
            "val/plain_accuracy": plain,
        }
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"recipe: epoch {epoch + 1}, {seconds:.1f} s, accuracy {seen:.1%}", flush=True)
        begin = time.perf_counter()
