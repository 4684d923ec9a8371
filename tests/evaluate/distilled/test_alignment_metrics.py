"""Agreement with teacher vectors: hand-worked numbers, loops over rows, scikit-learn, and floors that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from hilum.evaluate.distilled.alignment_metrics import (
    measure_constant_floor,
    measure_pairwise_cosine,
    resample_centred_cosine,
    resample_cosine,
    resample_r2,
    resample_random_cosine,
)
from hilum.evaluate.heads.ridge import fit_ridge
from hilum.evaluate.scoring.cosines import measure_cosines

seeds = st.integers(0, 2**32 - 1)


def cos(a, b) -> float:
    """Cosine of two vectors from its definition; 0 with a vector of zeros."""
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0


def draw_rows(seed: int, num: int = 12, dim: int = 4, shift: float = 2.0):
    """Anisotropic targets, predictions that know something of them, patients of one to three rows, multiplicities."""
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(num, dim)) + shift
    predicted = 0.5 * target + rng.normal(size=(num, dim))
    patient = np.sort(rng.integers(0, max(2, num // 2), num))
    patient[-1] = patient[0] + 100  # two patients at least
    drawn = rng.integers(0, 4, (num + 101, 3))
    weight = drawn[patient - patient[0]].astype(np.float32)
    weight[0] += (weight.sum(axis=0) == 0) * 1  # no empty resample
    weight[patient == patient[0]] = weight[0]
    return target, predicted, patient, weight


def test_cosines_by_hand():
    first, second = np.array([[3.0, 4], [1, 0], [0, 0]]), np.array([[4.0, 3], [0, 2], [1, 1]])
    assert measure_cosines(first, second).tolist() == pytest.approx([0.96, 0, 0])
    once = np.ones((3, 1), np.float32)
    assert resample_cosine(second, first, once) == pytest.approx([0.32])


def test_centred_cosine_by_hand():
    """Targets (1, 0) and (3, 0) have the mean (2, 0): left are (-1, 0) and (1, 0); predictions leave (0, 1), (2, 0)."""
    target, predicted = np.array([[1.0, 0], [3, 0]]), np.array([[2.0, 1], [4, 0]])
    assert resample_centred_cosine(target, predicted, np.ones((2, 1), np.float32)) == pytest.approx([0.5])


def test_r2_by_hand():
    """First dimension: 1 - (1 + 0) / 2 = 0.5; second: 1 - (4 + 4) / 8 = 0; the third does not vary."""
    target = np.array([[1.0, 0, 5], [3, 4, 5]])
    predicted = np.array([[2.0, 2, 4], [3, 2, 9]])
    assert resample_r2(target, predicted, np.ones((2, 1), np.float32)) == pytest.approx([0.25])
    assert np.isnan(resample_r2(target[:, 2:], predicted[:, 2:], np.ones((2, 1), np.float32))).all()


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_multiplicities_are_repeated_rows(seed):
    target, predicted, patient, weight = draw_rows(seed)
    raw, centred = (metric(target, predicted, weight) for metric in (resample_cosine, resample_centred_cosine))
    r2, wrong = resample_r2(target, predicted, weight), resample_random_cosine(target, predicted, patient, weight)
    for column in range(weight.shape[1]):
        rows = np.repeat(np.arange(len(target)), weight[:, column].astype(int))
        y, p, owner = target[rows], predicted[rows], patient[rows]
        assert raw[column] == pytest.approx(np.mean([cos(a, b) for a, b in zip(p, y, strict=True)]))
        mean = y.mean(axis=0)
        loop = [cos(a - mean, b - mean) for a, b in zip(p, y, strict=True)]
        if len(set(rows.tolist())) > 1:  # of one row nothing is left but rounding
            assert centred[column] == pytest.approx(np.mean(loop), abs=1e-6)
            assert r2[column] == pytest.approx(r2_score(y, p, multioutput="uniform_average"), rel=1e-6)
        pairs = [cos(p[i], y[j]) for i in range(len(rows)) for j in range(len(rows)) if owner[i] != owner[j]]
        assert wrong[column] == pytest.approx(np.mean(pairs) if pairs else np.nan, nan_ok=True)


def test_a_common_shift_changes_the_raw_cosine_and_not_the_centred_one():
    target, predicted, _, weight = draw_rows(0, num=200, shift=0.0)
    far = 30.0
    assert resample_cosine(target + far, predicted + far, weight).min() > 0.99
    moved = resample_centred_cosine(target + far, predicted + far, weight)
    assert moved == pytest.approx(resample_centred_cosine(target, predicted, weight), abs=1e-9)


def test_the_best_that_is_possible_scores_one_and_a_constant_nothing():
    target, _, patient, weight = draw_rows(1, num=60)
    once = np.ones((60, 1), np.float32)
    for metric in (resample_cosine, resample_centred_cosine, resample_r2):
        assert metric(target, target, weight) == pytest.approx(np.ones(3))
    constant = np.broadcast_to(target.mean(axis=0), target.shape)
    assert resample_centred_cosine(target, constant, once) == pytest.approx([0], abs=1e-9)
    assert resample_r2(target, constant, once) == pytest.approx([0], abs=1e-9)
    assert resample_random_cosine(target, constant, patient, once) > 0.5, "wrong pairs of an anisotropic teacher agree"


@settings(deadline=None, max_examples=20)
@given(seeds, st.floats(0, 3))
def test_the_best_constant_earns_the_root_of_the_pairwise_cosine(seed, shift):
    """Exactly sqrt((1 + (n - 1) kappa) / n), and no direction tried earns more."""
    target = np.random.default_rng(seed).normal(size=(50, 6)) + shift
    floor, kappa = measure_constant_floor(target), measure_pairwise_cosine(target)
    loop = np.mean([cos(target[i], target[j]) for i in range(50) for j in range(50) if i != j])
    assert kappa == pytest.approx(loop)
    assert floor == pytest.approx(math.sqrt((1 + 49 * kappa) / 50))
    tried = np.random.default_rng(seed + 1).normal(size=(30, 6)) + shift
    once = np.ones((50, 1), np.float32)
    earned = [resample_cosine(target, np.broadcast_to(one, target.shape), once)[0] for one in tried]
    assert max(earned) <= floor + 1e-12


def test_the_ecg_teachers_anisotropy_gives_a_constant_two_thirds():
    """P 1.3 and P 12-19: vectors of mean pairwise cosine 0.43 give a constant answer a raw cosine of about 0.66, from
    the mean of other rows as well; its centred cosine and R2 are nothing."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=256)
    common *= math.sqrt(0.432 / 0.568 * 256) / np.linalg.norm(common)
    train, test = (rng.normal(size=(num, 256)) + common for num in (2000, 464))
    assert measure_pairwise_cosine(test) == pytest.approx(0.432, abs=0.005)
    constant = np.broadcast_to(train.mean(axis=0), test.shape)
    once = np.ones((464, 1), np.float32)
    assert resample_cosine(test, constant, once)[0] == pytest.approx(math.sqrt(0.432), abs=0.005)
    assert measure_constant_floor(test) == pytest.approx(0.66, abs=0.005)
    assert resample_centred_cosine(test, constant, once)[0] == pytest.approx(0, abs=0.05)
    assert resample_r2(test, constant, once)[0] == pytest.approx(0, abs=0.01)


