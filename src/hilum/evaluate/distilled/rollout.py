"""Attention rollout: which patches of a view reach what a head reads, layer by layer (Abnar and Zuidema 2020; P 3.6).

Attention of every block is computed from the block's own input by the block's own weights: nothing is patched or
hooked. Encoders see normalised pixels, as in their training; the paper's figure did not show them so (P 7.1-7).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.evaluate.result import Estimate
from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES
from hilum.evaluate.scoring.intervals import estimate_weighted, resample_mean
from hilum.evaluate.segmentation.squares import read_squares
from hilum.model.attention import SelfAttention
from hilum.model.encoder import Encoder
from hilum.model.image_encoder import ImageEncoder

HeadFusion = Literal["mean", "max"]
Reader = Literal["class", "mean", "both"]


def roll_out(
    attention: Iterable[Float[Tensor, "view head token token"]], heads: HeadFusion = "mean"
) -> Float[Tensor, "view token token"]:
    r"""How much of each token of the input (last axis) is in each token of the output.

    .. math:: R = \tilde A_L \cdots \tilde A_1, \qquad
        \tilde A_l = \mathrm{normalise\ rows}(\mathrm{fuse}_h A_{lh} + I)

    Abnar and Zuidema 2020, "Quantifying attention flow in transformers", eq. 1: the identity stands for the residual
    branch. Rows sum to 1. Fewer layers, from a later one on, are a rollout that starts there.

    Args:
        attention: of each layer, the first layer first; rows sum to 1.
        heads: how the heads of a layer are fused.
    """
    rolled: Tensor | None = None
    for layer in attention:
        fused = layer.mean(dim=1) if heads == "mean" else layer.amax(dim=1)
        fused = fused + torch.eye(fused.shape[-1], device=fused.device)
        fused = fused / fused.sum(dim=-1, keepdim=True)
        rolled = fused if rolled is None else fused @ rolled
    assert rolled is not None, "there is no layer"
    return rolled


def read_rollout(rolled: Float[Tensor, "view token token"], reader: Reader) -> Float[Tensor, "view patch"]:
    """The share of each patch in what a head reads, patches adding up to 1.

    class: the class token, the first; mean: the mean of the patch tokens; both: half of each. What is of the class
    token's own input is left out.
    """
    if reader == "both":
        return (read_rollout(rolled, "class") + read_rollout(rolled, "mean")) / 2
    row = rolled[:, 0, 1:] if reader == "class" else rolled[:, 1:, 1:].mean(dim=1)
    return row / row.sum(dim=1, keepdim=True)


@torch.no_grad()
def roll_out_pixels(
    encoder: ImageEncoder,
    pixels: Float[Tensor, "view 1 height width"],
    view_kind: Int64[Tensor, " view"],
    *,
    reader: Reader = "class",
    heads: HeadFusion = "mean",
    start_layer: int = 0,
) -> Float[Tensor, "view patch"]:
    """Rollout of prepared views.

    Args:
        reader: class where heads read the class token, mean where they read pooled patches, both where both.
        start_layer: the first layer that counts, 0 for all.

    Raises:
        UserError: an encoder that is not Hilum's vision transformer, or no such layer.
    """
    if not isinstance(encoder, Encoder):
        raise UserError(
            "Attention rollout reads the attention of Hilum's own vision transformer; this encoder is another's. "
            "`hilum weights import` reads published ViT weights into it."
        )
    if not 0 <= start_layer < encoder.depth:
        raise UserError(f"start_layer is {start_layer}: this encoder has layers 0 to {encoder.depth - 1}.")
    inputs = encoder.encode(pixels, view_kind, return_layers=True).layers[:-1]
    layers = list(zip(encoder.blocks, inputs, strict=True))[start_layer:]
    return read_rollout(roll_out((_weigh_block(*layer) for layer in layers), heads), reader)


def roll_out_views(
    cache: Cache,
    encoder: ImageEncoder,
    view_row: Int64[np.ndarray, " view"],
    *,
    mean: float,
    std: float,
    crop: CropConfig,
    reader: Reader = "class",
    heads: HeadFusion = "mean",
    start_layer: int = 0,
    batch_views: int = 64,
) -> Float[np.ndarray, "view patch"]:
    """Rollout of views of a cache, shown as the encoder saw its images in training.

    Args:
        view_row: rows of the views.
        mean, std, crop: of the encoder (`Subject.read_statistics`, `Subject.read_settings`).
        reader, heads, start_layer: see `roll_out_pixels`.
    """
    device, parts = next(encoder.parameters()).device, []
    encoder.eval()
    for first in range(0, len(view_row), batch_views):
        rows = view_row[first : first + batch_views]
        pixels = read_squares(
            cache, rows, size=encoder.side, mean=mean, std=std, crop=crop, interpolation=encoder.interpolation
        )
        kind = torch.from_numpy(cache.views["view_kind"][rows].astype(np.int64))
        how: dict[str, Any] = {"reader": reader, "heads": heads, "start_layer": start_layer}
        parts.append(roll_out_pixels(encoder, pixels.to(device), kind.to(device), **how).cpu().numpy())
    return np.concatenate(parts)


def cover_patches(masks: Bool[np.ndarray, "view size size"], num_patches: int) -> Float[np.ndarray, "view patch"]:
    """The share of each patch that a mask covers, patches row by row."""
    across = round(num_patches**0.5)
    patch = masks.shape[1] // across
    assert across * patch == masks.shape[1], f"{num_patches} patches do not tile {masks.shape[1]} px"
    cut = masks.reshape(len(masks), across, patch, across, patch)
    return cut.mean(axis=(2, 4)).reshape(len(masks), -1)


def measure_shares(
    rollout: Float[np.ndarray, "view patch"], cover: Float[np.ndarray, "view patch"]
) -> Float[np.ndarray, " view"]:
    """How much of a view's rollout lies inside a mask: sum over patches of rollout times covered share."""
    return (rollout.astype(np.float64) * cover).sum(axis=1)


def estimate_shares(
    rollout: Float[np.ndarray, "view patch"],
    masks: dict[str, Bool[np.ndarray, "view size size"]],
    patient: Int[np.ndarray, " view"],
    *,
    slice: str = "all",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """The mean share of a rollout inside each mask, and the mask's own area, which is what a rollout that looks
    everywhere alike has inside.

    Views whose mask is empty do not enter.

    Args:
        masks: by structure, such as heart and bone, on the squares that were shown.
        slice: what the shares are called after, such as the token that was read.
    """
    estimates = []
    for structure, mask in masks.items():
        kept = mask.any(axis=(1, 2))
        if not kept.any():
            estimates.append(Estimate("rollout_share", structure, None, reason="no view has such a mask"))
            continue
        share = measure_shares(rollout[kept], cover_patches(mask[kept], rollout.shape[1]))
        values = {("rollout_share", slice): share, ("area_share", "all"): mask[kept].mean(axis=(1, 2))}
        for (metric, called), value in values.items():
            number = partial(resample_mean, value)
            rules: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
            estimates.append(
                estimate_weighted(number, patient[kept], metric=metric, of=structure, slice=called, **rules)
            )
    return estimates


def _weigh_block(block: nn.Module, tokens: Float[Tensor, "view token dim"]) -> Float[Tensor, "view head token token"]:
    attention, norm = block.get_submodule("attn"), block.get_submodule("norm1")
    assert isinstance(attention, SelfAttention)
    return attention.weigh(norm(tokens))
