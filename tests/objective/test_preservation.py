"""Patch features that stay: hand-worked numbers, what is kept, and what a continued run finds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from batches import NO_MASK, make_batch
from hilum.config import EncoderConfig, FeaturePreservation, LowRankAdapter
from hilum.model.encoder import Features
from hilum.objective.objective import build_objective
from hilum.objective.preservation import FeaturePreservation as Preservation
from hilum.objective.preservation import measure_drift
from hilum.recipes import build_recipe

TINY = EncoderConfig(image_size=32, patch_size=8, width=16, depth=1, heads=2, qk_norm=False, view_embedding=False)


def test_a_right_angle_is_one_and_the_mean_is_over_patches() -> None:
    start = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]])
    now = torch.tensor([[[0.0, 5.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -3.0]]])
    assert measure_drift(now, start).tolist() == pytest.approx([0.5, 2.0])


def test_unchanged_features_cost_exactly_nothing_and_pull_nowhere() -> None:
    tokens = torch.randn(3, 4, 8, requires_grad=True)
    drift = measure_drift(tokens, tokens.detach())
    drift.sum().backward()
    assert drift.tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(tokens.grad, torch.zeros_like(tokens))


def build(adapter: LowRankAdapter | None):
    config = build_recipe("pacx", "hilum", "tiny")
    terms = {"kept": FeaturePreservation()}
    torch.manual_seed(0)
    return build_objective(replace(config, encoder=TINY, adapter=adapter, terms=terms))


@pytest.mark.parametrize("adapter", [None, LowRankAdapter(train_norms="all", dropout=0.0)])
def test_it_holds_what_the_encoder_was_and_not_what_it_becomes(adapter: LowRankAdapter | None) -> None:
    objective = build(adapter)
    batch = make_batch([2, 1])
    first = objective.encode(batch, None)
    assert first.visible is None  # nothing reads masked views
    start = first.get(whole=True).tokens.detach()
    assert objective.measure(first, NO_MASK, batch)["kept"]["loss"].value.item() == 0.0
    with torch.no_grad():
        for parameter in objective.encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    now = objective.encode(batch, None)
    found = objective.measure(now, NO_MASK, batch)["kept"]["loss"]
    expected = measure_drift(now.get(whole=True).tokens[:, 1:], start[:, 1:]).sum()
    torch.testing.assert_close(found.value, expected)
    assert found.value.item() > 0.01
    assert found.count.item() == 3
    # A checkpoint holds it: a continued run begins from other weights, and finds these.
    torch.manual_seed(1)
    again = build(adapter)
    again.load_state_dict(objective.state_dict())
    torch.testing.assert_close(again(batch, NO_MASK)["kept"]["loss"].value, found.value)


def test_the_class_token_is_free_to_go() -> None:
    objective = build(None)
    term = objective.terms["kept"]
    assert isinstance(term, Preservation)
    batch = make_batch([1])
    tokens = objective.encode(batch, None).get(whole=True).tokens.detach().clone()
    tokens[:, 0] = -tokens[:, 0]
    assert term(Features(tokens), NO_MASK, batch, lambda rows: rows)["loss"].value.item() == 0.0
