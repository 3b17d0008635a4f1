"""How decoders that are networks are trained: AdamW, early stopping, and once more on all rows.

For each weight decay a network is trained until its loss on `val` is no longer lower; the decay
with the best accuracy there is taken. Then a network with the same first weights is trained on
training and validation rows together, for as many passes as were best. Same seed, same numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2v.config.decoders import NetworkOptions
from gpt2v.errors import UserError
from gpt2v.hardware.device import chosen_device
from gpt2v.probing.decoders.base import (
    Features,
    Fitted,
    Floats,
    Labels,
    Tensors,
    blocks_of,
    check_labels,
    moved,
)

_WEIGHTS = "network."


@dataclass(frozen=True)
class NetworkFitted:
    """A trained network, and how its input is scaled.

    Attributes:
        mean: of the features of the training rows, of the shape of a row.
        scale: root of their mean variance.
        strength: weight decay.
    """

    network: nn.Module
    mean: Tensor
    scale: Tensor
    strength: float

    @torch.no_grad()
    def _logits(self, x: Features) -> Tensor:
        logits = [
            self.network((block - self.mean) / self.scale).cpu() for block in blocks_of(moved(x))
        ]
        return torch.cat(logits).double()  # MPS has no such numbers

    def scores(self, x: Features) -> Floats:
        """(n_rows, ...) -> (n_rows, n_classes)."""
        scores: Floats = self._logits(x).numpy()
        return scores

    def logprobs(self, x: Features) -> Floats:
        """(n_rows, ...) -> log-probabilities (n_rows, n_classes), in nats."""
        logprobs: Floats = self._logits(x).log_softmax(1).numpy()
        return logprobs

    def tensors(self) -> Tensors:
        """What is saved."""
        state = {_WEIGHTS + name: value for name, value in self.network.state_dict().items()}
        state |= {"mean": self.mean, "scale": self.scale}
        arrays = {name: value.cpu().numpy() for name, value in state.items()}
        return {**arrays, "strength": np.array(self.strength)}


class NetworkDecoder:
    """A decoder whose network is trained."""

    reads: ClassVar[Literal["cell", "picture"]]
    options: NetworkOptions

    def network(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """A new network.

        Args:
            shape: of a row.
        """
        raise NotImplementedError

    @classmethod
    def like(cls, state: dict[str, Tensor]) -> nn.Module:
        """A network that such weights fit into."""
        raise NotImplementedError

    def fit(
        self, x: Features, labels: Labels, x_val: Features, val_labels: Labels, n_classes: int
    ) -> list[Fitted]:
        """See `Decoder.fit`; one set of labels after another."""
        check_labels(labels, val_labels, n_classes)
        mean = x.mean(0)
        scale = np.sqrt(np.square(x - mean).mean()).clip(1e-30)
        rows = (moved(np.concatenate([x, x_val])) - moved(mean)) / float(scale)
        each = zip(labels, val_labels, strict=True)
        fitted: list[Fitted] = []
        for both in (moved(np.concatenate(own)) for own in each):
            network, decay = self._trained(rows, both, len(x), n_classes)
            scaling = moved(mean), torch.tensor(float(scale)).to(rows)
            fitted.append(NetworkFitted(network, *scaling, decay))
        return fitted

    def _trained(
        self, rows: Tensor, labels: Tensor, n_train: int, n_classes: int
    ) -> tuple[nn.Module, float]:
        """The network that is fitted to all rows, and its weight decay."""
        shape, best = tuple(rows.shape[1:]), (-1.0, 0.0, 0)
        for decay in sorted(self.options.weight_decays, reverse=True):
            network = self._new(shape, n_classes)
            lowest, at_lowest, since = np.inf, (-1.0, decay, 0), 0
            epochs = self._epochs(network, rows[:n_train], labels[:n_train], decay)
            for number, _ in zip(range(1, self.options.epochs + 1), epochs, strict=False):
                loss, accuracy = _measured(network, rows[n_train:], labels[n_train:])
                since += 1
                if loss < lowest:
                    lowest, at_lowest, since = loss, (accuracy, decay, number), 0
                if since == self.options.patience:
                    break
            best = max(best, at_lowest, key=lambda found: found[0])
        accuracy, decay, n_epochs = best
        if accuracy < 0:
            raise UserError("decoders: the loss of a network is not finite; use a lower lr")
        network = self._new(shape, n_classes)
        epochs = self._epochs(network, rows, labels, decay)
        for _ in range(n_epochs):
            next(epochs)
        return network, decay

    def _new(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed)
            return self.network(shape, n_classes).to(chosen_device())

    def _epochs(
        self, network: nn.Module, rows: Tensor, labels: Tensor, decay: float
    ) -> Iterator[None]:
        """Train without end; yields after each pass."""
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.options.lr, weight_decay=decay)
        order = torch.Generator().manual_seed(self.options.seed)
        while True:
            drawn = torch.randperm(len(rows), generator=order).to(rows.device)
            for own in blocks_of(drawn, self.options.batch_size):
                loss = F.cross_entropy(network(rows[own]), labels[own])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            yield

    @classmethod
    def opened(cls, tensors: Tensors) -> Fitted:
        """See `Decoder.opened`."""
        arrays = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
        state = {
            name.removeprefix(_WEIGHTS): value
            for name, value in arrays.items()
            if name.startswith(_WEIGHTS)
        }
        network = cls.like(state)
        network.load_state_dict(state)
        device = chosen_device()
        scaling = arrays["mean"].to(device), arrays["scale"].to(device)
        return NetworkFitted(network.to(device), *scaling, float(arrays["strength"]))


@torch.no_grad()
def _measured(network: nn.Module, rows: Tensor, labels: Tensor) -> tuple[float, float]:
    """Loss in nats, and accuracy."""
    logits = torch.cat([network(block) for block in blocks_of(rows)])
    loss = float(F.cross_entropy(logits, labels))
    return loss, float((logits.argmax(1) == labels).float().mean())
