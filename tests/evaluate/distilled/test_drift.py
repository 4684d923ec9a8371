"""Drift between encoders: hand-worked kernels, loops over rows, invariances, and unrelated features."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from hilum.evaluate.distilled.drift import estimate_drift, measure_debiased_cka, measure_patch_cosines, resample_cka
from hilum.evaluate.features import ViewFeatures


def measure_cka(first: np.ndarray, second: np.ndarray) -> float:
    return float(resample_cka(first, second, np.ones((len(first), 1), np.float32))[0])


def loop_cka(x: np.ndarray, y: np.ndarray) -> float:
    """||Y'X||^2 / (||X'X|| ||Y'Y||) of centred columns, sum by sum."""

    def square(a, b):
        total = 0.0
        for i in range(a.shape[1]):
            for j in range(b.shape[1]):
                inner = sum((a[n, i] - a[:, i].mean()) * (b[n, j] - b[:, j].mean()) for n in range(len(a)))
                total += inner**2
        return total

    return square(x, y) / np.sqrt(square(x, x) * square(y, y))


def loop_unbiased_hsic(k: np.ndarray, other: np.ndarray) -> float:
    """The U-statistic over ordered quadruples of different rows (Song et al. 2012, theorem 3)."""
    found = [k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]) for i, j, q, r in permutations(range(len(k)), 4)]
    return float(np.mean(found))


def test_cka_by_hand():
    """Centred: x = (-1, 0, 1), y = (-1, 1, 0): (y'x)^2 / (x'x y'y) = 1 / 4."""
    x, y = np.array([[1.0], [2], [3]]), np.array([[4.0], [6], [5]])
    assert measure_cka(x, y) == pytest.approx(0.25)
    assert measure_cka(x, -7 * x + 3) == pytest.approx(1)
    assert np.isnan(measure_cka(x, np.ones((3, 1))))


def test_cka_against_loops_and_repeated_rows():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(7, 2)) + 5
    y[:, 0] += x[:, 1]
    assert measure_cka(x, y) == pytest.approx(loop_cka(x, y))
    weight = rng.integers(0, 4, (7, 3)).astype(np.float32)
    for column, found in enumerate(resample_cka(x, y, weight)):
        rows = np.repeat(np.arange(7), weight[:, column].astype(int))
        assert found == pytest.approx(loop_cka(x[rows], y[rows]))
    centred = [a - a.mean(axis=0) for a in (x, y)]
    k, m = (a @ a.T for a in centred)
    wanted = loop_unbiased_hsic(k, m) / np.sqrt(loop_unbiased_hsic(k, k) * loop_unbiased_hsic(m, m))
    assert measure_debiased_cka(x, y) == pytest.approx(wanted)
    assert np.isnan(measure_debiased_cka(x[:3], y[:3]))


def test_rotations_are_not_seen_and_unrelated_features_score_nothing_only_without_bias():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 200))
    turn = np.linalg.qr(rng.normal(size=(200, 200)))[0]
    assert measure_cka(x, 3 * x @ turn) == pytest.approx(1)
    other = rng.normal(size=(60, 200))
    assert measure_cka(x, other) > 0.6, "fewer rows than features"
    assert abs(measure_debiased_cka(x, other)) < 0.1


def test_patch_cosines_by_hand():
    first = np.array([[[1.0, 0], [0, 2]], [[1, 1], [1, 0]]])
    second = np.array([[[2.0, 0], [1, 0]], [[1, -1], [-3, 0]]])
    assert measure_patch_cosines(first, second).tolist() == pytest.approx([0.5, -0.5])


def make_features(rng: np.random.Generator) -> ViewFeatures:
    study = np.repeat(np.arange(30), 2)
    tokens = rng.normal(size=(60, 4, 8)).astype(np.float16)
    return ViewFeatures(
        class_token=rng.normal(size=(60, 8)).astype(np.float32),
        mean=tokens.mean(axis=1).astype(np.float32),
        regions=np.zeros((60, 0, 8), np.float32),
        study=study,
        view_kind=np.zeros(60, np.int64),
        view_row=np.arange(60),
        made_by={},
        tokens=tokens,
    )


def test_an_encoder_has_not_drifted_from_itself_and_drifts_the_more_it_is_changed():
    rng = np.random.default_rng(2)
    before, patient = make_features(rng), np.arange(30) // 3
    noise = make_features(rng)

    def change(size: float) -> ViewFeatures:
        names = ("class_token", "mean", "tokens")
        moved = {name: getattr(before, name) + size * getattr(noise, name) for name in names}
        return replace(before, **{name: array.astype(getattr(before, name).dtype) for name, array in moved.items()})

    found = [
        {(e.metric, e.of): e for e in estimate_drift(before, change(size), patient, num_resamples=50)}
        for size in (0.0, 0.3, 1.0)
    ]
    assert set(found[0]) == {
        *((metric, of) for metric in ("cka", "cka_debiased", "cosine") for of in ("class token", "mean patch token")),
        ("cosine", "patch tokens"),
    }
    for key, same in found[0].items():
        assert same.value == pytest.approx(1, abs=1e-3), key
        assert 1 > found[1][key].value > found[2][key].value
    some = found[1]["cosine", "patch tokens"]
    assert some.low < some.value < some.high
    with pytest.raises(AssertionError, match="same views"):
        estimate_drift(before, replace(before, view_row=before.view_row + 1), patient)


def test_encoders_of_other_widths_or_without_class_token_are_compared_by_kernels():
    rng = np.random.default_rng(3)
    one = make_features(rng)
    wide = replace(one, class_token=np.zeros((60, 0), np.float32), mean=np.repeat(one.mean, 2, axis=1), tokens=None)
    found = estimate_drift(one, wide, np.arange(30), num_resamples=20)
    assert [(e.metric, e.of) for e in found] == [("cka", "mean patch token"), ("cka_debiased", "mean patch token")]
    assert found[0].value == pytest.approx(1)
