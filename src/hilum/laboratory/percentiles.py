"""From a laboratory value to the share of training values below it: the empirical distribution function.

Fitted on training rows only, for each laboratory value by itself, over what was observed (P 1.2). Missing slots hold 0,
and their flag says that they do. Below the smallest training value the share is 0, above the largest 1.

Ties: with `average` a value equal to k of n training values, b of them smaller, has the share (b + k / 2) / n, its
average rank: the training values of every laboratory value then have the mean 1/2, however coarsely it is measured.
`upper` is (b + k) / n, the usual step function, as in Symile's files and PaCX-MAE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from hilum.errors import UserError

from .table import LaboratoryTable
from .vocabulary import LaboratoryVocabulary

Ties = Literal["average", "upper"]


class Percentiles(NamedTuple):
    """Shares in [0, 1] and where there is one; what stands where there is none is said by who made them."""

    share: Float32[np.ndarray, "row lab"]
    observed: Bool[np.ndarray, "row lab"]


def rank_values(
    values: Float64[np.ndarray, " row"],
    distinct: Float64[np.ndarray, " distinct"],
    count: Int64[np.ndarray, " distinct"],
    ties: Ties,
) -> Float64[np.ndarray, " row"]:
    r"""Share of training values below each value.

    .. math:: F(x) = \frac1n \sum_j [v_j < x] + c [v_j = x], \quad c = \tfrac12 \text{ (average) or } 1 \text{ (upper)}

    Args:
        values: Without NaN; may be infinite.
        distinct: The different training values, ascending; one at least.
        count: How many training rows have each of them.
    """
    upto = np.concatenate([[0], np.cumsum(count)]) / count.sum()
    below = upto[np.searchsorted(distinct, values, side="left")]
    reached = upto[np.searchsorted(distinct, values, side="right")]
    return reached if ties == "upper" else (below + reached) / 2


@dataclass(frozen=True)
class PercentileTables:
    """The training distribution of each value of a vocabulary."""

    ties: Ties
    distinct: tuple[Float64[np.ndarray, " _"], ...]  # ascending, for each laboratory value
    count: tuple[Int64[np.ndarray, " _"], ...]
    mean: Float64[np.ndarray, " lab"]  # share of the training rows on average; 0.5 where there was none

    def transform(self, table: LaboratoryTable) -> Percentiles:
        """Shares of a table's rows, 0 where missing. A laboratory value that no training row had is always missing."""
        share, observed = np.zeros(table.values.shape, np.float32), table.observed
        for lab, values in enumerate(table.values.T):
            rows = observed[:, lab]
            if len(self.distinct[lab]):
                share[rows, lab] = rank_values(values[rows], self.distinct[lab], self.count[lab], self.ties)
            else:
                observed[:, lab] = False
        return Percentiles(share, observed)


def fit_percentiles(table: LaboratoryTable, ties: Ties) -> PercentileTables:
    """The distributions of all rows of a table, which are to be training rows.

    Raises:
        UserError: no row has any value.
    """
    observed = table.observed
    if not observed.any():
        raise UserError(f"{table.source}: none of {len(table):,} training rows has a laboratory value.")
    columns = [values[rows] for values, rows in zip(table.values.T, observed.T, strict=True)]
    found = [np.unique(column, return_counts=True) for column in columns]
    distinct, count = tuple(value for value, _ in found), tuple(number.astype(np.int64) for _, number in found)
    shares = [
        rank_values(column, *one, ties) if len(column) else column for column, one in zip(columns, found, strict=True)
    ]
    return PercentileTables(ties, distinct, count, _average(shares))


def fill_placeholders(percentiles: Percentiles, mean: Float64[np.ndarray, " lab"]) -> Percentiles:
    """Missing slots hold their laboratory value's mean share instead of 0, as in Symile's arrays (P 1.2, bug)."""
    return percentiles._replace(share=np.where(percentiles.observed, percentiles.share, mean.astype(np.float32)))


def check_vocabulary(expected: LaboratoryVocabulary, table: LaboratoryTable, source: str) -> None:
    """Raise a UserError unless the table's columns are those of the vocabulary, in its order and units."""
    if difference := expected.describe_difference(table.vocabulary):
        raise UserError(
            f"{table.source}: its laboratory values are not those of {source}: {difference}. Read the table with that "
            "vocabulary."
        )


def _average(columns: list[Float64[np.ndarray, " _"]]) -> Float64[np.ndarray, " lab"]:
    return np.array([column.mean() if len(column) else 0.5 for column in columns])
