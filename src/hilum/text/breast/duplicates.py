"""How often the breasts of a batch have one description, so that contrast would push apart what belongs together.

L 1.5: of VinDr's 8,000 training breasts an anchor meets on average 5.1 of 17 negatives of its own description, and 84 %
of anchors meet one. The counts of the 128 descriptions behind these figures are not published with them, so they are to
be measured on the archive itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln


class Identical(NamedTuple):
    """Negatives of an anchor's own description."""

    mean_negatives: float
    """Of the batch size minus 1 negatives of an anchor, on average."""
    share_of_anchors: float
    """Anchors with at least one."""


def count_identical(descriptions: Sequence[Hashable]) -> Identical:
    """Of one batch: its breasts' descriptions (or their hashes).

    Example: of "a", "a", "b" the first two have one identical negative each: 2/3 on average, for 2/3 of the anchors.
    """
    if not descriptions:
        return Identical(0.0, 0.0)
    counts = np.array(list(Counter(descriptions).values()), dtype=float)
    total = counts.sum()
    return Identical(float((counts * (counts - 1)).sum() / total), float(counts[counts > 1].sum() / total))


def expect_identical(descriptions: Sequence[Hashable], batch_size: int) -> Identical:
    r"""The mean of `count_identical` over all batches drawn from these breasts without replacement.

    With N breasts, n_k of them of description k, and batches of B:

    .. math:: \text{mean} = (B-1) \sum_k \frac{n_k (n_k - 1)}{N (N-1)}, \qquad
        \text{share} = 1 - \sum_k \frac{n_k}{N} \binom{N - n_k}{B - 1} \Big/ \binom{N - 1}{B - 1}
    """
    total = len(descriptions)
    assert 1 <= batch_size <= total, f"batches of {batch_size} from {total} breasts"
    if batch_size == 1:
        return Identical(0.0, 0.0)
    counts, others = np.array(list(Counter(descriptions).values()), dtype=float), float(batch_size - 1)
    mean = others * (counts * (counts - 1)).sum() / (total * (total - 1))
    rest = counts[total - counts >= others]  # else a second of the kind is certain
    none = np.exp(_log_choose(total - rest, others) - _log_choose(np.array([total - 1.0]), others))
    return Identical(float(mean), float(1 - (rest / total * none).sum()))


def _log_choose(whole: np.ndarray, part: float) -> np.ndarray:
    return gammaln(whole + 1) - gammaln(part + 1) - gammaln(whole - part + 1)
