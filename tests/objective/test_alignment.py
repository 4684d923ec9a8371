"""Alignment by distance: hand-worked numbers of every form, and what must not change it."""

from __future__ import annotations

import pytest
import torch

from batches import NO_MASK, make_batch
from hilum.config import EncoderConfig, PooledAlignment
from hilum.model.encoder import Features
from hilum.objective import alignment
from hilum.objective.alignment import measure_distance, measure_slot_distance, measure_token_distance
from hilum.objective.term import Sum, Term


def as_features(vectors: torch.Tensor) -> Features:
    """Features whose every token is the view's vector, so that any pooling gives it back."""
    return Features(vectors[:, None].expand(-1, 3, -1))


def pooled(width: int, **settings) -> alignment.PooledAlignment:
    config = PooledAlignment(projector=(), feature="all", **settings)
    return alignment.PooledAlignment(config, EncoderConfig(width=width, heads=1))


def evaluate(term: Term, vectors: torch.Tensor, views: list[int]) -> Sum:
    batch = make_batch(views, size=1)
    loss = term(as_features(vectors), NO_MASK, batch, lambda rows: rows)["loss"]
    assert float(loss.count) == term.count(batch)
    return loss


def divide(loss: Sum) -> float:
    return float((loss.value / loss.count).detach())


def test_orthogonal_pair_in_every_form() -> None:
    vectors, pairs = torch.eye(2), torch.tensor([[0, 1], [1, 0]])
    assert measure_distance(vectors, pairs, "mse").tolist() == [1.0, 1.0]
    assert (2 * measure_distance(vectors, pairs, "cosine")).tolist() == [2.0, 2.0]  # squared chord
    assert divide(evaluate(pooled(2, metric="mse", average="slot"), vectors, [2])) == pytest.approx(2 / 9)
    assert divide(evaluate(pooled(2, metric="mse"), vectors, [2])) == 1.0
    assert divide(evaluate(pooled(2, metric="cosine"), vectors, [2])) == pytest.approx(1.0)


def test_single_views_thin_out_the_released_form_only() -> None:
    vectors = torch.cat([torch.eye(2), torch.randn(3, 2)])
    views = [2, 1, 1, 1]
    assert divide(evaluate(pooled(2, metric="mse", average="slot"), vectors, views)) == pytest.approx(
        0.0555556, abs=1e-7
    )
    assert divide(evaluate(pooled(2, metric="mse"), vectors, views)) == 1.0
    assert divide(evaluate(alignment.TokenAlignment(), vectors, views)) == 1.0


def test_released_form_is_3456_times_smaller_than_the_mean_over_pairs() -> None:
    vectors = torch.randn(7, 768, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    views = [3, 2, 1, 1]  # slots 1111, 1100, 1000: eight ordered pairs
    batch = make_batch(views, size=1)
    chord = 2 * measure_distance(vectors, batch.pairs(), "cosine")
    released = measure_slot_distance(vectors, batch.pairs()).sum() / 4
    assert len(chord) == 8
    assert float(chord.mean() / released) == pytest.approx(3456, rel=1e-12)


@pytest.mark.parametrize("metric", ["mse", "cosine"])
def test_equal_vectors_give_zero_and_no_gradient(metric: str) -> None:
    vectors = torch.randn(1, 5).repeat(2, 1).requires_grad_()
    loss = evaluate(pooled(5, metric=metric), vectors, [2])
    loss.value.backward()
    assert float(loss.value.detach()) == 0.0
    assert torch.equal(vectors.grad, torch.zeros(2, 5))


def test_cosine_is_one_minus_the_cosine() -> None:
    vectors = torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    assert measure_distance(vectors, torch.tensor([[0], [1]]), "cosine").item() == pytest.approx(1 - 0.5**0.5)


def test_tokens_are_compared_at_their_place() -> None:
    tokens = torch.zeros(2, 2, 2)  # class token and one patch, two dimensions
    tokens[1, 1] = torch.tensor([2.0, 4.0])
    distance = measure_token_distance(tokens, torch.tensor([[0, 1], [1, 0]]))
    assert distance.tolist() == [(4 + 16) / 4] * 2


def test_every_study_with_a_pair_weighs_the_same_in_equation_1() -> None:
    # First study: squares 1, 1, 4 between its three views; second: 9. Means over pairs 2 and 9.
    vectors = torch.tensor([[0.0], [1.0], [2.0], [0.0], [3.0], [50.0]])
    assert divide(evaluate(alignment.TokenAlignment(), vectors, [3, 2, 1])) == pytest.approx((2 + 9) / 2)
    assert divide(evaluate(pooled(1, metric="mse"), vectors, [3, 2, 1])) == pytest.approx((6 * 2 + 2 * 9) / 8)


@pytest.mark.parametrize(
    "term",
    [pooled(4), pooled(4, metric="mse", average="slot"), alignment.TokenAlignment()],
    ids=["pair", "slot", "token"],
)
def test_without_pairs_the_value_is_zero_and_the_graph_whole(term: Term) -> None:
    vectors = torch.randn(3, 4, requires_grad=True)
    loss = evaluate(term, vectors, [1, 1, 1])
    loss.value.backward()
    assert float(loss.value.detach()) == 0.0
    assert torch.equal(vectors.grad, torch.zeros(3, 4))
    assert float(loss.count) == (3 if getattr(term, "average", "") == "slot" else 0)


def test_projected_vectors_are_what_is_compared() -> None:
    torch.manual_seed(0)
    term = alignment.PooledAlignment(PooledAlignment(projector=(6, 3)), EncoderConfig(width=4, heads=1))
    features = Features(torch.randn(2, 3, 4))
    unit = torch.nn.functional.normalize(term.projector(features.tokens[:, 1:].mean(1)), dim=1)
    sums = term(features, NO_MASK, make_batch([2], size=1), lambda rows: rows)
    assert divide(sums["loss"]) == pytest.approx(1 - float((unit[0] @ unit[1]).detach()), rel=1e-5)
    assert divide(sums["squared_chord"]) == pytest.approx(2 - 2 * float((unit[0] @ unit[1]).detach()), rel=1e-5)
    torch.testing.assert_close(term.read_compared(features), unit * 3**0.5)
