"""The gradient meter by hand: two terms, two parameters, gradients that anyone can add up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hilum.config import PooledAlignment, Reconstruction, Term, WeightConfig
from hilum.training.meters import GradientMeter

TERMS: dict[str, Term] = {
    "reconstruction": Reconstruction(),
    "alignment": PooledAlignment(weight=WeightConfig(value=7.0, gradient_ratio=0.1)),
}
ONES = dict.fromkeys(TERMS, 1.0)


class Two:
    """A meter of two parameters, (2,) and (1,); a loss is made from the gradient it is to have on the three numbers."""

    def __init__(self, terms: dict[str, Term] = TERMS) -> None:
        self.first, self.second = nn.Parameter(torch.tensor([5.0, -1.0])), nn.Parameter(torch.tensor([2.0]))
        self.meter = GradientMeter(terms, [self.first, self.second])

    def add(self, **gradients: tuple[float, float, float]) -> None:
        self.meter.add({name: self.make_loss(gradient) for name, gradient in gradients.items()})

    def make_loss(self, gradient: tuple[float, float, float]) -> Tensor:
        slope = torch.tensor(gradient)
        loss = (slope[:2] * self.first).sum()
        # A loss that never meets the second parameter must count as a zero there.
        return loss if gradient[2] == 0 else loss + (slope[2:] * self.second).sum()


def test_norms_are_over_all_parameters_and_ratios_of_weighted_norms() -> None:
    two = Two()
    two.add(reconstruction=(3.0, 0.0, 4.0), alignment=(0.6, -0.8, 0.0))
    found = two.meter.finish({"reconstruction": 2.0, "alignment": 0.5}, {"reconstruction": 2.0, "alignment": 4.0})
    assert found == pytest.approx({
        "reconstruction/gradient_norm": 5.0,
        "alignment/gradient_norm": 1.0,
        "alignment/gradient_ratio": 0.5 * 1 / (2 * 5),
        "alignment/full_gradient_ratio": 4 * 1 / (2 * 5),
    })  # fmt: skip
    assert (two.first.grad, two.second.grad) == (None, None)


def test_micro_batches_add_gradients_and_not_norms() -> None:
    """(3 0 0) + (0 0 4) is of norm 5, where norms add up to 7; what cancels is nothing."""
    two = Two()
    two.add(reconstruction=(3.0, 0.0, 0.0), alignment=(1.0, 0.0, 1.0))
    two.add(reconstruction=(0.0, 0.0, 4.0), alignment=(-1.0, 0.0, -1.0))
    found = two.meter.finish(ONES, ONES)
    assert found["reconstruction/gradient_norm"] == pytest.approx(5.0)
    assert found["alignment/gradient_norm"] == found["alignment/gradient_ratio"] == 0.0
    assert two.meter.get_full_weight("alignment", 7.0) == 7.0  # nothing was learned about it
    two.add(reconstruction=(6.0, 0.0, 8.0), alignment=(0.0, 2.0, 0.0))  # a step starts from zero
    found = two.meter.finish(ONES, ONES)
    assert found["reconstruction/gradient_norm"] == pytest.approx(10.0)
    assert found["alignment/gradient_ratio"] == pytest.approx(0.2)


@pytest.mark.parametrize("reference_weight", [1.0, 2.0])
def test_the_weight_it_sets_meets_the_target_ratio_of_weighted_gradients(reference_weight: float) -> None:
    two = Two()
    assert two.meter.get_full_weight("alignment", 7.0) == 7.0
    weights = {"reconstruction": reference_weight, "alignment": 7.0}
    for _ in range(3):
        two.add(reconstruction=(3.0, 0.0, 4.0), alignment=(0.6, -0.8, 0.0))
        measured = two.meter.finish(weights, weights)
        weights["alignment"] = two.meter.get_full_weight("alignment", 7.0)
    assert weights["alignment"] == pytest.approx(0.1 * 5 * reference_weight)
    assert measured["alignment/full_gradient_ratio"] == pytest.approx(0.1)
    assert two.meter.get_full_weight("reconstruction", reference_weight) == reference_weight
    again = Two()
    again.meter.load_state_dict(two.meter.state_dict())
    assert again.meter.get_full_weight("alignment", 7.0) == weights["alignment"]


def test_without_reconstruction_there_are_norms_and_no_ratios() -> None:
    two = Two({"alignment": PooledAlignment()})
    two.add(alignment=(0.0, 3.0, 4.0))
    assert two.meter.finish({"alignment": 2.0}, {"alignment": 2.0}) == {"alignment/gradient_norm": pytest.approx(5.0)}
