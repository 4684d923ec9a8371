"""The estimate is of the right size, and running out says what to change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from batches import make_batch
from hilum.errors import UserError
from hilum.model.masking import draw_masks
from hilum.objective.objective import build_objective
from hilum.recipes import build_recipe
from hilum.training.memory import (
    describe_exhaustion,
    describe_memory,
    estimate_memory,
    explain_exhaustion,
    measure_peak_memory,
)


@pytest.mark.parametrize("take", [lambda: torch.empty(1 << 52), lambda: np.empty(1 << 52)])
def test_running_out_of_memory_names_the_flags(take):
    same = r"in 2 parts: raise --optim\.accumulate \(smaller parts, the same result\), .*--data\.views-per-step.*"
    with (
        pytest.raises(UserError, match=same + "with another --optim.accumulate or --run.precision"),
        explain_exhaustion(describe_exhaustion(2)),
    ):
        take()
    other = (
        r"smaller parts, but spread will compare the views of a part only.*\(--resume\) with another --run.precision;"
    )
    with pytest.raises(UserError, match=other), explain_exhaustion(describe_exhaustion(1, ["spread"])):
        take()


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="something else"), explain_exhaustion(describe_exhaustion(1)):
        raise RuntimeError("something else")


def test_the_estimate_counts_weights_exactly_and_activations_by_views():
    config = build_recipe("mvmae", "hilum", "tiny")
    model = build_objective(config)
    fixed, activations = estimate_memory(model, config, views=64.0, half=False)
    assert fixed == 16 * sum(parameter.numel() for parameter in model.parameters())
    _, double = estimate_memory(model, config, views=128.0, half=False)
    assert double == 2 * activations
    assert estimate_memory(model, config, views=64.0, half=True)[1] < activations


def test_the_estimate_of_activations_is_near_what_autograd_keeps():
    config = build_recipe("mvmae", "hilum", "tiny")
    model = build_objective(config)
    views, kept = 4, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    batch = make_batch([2, 2], size=config.encoder.image_size)
    mask = draw_masks(batch, num_patches=config.encoder.num_patches, ratio=config.mask.ratio, seed=0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(batch, mask)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    measured = sum(size for place, size in kept.items() if place not in weights)
    _, estimated = estimate_memory(model, config, views=float(views), half=False)
    assert 0.5 < estimated / measured < 2.0


def test_a_tight_fit_is_said_before_the_first_step():
    assert "tight: raise --optim.accumulate (smaller parts, the same" in describe_memory(8.0 * 2**30, 8.0, 8.0 * 2**30)
    assert describe_memory(2.0 * 2**30, 1.0 * 2**30, 16.0 * 2**30) == (
        "memory: about 3.0 GiB (2.0 weights and optimiser, 1.0 activations) of 16.0 GiB available"
    )
    assert measure_peak_memory(torch.device("cpu")) > 50
