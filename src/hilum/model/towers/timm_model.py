"""Any image encoder of timm by its name, with the preprocessing that timm has on record for it."""

from __future__ import annotations

import difflib
import math
from dataclasses import replace
from typing import Any

import timm
import timm.data
from timm.models import group_parameters
from torch import Tensor, nn

from hilum.errors import UserError

from .catalogue import Weights
from .files import USUAL_NAMES, find_file, load_tensors, read_any_tensors
from .tower import HEAD, Preprocessing, Tokens, Tower, TowerConfig

LIBRARY = f"timm {timm.__version__}"


def build_timm(name: str, weights: Weights) -> Tower:
    """The encoder of that name in timm without its classifier; weights as timm writes them.

    Raises:
        UserError: no such name, weights that are not there or not its own, or preprocessing that Hilum does not have.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"timm {timm.__version__} has no model '{name}'.{hint} `timm.list_models()` lists them.")
    try:
        model = timm.create_model(name, pretrained=weights == "download", num_classes=0)
    except (OSError, RuntimeError) as error:  # the network, or a name without published weights
        raise UserError(f"timm:{name} cannot be made with {weights} weights: {str(error).splitlines()[0]}") from error
    published: dict[str, Any] = dict(model.pretrained_cfg)  # ty: ignore[no-matching-overload]
    if not isinstance(weights, str):
        where = published.get("hf_hub_id") or "timm's model page"
        file = find_file(weights, USUAL_NAMES, f"timm's weights are model.safetensors of huggingface.co/{where}.")
        load_tensors(model, read_any_tensors(file), file)
    licence = published.get("license") or "not stated by timm"
    shown = read_preprocessing(model)
    return build_from_timm(model, TowerConfig(f"timm:{name}", shown, licence, LIBRARY))


def build_imagenet(weights: Weights) -> Tower:
    """ViT-B/16 trained on ImageNet-21k and -1k (Steiner et al. 2021), the usual start of transfer learning."""
    tower = build_timm("vit_base_patch16_224.augreg_in21k_ft_in1k", weights)
    tower.describe(replace(tower.config, name="imagenet-vit-b"))
    return tower


def build_from_timm(model: nn.Module, config: TowerConfig) -> Tower:
    """The tower of a timm model: its features before pooling, its own grouping of parameters into layers."""
    grouped = group_parameters(model, model.group_matcher(coarse=False), reverse=True)  # ty: ignore[not-callable]
    last = max(grouped.values())
    # timm puts the norm after the last block in one layer with that block.
    layers = {name: last + 1 if name.split(".")[0] in _AFTER else layer for name, layer in grouped.items()}
    layers[HEAD] = last + 1
    return Tower(model, config, read=read_timm, layers=layers, branches=list_timm_branches)


_AFTER = ("norm", "fc_norm", "head", "attn_pool", "norm_pre_head")


def read_timm(model: nn.Module, pixels: Tensor) -> Tokens:
    """Tokens of a timm model: of a convolutional network the places of its last map, which have no class token.

    Tokens that are neither class nor patch (registers, distillation) are left out.
    """
    out = model.forward_features(pixels)  # ty: ignore[not-callable]
    if not isinstance(out, Tensor) or out.ndim not in (3, 4):
        raise UserError(f"{type(model).__name__} gives no tokens and no map of features, which an encoder must give.")
    if out.ndim == 4:
        return Tokens(None, out.flatten(1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else flatten_map(out))
    num_prefix = getattr(model, "num_prefix_tokens", 0)
    has_class = num_prefix > 0 and isinstance(getattr(model, "cls_token", None), Tensor)
    return Tokens(out[:, 0] if has_class else None, out[:, num_prefix:])


def flatten_map(features: Tensor) -> Tensor:
    """A map (view dim row column) as tokens (view patch dim), row by row."""
    return features.flatten(2).transpose(1, 2)


def list_timm_branches(model: nn.Module) -> list[tuple[nn.Module, ...]]:
    """Attention and MLP of every block, where they are what the residual connection passes by."""
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.ModuleList | nn.Sequential):
        return []
    branches = [tuple(getattr(block, name, None) for name in ("attn", "mlp")) for block in blocks]
    if not all(isinstance(module, nn.Module) for branch in branches for module in branch):
        return []
    return branches  # ty: ignore[invalid-explicit-return]


def read_preprocessing(model: nn.Module) -> Preprocessing:
    """What timm does to images in evaluation before it shows them to this model.

    Raises:
        UserError: images that are not square, or resampling that is neither bilinear nor bicubic.
    """
    found = timm.data.resolve_model_data_config(model)
    channels, height, width = found["input_size"]
    if height != width or found["interpolation"] not in ("bilinear", "bicubic"):
        raise UserError(
            f"{type(model).__name__} reads {height} x {width} px, resampled by {found['interpolation']}; expected "
            "squares, and bilinear or bicubic."
        )
    resized = math.floor(height / found["crop_pct"])
    return Preprocessing(
        size=height,
        mean=tuple(found["mean"])[:channels],
        std=tuple(found["std"])[:channels],
        interpolation=found["interpolation"],
        crop="squash" if found["crop_mode"] == "squash" else "center",
        resized=resized if resized != height else None,
    )


def build_vit_base(num_layers: int = 12) -> nn.Module:
    """ViT-B/16 at 224 px without classifier, as timm has it."""
    return timm.create_model("vit_base_patch16_224", num_classes=0, depth=num_layers)


def project(model: nn.Module, pixels: Tensor) -> Tokens:
    """Tokens of a timm model `trunk`, each mapped by the matrix `projection`, as contrastive training does the class
    token's."""
    class_token, patches = read_timm(model.get_submodule("trunk"), pixels)
    projection = model.get_submodule("projection")
    assert class_token is not None, "what contrastive training projects"
    return Tokens(projection(class_token), projection(patches))