@settings(deadline=None, max_examples=15)
@given(seeds, st.sampled_from([5, 40]))
def test_ridge_is_scikit_learns(seed, num):
    """More rows than features and fewer, a constant feature, penalties far apart."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num, 12)) * rng.uniform(0.1, 10, 12) + 3
    features[:, 4] = 2.5
    target = rng.normal(size=(num, 3)) + 7
    new = rng.normal(size=(6, 12))
    alphas = [1e-3, 10.0, 1e4]
    for alpha, fit in zip(alphas, fit_ridge(features, target, alphas), strict=True):
        scaler = StandardScaler().fit(features)
        wanted = Ridge(alpha=alpha, solver="svd").fit(scaler.transform(features), target)
        assert fit.predict(new) == pytest.approx(wanted.predict(scaler.transform(new)), rel=1e-6)
        assert fit.alpha == alpha


def test_ridge_by_hand():
    """Features -1 and 1, targets 0 and 4: weight 2 (4 - 0) / (2 (2 + alpha)) = 4 / (2 + alpha), intercept 2."""
    features, target = np.array([[-1.0], [1]]), np.array([[0.0], [4]])
    (fit,) = fit_ridge(features, target, [2.0])
    assert fit.weight.tolist() == [[pytest.approx(1.0)]]
    assert fit.predict(np.array([[0.0], [3.0]])).ravel().tolist() == pytest.approx([2, 5])
    with pytest.raises(ValueError, match="positive"):
        fit_ridge(features, target, [0.0])
