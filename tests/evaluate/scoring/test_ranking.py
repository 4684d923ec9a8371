"""Ranks among candidates of which several are right: by hand, by the order of every shuffle, and medians by a loop."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.evaluate.scoring.ranking import (
    Ranks,
    estimate_median_rank,
    estimate_ranks,
    find_within,
    rank_candidates,
    resample_median_rank,
)
from hilum.evaluate.scoring.resamples import average, collect_resamples, estimate_resamples, subtract

seeds = st.integers(0, 2**32 - 1)


def build_ranks(scores: np.ndarray, right: np.ndarray) -> Ranks:
    """Ranks of queries whose cosines with the candidates are given: the candidates are the axes."""
    length = np.sqrt(1 - (scores**2).sum(axis=1, keepdims=True))
    query = np.hstack([scores, length])
    candidate = np.eye(scores.shape[1], scores.shape[1] + 1)
    return rank_candidates(
        query, candidate, np.arange(len(scores)), lambda part: (np.ones_like(right[part]), right[part])
    )


def test_the_first_of_several_right_ones_counts_by_hand() -> None:
    """Cosines 0.5, 0.4, 0.4, 0.4, 0.1; right are one of the three level ones and the last: one stands before them."""
    scores, right = np.array([[0.5, 0.4, 0.4, 0.4, 0.1]]), np.array([[False, False, True, False, True]])
    ranks = build_ranks(scores, right)
    counts = [ranks.better, ranks.equal, ranks.right, ranks.num, ranks.num_right]
    assert [one.tolist() for one in counts] == [[1], [3], [1], [5], [2]]
    assert [ranks.score_top(k)[0] for k in (1, 2, 3, 4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    # By chance: the first of two right ones among five is the first in 2 of 5, among the first two in 1 - 3/5 x 2/4.
    assert [ranks.shuffle().score_top(k)[0] for k in (1, 2, 4)] == pytest.approx([0.4, 0.7, 1])
    assert [one.value for one in estimate_median_rank(ranks, of="text", num_resamples=5)] == [3, 2]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2), st.integers(1, 5), st.data())
def test_equals_come_in_every_order_alike(better: int, equal: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(1, equal))
    orders = list(permutations([True] * right + [False] * (equal - right)))
    for top in range(1, 9):
        expected = np.mean([any(([False] * better + [*order])[:top]) for order in orders])
        assert find_within(*np.array([[better], [equal], [right]]), top)[0] == pytest.approx(expected)


def test_large_groups_of_equals_keep_their_digits() -> None:
    """Half of 100,000 equals are right: the first three are all wrong in about one of eight."""
    num = 100_000
    missed = 1 - find_within(*np.array([[0], [num], [num // 2]]), 3)[0]
    expected = np.prod([(num / 2 - place) / (num - place) for place in range(3)])
    assert missed == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(seeds)
def test_the_median_rank_is_that_of_a_loop(seed: int) -> None:
    """The least k at which the weighted share of queries with a right one among the first k is one half."""
    rng = np.random.default_rng(seed)
    scores, right = rng.integers(-2, 3, (9, 7)) / 10, rng.random((9, 7)) < 0.3
    right[np.arange(9), rng.integers(0, 7, 9)] = True
    weight = rng.integers(0, 3, (9, 6)).astype(np.float32)
    weight[0] += 1
    ranks = build_ranks(scores, right)
    found = resample_median_rank(ranks.better, ranks.equal, ranks.right, weight)
    for column in range(6):
        for k in range(1, 8):
            share = 0.0
            for i in range(9):
                best = max(scores[i, j] for j in range(7) if right[i, j])
                before = [j for j in range(7) if scores[i, j] > best]
                level = [j for j in range(7) if scores[i, j] == best]
                taken = min(max(k - len(before), 0), len(level))
                wrong, missed = sum(not right[i, j] for j in level), 1.0
                for place in range(taken):
                    missed *= max(wrong - place, 0) / (len(level) - place)
                share += weight[i, column] * (1 - missed)
            if share >= 0.5 * weight[:, column].sum() - 1e-6:
                break
        assert found[column] == k


def test_without_equals_it_is_the_lower_median() -> None:
    better, one = np.array([0, 4, 9, 30]), np.ones(4, int)
    assert resample_median_rank(better, one, one, np.ones((4, 1))).tolist() == [5]
    assert resample_median_rank(better, one, one, np.array([[0], [1], [1], [1.0]])).tolist() == [10]


def test_where_all_find_theirs_the_interval_is_exact_in_a_mean_of_runs_too() -> None:
    """Seven patients, all right: resamples are all 1, and 1 is not certain, nor is that two methods are as good."""
    scores = np.eye(7) / 2
    found = estimate_ranks(build_ranks(scores, np.eye(7, dtype=bool)), of="text", tops=(1,), num_resamples=9)
    assert (found[0].value, found[0].high) == (1, 1)
    assert found[0].low == pytest.approx(0.025 ** (1 / 7))
    one = collect_resamples(found, "rows")
    (mean, chance) = estimate_resamples(average([one, one]), found, is_mean=True)
    assert (mean.low, mean.high) == (found[0].low, 1)
    assert chance.low == chance.high == pytest.approx(1 / 7)
    none = estimate_ranks(build_ranks(-scores, np.eye(7, dtype=bool)), of="text", tops=(1,), num_resamples=9)
    (half, _) = estimate_resamples(average([one, collect_resamples(none, "rows")]), found, is_mean=True)
    assert (half.value, half.low, half.high) == (0.5, None, None), "one run finds all, the other none"
    same = estimate_resamples(subtract(one, one), found)[0]
    assert (same.value, same.low, same.high) == (0, None, None)
