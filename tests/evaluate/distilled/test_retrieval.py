"""Retrieval: hand-worked ranks, a loop over candidates, lists of them, other rows of a patient, what chance does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.evaluate.distilled.retrieval import rank_pairs, retrieve_both_ways
from hilum.evaluate.scoring.ranking import Ranks, estimate_ranks


def find(estimates, metric, slice):
    return next(e for e in estimates if (e.metric, e.slice) == (metric, slice))


def test_ranks_by_hand():
    """Query (1, 0): its own candidate at 45 degrees; one nearer, one farther, one of its patient, one level with it."""
    query = np.array([[1.0, 0]])
    candidate = np.array([[1.0, 1], [2, 1], [-1, 0], [5, 0], [2, -2]])
    patient = np.array([0, 1, 2, 0, 3])
    ranks = rank_pairs(query, candidate, np.array([0]), np.array([0]), patient)
    assert (ranks.better.tolist(), ranks.equal.tolist(), ranks.num.tolist()) == ([1], [2], [4])
    assert [ranks.score_top(top)[0] for top in (1, 2, 3, 10)] == [0, 0.5, 1, 1]
    assert [ranks.shuffle().score_top(top)[0] for top in (1, 2, 10)] == [0.25, 0.5, 1]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_ranks_are_those_of_a_loop(seed, listed):
    rng = np.random.default_rng(seed)
    num = 14
    query = rng.integers(-2, 3, (num, 2)).astype(float)  # many of the same cosine
    candidate = rng.integers(-2, 3, (num, 2)).astype(float)
    patient, own = rng.integers(0, 6, num), np.arange(num)
    candidates = (rng.random((num, num)) < 0.4) | np.eye(num, dtype=bool) if listed else None
    ranks = rank_pairs(query, candidate, own, patient, patient, candidates)
    for i in range(num):
        better, equal, seen = 0, 0, 0
        for j in range(num):
            if (j != i and patient[j] == patient[i]) or (candidates is not None and not candidates[i, j]):
                continue
            score = [cos(query[i], candidate[k]) for k in (j, i)]
            seen += 1
            better += score[0] > score[1] + 1e-12
            equal += abs(score[0] - score[1]) <= 1e-12
        assert (ranks.better[i], ranks.equal[i], ranks.num[i]) == (better, equal, seen)


def cos(a, b) -> float:
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length else 0.0


def test_parts_of_queries_give_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    image, other = rng.normal(size=(2, 50, 3))
    own, patient = np.arange(50), np.arange(50) // 2
    whole = rank_pairs(image, other, own, patient, patient)
    monkeypatch.setattr("hilum.evaluate.scoring.ranking._SCORES_AT_ONCE", 120)
    parts = rank_pairs(image, other, own, patient, patient)
    assert np.array_equal(whole.better, parts.better)
    assert np.array_equal(whole.num, parts.num)


def test_constant_vectors_retrieve_what_chance_does():
    rng = np.random.default_rng(1)
    other, patient = rng.normal(size=(400, 8)), np.arange(400)
    estimates = retrieve_both_ways(np.ones((400, 8)), other, patient, name="ecg", num_resamples=50)
    back = find(estimates, "recall_at_5", "ecg to image")  # every candidate is the same: ties
    assert back.value == pytest.approx(5 / 400)
    there = find(estimates, "recall_at_5", "image to ecg")  # every query is the same: one order for all
    assert there.value == pytest.approx(5 / 400)
    assert find(estimates, "chance_at_5", "image to ecg").value == pytest.approx(5 / 400)


def test_symiles_lists_of_ten():
    """20 queries, each with nine rows that are only candidates: chance is 1 in 10, and what is right is found."""
    rng = np.random.default_rng(2)
    candidates = np.repeat(np.eye(20, dtype=bool), 10, axis=1).repeat(10, axis=0)
    candidates[np.arange(200) % 10 > 0] = False
    image = rng.normal(size=(200, 16))
    other = image + 0.1 * rng.normal(size=(200, 16))
    how = {"name": "labs", "candidates": candidates, "num_resamples": 100}
    estimates = retrieve_both_ways(image, other, np.arange(200), **how)
    for slice in ("image to labs, own candidates", "labs to image, own candidates"):
        found = find(estimates, "recall_at_1", slice)
        assert (found.value, found.num) == (1.0, 20)
        assert find(estimates, "chance_at_1", slice).value == pytest.approx(0.1)
        assert find(estimates, "chance_at_10", slice).value == pytest.approx(1.0)
    unknown = retrieve_both_ways(image, rng.normal(size=(200, 16)), np.arange(200), **how)
    some = find(unknown, "recall_at_1", "image to labs, own candidates")
    assert some.low <= 0.1 <= some.high
    with pytest.raises(AssertionError, match="the right candidate is one"):
        rank_pairs(image[:1], image, np.array([10]), np.zeros(1, int), np.arange(200), candidates[:1])


def test_intervals_are_of_patients():
    """Four patients of 25 queries each, all right or all wrong: an interval over queries would be four times as narrow
    as this one, which reaches from nothing to all."""
    patient = np.repeat(np.arange(4), 25)
    better = np.where(patient < 2, 0, 5)
    one = np.ones(100, int)
    ranks = Ranks(better, one, one, np.full(100, 10), one, patient)
    found = estimate_ranks(ranks, of="ecg", tops=(1,), num_resamples=500)[0]
    assert found.value == pytest.approx(0.5)
    assert found.low <= 0.0 + 1e-9
    assert found.high >= 1.0 - 1e-9
