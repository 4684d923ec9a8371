"""DeLong's test against loops over pairs, Obuchowski's sums by patient, and Hanley and McNeil's formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from hilum.evaluate.scoring.auroc_error import compare_aurocs, estimate_covariance, hanley_mcneil_error, place_scores
from hilum.evaluate.scoring.bootstrap import resample_auroc, resample_findings


def win(positive: float, negative: float) -> float:
    return 1.0 if positive > negative else 0.5 if positive == negative else 0.0


def loop_covariance(target: np.ndarray, scores: list[np.ndarray]) -> tuple[list[float], np.ndarray]:
    """DeLong et al. (1988), eq. 4 to 6, one pair after the other; rows are independent."""
    cases, controls = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
    m, n = len(cases), len(controls)
    v10 = [[sum(win(s[i], s[j]) for j in controls) / n for i in cases] for s in scores]
    v01 = [[sum(win(s[i], s[j]) for i in cases) / m for j in controls] for s in scores]
    area = [sum(one) / m for one in v10]
    covariance = np.zeros((len(scores), len(scores)))
    for a in range(len(scores)):
        for b in range(len(scores)):
            s10 = sum((v10[a][i] - area[a]) * (v10[b][i] - area[b]) for i in range(m)) / (m - 1)
            s01 = sum((v01[a][j] - area[a]) * (v01[b][j] - area[b]) for j in range(n)) / (n - 1)
            covariance[a, b] = s10 / m + s01 / n
    return area, covariance


def draw(seed: int, num: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and two scores of them with ties."""
    rng = np.random.default_rng(seed)
    target = (rng.random(num) < 0.4).astype(float)
    target[:4] = (0, 1, 0, 1)
    return target, np.round(target + rng.normal(0, (0.7, 1.5), (num, 2)).T, 1)


def test_a_case_by_hand() -> None:
    """Positives 3 and 1 against negatives 2 and 0 win 1, 1, 0 and 1 of four pairs: AUROC 3/4, V10 (1, 1/2) and V01
    (1/2, 1), S10 = S01 = 1/8, variance 1/16 + 1/16. The other orders them without fault: no variance, no covariance."""
    target, first, second = np.array([1.0, 1, 0, 0]), np.array([3.0, 1, 2, 0]), np.array([3.0, 2, 1, 0])
    above, below = place_scores(target, first)
    np.testing.assert_allclose(above, [1, 0.5])
    np.testing.assert_allclose(below, [0.5, 1])
    area, covariance = estimate_covariance(target, [first[None], second[None]], np.arange(4))
    np.testing.assert_allclose(area, [0.75, 1.0])
    np.testing.assert_allclose(covariance, [[0.125, 0], [0, 0]])
    found = compare_aurocs(target, first[None], second[None], np.arange(4))
    assert found is not None
    assert (found.difference, found.standard_error) == pytest.approx((-0.25, 0.125**0.5))
    assert found.p == pytest.approx(2 * norm.cdf(-0.25 / 0.125**0.5))


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_the_loop_over_pairs(seed: int) -> None:
    target, scores = draw(seed)
    area, covariance = estimate_covariance(target, [one[None] for one in scores], np.arange(len(target)))
    slow_area, slow = loop_covariance(target, list(scores))
    np.testing.assert_allclose(area, slow_area, rtol=1e-12)
    np.testing.assert_allclose(covariance, slow, rtol=1e-10, atol=1e-15)


