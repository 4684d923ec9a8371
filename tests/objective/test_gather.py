"""Gathering rows: order, unequal and missing rows, and a gradient that is the sum over processes."""

from __future__ import annotations

import torch

from hilum.objective.gather import gather_rows
from two_processes import run_in_processes


def gather_part(rank: int, world_size: int) -> dict[str, torch.Tensor]:
    rows = (torch.arange(6.0).reshape(3, 2)[: 3 - 3 * rank] + 10 * rank).requires_grad_()  # three rows, and none
    everyone = gather_rows(rows)
    ((rank + 1) * everyone.square()).sum().backward()
    numbers = gather_rows(torch.full((rank + 1,), rank))
    with torch.no_grad():
        still = gather_rows(rows)
    return {"everyone": everyone.detach(), "gradient": rows.grad, "numbers": numbers, "still": still}


def test_rows_of_all_processes_with_their_gradient() -> None:
    first, second = run_in_processes(gather_part)
    expected = torch.arange(6.0).reshape(3, 2)
    for part in (first, second):
        assert torch.equal(part["everyone"], expected)
        assert torch.equal(part["still"], expected)
        assert part["numbers"].tolist() == [0, 1, 1]
    assert torch.equal(first["gradient"], (1 + 2) * 2 * expected)
    assert second["gradient"].shape == (0, 2)


def test_one_process_keeps_its_rows() -> None:
    rows = torch.randn(2, 3, requires_grad=True)
    assert gather_rows(rows) is rows
