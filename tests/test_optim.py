"""Schedules to the published numbers; which parameters decay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hilum.optim import build_parameter_groups, schedule_lr, schedule_step_lr


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 1.5e-5), (25, 2.25e-5), (49, 2.97e-5), (50, 3.0e-5), (275, 1.5e-5), (499, 3.6554e-10)],
)
def test_released_schedule_gives_the_published_numbers(epoch: int, expected: float):
    """M 8-26: base 1.2e-4 at batch 64 (peak 3e-5), 500 epochs, 50 of warm-up from half the peak."""
    peak = 1.2e-4 * 64 / 256
    assert schedule_lr(epoch, 500, peak=peak, warmup=0.1, warmup_start=0.5) == pytest.approx(expected, rel=1e-4)
    for step in (epoch * 7, epoch * 7 + 6):  # seven steps an epoch: all of them have the epoch's rate
        rate = schedule_step_lr(
            step, 3500, epochs=500.0, per_epoch=True, peak=peak, warmup=0.1, warmup_start=0.5
        )  # fmt: skip
        assert rate == pytest.approx(expected, rel=1e-4)


@given(num_steps=st.integers(1, 400), warmup=st.floats(0, 1))
def test_smooth_schedule_rises_to_the_peak_falls_to_nothing_and_wastes_no_step(num_steps: int, warmup: float):
    rates = [
        schedule_step_lr(step, num_steps, epochs=3.0, per_epoch=False, peak=2.0, warmup=warmup, warmup_start=0.0)
        for step in range(num_steps)
    ]
    assert all(0 < rate <= 2.0 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert num_steps < 4 or max(rates) > 1.0


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 9, 4))
        self.view_embed = nn.Embedding(5, 4)
        self.proj = nn.Conv2d(1, 4, 2)
        self.norm = nn.LayerNorm(4)
        self.fc = nn.Linear(4, 3)
        self.frozen = nn.Linear(4, 3).requires_grad_(False)


def test_only_weights_that_multiply_features_decay():
    body = Body()
    names = {id(parameter): name for name, parameter in body.named_parameters()}
    decayed, rest = build_parameter_groups(body, weight_decay=0.05)
    assert [names[id(p)] for p in decayed["params"]] == ["proj.weight", "fc.weight"]
    assert {names[id(p)] for p in rest["params"]} == {
        "cls_token", "pos_embed", "view_embed.weight", "proj.bias", "norm.weight", "norm.bias", "fc.bias",
    }  # fmt: skip
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.05, 0.0)


def test_the_released_code_decays_everything():
    (group,) = build_parameter_groups(Body(), weight_decay=0.05, decay_everything=True)
    assert len(group["params"]) == 9
    assert group["weight_decay"] == 0.05
