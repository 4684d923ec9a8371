"""Many L2 logistic regressions at once: every finding and every strength is a column of one matrix product.

Column k minimises, over the rows i whose target y_ik is known (not NaN),

    sum_i log(1 + exp(z_ik)) - y_ik z_ik  +  |w_k|^2 / (2 C_k),     z_ik = x_i . w_k + b_k,

which is scikit-learn's `LogisticRegression(C=C_k)`; the intercept b_k is not penalised. The columns are independent
problems, solved side by side by L-BFGS with a memory and a step length each. Features are first rotated to their
principal axes, which leaves the penalty and so the solution unchanged and makes the Hessian nearly diagonal: that
diagonal is the L-BFGS start matrix, and 10 to 30 iterations replace some hundreds.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_MEMORY = 10
_ARMIJO = 1e-4
_SMALL = 10**9  # multiplications in a product of rows and columns: some hundredths of a second


@dataclass(frozen=True)
class Standardizer:
    """Mean and standard deviation of each feature over the training rows; a constant feature keeps scale 1."""

    mean: Float[Tensor, " dim"]
    std: Float[Tensor, " dim"]

    def __call__(self, features: Float[Tensor, "row dim"]) -> Float[Tensor, "row dim"]:
        return (features.to(self.mean.dtype) - self.mean) / self.std


def fit_standardizer(features: Float[Tensor, "row dim"]) -> Standardizer:
    """Statistics of the rows, in double precision."""
    features = features.double()
    std = features.std(dim=0, correction=0)
    constant = std <= 1e-7 * (1 + features.abs().mean(dim=0))
    return Standardizer(features.mean(dim=0), torch.where(constant, 1.0, std))


@dataclass(frozen=True)
class LogisticFit:
    """Weights and intercepts of all columns; column k scores `features @ weight[:, k] + intercept[k]`."""

    weight: Float[Tensor, "dim column"]
    intercept: Float[Tensor, " column"]
    num_iterations: int
    converged: bool

    def __call__(self, features: Float[Tensor, "row dim"]) -> Float[Tensor, "row column"]:
        return features.to(self.weight.dtype) @ self.weight + self.intercept


def fit_logistic(
    features: Float[Tensor, "row dim"],
    target: Float[Tensor, "row column"],
    strength: Float[Tensor, " column"],
    *,
    positive_weight: Float[Tensor, " column"] | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 500,
) -> LogisticFit:
    """Fit every column; double precision.

    Args:
        features: standardised rows.
        target: 0, 1, between them where a label is soft, or NaN where the row does not enter this column.
        strength: C of each column, the inverse of the penalty, as in scikit-learn.
        positive_weight: how often a positive row counts in each column; 1 where not given.
        tolerance: largest gradient entry (in the principal axes, per known row) at which a column has converged.

    A column whose known targets are all 0 or all 1 (or none) has no finite solution: its weights are 0 and its
    intercept is the log odds of the class frequency with one half added to each class, so that it scores everybody
    alike.
    """
    features, strength = features.double(), strength.double()
    known = ~torch.isnan(target)
    y = torch.where(known, target, 0.0).double()
    mask = known.double()
    if positive_weight is not None:
        # w y (softplus(z) - z) + (1 - y) softplus(z) is m (softplus(z) - y' z) with m = 1 - y + w y and y' = w y / m.
        weighted = positive_weight.double() * y
        mask = mask * (1 - y + weighted)
        y = weighted / torch.where(known, mask, 1.0)
    num, positives = mask.sum(dim=0), (mask * y).sum(dim=0)
    odds = torch.log((positives + 0.5) / (num - positives + 0.5))
    usable = ((positives > 0) & (positives < num)).nonzero().squeeze(1)
    weight = features.new_zeros(features.shape[1], len(strength))
    intercept = odds.clone()
    if not len(usable):
        return LogisticFit(weight, intercept, 0, True)

    y, mask = y[:, usable], mask[:, usable]
    with _limit_threads(features.numel() * len(usable)):
        axes, moment = _principal_axes(features)
        rows = torch.cat([features @ axes, features.new_ones(len(features), 1)], dim=1)
        penalty = torch.cat([(1 / strength[usable]).expand(axes.shape[1], -1), strength.new_zeros(1, len(usable))])
        rate = (positives / num)[usable]
        spread = torch.cat([moment, moment.new_ones(1)])
        curvature = (rate * (1 - rate) * num[usable])[None, :] * spread[:, None] + penalty
        start = torch.zeros_like(curvature)
        start[-1] = odds[usable]
        solution, num_iterations, converged = _minimize(
            rows, y, mask, penalty, start, curvature, tolerance * num[usable], max_iterations
        )
        weight[:, usable] = axes @ solution[:-1]
        intercept[usable] = solution[-1]
    return LogisticFit(weight, intercept, num_iterations, converged)


@contextmanager
def _limit_threads(num_products: int) -> Generator[None, None, None]:
    """One thread for small problems: threads that wait for each other on a shared machine cost many times the gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if num_products < _SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _principal_axes(features: Tensor) -> tuple[Tensor, Tensor]:
    """Axes that hold all variation of the rows (dim, rank), and the mean square along each."""
    num, dim = features.shape
    if num <= dim:  # the Gram matrix is the smaller one; directions outside the rows' span get weight 0 anyway
        value, vector = torch.linalg.eigh(features @ features.T)
        keep = value > value[-1] * 1e-12
        axes = features.T @ (vector[:, keep] / value[keep].sqrt())
        return axes, value[keep] / num
    value, axes = torch.linalg.eigh(features.T @ features)
    keep = value > value[-1] * 1e-12
    return axes[:, keep], value[keep] / num


