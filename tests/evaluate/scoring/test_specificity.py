"""Sensitivity at a fixed specificity: the threshold is of validation, what it does is read on test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.evaluate.probe.efficiency import stack_repeats
from hilum.evaluate.scoring.choice import tune_specificities
from hilum.evaluate.scoring.estimates import USUAL, estimate_scores
from hilum.evaluate.scoring.metrics import tune_specificity_threshold
from hilum.evaluate.scoring.scores import Scores, read_scores, write_scores


def loop_threshold(target: list[int], score: list[int], specificity: float) -> float:
    """Of all thresholds among the scores that are specific enough the most sensitive one, which is the lowest."""
    fitting = []
    for threshold in score:
        absent = [s for t, s in zip(target, score, strict=True) if t == 0]
        if sum(s < threshold for s in absent) >= specificity * len(absent) - 1e-9:
            fitting.append(threshold)
    return min(fitting, default=float("inf"))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=1, max_size=25).filter(
        lambda rows: any(t == 0 for t, _ in rows)
    ),
    st.sampled_from([0.5, 0.8, 0.9, 1.0]),
)
def test_it_equals_the_loop(rows: list[tuple[int, int]], specificity: float) -> None:
    target, score = zip(*rows, strict=True)
    found = tune_specificity_threshold(np.array(target, float), np.array(score, float), specificity)
    assert found == loop_threshold(list(target), list(score), specificity)


def test_by_hand() -> None:
    """Ten negatives 0 to 9: from 9 on nine of them are below. A positive between 8 and 9 is a better threshold."""
    target, score = np.zeros(10), np.arange(10.0)
    assert tune_specificity_threshold(target, score) == 9
    assert tune_specificity_threshold(np.append(target, 1), np.append(score, 8.5)) == 8.5
    assert tune_specificity_threshold(np.append(target, 1), np.append(score, 7.5)) == 9
    assert tune_specificity_threshold(target, np.ones(10)) == np.inf
    assert np.isnan(tune_specificity_threshold(np.ones(3), np.arange(3.0)))
    np.testing.assert_array_equal(tune_specificities(np.c_[target, target], np.c_[score, -score]), [9, 0])
    target[0] = np.nan  # one that nobody knows counts for nothing
    assert tune_specificity_threshold(target, score, 8 / 9) == 9


def make_scores(screened: np.ndarray | None) -> Scores:
    """Four positives and four negatives, two rows of each patient."""
    target = np.array([1.0, 1, 1, 1, 0, 0, 0, 0])[:, None]
    logit = np.linspace(2, -2, 8)[None, :, None]
    return Scores(("mass",), target, logit, np.zeros_like(logit), np.arange(8) // 2, np.arange(8), screened=screened)


def test_what_the_threshold_does_on_test_is_reported(tmp_path: Path) -> None:
    """Three of four positives are called, and one of four negatives."""
    scores = make_scores(np.array([1.0, 1, 1, 0, 1, 0, 0, 0])[None, :, None])
    metrics = ("sensitivity_at_specificity", "specificity_reached")
    found = {one.metric: one for one in estimate_scores(scores, metrics, min_positives=1, num_resamples=50)}
    assert {name: one.value for name, one in found.items()} == dict.fromkeys(metrics, 0.75)
    assert found["specificity_reached"].low < 0.75 <= found["specificity_reached"].high
    write_scores(tmp_path / "scores.npz", scores)
    np.testing.assert_array_equal(read_scores(tmp_path / "scores.npz").decision_at_specificity, scores.screened)
    part = scores.take(np.arange(8) < 5)
    assert part.screened is not None
    assert part.screened.shape == (1, 5, 1)
    assert stack_repeats([scores, scores]).take_repeats([1]).screened.shape == (1, 8, 1)


def test_scores_without_such_a_threshold_have_no_such_number() -> None:
    found = estimate_scores(make_scores(None), ("sensitivity_at_specificity",), min_positives=1, num_resamples=5)
    assert [one.value for one in found] == [None, None]
    assert stack_repeats([make_scores(None), make_scores(np.zeros((1, 8, 1)))]).screened is None
    assert "sensitivity_at_specificity" not in USUAL


@pytest.mark.parametrize("specificity", [0.9, 0.95])
def test_validation_has_the_specificity_that_was_asked_for(specificity: float) -> None:
    rng = np.random.default_rng(0)
    target, score = (rng.random(400) < 0.3).astype(float), rng.normal(size=400)
    threshold = tune_specificity_threshold(target, score, specificity)
    reached = (score[target == 0] < threshold).mean()
    assert specificity <= reached < specificity + 0.01
