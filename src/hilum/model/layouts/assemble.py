"""From renamed tensors to an encoder's config and weights: sizes are read off the tensors, pixels made grey."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from pydantic import ValidationError
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from hilum.config import EncoderConfig
from hilum.errors import UserError
from hilum.model.encoder import Encoder
from hilum.model.normalization import fold_normalization

from .keys import Renamed

# Mean and deviation of pixels in [0, 1] that public encoders were trained on, by channel.
NORMALIZATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "chest": ((0.5056,), (0.252,)),  # of NIH's X-rays, as medical_mae and MVMAE use it (M 1.5)
}
# Widths whose usual encoders do not have heads of 64 (ViT-H, ViT-g, ViT-G) -> their number of heads.
_HEADS = {1280: 16, 1408: 16, 1664: 16}


class Imported(NamedTuple):
    """An encoder's weights out of a published file, and how they were read."""

    config: EncoderConfig
    tensors: dict[str, Tensor]  # in 32 bit, by their names here
    mean: float  # of the pixels in [0, 1] that the encoder reads as (pixel - mean) / std
    std: float
    source_mean: tuple[float, ...]  # what the file's own pixels were normalised by, a number a channel
    source_std: tuple[float, ...]
    matched: dict[str, str]  # name here -> name in the file
    left_out: tuple[str, ...]  # in the file, known, and not needed
    notes: tuple[str, ...]  # what was assumed or changed


def assemble(
    renamed: Renamed,
    *,
    heads: int | None,
    image_size: int | None,
    normalization: tuple[Sequence[float], Sequence[float]] | None,
    final_norm_eps: float = 1e-6,
) -> Imported:
    """The encoder that the tensors describe.

    Args:
        renamed: position tables (1 row dim), with a row for the class token or without.
        heads: attention heads; None: as wide as the norm of the queries, else what is usual at this width.
        image_size: side of the square it is to read, in pixels; its positions are resized. None: as in the file.
        normalization: mean and std of pixels in [0, 1] that the file was trained on, one number or one a channel;
            None: ImageNet's for three channels, 0.5056 and 0.252 for one.
        final_norm_eps: of the last LayerNorm.

    Raises:
        UserError: names what is missing, not known, or of another shape.
    """
    tensors, notes = {name: value.detach() for name, value in renamed.tensors.items()}, list(renamed.notes)
    _check_names(renamed)
    config, said = _read_config(tensors, heads, final_norm_eps)
    notes += said
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in Encoder(config).state_dict().items()}
    channels = tensors["patch_embed.proj.weight"].shape[1]
    shapes = expected | {"patch_embed.proj.weight": tuple(tensors["patch_embed.proj.weight"].shape)}
    shapes["pos_embed"] = tuple(tensors["pos_embed"].shape)
    _check_all(renamed, shapes)
    tensors = {name: tensors[name].float() for name in expected}
    broken = [name for name, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise UserError(f"{renamed.name_there(broken[0])} holds numbers that are not finite.")

    tensors["cls_token"], tensors["pos_embed"] = merge_class_position(tensors["cls_token"], tensors["pos_embed"])
    if image_size not in (None, config.image_size):
        notes.append(f"positions resized (bicubic) from {config.image_size} to {image_size} px")
        tensors["pos_embed"] = resize_positions(tensors["pos_embed"], image_size, config.patch_size)
        config = replace(config, image_size=image_size)
    source_mean, source_std, said = _choose_normalization(normalization, channels)
    notes += said
    # Any constants would do: the fold is exact. The mean over channels keeps grey pixels on the file's own scale.
    mean, std = sum(source_mean) / channels, sum(source_std) / channels
    if channels > 1:
        notes.append(f"{channels} channels folded into one, which gives the same for grey pixels")
        tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"] = fold_normalization(
            tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], source_mean, source_std, mean, std
        )
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    matched = {name: renamed.name_there(name) for name in tensors if name not in renamed.added}
    return Imported(config, tensors, mean, std, source_mean, source_std, matched, renamed.left_out, tuple(notes))


def merge_class_position(
    cls_token: Float[Tensor, "1 1 dim"], pos_embed: Float[Tensor, "1 row dim"]
) -> tuple[Float[Tensor, "1 1 dim"], Float[Tensor, "1 patch dim"]]:
    """The class token with its position added, and the positions of patches: a square grid, or one row more (M 6.2).

    Raises:
        UserError: the rows are neither.
    """
    rows = pos_embed.shape[1]
    if math.isqrt(rows) ** 2 == rows:
        return cls_token, pos_embed
    if math.isqrt(rows - 1) ** 2 == rows - 1:
        return cls_token + pos_embed[:, :1], pos_embed[:, 1:]
    raise UserError(
        f"{rows} positions are no square grid of patches, with a class token or without. Hilum reads square images."
    )


def resize_positions(
    pos_embed: Float[Tensor, "1 patch dim"], image_size: int, patch_size: int
) -> Float[Tensor, "1 new_patch dim"]:
    """Positions of a square grid for images of another size, as timm resizes them (bicubic, antialiased).

    Raises:
        UserError: the size is no multiple of the patch's.
    """
    if image_size % patch_size:
        raise UserError(f"--image-size {image_size} is not a multiple of the patch size, {patch_size} px.")
    side = image_size // patch_size
    return resample_abs_pos_embed(pos_embed, [side, side], num_prefix_tokens=0)