def _minimize(
    rows: Tensor,
    y: Tensor,
    mask: Tensor,
    penalty: Tensor,
    start: Tensor,
    curvature: Tensor,
    tolerance: Tensor,
    limit: int,
) -> tuple[Tensor, int, bool]:
    """L-BFGS on independent columns; two products with `rows` an iteration, whatever the line search does."""

    def measure(z: Tensor, w: Tensor) -> Tensor:
        # log(1 + e^z) - y z without overflow
        fit = (mask * (torch.nn.functional.softplus(z) - y * z)).sum(dim=0)
        return fit + (penalty * w.square()).sum(dim=0) / 2

    solution = start.clone()
    column = torch.arange(start.shape[1])  # where the columns still worked on belong in the solution
    w = start
    z = rows @ w
    value = measure(z, w)
    gradient = rows.T @ (mask * (torch.sigmoid(z) - y)) + penalty * w
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    for iteration in range(limit):
        active = gradient.abs().amax(dim=0) > tolerance
        if 2 * active.sum() <= len(active):  # weakly penalised columns take longest: put the finished ones away
            solution[:, column] = w
            if not active.any():
                return solution, iteration, True
            column, tolerance, value = column[active], tolerance[active], value[active]
            y, mask, penalty, curvature = (part[:, active] for part in (y, mask, penalty, curvature))
            w, z, gradient = w[:, active], z[:, active], gradient[:, active]
            pairs = [(s[:, active], g[:, active], inverse[active]) for s, g, inverse in pairs]
            active = active[active]
        direction = -_apply_inverse_hessian(gradient, pairs, curvature) * active
        slope = (gradient * direction).sum(dim=0)
        dz = rows @ direction
        step = torch.ones_like(slope)
        for _ in range(40):
            new_w, new_z = w + step * direction, z + step * dz
            new_value = measure(new_z, new_w)
            # The last term forgives rounding of a value that no longer changes.
            short = new_value > value + _ARMIJO * step * slope + 1e-13 * value.abs()
            if not short.any():
                break
            step = torch.where(short, step / 2, step)
        new_gradient = rows.T @ (mask * (torch.sigmoid(new_z) - y)) + penalty * new_w
        s, g = new_w - w, new_gradient - gradient
        product = (s * g).sum(dim=0)
        # A column that did not move contributes nothing to its memory.
        inverse = torch.where(product > 0, 1 / product.clamp(min=1e-300), 0.0)
        pairs = [*pairs[-_MEMORY + 1 :], (s, g, inverse)]
        w, z, value, gradient = new_w, new_z, new_value, new_gradient
    solution[:, column] = w
    return solution, limit, bool((gradient.abs().amax(dim=0) <= tolerance).all())


def _apply_inverse_hessian(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]], curvature: Tensor) -> Tensor:
    """Two-loop recursion (Nocedal and Wright 2006, algorithm 7.4), each column by itself."""
    q = gradient
    factors = []
    for s, g, inverse in reversed(pairs):
        factor = inverse * (s * q).sum(dim=0)
        factors.append(factor)
        q = q - factor * g
    q = q / curvature
    for (s, g, inverse), factor in zip(pairs, reversed(factors), strict=True):
        q = q + s * (factor - inverse * (g * q).sum(dim=0))
    return q
