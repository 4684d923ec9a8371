"""How well vectors say what teacher vectors say: R2, cosines and their floors (P 3.4, P 7.3), as pure functions.

A teacher's vectors may all point much the same way: the ECG teacher's have a mean pairwise cosine of 0.43. Then a
constant answer already earns a raw cosine of about sqrt(0.43) = 0.66 (`measure_constant_floor`), and raw cosines say
little. What counts is what is left without the common direction: the centred cosine and R2, both 0 for a constant.

Functions named `resample_` take multiplicities, a column for each resample, as in `bootstrap.py`; all of them 1 is the
number itself.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from hilum.evaluate.scoring.cosines import measure_cosines, normalize_rows
from hilum.evaluate.scoring.intervals import resample_mean

Vectors = Float[np.ndarray, "row dim"]
Weights = Float[np.ndarray, "row resample"]
Resamples = Float[np.ndarray, " resample"]


def resample_cosine(target: Vectors, predicted: Vectors, weight: Weights) -> Resamples:
    r"""Raw mean cosine.

    .. math:: \frac1n \sum_i \cos(p_i, y_i)
    """
    return resample_mean(measure_cosines(predicted, target), weight)


def resample_centred_cosine(target: Vectors, predicted: Vectors, weight: Weights) -> Resamples:
    r"""Mean cosine after the mean target of these rows is taken off both sides (P 3.4).

    .. math:: \frac1n \sum_i \cos(p_i - \bar y, y_i - \bar y), \qquad \bar y = \frac1n \sum_i y_i

    The mean is that of each resample. A prediction of exactly the mean counts as 0.
    """
    y, p, weight = target.astype(np.float64), predicted.astype(np.float64), weight.astype(np.float64)
    center = y.mean(axis=0)  # first, for precision: what is left to take off in a resample is small
    y, p = y - center, p - center
    mean = y.T @ weight / weight.sum(axis=0)  # (dim, resample)
    square = (mean**2).sum(axis=0)
    on_y, on_p = y @ mean, p @ mean  # (row, resample)
    dot = np.einsum("nd,nd->n", p, y)[:, None] - on_y - on_p + square
    y_square = (y**2).sum(axis=1)[:, None] - 2 * on_y + square
    p_square = (p**2).sum(axis=1)[:, None] - 2 * on_p + square
    # Below this a vector is the mean but for rounding, and the direction of what is left is noise.
    least = 1e-20 * max((center**2).sum(), (y**2).sum(axis=1).max(initial=0))
    has_both = (y_square > least) & (p_square > least)
    length = np.sqrt(np.maximum(y_square, 0) * np.maximum(p_square, 0))
    cosine = np.divide(dot, length, out=np.zeros_like(dot), where=has_both)
    return (cosine * weight).sum(axis=0) / weight.sum(axis=0)


def resample_r2(target: Vectors, predicted: Vectors, weight: Weights) -> Resamples:
    r"""Coefficient of determination, averaged over dimensions without weights (P 3.4, "uniform average").

    .. math:: R^2 = \frac1D \sum_d 1 - \frac{\sum_i (y_{id} - p_{id})^2}{\sum_i (y_{id} - \bar y_d)^2}

    Dimensions that do not vary on these rows do not enter; NaN where none does. The mean of the training rows as a
    constant answer scores 0 or a little less.
    """
    y, p, weight = target.astype(np.float64), predicted.astype(np.float64), weight.astype(np.float64)
    center = y.mean(axis=0)
    y, p = y - center, p - center
    left = ((y - p) ** 2).T @ weight
    all_ = (y**2).T @ weight - (y.T @ weight) ** 2 / weight.sum(axis=0)
    varies = all_ > 1e-12 * np.maximum((center**2 * len(y))[:, None], (y**2).sum(axis=0)[:, None])
    explained = 1 - np.divide(left, all_, out=np.ones_like(left), where=varies)
    num = varies.sum(axis=0)
    return np.divide(
        np.where(varies, explained, 0).sum(axis=0), num, out=np.full(weight.shape[1], np.nan), where=num > 0
    )


def resample_random_cosine(
    target: Vectors, predicted: Vectors, patient: Int[np.ndarray, " row"], weight: Weights
) -> Resamples:
    r"""What wrong pairs score: mean cosine of a row's prediction with the targets of all other patients' rows (P 3.4).

    .. math:: \frac{1}{|M|} \sum_{(i, j) \in M} \cos(p_i, y_j), \qquad M = \{(i, j): \mathrm{patient}_i \ne
        \mathrm{patient}_j\}

    Exact: over all wrong pairs and not a draw of them. For the floor of a centred cosine pass centred vectors. Rows of
    one patient must have the same multiplicity. NaN where there is one patient only.
    """
    y, p = normalize_rows(target), normalize_rows(predicted)
    _, first, unit = np.unique(patient, return_index=True, return_inverse=True)
    multiplicity = weight[first].astype(np.float64)  # (patient, resample)
    count = np.bincount(unit).astype(np.float64)
    sum_y, sum_p = (np.zeros((len(first), y.shape[1])) for _ in range(2))
    np.add.at(sum_y, unit, y)
    np.add.at(sum_p, unit, p)
    own = np.einsum("gd,gd->g", sum_y, sum_p)
    total = np.einsum("dr,dr->r", sum_y.T @ multiplicity, sum_p.T @ multiplicity) - own @ multiplicity**2
    pairs = (count @ multiplicity) ** 2 - count**2 @ multiplicity**2
    return np.divide(total, pairs, out=np.full(weight.shape[1], np.nan), where=pairs > 0)


def measure_constant_floor(target: Vectors) -> float:
    r"""The raw cosine of the best constant answer, which is the direction of the mean of the unit targets.

    .. math:: \max_c \frac1n \sum_i \cos(c, y_i) = \left\| \frac1n \sum_i \frac{y_i}{\|y_i\|} \right\|
        = \sqrt{\frac{1 + (n - 1) \kappa}{n}} \approx \sqrt{\kappa}

    with :math:`\kappa` the mean cosine of two different rows: 0.66 at the 0.43 of the ECG teacher (P 1.3, P 12-19).
    """
    return float(np.linalg.norm(normalize_rows(target).mean(axis=0)))


def measure_pairwise_cosine(vectors: Vectors) -> float:
    """Mean cosine of two different rows: how far the vectors all point one way. NaN for fewer than two rows."""
    num = len(vectors)
    if num < 2:
        return float("nan")
    unit = normalize_rows(vectors)
    total = float((unit.sum(axis=0) ** 2).sum())
    return (total - float((unit**2).sum())) / (num * (num - 1))
