"""Multinomial logistic regression: a path of solutions from the strongest penalty to the weakest.

With n rows, the mean variance u of the features and the strength s, it minimises

    mean of -log p(class | x)  +  u s / 2 |W|^2

over the weights W of all classes and a bias without a penalty: the objective of
`sklearn.linear_model.LogisticRegression` with C = 1 / (n u s). (Of two classes scikit-learn has
only the difference, for which C = 2 / (n u s).)

Each solution starts from that of the strength before, and is `softmax.solution`.
"""

import numpy as np
import torch
from torch import Tensor

from gpt2v.config.decoders import LogisticOptions
from gpt2v.errors import within
from gpt2v.probing.decoders.base import (
    Features,
    Fitted,
    Floats,
    Labels,
    Tensors,
    check_labels,
    exact,
)
from gpt2v.probing.decoders.linear import Best, LogisticFitted, strengths_of
from gpt2v.probing.decoders.softmax import Problem, logits_of, solution

_AT_ONCE = 2**23  # logits of the label sets that are fitted together; 64 MB


class Logistic:
    """Multinomial logistic regression, batched over sets of labels."""

    reads = "cell"

    def __init__(self, options: LogisticOptions | None = None) -> None:
        options = options or LogisticOptions()
        self.strengths, self.tolerance = strengths_of(options), options.tolerance
        self.by_likelihood = options.chosen_by == "likelihood"

    def fit(
        self, x: Features, labels: Labels, x_val: Features, val_labels: Labels, n_classes: int
    ) -> list[Fitted]:
        """See `Decoder.fit`.

        Raises:
            UserError: also if a solution does not reach the tolerance.
        """
        check_labels(labels, val_labels, n_classes)
        rows = Rows(exact(x), exact(x_val))
        n_together = max(1, _AT_ONCE // (len(rows.all) * n_classes))
        fitted: list[Fitted] = []
        for at in range(0, len(labels), n_together):
            some = slice(at, at + n_together)
            fitted += self._fit(rows, labels[some], val_labels[some], n_classes)
        return fitted

    def _fit(
        self, rows: "Rows", labels: Labels, val_labels: Labels, n_classes: int
    ) -> list[Fitted]:
        n = labels.shape[1]
        train = Problem(rows.all[:n], rows.products, exact(labels), n_classes)
        w = rows.all.new_zeros(len(labels), n_classes, rows.all.shape[1])
        best, chosen = Best(val_labels), w.clone()
        for strength in self.strengths:
            w = self._solution(train, w, strength, rows.unit)
            scores = logits_of(rows.all[n:], w)
            if self.by_likelihood:
                truth = exact(val_labels).long()[:, None]
                logprobs = scores.log_softmax(1).gather(1, truth)[:, 0]
                better = best.offer_value(strength, logprobs.mean(1).cpu().numpy())
            else:
                better = best.offer(strength, scores.argmax(1).cpu().numpy())
            chosen[better] = w[better]
        both = np.concatenate([labels, val_labels], 1)
        fitted: dict[int, Fitted] = {}
        for strength in set(best.strength.tolist()):
            sets = np.flatnonzero(best.strength == strength)
            problem = Problem(rows.all, rows.products_of_both, exact(both[sets]), n_classes)
            w = self._solution(problem, chosen[sets], strength, rows.unit_of_both)
            for own, number in zip(w, sets.tolist(), strict=True):
                fitted[number] = LogisticFitted(*rows.told(own.T.contiguous()), strength)
        return [fitted[number] for number in range(len(labels))]

    def _solution(self, problem: Problem, w: Tensor, strength: float, unit: float) -> Tensor:
        with within(f"logistic: strength {strength:g}: "):
            return solution(problem, w, strength * unit, self.tolerance)

    @classmethod
    def opened(cls, tensors: Tensors) -> Fitted:
        """See `Decoder.opened`."""
        return LogisticFitted.opened(tensors)


class Rows:
    """All rows in coordinates in which they are well scaled, with a column of ones for the bias.

    They are centred at the mean of the training rows, and divided by the root of their mean
    variance. If there are more features than rows, coordinates are those along an orthonormal basis
    of the rows, in which every solution lies, as its penalty is the same there.

    Args:
        x: (n_rows, n_features).
        x_val: (n_val_rows, n_features).

    Attributes:
        all: (n_rows + n_val_rows, n_coordinates + 1).
        products: mean products of two coordinates over the training rows.
        products_of_both: the same over all rows.
        unit: mean variance of the features of the training rows, in these coordinates: 1.
        unit_of_both: the same of all rows.
    """

    def __init__(self, x: Tensor, x_val: Tensor) -> None:
        self.mean = x.mean(0)
        centred = torch.cat([x, x_val]) - self.mean
        self.scale = centred[: len(x)].square().mean().sqrt()
        if not self.scale:  # nothing varies
            self.scale = torch.ones_like(self.scale)
        self.basis: Tensor | None = None
        if centred.shape[1] > len(centred):
            self.basis, triangle = torch.linalg.qr(centred.T)
            centred = triangle.T
        self.all = torch.cat([centred / self.scale, centred.new_ones(len(centred), 1)], 1)
        train, val = self.all[: len(x)], self.all[len(x) :]
        products = train.T @ train
        self.products = products / len(train)
        self.products_of_both = (products + val.T @ val) / len(self.all)
        self.unit, self.unit_of_both = (
            max(float((m.trace() - m[-1].square().sum()) / x.shape[1]), 1e-12)
            for m in (self.products, self.products_of_both)
        )

    def told(self, w: Tensor) -> tuple[Floats, Floats, Floats]:
        """Mean, weight (n_features, n_classes) and bias (n_classes,) of a solution.

        Args:
            w: (n_coordinates + 1, n_classes).
        """
        weight = w[:-1] / self.scale
        if self.basis is not None:
            weight = self.basis @ weight
        return self.mean.cpu().numpy(), weight.cpu().numpy(), w[-1].cpu().numpy()
