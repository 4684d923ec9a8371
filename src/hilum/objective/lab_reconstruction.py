"""Denoising of laboratory percentiles (P 1.2).

| P 1.2 | name here |
|---|---|
| x, x-hat | share, reconstruction |
| m | observed |
| entries dropped with probability 0.15 | dropped |
| sum m (x - x-hat)^2 / sum m, m before dropping | `sum_squared_errors` with all observed entries as flags: the loss |
| the same over dropped entries alone | `sum_squared_errors` with the dropped entries: the imputation error |
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from hilum.keyed_random import draw_uniform, make_keys

from .term import Sum


def draw_dropped(
    observed: Bool[np.ndarray, "row lab"], key: Int64[np.ndarray, " row"], probability: float, seed: int, draw: int
) -> Bool[np.ndarray, "row lab"]:
    """Which observed entries are hidden from the encoder, each by itself with this probability.

    Args:
        key: The rows' lasting names: a row drops the same whatever else is in the batch or the table.
        draw: How often the rows were drawn before.
    """
    return observed & (draw_uniform(make_keys("lab drop", seed, draw, key), observed.shape[1]) < probability)


def corrupt(
    share: Float[Tensor, "row lab"], observed: Bool[Tensor, "row lab"], dropped: Bool[Tensor, "row lab"]
) -> tuple[Float[Tensor, "row lab"], Bool[Tensor, "row lab"]]:
    """What the encoder sees: shares and flags, both 0 where nothing was observed and where it was dropped."""
    seen = observed & ~dropped
    return share.where(seen, 0.0), seen


def sum_squared_errors(
    reconstruction: Float[Tensor, "row lab"], share: Float[Tensor, "row lab"], flags: Bool[Tensor, "row lab"]
) -> Sum:
    r"""Numerator and denominator of :math:`\sum m (x - \hat x)^2 / \sum m` (P 1.2), m the flags.

    Both are added over batches and processes before they are divided: every entry then weighs the same, however few a
    row has. Without any flag both are 0, and the gradient is 0 and not missing.
    """
    errors = (reconstruction.float() - share).square().where(flags, 0.0)
    return Sum(errors.sum(), flags.sum().to(torch.float32))
