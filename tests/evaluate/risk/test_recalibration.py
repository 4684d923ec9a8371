"""Recalibration of risks: by hand, against scikit-learn, and what it mends and leaves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from hilum.evaluate.risk.estimates import Predicted, Reference, estimate_risk
from hilum.evaluate.risk.follow_up import build_targets, weigh_years
from hilum.evaluate.risk.kaplan_meier import fit_censoring
from hilum.evaluate.risk.recalibration import Recalibration, fit_recalibration

NAN = float("nan")


def draw(seed: int, num: int = 800) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True risks of five years, twice too sure and too high; then years, events and the true risks."""
    rng = np.random.default_rng(seed)
    rate = 0.04 * np.exp(rng.normal(size=num))
    true = 1 - np.exp(-rate[:, None] * np.arange(1, 6))
    came, left = rng.exponential(1 / rate), rng.uniform(1, 9, num)
    said = expit(2 * logit(true) + 3)
    return said.astype(np.float32), np.minimum(came, left), came <= left, true


def test_few_cancers_move_the_level_alone() -> None:
    """All say 0.2; three of eight had cancer, one is not known: the mean of 4/5 three times and 1/7 five times."""
    risk, target = np.full((9, 1), 0.2), np.array([[1.0]] * 3 + [[0.0]] * 5 + [[NAN]])
    found = fit_recalibration(risk, target, np.ones((9, 1)))
    assert found.slope == (1.0,)
    np.testing.assert_allclose(found.apply(risk), (3 * 4 / 5 + 5 / 7) / 8, atol=1e-6)
    heavy = np.array([[2.0]] * 3 + [[1.0]] * 6)
    found = fit_recalibration(risk, target, heavy)
    np.testing.assert_allclose(found.apply(risk), (6 * 4 / 5 + 5 / 7) / 11, atol=1e-6)


@pytest.mark.parametrize("target", [[1.0, 0, 0, 0], [0.0] * 4, [1.0] * 4, [NAN] * 4])
def test_without_cancers_or_others_risks_stay(target: list[float]) -> None:
    found = fit_recalibration(np.full((4, 1), 0.3), np.array(target)[:, None], np.ones((4, 1)))
    assert (found.slope, found.intercept) == ((1.0,), (0.0,))


def test_slope_and_intercept_are_scikit_learns() -> None:
    risk, years, event, _ = draw(0, 400)
    target, weight = build_targets(years, event), weigh_years(years, event, fit_censoring(years, event))
    found = fit_recalibration(risk, target, weight)
    for year in range(5):
        known = ~np.isnan(target[:, year])
        score, sick = logit(risk[known, year].astype(np.float64).clip(1e-6, 1 - 1e-6)), target[known, year] == 1
        goal = np.where(sick, (sick.sum() + 1) / (sick.sum() + 2), 1 / ((~sick).sum() + 2))
        both = np.concatenate([weight[known, year] * goal, weight[known, year] * (1 - goal)])
        twice, label = np.tile(score, 2)[:, None], np.repeat([1, 0], len(score))
        oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(twice, label, both)
        assert found.slope[year] == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
        assert found.intercept[year] == pytest.approx(oracle.intercept_[0], rel=1e-4)


def test_an_order_that_is_wrong_is_levelled_not_turned_round() -> None:
    risk = np.linspace(0.1, 0.9, 40)[:, None]
    target = (np.arange(40) < 20).astype(float)[:, None]
    found = fit_recalibration(risk, target, np.ones((40, 1)))
    assert found.slope == (0.0,)
    np.testing.assert_allclose(found.apply(risk), 0.5, atol=1e-6)


def test_recalibrated_risks_never_fall_with_the_years() -> None:
    risk = np.sort(np.random.default_rng(0).random((50, 5)), axis=1)
    moved = Recalibration((2.0, 0.5, 0.0, 1.0, 3.0), (0.0, 1.0, -2.0, -1.0, 0.5)).apply(risk)
    assert (np.diff(moved, axis=1) >= 0).all()
    edges = Recalibration((1.0,), (0.0,)).apply(np.array([[0.0], [1.0]], np.float32))
    np.testing.assert_allclose(edges, [[0], [1]], atol=2e-6)


def test_risks_that_say_too_much_hold_afterwards_and_both_are_reported() -> None:
    risk, years, event, _ = draw(1)
    found = fit_recalibration(risk, build_targets(years, event), weigh_years(years, event, fit_censoring(years, event)))
    risk, years, event, true = draw(2)
    moved = found.apply(risk)
    assert np.abs(moved.mean(axis=0) - true.mean(axis=0)).max() < 0.03
    assert np.abs(risk.mean(axis=0) - true.mean(axis=0)).max() > 0.1
    assert (np.argsort(moved[:, 4], kind="stable") == np.argsort(risk[:, 4], kind="stable")).mean() > 0.99
    patient, reference = np.arange(len(years)), Reference.fit(years, event)
    before, after = (Predicted(one, years, event, patient) for one in (risk, moved))
    estimates = estimate_risk(before, reference, recalibrated=after, num_resamples=2)
    by = {(one.metric, one.of): one.value for one in estimates if one.slice == "all"}
    for year in ("1 year", "2 years", "5 years"):
        assert by["brier_error_recalibrated", year] < by["brier_error", year]
        assert abs(by["calibration_gap_recalibrated", year]) < abs(by["calibration_gap", year])
    whole = "1 year to 5 years"
    assert by["integrated_brier_error_recalibrated", whole] < by["integrated_brier_error", whole]
    assert len({(one.metric, one.of, one.slice) for one in estimates}) == len(estimates)
