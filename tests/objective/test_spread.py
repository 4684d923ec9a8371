"""The collapse guard by hand, and what it asks of collapsed views."""

from __future__ import annotations

import pytest
import torch

from batches import NO_MASK, make_batch
from hilum.config import VarianceCovariance
from hilum.model.encoder import Features
from hilum.objective import spread
from hilum.objective.spread import measure_covariance, measure_variance


def test_variance_by_hand() -> None:
    # Variances 2 and 0: deviations sqrt(2.0001), above 1, and 0.01.
    vectors = torch.tensor([[1.0, 3.0], [-1.0, 3.0]])
    assert float(measure_variance(vectors, 1.0)) == pytest.approx((0 + 0.99) / 2, abs=1e-6)


def test_covariance_by_hand() -> None:
    # Centred columns (1, -1), (2, -2), (0, 0): covariances 4 between the first two; two entries, three dimensions.
    vectors = torch.tensor([[1.0, 4.0, 5.0], [-1.0, 0.0, 5.0]])
    assert float(measure_covariance(vectors)) == pytest.approx(2 * 4.0**2 / 3)


def test_sum_over_count_is_the_guard() -> None:
    vectors = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    term = spread.VarianceCovariance(VarianceCovariance(covariance_weight=0.5), lambda features: features.tokens[:, 0])
    batch = make_batch([2, 1, 1], size=1)
    sums = term(Features(vectors[:, None]), NO_MASK, batch, lambda rows: rows)
    variance, covariance = float(measure_variance(vectors, 1.0)), float(measure_covariance(vectors))
    assert float(sums["loss"].count) == term.count(batch) == 4
    assert float(sums["loss"].value) / 4 == pytest.approx(variance + 0.5 * covariance, rel=1e-6)
    assert float(sums["variance"].value) / 4 == pytest.approx(variance, rel=1e-6)
    assert float(sums["covariance"].value) / 4 == pytest.approx(covariance, rel=1e-6)


def test_one_view_has_nothing_to_differ_from() -> None:
    vectors = torch.randn(1, 3, requires_grad=True)
    term = spread.VarianceCovariance(VarianceCovariance(), lambda features: features.tokens[:, 0])
    loss = term(Features(vectors[:, None]), NO_MASK, make_batch([1], size=1), lambda rows: rows)["loss"]
    loss.value.backward()
    assert loss.value.item() == 0.0
    assert torch.equal(vectors.grad, torch.zeros(1, 3))


def test_descent_spreads_what_had_collapsed() -> None:
    torch.manual_seed(0)
    vectors = (0.01 * torch.randn(32, 4)).requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        (measure_variance(vectors, 1.0) + measure_covariance(vectors)).backward()
        optimizer.step()
    assert float(vectors.detach().std(dim=0).min()) > 0.95
