"""Synthetic MVMAE files (M 6.1) and what their encoder computes (M 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .foreign_project import foreign_project
from .sizes import Shapes, Sizes, State, draw_weights, list_block_shapes, list_linear_shapes, list_norm_shapes
from .slow_vit import as_arrays, embed_patches, normalise, run_block

ENCODER, DECODER, TEXT, LATENT = "encoders.vision.", "decoders.vision.", "text_decoder.", "latent_heads.vision."
CLASSIFIER = "oe_vis_encoder."
FINAL_EPS = 1e-5
MEAN, STD = 0.5056, 0.252  # of pixels in [0, 1] (M 1.5)
NUM_VIEWS = 3  # rows of the view table: frontal, lateral, undefined


def list_encoder_shapes(sizes: Sizes) -> Shapes:
    width = sizes.width
    shapes: Shapes = {
        "cls_token": (1, 1, width),
        "pos_embedding": (sizes.num_patches, 1, width),
        "mod_embedding": (NUM_VIEWS, width),
        "patchify.weight": (width, 1, sizes.patch, sizes.patch),
        "patchify.bias": (width,),
    }
    for index in range(sizes.depth):
        shapes |= list_block_shapes(f"transformer.{index}", width, sizes.mlp_ratio, sizes.head_width)
    return shapes | list_norm_shapes("layer_norm", width)


def list_decoder_shapes(sizes: Sizes) -> Shapes:
    width = sizes.width
    shapes: Shapes = {
        "mask_token": (1, 1, width),
        "pos_embedding": (sizes.num_patches + 1, 1, width),
        "mod_embedding": (NUM_VIEWS, width),
    }
    for index in range(sizes.decoder_depth):
        shapes |= list_block_shapes(f"transformer.{index}", width, sizes.mlp_ratio, sizes.head_width)
    return shapes | list_norm_shapes("layer_norm", width) | list_linear_shapes("head", width, sizes.patch**2)


def list_text_shapes(sizes: Sizes) -> Shapes:
    """PyTorch's post-norm decoder layers without biases, an MLP as wide as a token, words untied (M 2.6)."""
    width = sizes.width
    shapes: Shapes = {
        "pos_embedding": (sizes.num_patches + 1, 1, width),
        "mask_embedding": (1, 1, width),
        "inp_vocabulary.weight": (sizes.vocabulary, width),
    }
    for index in range(sizes.decoder_depth):
        layer = f"decoder.layers.{index}"
        for name in ("self_attn", "multihead_attn"):
            shapes[f"{layer}.{name}.in_proj_weight"] = (3 * width, width)
            shapes[f"{layer}.{name}.out_proj.weight"] = (width, width)
        shapes |= {f"{layer}.linear{number}.weight": (width, width) for number in (1, 2)}
        shapes |= {f"{layer}.norm{number}.weight": (width,) for number in (1, 2, 3)}
    shapes |= list_norm_shapes("decoder.norm", width)
    return shapes | {"out_head.weight": (sizes.vocabulary, width)}


def _prefix(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def list_shapes(sizes: Sizes, text: bool = True, latent: bool = False) -> Shapes:
    """Everything a pretraining file's `state_dict` holds."""
    shapes = _prefix(ENCODER, list_encoder_shapes(sizes)) | _prefix(DECODER, list_decoder_shapes(sizes))
    if text:
        shapes |= _prefix(TEXT, list_text_shapes(sizes))
    if latent:
        shapes |= {f"{LATENT}weight": (sizes.width, sizes.width), f"{LATENT}bias": (sizes.width,)}
    return shapes


def list_classifier_shapes(sizes: Sizes, linear: bool = True) -> Shapes:
    """The fine-tuned file: the encoder under another prefix, and a linear or two-layer head."""
    shapes = _prefix(CLASSIFIER, list_encoder_shapes(sizes))
    if linear:
        return shapes | list_linear_shapes("clf_head", sizes.width, sizes.findings)
    shapes |= list_linear_shapes("clf_head.0", sizes.width, sizes.width // 2)
    return shapes | list_linear_shapes("clf_head.3", sizes.width // 2, sizes.findings)


def draw_mvmae(sizes: Sizes, seed: int = 0, text: bool = True, latent: bool = False) -> State:
    return draw_weights(list_shapes(sizes, text, latent), seed)


def draw_classifier(sizes: Sizes, seed: int = 0, linear: bool = True) -> State:
    return draw_weights(list_classifier_shapes(sizes, linear), seed)


def write_lightning(path: Path, state: State, project_objects: bool = True, **hyper_parameters: Any) -> None:
    """A Lightning checkpoint: the state among loops, optimizers and callbacks, and hyper-parameters that pickle objects
    of the project, whose modules are gone again when this returns."""
    with foreign_project() as objects:
        parameters = {
            "mask_ratio": 0.93,
            "base_lr": 1.2e-4,
            "final_beta": 2.0,
            "view_policy": "FLU",
            "betas": (0.9, 0.999),
        }
        torch.save(
            {
                "epoch": 499,
                "global_step": 12_000,
                "pytorch-lightning_version": "2.5.0",
                "state_dict": state,
                "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 500}}}},
                "callbacks": {
                    "ModelCheckpoint{'monitor': 'val/loss', 'mode': 'max'}": {
                        "best_model_score": torch.tensor(0.25),
                        "best_model_path": "/somewhere/last.ckpt",
                        "best_k_models": {},
                    }
                },
                "optimizer_states": [
                    {
                        "state": {0: {"step": torch.tensor(12_000.0), "exp_avg": torch.zeros(1, 1, 4)}},
                        "param_groups": [{"lr": 3e-5, "betas": (0.9, 0.999), "params": [0]}],
                    }
                ],
                "lr_schedulers": [{"last_epoch": 499, "_last_lr": [0.0]}],
                "hparams_name": "kwargs",
                "hyper_parameters": parameters | (objects if project_objects else {}) | hyper_parameters,
            },
            path,
        )


def encode_slowly(
    state: State,
    image: np.ndarray,
    view_kind: int,
    head_width: int,
    prefix: str = ENCODER,
    order: Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The class token and the patch tokens, in the patches' own order, of one unmasked image (1, height, width).

    order: in which order the blocks see the patches (M 2.1: a random permutation, also at mask ratio 0).
    """
    weights = {name.removeprefix(prefix): value for name, value in as_arrays(state).items() if name.startswith(prefix)}
    patches = embed_patches(image, weights["patchify.weight"], weights["patchify.bias"])
    order = range(len(patches)) if order is None else order
    view = weights["mod_embedding"][view_kind]
    tokens = [weights["cls_token"][0, 0]]  # neither position nor view
    tokens += [patches[patch] + weights["pos_embedding"][patch, 0] + view for patch in order]
    block = 0
    while f"transformer.{block}.norm1.weight" in weights:
        tokens = run_block(tokens, weights, f"transformer.{block}", head_width)
        block += 1
    tokens = [normalise(token, weights["layer_norm.weight"], weights["layer_norm.bias"], FINAL_EPS) for token in tokens]
    in_place = np.empty((len(patches), len(tokens[0])))
    for place, patch in enumerate(order):
        in_place[patch] = tokens[1 + place]
    return tokens[0], in_place
