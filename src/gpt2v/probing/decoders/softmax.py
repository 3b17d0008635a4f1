"""The minimum of a penalised softmax loss, to a given slope, for several sets of labels at once.

Steps are those of L-BFGS (Nocedal & Wright 2006, algorithm 7.4) in coordinates in which the loss is
nearly as curved in all directions. The curvature is at most the products of the features, times a
constant (Boehning 1992, https://doi.org/10.1007/BF00048682); here the constant is the mean
curvature where the search starts. The objective is unchanged. A path over 20,000 rows of 512
features takes 3 to 25 steps at each strength; fewer rows that can be told apart without an error
take more, up to hundreds where there is hardly a penalty.

Logits are linear along a step, so that its length is found by Newton's method without reading the
features again. A step reads them twice: for the logits, and for the slope.

All is in float64. Rows of the data come last, so that what is done for each class and row runs
along memory: coefficients w are (n_sets, n_classes, n_coordinates), where the last coordinate is
the bias, which has no penalty, and logits are (n_sets, n_classes, n_rows).
"""

import torch
from torch import Tensor

from gpt2v.errors import UserError

_MOST_STEPS = 10_000
_REMEMBERED = 10  # steps
_FLAT = 0.25  # slope along a step where its length is right, relative to that where it starts
_MOST_LENGTHS = 50


class Problem:
    """The mean loss of rows, without the penalty.

    Args:
        x: (n_rows, n_coordinates).
        products: their mean products, (n_coordinates, n_coordinates).
        labels: (n_sets, n_rows).
    """

    def __init__(self, x: Tensor, products: Tensor, labels: Tensor, n_classes: int) -> None:
        self.x, self.products = x, products
        truth = x.new_zeros(len(labels), n_classes, len(x))
        self.moment = self._mean_products(truth.scatter_(1, labels.long()[:, None], 1.0))

    def logits(self, w: Tensor) -> Tensor:
        """(n_sets, n_classes, n_rows)."""
        return logits_of(self.x, w)

    def slope(self, p: Tensor) -> Tensor:
        """That of the loss, of the shape of w, where p are the probabilities."""
        return self._mean_products(p) - self.moment

    def _mean_products(self, of_rows: Tensor) -> Tensor:
        products = of_rows.flatten(0, 1) @ self.x / len(self.x)
        return products.view(*of_rows.shape[:2], -1)

    def some(self, sets: Tensor) -> "Problem":
        """The same rows with some of the sets of labels."""
        problem = object.__new__(Problem)
        problem.x, problem.products = self.x, self.products
        problem.moment = self.moment[sets]
        return problem


def logits_of(x: Tensor, w: Tensor) -> Tensor:
    """Logits (n_sets, n_classes, n_rows) of rows (n_rows, n_coordinates)."""
    return (x @ w.flatten(0, 1).T).T.contiguous().view(*w.shape[:2], -1)


def solution(problem: Problem, w: Tensor, penalty: float, tolerance: float) -> Tensor:
    """The coefficients with the least loss + penalty / 2 |w|^2.

    Args:
        w: where the search starts.
        tolerance: largest slope in any coefficient.

    Raises:
        UserError: it is not reached.
    """
    found, open_sets = w.clone(), torch.arange(len(w), device=w.device)
    penalties = torch.full_like(w[0, 0], penalty)
    penalties[-1] = 0
    z = problem.logits(w)
    p = z.softmax(1)
    slope = problem.slope(p) + penalties * w
    memory = Memory(inverse_curvature(problem.products, p, penalties))
    for _ in range(_MOST_STEPS):
        steep = slope.abs().amax((1, 2)) > tolerance
        if not bool(steep.all()):
            found[open_sets[~steep]] = w[~steep]
            if not bool(steep.any()):
                return found
            open_sets, problem = open_sets[steep], problem.some(steep)
            w, slope, z = w[steep], slope[steep], z[steep]
            memory.keep(steep)
        step = -memory.direction(slope)
        along = problem.logits(step)
        length, p = best_length(problem, w, z, step, along, slope, penalties)
        step *= of_each(length)
        w, z = w + step, torch.addcmul(z, along, of_each(length))
        before, slope = slope, problem.slope(p) + penalties * w
        memory.add(step, slope - before)
    raise UserError(
        f"its slope is above the tolerance {tolerance:g} after {_MOST_STEPS} steps; choose a "
        "larger `tolerance` or `weakest`"
    )


