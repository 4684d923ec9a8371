"""Synthetic files of facebookresearch/mae, medical_mae and CrossMAE (M 6.2), and what their encoder computes."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from .sizes import Shapes, Sizes, State, draw_weights, list_block_shapes, list_linear_shapes, list_norm_shapes
from .slow_vit import as_arrays, embed_patches, normalise, run_block

FINAL_EPS = 1e-6
# Mean and standard deviation, per channel, of pixels in [0, 1].
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NIH = ((0.5056,) * 3, (0.252,) * 3)


def list_encoder_shapes(sizes: Sizes, channels: int = 3, norm: bool = True) -> Shapes:
    """150 tensors at base size; positions include a row for the class token."""
    shapes: Shapes = {
        "cls_token": (1, 1, sizes.width),
        "pos_embed": (1, sizes.num_patches + 1, sizes.width),
        "patch_embed.proj.weight": (sizes.width, channels, sizes.patch, sizes.patch),
        "patch_embed.proj.bias": (sizes.width,),
    }
    for index in range(sizes.depth):
        shapes |= list_block_shapes(f"blocks.{index}", sizes.width, sizes.mlp_ratio)
    return shapes | (list_norm_shapes("norm", sizes.width) if norm else {})


def list_decoder_shapes(sizes: Sizes, channels: int = 3) -> Shapes:
    """The 104 tensors that make a full model's 254."""
    width = sizes.decoder_width
    shapes: Shapes = {"mask_token": (1, 1, width), "decoder_pos_embed": (1, sizes.num_patches + 1, width)}
    shapes |= list_linear_shapes("decoder_embed", sizes.width, width)
    for index in range(sizes.decoder_depth):
        shapes |= list_block_shapes(f"decoder_blocks.{index}", width, sizes.mlp_ratio)
    shapes |= list_norm_shapes("decoder_norm", width)
    return shapes | list_linear_shapes("decoder_pred", width, sizes.patch**2 * channels)


def list_crossmae_shapes(sizes: Sizes, weighted: bool) -> Shapes:
    """Weighted feature maps come without a norm of the encoder, with one norm a decoder layer instead.

    M 6.2 names the prefixes only; the names inside `decoder_blocks.*`, which no reader may depend on, are ours.
    """
    width = sizes.decoder_width
    shapes = list_encoder_shapes(sizes, norm=not weighted)
    if weighted:
        shapes["wfm.linear.weight"] = (sizes.decoder_depth, sizes.depth + 1)
        for index in range(sizes.decoder_depth):
            shapes |= list_norm_shapes(f"dec_norms.{index}", sizes.width)
    shapes |= {"mask_token": (1, 1, width), "decoder_pos_embed": (1, sizes.num_patches + 1, width)}
    for index in range(sizes.decoder_depth):
        block = f"decoder_blocks.{index}"
        shapes |= list_norm_shapes(f"{block}.norm1", width) | list_norm_shapes(f"{block}.norm2", width)
        shapes |= list_linear_shapes(f"{block}.cross_attn.q", width, width)
        shapes |= list_linear_shapes(f"{block}.cross_attn.kv", sizes.width, 2 * width)
        shapes |= list_linear_shapes(f"{block}.cross_attn.proj", width, width)
        shapes |= list_linear_shapes(f"{block}.mlp.fc1", width, sizes.mlp_ratio * width)
        shapes |= list_linear_shapes(f"{block}.mlp.fc2", sizes.mlp_ratio * width, width)
    shapes |= list_norm_shapes("decoder_norm", width)
    return shapes | list_linear_shapes("decoder_pred", width, sizes.patch**2 * 3)


def draw_mae(sizes: Sizes, seed: int = 0, decoder: bool = False) -> State:
    """Row 0 of the positions is zero in published files; here it is not, so that it cannot be dropped unseen."""
    return draw_weights(list_encoder_shapes(sizes) | (list_decoder_shapes(sizes) if decoder else {}), seed)


def draw_finetuned(sizes: Sizes, seed: int = 0, pooled: bool = False) -> State:
    """`head.*`, and `fc_norm.*` beside it for a classifier of the average-pooled patches."""
    shapes = list_encoder_shapes(sizes) | list_linear_shapes("head", sizes.width, sizes.findings)
    return draw_weights(shapes | (list_norm_shapes("fc_norm", sizes.width) if pooled else {}), seed)


def draw_crossmae(sizes: Sizes, seed: int = 0, weighted: bool = True) -> State:
    return draw_weights(list_crossmae_shapes(sizes, weighted), seed)


def write_mae(path: Path, state: State) -> None:
    """As the published encoder: nothing but `model`."""
    torch.save({"model": state}, path)


def write_medical_mae(path: Path, state: State) -> None:
    """As a training program saves: arguments are an `argparse.Namespace`, which `weights_only=True` refuses."""
    weight = next(iter(state.values()))
    torch.save(
        {
            "model": state,
            "optimizer": {
                "state": {0: {"step": torch.tensor(800.0), "exp_avg": torch.zeros_like(weight)}},
                "param_groups": [{"lr": 1.5e-4, "betas": (0.9, 0.95), "params": [0]}],
            },
            "epoch": 799,
            "scaler": {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000},
            "args": Namespace(model="mae_vit_base_patch16", mask_ratio=0.9, blr=1.5e-4, norm_pix_loss=True),
        },
        path,
    )


def encode_slowly(state: State, image: np.ndarray, head_width: int) -> tuple[np.ndarray, np.ndarray]:
    """The class token and the patch tokens of one unmasked image (channel, height, width).

    Positions may include the class token's (MAE) or not (timm's `no_embed_class`). A file without a norm ends with a
    LayerNorm of gain 1 and bias 0, as a new model that takes its weights would have: M 6.2 says only that the file
    has none, and tokens straight from the last block are not what any reader of features expects.
    """
    weights = as_arrays(state)
    patches = embed_patches(image, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"])
    positions = weights["pos_embed"][0]
    has_class_position = len(positions) == len(patches) + 1
    class_token = weights["cls_token"][0, 0]
    tokens = [class_token + positions[0] if has_class_position else class_token]
    for index, patch in enumerate(patches):
        tokens.append(patch + positions[index + has_class_position])
    block = 0
    while f"blocks.{block}.norm1.weight" in weights:
        tokens = run_block(tokens, weights, f"blocks.{block}", head_width)
        block += 1
    gain = weights.get("norm.weight", np.ones(len(class_token)))
    bias = weights.get("norm.bias", np.zeros(len(class_token)))
    tokens = [normalise(token, gain, bias, FINAL_EPS) for token in tokens]
    return tokens[0], np.stack(tokens[1:])


def normalise_channels(grey: np.ndarray, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> np.ndarray:
    """A grey image (height, width) in [0, 1] as the three channels a model of colour photographs was given."""
    return np.stack([(grey - mean) / std for mean, std in zip(*statistics, strict=True)])
