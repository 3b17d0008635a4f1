"""The ridge classifier: every strength and every set of labels from one matrix of products.

On centred features X and centred targets Y it minimises |Y - X W|^2 + n u s |W|^2, with n rows,
the mean variance u of the features, and the strength s: `sklearn.linear_model.Ridge` with
alpha = n u s. If there are more features than rows, it is solved in its dual form: W = X' A with
(X X' + n u s) A = Y.

What costs most is the matrix of products (X' X, or X X' in the dual form). It is computed once to
choose the strength; for the last fit, the rows of `val` are added to it. One eigendecomposition
serves all strengths; it takes half of the time of a Cholesky factorisation for each of 20 (512
features on one core).
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gpt2v.config.decoders import RidgeOptions
from gpt2v.probing.decoders.base import (
    Features,
    Fitted,
    Labels,
    Tensors,
    check_labels,
    exact,
)
from gpt2v.probing.decoders.linear import Best, LinearFitted, strengths_of


class Ridge:
    """One-against-all least squares, batched over sets of labels."""

    reads = "cell"

    def __init__(self, options: RidgeOptions | None = None) -> None:
        self.strengths = strengths_of(options or RidgeOptions())

    def fit(
        self, x: Features, labels: Labels, x_val: Features, val_labels: Labels, n_classes: int
    ) -> list[Fitted]:
        """See `Decoder.fit`; further sets, such as those of controls, may lack classes."""
        check_labels(labels, val_labels, n_classes, only_first=True)
        form = Dual if x.shape[1] > len(x) else Primal
        targets, val_targets = (targets_of(own, n_classes) for own in (labels, val_labels))
        problem = form(exact(x), exact(x_val), targets, val_targets)
        best = Best(val_labels)
        for strength in self.strengths:
            best.offer(strength, problem.val_scores(strength).argmax(2).T.cpu().numpy())
        fitted: dict[int, Fitted] = {}
        for strength in set(best.strength.tolist()):
            sets = np.flatnonzero(best.strength == strength)
            weight, bias = problem.refitted(sets, strength)
            mean = problem.mean_of_both.cpu().numpy()
            for k, number in enumerate(sets.tolist()):
                own = weight[:, k].cpu().numpy(), bias[k].cpu().numpy()
                fitted[number] = LinearFitted(mean, *own, strength)
        return [fitted[number] for number in range(len(labels))]

    @classmethod
    def opened(cls, tensors: Tensors) -> Fitted:
        """See `Decoder.opened`."""
        return LinearFitted.opened(tensors)


def targets_of(labels: Labels, n_classes: int) -> Tensor:
    """Labels (n_sets, n_rows) -> targets of 1 and -1, (n_rows, n_sets, n_classes)."""
    numbers = exact(labels.T).long()
    return 2 * torch.nn.functional.one_hot(numbers, n_classes).double() - 1


class _Problem:
    """Features and targets, centred at the mean of the training rows.

    Args:
        x: (n_rows, n_features).
        x_val: (n_val_rows, n_features).
        y: (n_rows, n_sets, n_classes).
        y_val: (n_val_rows, n_sets, n_classes).
    """

    def __init__(self, x: Tensor, x_val: Tensor, y: Tensor, y_val: Tensor) -> None:
        self.n_both = len(x) + len(x_val)
        self.mean, self.bias = x.mean(0), y.mean(0)
        self.x, self.x_val = x - self.mean, x_val - self.mean
        self.y, self.y_val = y, y_val
        # Of the mean, when the rows of val are added.
        self.shift = self.x_val.sum(0) / self.n_both
        self.mean_of_both = self.mean + self.shift
        self.bias_of_both = (y.sum(0) + y_val.sum(0)) / self.n_both

    def _scores(self, products: Tensor, y: Tensor) -> Tensor:
        return (products @ y).reshape(-1, *self.bias.shape) + self.bias


class Primal(_Problem):
    """For at most as many features as rows: systems of the size of the features."""

    def __init__(self, x: Tensor, x_val: Tensor, y: Tensor, y_val: Tensor) -> None:
        super().__init__(x, x_val, y, y_val)
        self.products = self.x.T @ self.x
        self.moment = (self.x.T @ y.flatten(1)).reshape(-1, *self.bias.shape)
        self.factorised = Factorised(self.products, self.moment.flatten(1))

    def val_scores(self, strength: float) -> Tensor:
        """(n_val_rows, n_sets, n_classes), fitted on the training rows."""
        penalty = strength * self.products.trace() / len(self.products)
        return self._scores(self.x_val, self.factorised.solved(penalty))

    def refitted(self, sets: Labels, strength: float) -> tuple[Tensor, Tensor]:
        """Weight (n_features, len(sets), n_classes) and bias, fitted on all rows."""
        products, y_val = self.products_of_both, self.y_val[:, sets]
        bias = self.bias_of_both[sets]
        added = (self.x_val.T @ y_val.flatten(1)).reshape(-1, *bias.shape)
        moment = self.moment[:, sets] + added
        moment -= self.n_both * self.shift[:, None, None] * bias
        penalty = strength * products.trace() / len(products)
        return solved(products, penalty, moment.flatten(1)).view_as(moment), bias

    @cached_property
    def products_of_both(self) -> Tensor:
        added = self.x_val.T @ self.x_val - self.n_both * torch.outer(self.shift, self.shift)
        return self.products + added


class Dual(_Problem):
    """For more features than rows: systems of the size of the rows."""

    def __init__(self, x: Tensor, x_val: Tensor, y: Tensor, y_val: Tensor) -> None:
        super().__init__(x, x_val, y, y_val)
        self.products = self.x @ self.x.T
        self.val_products = self.x_val @ self.x.T
        self.factorised = Factorised(self.products, (y - self.bias).flatten(1))

    def val_scores(self, strength: float) -> Tensor:
        """(n_val_rows, n_sets, n_classes), fitted on the training rows."""
        penalty = strength * self.products.trace() / self.x.shape[1]
        return self._scores(self.val_products, self.factorised.solved(penalty))

    def refitted(self, sets: Labels, strength: float) -> tuple[Tensor, Tensor]:
        """Weight (n_features, len(sets), n_classes) and bias, fitted on all rows."""
        products, bias = self.products_of_both, self.bias_of_both[sets]
        y = torch.cat([self.y[:, sets], self.y_val[:, sets]]) - bias
        penalty = strength * products.trace() / self.x.shape[1]
        a = solved(products, penalty, y.flatten(1))
        # Its columns add up to zero, so it does not matter at which mean x is centred.
        weight = self.x.T @ a[: len(self.x)] + self.x_val.T @ a[len(self.x) :]
        return weight.reshape(-1, *bias.shape), bias

    @cached_property
    def products_of_both(self) -> Tensor:
        top = torch.cat([self.products, self.val_products.T], 1)
        rest = torch.cat([self.val_products, self.x_val @ self.x_val.T], 1)
        whole = torch.cat([top, rest])
        mean = whole.mean(0)
        return whole - mean - mean[:, None] + mean.mean()


class Factorised:
    """The systems (products + penalty * identity) w = y of any penalty."""

    def __init__(self, products: Tensor, y: Tensor) -> None:
        values, self.vectors = torch.linalg.eigh(products)
        self.values = values.clamp(min=1e-100)  # 0 if nothing varies
        self.y = self.vectors.T @ y

    def solved(self, penalty: Tensor) -> Tensor:
        """The solution w, of the shape of y."""
        solution: Tensor = self.vectors @ (self.y / (self.values + penalty)[:, None])
        return solution


def solved(products: Tensor, penalty: Tensor, y: Tensor) -> Tensor:
    """The solution of (products + penalty * identity) w = y, of the shape of y."""
    penalised = products.clone()
    penalised.diagonal().add_(penalty.clamp(min=1e-100))  # if nothing varies
    solution: Tensor = torch.cholesky_solve(y, torch.linalg.cholesky(penalised))
    return solution
