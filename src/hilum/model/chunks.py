"""Gradient caching: an encoder run a few views at a time, for a loss over all of them (Gao et al. 2021; L 1.5).

Losses that compare the rows of a batch need all vectors at once, and the activations of all views at 1520 x 912 fit
nowhere. So each chunk runs twice: first without keeping activations, for its vectors; and once more when the gradient
with respect to these has come back, chunk after chunk, with the random state of the first time. That is torch's
activation checkpointing with a chunk as the unit, which also carries autocast, distributed wrappers and second backward
passes; what it lacks is batch normalisation's running statistics, which a second run would move again.

The gradient is that of the same chunks without caching, bit for bit but for the order of sums; and that of one chunk
where nothing ties the views of a chunk together: frozen batch statistics, no dropout (or the same draws).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_in_chunks(
    function: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor, chunk: int, norms: Sequence[_BatchNorm] = ()
) -> tuple[Tensor, ...]:
    """`function` of `chunk` rows at a time, each of its results put together; activations are computed anew backward.

    Args:
        norms: Batch normalisations within `function`; their running statistics move once.
    """
    norms = [norm for norm in norms if norm.training]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _KeepStatistics(norms)

    parts = [
        checkpoint(function, part, use_reentrant=False, context_fn=contexts)
        if torch.is_grad_enabled()
        else function(part)
        for part in rows.split(chunk)
    ]
    return tuple(torch.cat(found) for found in zip(*parts, strict=True))


class _KeepStatistics(AbstractContextManager[None]):
    """Running statistics after the block are those before it; entered once for every backward pass."""

    def __init__(self, norms: Sequence[_BatchNorm]) -> None:
        self._buffers = [buffer for norm in norms for buffer in norm.buffers()]

    def __enter__(self) -> None:
        self._kept = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def __exit__(self, *error: object) -> None:
        for buffer, value in zip(self._buffers, self._kept, strict=True):
            buffer.copy_(value)