def _check_names(renamed: Renamed) -> None:
    """Before anything else is read: enough to read sizes from, and nothing that nobody knows."""
    needed = (
        "cls_token",
        "pos_embed",
        "patch_embed.proj.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.0.mlp.fc1.weight",
    )
    missing = [renamed.name_there(name) for name in needed if name not in renamed.tensors]
    if missing or renamed.unexpected:
        raise UserError(_say_misfits(missing, list(renamed.unexpected), len(renamed.tensors)))


def _check_all(renamed: Renamed, expected: Mapping[str, tuple[int, ...]]) -> None:
    """All that an encoder has and nothing else, each of its shape."""
    missing = [renamed.name_there(name) for name in expected if name not in renamed.tensors]
    unexpected = [renamed.name_there(name) for name in renamed.tensors if name not in expected]
    if missing or unexpected:
        raise UserError(_say_misfits(missing, unexpected, len(renamed.tensors) - len(unexpected)))
    for name, shape in expected.items():
        found = tuple(renamed.tensors[name].shape)
        if found != shape:
            there, here = ("x".join(map(str, size)) for size in (found, shape))
            raise UserError(f"{renamed.name_there(name)} is {there}; expected {here} beside the other tensors.")


def _say_misfits(missing: list[str], unexpected: list[str], num_matched: int) -> str:
    parts = [f"{num_matched} tensors match this layout"]
    for names, what in ((missing, "missing"), (unexpected, "unexpected")):
        if names:
            shown = ", ".join(names[:8])
            parts.append(f"{len(names)} {what} ({shown}{f', and {len(names) - 8} more' if len(names) > 8 else ''})")
    return f"{'; '.join(parts)}. Is it another --layout, or a damaged or different model?"


def _read_config(
    tensors: Mapping[str, Tensor], heads: int | None, final_norm_eps: float
) -> tuple[EncoderConfig, list[str]]:
    """Sizes of the encoder, and what had to be assumed. Shapes are checked against the config afterwards."""
    patch, positions = tensors["patch_embed.proj.weight"], tensors["pos_embed"]
    if patch.ndim != 4 or patch.shape[2] != patch.shape[3]:
        raise UserError(f"its patches are {'x'.join(map(str, patch.shape[2:]))} px; Hilum reads square ones.")
    if positions.ndim != 3 or positions.shape[0] != 1:
        raise UserError(f"its positions are {'x'.join(map(str, positions.shape))}; expected 1 x positions x width.")
    width = patch.shape[0]
    side = math.isqrt(positions.shape[1])  # a row more for the class token does not reach the next square
    depth = 1 + max(int(found[1]) for name in tensors if (found := re.match(r"blocks\.(\d+)\.", name)))
    head_width = next((len(value) for name, value in tensors.items() if name.endswith(".attn.q_norm.weight")), None)
    heads, notes = _choose_heads(width, heads, head_width)
    try:
        config = EncoderConfig(
            image_size=side * patch.shape[2],
            patch_size=patch.shape[2],
            width=width,
            depth=depth,
            heads=heads,
            mlp_ratio=tensors["blocks.0.mlp.fc1.weight"].shape[0] / width,
            qk_norm=head_width is not None,
            view_embedding="view_embed" in tensors,
            num_view_kinds=len(tensors["view_embed"]) if "view_embed" in tensors else EncoderConfig().num_view_kinds,
            final_norm_eps=final_norm_eps,
            init="released" if width % 4 else "xavier",
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"an encoder whose {first['loc'][0]} is {first['input']}: {first['msg']}.") from error
    return config, notes


def _choose_heads(width: int, told: int | None, head_width: int | None) -> tuple[int, list[str]]:
    if head_width is not None:
        if width % head_width or told not in (None, width // head_width):
            raise UserError(
                f"tokens of {width} numbers with queries normalised in {head_width} make {width / head_width:g} heads"
                f"{'' if told is None else f', and --heads says {told}'}."
            )
        return width // head_width, []
    if told is not None:
        if width % told:
            raise UserError(f"--heads {told}: tokens of {width} numbers do not divide into them.")
        return told, []
    if width % 64 and width not in _HEADS:
        raise UserError(f"tokens of {width} numbers do not divide into heads of 64: say --heads.")
    heads = _HEADS.get(width, width // 64)
    return heads, [f"heads: {heads}, assumed as usual at width {width} (a file does not say; --heads)"]


def _choose_normalization(
    told: tuple[Sequence[float], Sequence[float]] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...], list[str]]:
    """Mean and std of each channel of the file, and what was assumed."""
    notes = []
    if told is None:
        if channels not in (1, 3):
            raise UserError(f"its patch embedding reads {channels} channels: say --mean and --std of each.")
        name = "imagenet" if channels == 3 else "chest"
        notes = [f"trained on pixels normalised as '{name}': assumed (a file does not say; --normalization)"]
        told = NORMALIZATIONS[name]
    mean, std = (tuple(map(float, numbers)) for numbers in told)
    if len(mean) != len(std) or len(mean) not in (1, channels):
        raise UserError(
            f"normalised by {len(mean)} means and {len(std)} deviations, and its patch embedding reads {channels} "
            "channel(s): expected one of each, or one for each channel."
        )
    if not all(math.isfinite(number) for number in (*mean, *std)) or min(std) <= 0:
        raise UserError(f"mean {mean} and deviation {std}: expected numbers on the scale 0 to 1, deviations above 0.")
    repeat = channels // len(mean)
    return mean * repeat, std * repeat, notes
