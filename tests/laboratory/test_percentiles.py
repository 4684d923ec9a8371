"""The empirical distribution function by hand, against a loop, and what it keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hilum.laboratory.percentiles import (
    PercentileTables,
    fill_placeholders,
    fit_percentiles,
    rank_values,
)
from toy_labs import make_table

NAN = math.nan


def rank_slowly(value: float, training: list[float], ties: str) -> float:
    """Percentile docstring, one training value after the other."""
    below = reached = 0
    for other in training:
        below += other < value
        reached += other <= value
    return reached / len(training) if ties == "upper" else (below + reached) / 2 / len(training)


def fit(values: np.ndarray, ties: str = "average") -> PercentileTables:
    return fit_percentiles(make_table(values), ties)


def test_shares_by_hand() -> None:
    """Training values 1, 2, 2, 5: of 2 one is below and three are reached."""
    distinct, count = np.array([1.0, 2.0, 5.0]), np.array([1, 2, 1])
    asked = np.array([0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 9.0, -np.inf, np.inf])
    average, upper = (rank_values(asked, distinct, count, ties) for ties in ("average", "upper"))
    assert average.tolist() == [0, 0.125, 0.25, 0.5, 0.75, 0.875, 1, 0, 1]
    assert upper.tolist() == [0, 0.25, 0.25, 0.75, 0.75, 1, 1, 0, 1]


def test_missing_slots_hold_zero_and_a_flag_of_zero_and_do_not_count() -> None:
    tables = fit(np.array([[1.0, NAN, 3.0], [2.0, NAN, 3.0], [NAN, NAN, 4.0]]))
    share, observed = tables.transform(make_table(np.array([[2.0, 7.0, 3.0], [NAN, NAN, NAN]])))
    assert share.tolist() == [[0.75, 0.0, pytest.approx(1 / 3)], [0.0, 0.0, 0.0]]
    # The second laboratory value was never seen in training: there is nothing to rank it by.
    assert observed.tolist() == [[True, False, True], [False, False, False]]
    assert share.dtype == np.float32


def test_infinite_values_rank_beyond_every_number() -> None:
    tables = fit(np.array([[-np.inf], [1.0], [2.0], [np.inf]]))
    share, observed = tables.transform(make_table(np.array([[-np.inf], [1.5], [np.inf]])))
    assert share[:, 0].tolist() == [0.125, 0.5, 0.875]
    assert observed.all()


def test_placeholders_are_the_mean_share_of_training_rows() -> None:
    tables = fit(np.array([[1.0, NAN, 3.0], [2.0, NAN, 3.0], [NAN, NAN, 4.0]]), "upper")
    assert tables.mean.tolist() == [0.75, 0.5, pytest.approx((2 / 3 + 2 / 3 + 1) / 3)]
    filled = fill_placeholders(tables.transform(make_table(np.array([[NAN, NAN, 4.0]]))), tables.mean)
    assert filled.share.tolist() == [[0.75, 0.5, 1.0]]
    assert filled.observed.tolist() == [[False, False, True]]


# Few different values, so that ties are common.
TRAINING = arrays(np.float64, st.integers(1, 30), elements=st.integers(-4, 4).map(float))


@settings(deadline=None, max_examples=60)
@given(
    training=TRAINING,
    asked=arrays(np.float64, 8, elements=st.floats(-6, 6)),
    ties=st.sampled_from(["average", "upper"]),
)
def test_shares_agree_with_a_loop_and_rise_with_the_value(training: np.ndarray, asked: np.ndarray, ties: str) -> None:
    asked = np.sort(np.concatenate([asked, training]))
    shares = rank_values(asked, *np.unique(training, return_counts=True), ties)
    assert shares == pytest.approx([rank_slowly(value, training.tolist(), ties) for value in asked])
    assert (np.diff(shares) >= 0).all()
    assert ((shares >= 0) & (shares <= 1)).all()


@settings(deadline=None, max_examples=60)
@given(training=TRAINING)
def test_average_ranks_have_the_mean_one_half_and_know_no_scale(training: np.ndarray) -> None:
    tables = fit(training[:, None])
    share = tables.transform(make_table(training[:, None])).share
    assert tables.mean[0] == pytest.approx(0.5)
    # Another unit, or any rising function of it: the same shares; the other way round: their mirror image.
    curved = np.exp(training)[:, None]
    assert np.array_equal(fit(curved).transform(make_table(curved)).share, share)
    mirrored = fit(-training[:, None]).transform(make_table(-training[:, None])).share
    assert mirrored == pytest.approx(1 - share, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(training=TRAINING, seed=st.integers(0, 9))
def test_the_order_of_rows_does_not_matter(training: np.ndarray, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(training)
    one, other = fit(training[:, None]), fit(shuffled[:, None])
    assert np.array_equal(one.distinct[0], other.distinct[0])
    assert np.array_equal(one.count[0], other.count[0])