def inverse_curvature(products: Tensor, p: Tensor, penalties: Tensor) -> Tensor:
    """The inverse of the curvature if it were alike for all rows, classes and sets.

    Returns:
        (n_coordinates, n_coordinates).
    """
    n_classes = p.shape[1]
    mean = (1 - p.square().sum(1)).mean() / max(n_classes - 1, 1)
    curvature = products * mean.clamp(min=1e-12)
    curvature.diagonal().add_(penalties)
    return torch.cholesky_inverse(torch.linalg.cholesky(curvature))


def best_length(
    problem: Problem,
    w: Tensor,
    z: Tensor,
    step: Tensor,
    along: Tensor,
    slope: Tensor,
    penalties: Tensor,
) -> tuple[Tensor, Tensor]:
    """Where a step is nearly flat, as a multiple of it (n_sets,), and the probabilities there.

    The loss along a step is convex, so Newton's method between bounds finds it.

    Args:
        z: logits of w.
        along: logits of the step.
        slope: at w.
    """
    n_rows, at_start = z.shape[2], dot(slope, step)
    fixed = dot(penalties * w, step) - dot(problem.moment, step)
    squared = dot(penalties * step, step)
    length, low = torch.ones_like(at_start), torch.zeros_like(at_start)
    high = torch.full_like(at_start, torch.inf)
    for _ in range(_MOST_LENGTHS):
        p = torch.addcmul(z, along, of_each(length)).softmax(1)
        weighted = p * along
        mean = weighted.sum(1)
        now = mean.sum(1) / n_rows + fixed + length * squared
        right = now.abs() <= _FLAT * at_start.abs()
        if bool(right.all()):
            break
        variance = dot(weighted, along) - mean.square().sum(1)
        newton = length - now / (variance / n_rows + squared)
        low, high = torch.where(now < 0, length, low), torch.where(now > 0, length, high)
        between = torch.where(high.isinf(), 2 * length, (low + high) / 2)
        inside = (newton > low) & (newton < high)
        length = torch.where(right, length, torch.where(inside, newton, between))
    return length, p


class Memory:
    """The last steps of L-BFGS, and how they changed the slope.

    Args:
        inverse: of the curvature that is supposed before any step.
    """

    def __init__(self, inverse: Tensor) -> None:
        self.inverse = inverse
        self.steps: list[tuple[Tensor, Tensor, Tensor]] = []  # step, change, their product

    def add(self, step: Tensor, change: Tensor) -> None:
        """Remember a step and the change of the slope."""
        self.steps = [*self.steps[1 - _REMEMBERED :], (step, change, dot(step, change))]

    def keep(self, sets: Tensor) -> None:
        """Forget the other sets of labels."""
        self.steps = [
            (step[sets], change[sets], product[sets]) for step, change, product in self.steps
        ]

    def direction(self, slope: Tensor) -> Tensor:
        """The slope, divided by the curvature."""
        parts = []
        for step, change, product in reversed(self.steps):
            part = dot(step, slope) / product
            slope = torch.addcmul(slope, change, of_each(-part))
            parts.append(part)
        direction = slope @ self.inverse
        if self.steps:
            _, change, product = self.steps[-1]
            direction *= of_each(product / dot(change, change @ self.inverse))
        for (step, change, product), part in zip(self.steps, reversed(parts), strict=True):
            direction.addcmul_(step, of_each(part - dot(change, direction) / product))
        return direction


def of_each(values: Tensor) -> Tensor:
    """Values of each set of labels (n_sets,), to be multiplied with coefficients or logits."""
    return values[:, None, None]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Sums of the products of what each set of labels has, (n_sets,)."""
    products: Tensor = torch.linalg.vecdot(a.flatten(1), b.flatten(1))
    return products
