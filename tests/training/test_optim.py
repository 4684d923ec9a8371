"""Schedules to the published numbers; which parameters decay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hilum.config import OptimConfig
from hilum.objective.objective import build_objective
from hilum.recipes import build_recipe
from hilum.training.muon import Muon
from hilum.training.optim import build_optimizers, build_parameter_groups, schedule_lr, schedule_step_lr


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


def test_the_floor_is_a_share_of_the_peak():
    """P 2.5: 50 epochs, 5 of warm-up, cosine to 1 %."""
    how = {"epochs": 50.0, "per_epoch": False, "peak": 1e-4, "warmup": 0.1, "warmup_start": 0.1, "floor": 0.01}
    rates = [schedule_step_lr(step, 1000, **how) for step in range(1000)]
    assert rates[-1] == pytest.approx(1e-6, rel=1e-3)
    assert rates[99] == pytest.approx(1e-4, rel=0.01)
    assert rates[0] == pytest.approx(1e-5, rel=0.05)
    assert rates[549] == pytest.approx((1e-4 + 1e-6) / 2, rel=0.01)  # half way down
    assert schedule_step_lr(999, 1000, **{**how, "floor": 0.0}) < 1e-9


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


def test_stage_one_of_pacx_mae_decays_by_shape():
    """P 1.1: tokens decay, numbers of one axis do not."""
    body = Body()
    names = {id(parameter): name for name, parameter in body.named_parameters()}
    _, rest = build_parameter_groups(body, weight_decay=0.05, decay_tokens=True)
    assert {names[id(p)] for p in rest["params"]} == {"proj.bias", "norm.weight", "norm.bias", "fc.bias"}
    assert rest["weight_decay"] == 0.0
    for preset, decay in (("paper", 0.05), ("code", 0.05), ("hilum", 0.0)):
        config = build_recipe("mae", preset, "nano")
        objective = build_objective(config)
        tokens = {id(objective.encoder.cls_token), id(objective.terms["reconstruction"].decoder.mask_token)}
        found = {group["weight_decay"] for optimizer in build_optimizers(objective, config.optim)
                 for group in optimizer.param_groups for value in group["params"] if id(value) in tokens}  # fmt: skip
        assert found == {decay}


def test_the_released_code_decays_everything():
    (group,) = build_parameter_groups(Body(), weight_decay=0.05, decay_everything=True)
    assert len(group["params"]) == 9
    assert group["weight_decay"] == 0.05


class Small(nn.Module):
    """A matrix, a table and a convolution, each multiplied by something."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(3, 8))
        self.conv = nn.Conv2d(1, 8, 2)
        self.linear = nn.Linear(8, 4)


def test_muon_updates_the_matrices_of_linear_layers_and_adamw_all_else():
    model = Small()
    (alone,) = build_optimizers(model, OptimConfig())
    assert sum(len(group["params"]) for group in alone.param_groups) == 5
    muon, adamw = build_optimizers(model, OptimConfig(matrices="muon", lr=0.01, weight_decay=0.1))
    assert [group["params"] for group in muon.param_groups] == [[model.linear.weight]]
    by_name = {group["name"]: len(group["params"]) for group in adamw.param_groups}
    assert by_name == {"decayed": 1, "not decayed": 3}  # the convolution; its bias, the other bias, the table
    assert {group["lr"] for group in (*muon.param_groups, *adamw.param_groups)} == {0.01}


def test_muon_takes_steps_of_one_length_in_every_direction():
    """Whatever the gradient's singular values, those of the step are about lr * 0.2 * sqrt(longest side)."""
    torch.manual_seed(0)
    model = Small()
    muon, _ = build_optimizers(model, OptimConfig(matrices="muon", lr=0.01, weight_decay=0.0))
    before = model.linear.weight.detach().clone()
    left, right = torch.linalg.qr(torch.randn(4, 4))[0], torch.linalg.qr(torch.randn(8, 4))[0]
    model.linear.weight.grad = left @ torch.diag(torch.tensor([100.0, 10.0, 3.0, 1.0])) @ right.T
    muon.step()
    step = torch.linalg.svdvals(before - model.linear.weight)
    expected = 0.01 * 0.2 * 8**0.5
    assert ((step > 0.6 * expected) & (step < 1.3 * expected)).all()


def test_muon_of_stacked_matrices_is_torchs_muon():
    torch.manual_seed(0)
    shapes = [(8, 4), (4, 8), (8, 4), (6, 6), (4, 8)]
    ours, theirs = ([nn.Parameter(torch.full(shape, 0.5)) for shape in shapes] for _ in range(2))
    settings = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9}
    optimizers = Muon(ours, **settings), torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        if step == 2:
            ours[0].grad = theirs[0].grad = None
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=2e-3)  # products in bfloat16, in another order
        assert (one - 0.5).abs().max() > 0.005
