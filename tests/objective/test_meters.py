"""Meters of the representation by hand."""

from __future__ import annotations

import math

import pytest
import torch

from hilum.objective.meters import measure_effective_rank, measure_std, measure_uniformity, score_retrieval


def test_effective_rank_by_hand() -> None:
    assert measure_effective_rank(torch.ones(5, 3)) == 0.0
    assert measure_effective_rank(torch.arange(5.0)[:, None] * torch.ones(3)) == pytest.approx(1.0, abs=1e-6)
    cross = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert measure_effective_rank(cross) == pytest.approx(2.0)
    stretched = cross * torch.tensor([3.0, 1.0])  # singular values 3 : 1
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert measure_effective_rank(stretched + 7) == pytest.approx(math.exp(entropy), rel=1e-5)


def test_std_is_one_where_directions_are_isotropic() -> None:
    rows = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    assert measure_std(rows) == pytest.approx(1.0, abs=0.02)
    assert measure_std(torch.ones(10, 16)) == pytest.approx(0.0, abs=1e-6)


def test_uniformity_by_hand() -> None:
    assert measure_uniformity(torch.ones(4, 3)) == pytest.approx(0.0, abs=1e-9)
    assert measure_uniformity(torch.eye(5)) == pytest.approx(-4.0)  # squared chord 2 between all
    antipodes = torch.tensor([[1.0, 0.0], [-2.0, 0.0]])
    assert measure_uniformity(antipodes) == pytest.approx(-8.0)


def test_retrieval_finds_pairs_behind_a_difference_of_kinds() -> None:
    generator = torch.Generator().manual_seed(0)
    body = torch.randn(6, 8, generator=generator)
    lateral = body + 100  # every lateral differs from every frontal in the same way
    vectors = torch.cat([body, lateral, torch.randn(3, 8, generator=generator)])
    kind = torch.tensor([0] * 6 + [1] * 6 + [0, 2, 1])
    study = torch.tensor([*range(6), *range(6), 6, 7, 8])
    found = score_retrieval(vectors, kind, study)
    assert found == (1.0, pytest.approx(1 / 6), 6)
    shifted = torch.cat([body, lateral.roll(1, dims=0), vectors[12:]])
    assert score_retrieval(shifted, kind, study).score == 0.0


def test_retrieval_needs_two_studies_with_both_views() -> None:
    vectors = torch.randn(3, 4)
    assert score_retrieval(vectors, torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1])) is None
