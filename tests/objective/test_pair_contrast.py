"""The equations alone: closed forms, a hand-worked case, targets, symmetry."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.objective.pair_contrast import (
    Target,
    build_target,
    find_hits,
    measure_cross_entropy,
    measure_pair_contrast,
    measure_pair_sigmoid,
    measure_similarity,
)


def everyone(num: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(num), torch.ones(num, num, dtype=torch.bool)


def nce(first: torch.Tensor, second: torch.Tensor, target: Target, scale: float) -> torch.Tensor:
    return measure_pair_contrast(first, second, first, second, target, scale)


@pytest.mark.parametrize(("num", "scale"), [(2, 1.0), (4, 2.0), (18, 1 / 0.07)])
def test_orthonormal_pairs_have_a_closed_form(num: int, scale: float) -> None:
    own, allowed = everyone(num)
    target = build_target(torch.eye(num), own, allowed, "onehot")
    found = nce(3 * torch.eye(num), torch.eye(num), target, scale)
    expected = math.log(1 + (num - 1) * math.exp(-scale))
    torch.testing.assert_close(found, torch.full((num,), expected), atol=1e-6, rtol=1e-5)
    # Sigmoid: one pair of cosine 1, the others of cosine 0.
    found = measure_pair_sigmoid(torch.eye(num), torch.eye(num), torch.eye(num).bool(), allowed, scale, -2.0)
    expected = math.log(1 + math.exp(2 - scale)) + (num - 1) * math.log(1 + math.exp(-2))
    torch.testing.assert_close(found, torch.full((num,), expected))


@pytest.mark.parametrize("kind", ["onehot", "soft", "mask"])
def test_equal_vectors_cost_the_logarithm_of_how_many_there_are(kind) -> None:
    own, allowed = everyone(9)
    same = torch.ones(9, 4)
    alike = torch.eye(9)
    alike[0, 1] = alike[1, 0] = 1
    found = nce(same, same, build_target(alike, own, allowed, kind), 14.0)
    rest = torch.full((9,), math.log(9))
    rest[:2] = math.log(8) if kind == "mask" else math.log(9)
    torch.testing.assert_close(found, rest)


def test_a_hand_worked_case_of_soft_targets() -> None:
    """Scores 1, 0, -1 of the first row; the first two descriptions are identical, the third has half in common."""
    alike = torch.tensor([[1.0, 1.0, 0.5]])
    target = build_target(alike, torch.tensor([0]), torch.ones(1, 3, dtype=torch.bool), "soft", 2.0)
    torch.testing.assert_close(target.share, torch.tensor([[4 / 9, 4 / 9, 1 / 9]]))
    total = math.log(math.e + 1 + 1 / math.e)
    expected = -(4 / 9 * (1 - total) + 4 / 9 * (0 - total) + 1 / 9 * (-1 - total))
    found = measure_cross_entropy(torch.tensor([[1.0, 0.0, -1.0]]), target)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_identical_descriptions_share_mass_and_leave_the_denominator() -> None:
    facts = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 0], [0, 0, 0]]).bool()
    key = torch.tensor([0, 1, 2, 3, 3])
    alike = measure_similarity(facts, key, facts, key)
    third = 1 / 3
    assert torch.equal(alike, alike.T)
    torch.testing.assert_close(alike[0], torch.tensor([1.0, 1.0, third, 0.0, 0.0]))
    torch.testing.assert_close(alike[3], torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0]))  # the same text, without facts
    own, allowed = everyone(5)
    soft = build_target(alike, own, allowed, "soft", 1.0)
    torch.testing.assert_close(soft.share.sum(1), torch.ones(5))
    assert soft.share[0, 0] == soft.share[0, 1] > soft.share[0, 2] > 0 == soft.share[0, 3]
    masked = build_target(alike, own, allowed, "mask")
    assert masked.allowed.int().tolist()[0] == [1, 0, 1, 1, 1]
    assert torch.equal(masked.share, torch.eye(5))


@pytest.mark.parametrize("kind", ["onehot", "soft", "mask"])
def test_who_is_not_allowed_has_no_mass_and_no_gradient(kind) -> None:
    own, allowed = everyone(3)
    allowed = allowed.clone()
    allowed[0, 2] = allowed[2, 0] = False
    target = build_target(torch.ones(3, 3), own, allowed, kind)
    assert target.share[0, 2] == 0
    assert not target.allowed[0, 2]
    scores = torch.randn(3, 3, requires_grad=True)
    measure_cross_entropy(scores, target)[0].backward()
    assert scores.grad[0, 2] == 0
    assert scores.grad.isfinite().all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from(["onehot", "soft", "mask"]))
def test_swapping_the_two_sides_changes_nothing(num: int, width: int, kind) -> None:
    torch.manual_seed(num)
    first, second = torch.randn(2, num, width)
    alike = torch.rand(num, num)
    own, allowed = everyone(num)
    target = build_target((alike + alike.T) / 2, own, allowed, kind)
    torch.testing.assert_close(nce(first, second, target, 5.0), nce(second, first, target, 5.0))
    reference = torch.nn.functional.cross_entropy
    if kind == "onehot":
        unit = [torch.nn.functional.normalize(one, dim=1) for one in (first, second)]
        scores = 5.0 * unit[0] @ unit[1].T
        expected = (reference(scores, own) + reference(scores.T, own)) / 2
        torch.testing.assert_close(nce(first, second, target, 5.0).mean(), expected)


def test_hits_count_right_ones_among_the_allowed() -> None:
    first, second = torch.eye(3), torch.eye(3)[[1, 0, 2]]
    _, allowed = everyone(3)
    right = torch.eye(3).bool()
    assert find_hits(first, second, allowed, right).tolist() == [0.0, 0.0, 1.0]
    right[0, 1] = True
    assert find_hits(first, second, allowed, right).tolist() == [1.0, 0.0, 1.0]
    allowed[1, 0] = False
    second[1, 1] = 0.1
    assert find_hits(first, second, allowed, right).tolist()[1] == 1.0
