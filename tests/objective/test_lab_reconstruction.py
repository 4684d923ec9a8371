"""Denoising of laboratory values by hand, against a loop, in parts and in two processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.model.lab_autoencoder import LabAutoencoder
from hilum.objective.lab_reconstruction import corrupt, draw_dropped, sum_squared_errors
from two_processes import run_in_processes


def test_the_loss_by_hand() -> None:
    share = torch.tensor([[0.2, 0.9, 0.5], [0.4, 0.0, 0.0]])
    reconstruction = torch.tensor([[0.3, 0.5, 0.9], [0.6, 0.7, 0.1]])
    observed = torch.tensor([[True, True, False], [True, False, False]])
    loss = sum_squared_errors(reconstruction, share, observed)
    assert float(loss.value) == pytest.approx(0.1**2 + 0.4**2 + 0.2**2)
    assert float(loss.count) == 3
    dropped = torch.tensor([[False, True, False], [False, False, False]])
    imputation = sum_squared_errors(reconstruction, share, dropped)
    assert (float(imputation.value), float(imputation.count)) == (pytest.approx(0.16), 1)
    seen, flags = corrupt(share.where(observed, 7.0), observed, dropped)
    assert seen.tolist() == [[pytest.approx(0.2), 0, 0], [pytest.approx(0.4), 0, 0]]
    assert flags.tolist() == [[True, False, False], [True, False, False]]


def loss_slowly(reconstruction: list, share: list, flags: list) -> tuple[float, int]:
    """P 1.2: MSE over the flagged entries, entry by entry: its sum and its number."""
    total, number = 0.0, 0
    for row in range(len(share)):
        for lab in range(len(share[row])):
            if flags[row][lab]:
                total += (share[row][lab] - reconstruction[row][lab]) ** 2
                number += 1
    return total, number


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99), num_rows=st.integers(1, 7), num_labs=st.integers(1, 6), cut=st.integers(0, 7))
def test_the_loss_agrees_with_a_loop_and_does_not_depend_on_parts(
    seed: int, num_rows: int, num_labs: int, cut: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    share, reconstruction, chance = torch.rand(3, num_rows, num_labs, generator=generator)
    flags = chance < 0.5
    whole = sum_squared_errors(reconstruction, share, flags)
    total, number = loss_slowly(reconstruction.tolist(), share.tolist(), flags.tolist())
    assert float(whole.value) == pytest.approx(total, abs=1e-5)
    assert float(whole.count) == number
    parts = [
        sum_squared_errors(reconstruction[rows], share[rows], flags[rows]) for rows in (slice(cut), slice(cut, None))
    ]
    assert float(sum(part.value for part in parts)) == pytest.approx(total, abs=1e-5)
    assert float(sum(part.count for part in parts)) == number


def test_nothing_observed_is_no_loss_and_a_gradient_of_zero() -> None:
    reconstruction = torch.rand(2, 3, requires_grad=True)
    loss = sum_squared_errors(reconstruction, torch.rand(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    loss.value.backward()
    assert (loss.value.item(), loss.count.item()) == (0.0, 0.0)
    assert torch.equal(reconstruction.grad, torch.zeros(2, 3))


def compute_part(rank: int, world_size: int) -> dict[str, torch.Tensor]:
    """Loss and gradient of five rows, parted 4 to 1 and over all processes together."""
    torch.manual_seed(0)
    model = LabAutoencoder(6, hidden=8, width=4)
    share, observed = torch.rand(5, 6), torch.rand(5, 6) < 0.6
    key = torch.arange(5).numpy()
    dropped = torch.from_numpy(draw_dropped(observed.numpy(), key, 0.3, seed=0, draw=0))
    own = slice(None) if world_size == 1 else (slice(4), slice(4, None))[rank]
    reconstruction, _ = model(*corrupt(share[own], observed[own], dropped[own]))
    errors = sum_squared_errors(reconstruction, share[own], observed[own])
    value, count = errors.value.detach().clone(), errors.count.clone()
    if world_size > 1:
        dist.all_reduce(value)
        dist.all_reduce(count)
    (errors.value / count).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    if world_size > 1:
        dist.all_reduce(gradient)
    return {"loss": value / count, "gradient": gradient}


def test_two_processes_have_the_loss_and_gradient_of_one() -> None:
    alone = compute_part(0, 1)
    for part in run_in_processes(compute_part):
        assert torch.allclose(part["loss"], alone["loss"], atol=1e-7)
        assert torch.allclose(part["gradient"], alone["gradient"], atol=1e-6)


def test_drops_are_of_observed_entries_at_the_rate_asked_for() -> None:
    observed = np.random.default_rng(0).random((4000, 50)) < 0.7
    dropped = draw_dropped(observed, np.arange(4000), 0.15, seed=0, draw=0)
    assert not (dropped & ~observed).any()
    # 140,000 draws: the standard error of the share is 0.001.
    assert dropped.sum() / observed.sum() == pytest.approx(0.15, abs=0.004)
    assert not draw_dropped(observed, np.arange(4000), 0.0, seed=0, draw=0).any()


def test_a_row_drops_the_same_in_any_batch_and_something_else_the_next_time() -> None:
    observed = np.ones((6, 50), dtype=bool)
    key = np.array([11, -5, 2**62, 7, 8, 9])
    whole = draw_dropped(observed, key, 0.5, seed=3, draw=2)
    alone = draw_dropped(observed[[4, 1]], key[[4, 1]], 0.5, seed=3, draw=2)
    assert np.array_equal(alone, whole[[4, 1]])
    assert not np.array_equal(draw_dropped(observed, key, 0.5, seed=3, draw=3), whole)
    assert not np.array_equal(draw_dropped(observed, key, 0.5, seed=4, draw=2), whole)
