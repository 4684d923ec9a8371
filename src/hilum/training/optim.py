"""The optimisers and their parameter groups, and the learning rate as a pure function of where the run is.

No scheduler object: a rate that is a function of the step needs no state in a checkpoint and cannot drift from it.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from hilum.config import OptimConfig

from .muon import Muon

DECAYED = (nn.Linear, nn.Bilinear, _ConvNd)


def build_parameter_groups(
    module: nn.Module, *, weight_decay: float, decay_everything: bool = False, decay_tokens: bool = False
) -> list[dict]:
    """AdamW groups of `module`: matrices that multiply features decay; biases, norms, embeddings and tokens do not.

    What decays is decided by the owner (the weight of a linear or convolution layer), not by name or shape: a class
    token is stored as (1, 1, width) and an embedding as (kinds, width), and neither is a matrix that multiplies. The
    released MVMAE code decays everything (M 3, M 7.1 row 19); `decay_everything` does the same. PaCX-MAE's first stage
    goes by shape (P 1.1): `decay_tokens` decays whatever has more than one axis.

    Returns:
        One or two groups with `params`, `weight_decay` and `name`, in the module's order; frozen parameters left out.
    """
    decayed = {
        id(parameter)
        for owner in module.modules()
        for name, parameter in owner.named_parameters(recurse=False)
        if decay_everything
        or (decay_tokens and parameter.ndim > 1)
        or (isinstance(owner, DECAYED) and name == "weight")
    }
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"name": name, "params": [p for p in parameters if (id(p) in decayed) == is_decayed], "weight_decay": decay}
        for name, is_decayed, decay in (("decayed", True, weight_decay), ("not decayed", False, 0.0))
    ]
    return [group for group in groups if group["params"]]


def build_optimizers(module: nn.Module, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """AdamW of everything, or Muon of the linear layers' matrices and AdamW of the rest."""
    groups = build_parameter_groups(
        module,
        weight_decay=config.weight_decay,
        decay_everything=config.decay_everything,
        decay_tokens=config.decay_tokens,
    )
    if config.matrices == "adamw":
        return [torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)]
    linear = {id(owner.weight) for owner in module.modules() if isinstance(owner, nn.Linear)}
    matrices = [parameter for group in groups for parameter in group["params"] if id(parameter) in linear]
    for group in groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in linear]
    muon = Muon(matrices, lr=config.lr, weight_decay=config.weight_decay)
    rest = [group for group in groups if group["params"]]
    return [muon, torch.optim.AdamW(rest, lr=config.lr, betas=config.betas, fused=True)]


def schedule_lr(
    position: float | int,
    length: float | int,
    *,
    peak: float,
    warmup: float,
    warmup_start: float = 0.0,
    least: float = 0.0,
) -> float:
    """Learning rate at `position` of a run of `length`: a straight line up, then half a cosine down to `least` (M 3).

    The unit is the caller's: epochs gives the released code's stairs, steps a smooth curve.

    Args:
        position: Where the run is, in 0..length.
        length: Length of the run, in the unit of `position`.
        peak: Highest rate.
        warmup: Share of the run in which the rate rises.
        warmup_start: Rate at position 0, as a share of the peak.
        least: Rate at the end.
    """
    rise = warmup * length
    if position < rise:
        return peak * (warmup_start + (1 - warmup_start) * position / rise)
    if length <= rise:
        return peak
    return least + (peak - least) * 0.5 * (1 + math.cos(math.pi * (position - rise) / (length - rise)))


def schedule_step_lr(
    step: int,
    num_steps: int,
    *,
    epochs: float,
    per_epoch: bool,
    peak: float,
    warmup: float,
    warmup_start: float,
    floor: float = 0.0,
) -> float:
    """Learning rate of step `step` (from 0) of a run of `num_steps` steps that last `epochs` epochs.

    Smooth schedules are read at the middle of the step, so that neither the first nor the last step has rate 0. With
    `per_epoch` the rate is that of the start of the epoch the step begins in. `floor` is the rate at the end, as a
    share of the peak.
    """
    shape = {"peak": peak, "warmup": warmup, "warmup_start": warmup_start, "least": floor * peak}
    if per_epoch:
        # The small addition keeps the first step of an epoch out of the epoch before it.
        return schedule_lr(math.floor(step * epochs / num_steps + 1e-9), epochs, **shape)
    return schedule_lr(step + 0.5, num_steps, **shape)
