"""Metrics of ordered classes, such as density a to d and BI-RADS 1 to 5 (L 3.3), under multiplicities of rows.

The targets of such a task are one for each class, in their order, and a row belongs to the class whose logit is the
highest (the first of equals): an argmax, which nothing is fitted for. Thresholds on the expected class, fitted on
validation for the best kappa, would give a higher kappa and say less of the encoder.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from .bootstrap import divide


def count_confusions(
    target: Float[np.ndarray, "row cls"], logit: Float[np.ndarray, "row cls"], weight: Float[np.ndarray, "row resample"]
) -> Float[np.ndarray, "cls cls resample"]:
    """Rows of each class (first axis) that are said to be of each class (second); `target` is 1 at the row's class."""
    num = target.shape[1]
    cell = num * target.argmax(axis=1) + logit.argmax(axis=1)
    member = (cell == np.arange(num * num)[:, None]).astype(weight.dtype)  # counts are exact: below 2**24
    return (member @ weight).reshape(num, num, -1).astype(np.float64)


def resample_quadratic_kappa(
    target: Float[np.ndarray, "row cls"], logit: Float[np.ndarray, "row cls"], weight: Float[np.ndarray, "row resample"]
) -> Float[np.ndarray, " resample"]:
    r"""Quadratic-weighted kappa: agreement beyond chance, where an error of two classes counts as four of one.

    .. math:: \kappa = 1 - \frac{\sum_{ij} (i - j)^2 O_{ij}}{\sum_{ij} (i - j)^2 E_{ij}}, \quad
              E_{ij} = \frac{1}{n} \sum_k O_{ik} \sum_l O_{lj}

    O counts rows of class i that are called j (Cohen 1968, "Weighted kappa", Psychological Bulletin 70:213). 1 is
    perfect, 0 chance (one answer for all), below 0 worse. NaN where all rows are of one class and called so.

    Example: classes 0, 1, 2, 2 called 0, 1, 1, 2 err by 1 once; chance would err by (0 + 2 + 4
    + 1 + 0 + 1 + 8 + 4 + 0) / 4 = 5, so kappa is 1 - 1 / 5 = 0.8.
    """
    confusion = count_confusions(target, logit, weight)
    place = np.arange(target.shape[1])
    error = (place[:, None] - place[None]).astype(np.float64) ** 2
    true, said = confusion.sum(axis=1), confusion.sum(axis=0)
    seen = np.einsum("ij,ijr->r", error, confusion)
    expected = divide(np.einsum("ij,ir,jr->r", error, true, said), true.sum(axis=0))
    return 1 - divide(seen, expected)


def resample_balanced_accuracy(
    target: Float[np.ndarray, "row cls"], logit: Float[np.ndarray, "row cls"], weight: Float[np.ndarray, "row resample"]
) -> Float[np.ndarray, " resample"]:
    r"""Mean over the classes of the share of a class's rows that are called so.

    .. math:: \frac{1}{|K|} \sum_{k \in K} \frac{O_{kk}}{\sum_j O_{kj}}

    over the classes K that have rows (Brodersen et al. 2010, "The balanced accuracy and its posterior distribution";
    of several classes as in scikit-learn). One answer for all scores 1 / |K|. NaN without rows.

    Example: classes 0, 0, 1, 2 called 0, 1, 1, 1: (1/2 + 1 + 0) / 3 = 1/2.
    """
    confusion = count_confusions(target, logit, weight)
    num = confusion.sum(axis=1)
    found = np.einsum("kkr->kr", confusion)
    share = np.divide(found, num, out=np.zeros_like(found), where=num > 0)
    return divide(share.sum(axis=0), (num > 0).sum(axis=0))
