"""All processes' rows in one tensor, with a gradient that is right."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

Gather = Callable[[Tensor], Tensor]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        parts = _all_gather(rows)
        ctx.start = sum(len(part) for part in parts[: dist.get_rank()])
        ctx.num_rows = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        # Every process's loss reads these rows, so their gradient is the sum over processes. All processes come here,
        # also one whose own loss is zero, because its graph runs through the gathered rows all the same.
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.num_rows]


def gather_rows(rows: Shaped[Tensor, "row ..."]) -> Shaped[Tensor, "all_rows ..."]:
    """The rows of all processes, in the order of processes; how many each has may differ, and may be none.

    The gradient of a row is the sum of what all processes' losses ask of it. Rows without gradient (integers) are just
    collected. With one process: the rows themselves.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    if rows.requires_grad and torch.is_grad_enabled():
        return _GatherRows.apply(rows)
    return torch.cat(_all_gather(rows))


def _all_gather(rows: Tensor) -> list[Tensor]:
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    longest = int(max(counts))
    # Collectives want equal shapes: pad to the longest, cut again after.
    padded = torch.cat([rows.detach(), rows.new_zeros(longest - len(rows), *rows.shape[1:])]).contiguous()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return [part[: int(count)] for part, count in zip(parts, counts, strict=True)]
