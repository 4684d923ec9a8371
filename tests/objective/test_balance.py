"""Gradient norms and the weights that follow from them."""

from __future__ import annotations

import pytest
import torch

from hilum.objective.balance import GradientRatioController, flatten_gradient


def test_gradient_by_hand_leaves_the_graph_and_stored_gradients_alone() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    unused = torch.nn.Parameter(torch.ones(1))
    losses = [(3 * weight).sum(), 4 * weight[0]]
    assert [flatten_gradient(loss, [weight, unused]).tolist() for loss in losses] == [[3, 3, 0], [4, 0, 0]]
    assert weight.grad is None
    sum(losses).backward()
    assert weight.grad.tolist() == [7.0, 3.0]


def build(memory: float = 0.5) -> GradientRatioController:
    return GradientRatioController({"alignment": 0.1}, {"alignment": 7.0}, "reconstruction", memory)


def test_weight_is_the_start_value_then_meets_the_target() -> None:
    controller = build()
    assert controller.weight("alignment") == 7.0
    controller.update({"reconstruction": 5.0, "alignment": 0.25})
    assert controller.weight("alignment") * 0.25 / 5.0 == pytest.approx(0.1)
    controller.update({"reconstruction": 2.0, "alignment": 0.5})
    # Ratios 1/20 and 1/4; without the pull of the start the first weighs 1/3 and the second 2/3.
    assert controller.weight("alignment") == pytest.approx(0.1 / (0.05 ** (1 / 3) * 0.25 ** (2 / 3)))


def test_batch_without_pairs_changes_no_term() -> None:
    controller = build()
    controller.update({"reconstruction": 5.0, "alignment": 0.0})
    assert controller.weight("alignment") == 7.0
    controller.update({"reconstruction": 5.0, "alignment": 0.5})
    controller.update({"reconstruction": 5.0, "alignment": 0.0})
    assert controller.weight("alignment") == pytest.approx(1.0)


def test_state_survives_a_checkpoint(tmp_path) -> None:
    first, second = build(), build()
    first.update({"reconstruction": 5.0, "alignment": 0.25})
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for controller in (first, second):
        controller.update({"reconstruction": 1.0, "alignment": 0.5})
    assert first.weight("alignment") == second.weight("alignment")
    assert first.state_dict() == second.state_dict()
