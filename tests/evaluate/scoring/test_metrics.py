"""Metrics: hand-worked numbers, loops written from the definitions, and what becomes of the undefined."""

from __future__ import annotations

import doctest

import numpy as np
import plain_metrics
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_metrics import measure_brier_error, measure_calibration_error, score_auroc, score_average_precision, score_f1

from hilum.evaluate.scoring import metrics
from hilum.evaluate.scoring.metrics import (
    average_findings,
    count_positives,
    explain_exclusion,
    read_reliability,
    tune_f1_threshold,
)

NAN = float("nan")


@st.composite
def scored_rows(draw, min_rows: int = 4):
    """Targets with both classes and unknowns, and scores with ties."""
    num = draw(st.integers(min_rows, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    target = rng.choice([0.0, 1.0, NAN], num, p=[0.5, 0.35, 0.15])
    target[:2] = 0, 1
    return target, rng.integers(0, draw(st.sampled_from([3, 1000])), num) / 1000


@pytest.mark.parametrize(("module", "num"), [(metrics, 2), (plain_metrics, 6)])
def test_examples_in_docstrings(module, num):
    failed, tried = doctest.testmod(module, extraglobs={"np": np})
    assert (failed, tried) == (0, num)


@settings(deadline=None, max_examples=20)
@given(scored_rows())
def test_auroc_is_the_share_of_pairs_in_order(rows):
    target, score = rows
    positive, negative = score[target == 1], score[target == 0]
    won = sum(float(p > n) + 0.5 * float(p == n) for p in positive for n in negative)
    assert score_auroc(target, score) == pytest.approx(won / (len(positive) * len(negative)))


@settings(deadline=None, max_examples=20)
@given(scored_rows())
def test_average_precision_is_the_sum_over_recall_steps(rows):
    target, score = rows
    known = ~np.isnan(target)
    target, score = target[known], score[known]
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(score.tolist()), reverse=True):
        called = score >= threshold
        precision = target[called].mean()
        recall = target[called].sum() / target.sum()
        total += (recall - recall_before) * precision
        recall_before = recall
    assert score_average_precision(target, score) == pytest.approx(total)


@settings(deadline=None, max_examples=20)
@given(scored_rows())
def test_tuned_threshold_has_the_best_f1_of_all(rows):
    target, score = rows
    tuned = tune_f1_threshold(target, score)
    best = max(score_f1(target, score, threshold) for threshold in np.unique(score[target == 1]))
    assert score_f1(target, score, tuned) == pytest.approx(best)


def test_undefined_is_nan_not_zero():
    score = np.array([0.2, 0.7])
    for one_class in (np.zeros(2), np.ones(2), np.full(2, NAN)):
        assert np.isnan(score_auroc(one_class, score))
        assert np.isnan(score_average_precision(one_class, score))
        assert np.isnan(tune_f1_threshold(one_class, score))
    assert np.isnan(score_f1(np.zeros(2), score, 0.5))
    assert np.isnan(score_f1(np.array([0.0, 1.0]), score, NAN))
    assert np.isnan(measure_brier_error(np.full(2, NAN), score))
    assert np.isnan(measure_calibration_error(np.full(2, NAN), score))


def test_macro_leaves_out_what_is_undefined_and_says_so():
    values = {"Edema": 0.8, "Fracture": 0.6, "Pneumonia": NAN}
    ours = average_findings(values)
    assert (ours.value, ours.num) == (pytest.approx(0.70), 2)
    assert ours.left_out == {"Pneumonia": "undefined"}
    released = average_findings(values, undefined="zero")
    assert (round(released.value, 6), released.num) == (0.466667, 3)
    few = average_findings(values, {"Fracture": "1 positives of 9, 10 needed"})
    assert (few.value, few.num) == (pytest.approx(0.8), 1)
    assert np.isnan(average_findings({"Edema": NAN}).value)


def test_brier_of_the_specification():
    assert measure_brier_error(np.array([1.0, 0.0]), np.array([0.9, 0.2])) == pytest.approx(0.025)


def test_counts_and_reasons():
    target = np.array([1.0] * 9 + [0.0] * 20 + [NAN] * 5)
    assert (count_positives(target).num, count_positives(target).positives) == (29, 9)
    assert explain_exclusion(target) == "9 positives of 29, 10 needed"
    assert explain_exclusion(1 - target[:20]) == "9 negatives of 20, 10 needed"
    assert explain_exclusion(target, 9) is None
    assert explain_exclusion(np.full(3, NAN)) == "no study with a known state"


def test_calibration_error_by_hand():
    probability, target = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0.0, 0, 1, 0])
    for bins in ("fixed", "adaptive"):
        assert measure_calibration_error(target, probability, bins, 2) == pytest.approx(0.25)


@settings(deadline=None, max_examples=20)
@given(scored_rows(), st.sampled_from(["fixed", "adaptive"]))
def test_calibration_error_against_a_loop_and_any_order(rows, bins):
    target, probability = rows
    known = ~np.isnan(target)
    p, y = probability[known], target[known]
    edges = np.linspace(0, 1, 6) if bins == "fixed" else np.quantile(p, np.linspace(0, 1, 6))
    expected = 0.0
    for b in range(5):
        low, high = (-np.inf if b == 0 else edges[b]), (np.inf if b == 4 else edges[b + 1])
        inside = (p >= low) & (p < high)
        if inside.any():
            expected += inside.mean() * abs(p[inside].mean() - y[inside].mean())
    assert measure_calibration_error(target, probability, bins, 5) == pytest.approx(expected)
    order = np.random.default_rng(0).permutation(len(target))
    assert measure_calibration_error(target[order], probability[order], bins, 5) == pytest.approx(expected)


def test_adaptive_bins_see_what_fixed_bins_hide():
    """A rare finding: everyone is told 1 % or 6 %, and the truth is the reverse; fixed bins pool both."""
    probability = np.repeat([0.01, 0.06], 100)
    target = np.concatenate([np.arange(100) < 6, np.arange(100) < 1]).astype(float)
    assert measure_calibration_error(target, probability, "fixed", 10) == pytest.approx(0.0, abs=1e-12)
    assert measure_calibration_error(target, probability, "adaptive", 2) == pytest.approx(0.05)


def test_reliability_counts_every_known_row_once():
    rng = np.random.default_rng(0)
    probability = rng.random(200)
    target = (rng.random(200) < probability).astype(float)
    target[:20] = NAN
    points = read_reliability(target, probability)
    assert sum(points["num"]) == 180
    assert np.average(points["frequency"], weights=points["num"]) == pytest.approx(np.nanmean(target))