def test_rows_of_a_patient_are_summed_first() -> None:
    """Obuchowski (1997) by loops; counted as independent, rows said twice would be worth twice as much."""
    target, scores = draw(7)
    patient = np.random.default_rng(1).integers(15, size=len(target))
    area, covariance = estimate_covariance(target, [one[None] for one in scores], patient)
    cases, controls = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
    m, n = len(cases), len(controls)
    people = sorted(set(patient.tolist()))
    x = [dict.fromkeys(people, 0.0) for _ in range(2)]
    y = [dict.fromkeys(people, 0.0) for _ in range(2)]
    for a in range(2):
        for i in cases:
            x[a][patient[i]] += sum(win(scores[a][i], scores[a][j]) for j in controls) / n - area[a]
        for j in controls:
            y[a][patient[j]] += sum(win(scores[a][i], scores[a][j]) for i in cases) / m - area[a]
    num, num10, num01 = len(people), len(set(patient[cases])), len(set(patient[controls]))
    for a in range(2):
        for b in range(2):
            s10 = num10 / ((num10 - 1) * m) * sum(x[a][p] * x[b][p] for p in people)
            s01 = num01 / ((num01 - 1) * n) * sum(y[a][p] * y[b][p] for p in people)
            s11 = num / (num - 1) * sum(x[a][p] * y[b][p] for p in people)
            turned = num / (num - 1) * sum(x[b][p] * y[a][p] for p in people)
            assert covariance[a, b] == pytest.approx(s10 / m + s01 / n + (s11 + turned) / (m * n), rel=1e-10)

    once, plain = np.arange(len(target)), [one[None] for one in scores]
    own = estimate_covariance(target, plain, once)[1]
    twice = [np.tile(one, (1, 2)) for one in plain]
    clustered = estimate_covariance(np.tile(target, 2), twice, np.tile(once, 2))[1]
    np.testing.assert_allclose(clustered, own, rtol=1e-9)
    naive = estimate_covariance(np.tile(target, 2), twice, np.arange(2 * len(target)))[1]
    assert naive[0, 0] < 0.6 * own[0, 0]


def test_it_agrees_with_the_bootstrap_by_patient() -> None:
    target, scores = draw(3, num=300)
    patient = np.arange(300) // 2
    found = compare_aurocs(target, scores[:1], scores[1:], patient)
    assert found is not None
    parts = [resample_findings(resample_auroc, target[:, None], one[:, None], patient, 1000)[0] for one in scores]
    assert found.standard_error == pytest.approx(np.std(parts[0] - parts[1]), rel=0.1)


def test_repeats_are_averaged_and_unknown_targets_left_out() -> None:
    target, scores = draw(5)
    apart = [estimate_covariance(target, [one[None]], np.arange(40))[0][0] for one in scores]
    both, one = scores, np.random.default_rng(0).normal(size=(1, 40))
    found = compare_aurocs(target, both, one, np.arange(40))
    assert found is not None
    other = estimate_covariance(target, [one], np.arange(40))[0][0]
    assert found.difference == pytest.approx(np.mean(apart) - other)
    longer = np.append(target, np.nan), np.c_[both, [9, -9]], np.c_[one, [[3]]]
    assert compare_aurocs(*longer, np.arange(41)) == found


def test_what_cannot_be_tested_says_so() -> None:
    target, scores = draw(2)
    same = compare_aurocs(target, scores[:1], scores[:1], np.arange(40))
    assert same is not None
    assert (same.difference, same.p) == (0, 1)
    assert compare_aurocs(np.ones(40), scores[:1], scores[1:], np.arange(40)) is None
    lone = np.where(target == 1, 0, np.arange(40))  # all positives are of one patient
    assert compare_aurocs(target, scores[:1], scores[1:], lone) is None
    perfect = compare_aurocs(target, target[None], 1 - target[None], np.arange(40))
    assert perfect is None  # they differ by 1 and neither has an error


@pytest.mark.parametrize(
    ("auroc", "positives", "num", "error"),
    [(0.7649, 219, 4000, 0.019), (0.9393, 105, 4000, 0.016), (0.7406, 122, 5956, 0.026)],
)
def test_errors_of_the_public_test_sets(auroc: float, positives: int, num: int, error: float) -> None:
    """The specification's own estimates for VinDr's mass and calcification and RSNA's fold 0 (L 3.1)."""
    assert hanley_mcneil_error(auroc, positives, num - positives) == pytest.approx(error, abs=6e-4)
