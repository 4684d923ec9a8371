"""Weights over a run: the released curve's exact values, and ours."""

from __future__ import annotations

import pytest

from hilum.config import PooledAlignment, VarianceCovariance, WeightConfig
from hilum.objective.schedule import ramp_cosine, ramp_released_sigmoid, scale_guards, schedule_weight

RELEASED = {
    0: 0.008140, 50: 0.008140, 100: 0.021974, 275: 0.537883, 325: 1.000000, 400: 1.635149, 499: 1.940227, 500: 1.941376,
}  # fmt: skip


@pytest.mark.parametrize(("epoch", "expected"), RELEASED.items())
def test_released_curve(epoch: int, expected: float) -> None:
    assert 2 * ramp_released_sigmoid(epoch, 50, 500) == pytest.approx(expected, abs=5e-7)
    config = WeightConfig(value=2.0, ramp="released_sigmoid")
    found = schedule_weight(config, epoch / 500, epochs=500.0, warmup=0.1, target=2.0)
    assert found == pytest.approx(expected, abs=5e-7)


def test_released_curve_breaks_on_short_runs_as_it_did() -> None:
    assert 2 * ramp_released_sigmoid(0, 10, 100) == pytest.approx(0.49948, abs=1e-5)
    assert 2 * ramp_released_sigmoid(99, 10, 100) == pytest.approx(1.32748, abs=1e-5)
    assert 2 * ramp_released_sigmoid(0, 40, 800) == pytest.approx(0.00045, abs=5e-6)
    assert 2 * ramp_released_sigmoid(799, 40, 800) == pytest.approx(1.99773, abs=5e-6)


@pytest.mark.parametrize("epochs", [2.0, 100.0, 800.0])
def test_cosine_ramp_is_a_function_of_progress(epochs: float) -> None:
    config = WeightConfig(value=3.0, ramp="cosine")
    weights = [schedule_weight(config, step / 50, epochs=epochs, warmup=0.05, target=3.0) for step in range(51)]
    assert weights[0] == 0.0
    assert weights[25] == pytest.approx(1.5)
    assert weights[50] == 3.0
    assert weights == sorted(weights)
    assert ramp_cosine(0.25) == pytest.approx((1 - 0.5**0.5) / 2)


def test_constant_weight() -> None:
    assert schedule_weight(WeightConfig(value=0.3), 0.0, epochs=1.0, warmup=0.0, target=0.3) == 0.3


def test_a_guard_follows_the_term_it_watches() -> None:
    terms = {"a": PooledAlignment(), "guard": VarianceCovariance(of="a"), "free": VarianceCovariance()}
    assert scale_guards(terms, {"a": 0.1, "guard": 2.0, "free": 3.0}) == {"a": 0.1, "guard": 0.2, "free": 3.0}
