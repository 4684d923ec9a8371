"""`hilum weights import --layout mammo-clip`: its image tower becomes a convolutional encoder's file like any other."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from hilum.checksums import hash_file
from hilum.config import ConvEncoderConfig
from hilum.errors import UserError
from hilum.imaging.intensity import MAMMO_CLIP
from hilum.outputs import check_not_input, check_suffix

from .checkpoint_file import read_state
from .conv_encoder import ConvEncoder, fold_channels
from .conv_weights import read_conv_header, save_conv_encoder
from .layouts.mammo_clip import MEAN, STD, MammoClipTower, read_mammo_clip

LAYOUT = "mammo-clip"
_NOTES = (
    f"Pixels are read as after --policy {MAMMO_CLIP}, whole images, mean {MEAN} and deviation {STD}.",
    "Its projection is not read: what stands for the projected vector is the mean of the map.",
    "Paddings depend on the image's size, as TensorFlow's do.",
)


def import_mammo_clip(file: Path, out: Path, *, licence: str = "not stated") -> ConvEncoder:
    """Write the image tower of a checkpoint of Mammo-CLIP to `out`, and print what was read and what left out.

    Args:
        file: the user's own (CC BY-NC-SA 4.0, as published); nothing in it is run.
        out: weights file (.safetensors); an earlier one of a convolutional encoder is replaced.
        licence: what its publishers allow, in the user's words; kept with the weights and all that starts from them.

    Raises:
        UserError: nothing is written; no such checkpoint, or not all of one.
    """
    check_suffix(out, ".safetensors")
    check_not_input(out, [file])
    if out.exists():
        read_conv_header(out)  # or it says that this is no encoder of Hilum, and it stays
    try:
        found = read_mammo_clip(read_state(file))
    except UserError as error:
        raise UserError(f"{file}, layout {LAYOUT}: {error}") from None
    encoder = build_tower(found)
    origin = {"file": file.name, "sha256": hash_file(file), "layout": LAYOUT, "licence": licence}
    out.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "mean": MEAN,
        "std": STD,
        "crop": "squash",
        "max_views": None,
        "image_policy": None,  # any cache is read: how far another crop moves its numbers can be tried
        "pretraining": {"imported_weights": [origin]},
        "imported": {"source_mean": [MEAN], "source_std": [STD], "left_out": found.left_out, "notes": _NOTES},
    }
    save_conv_encoder(encoder, out, about)
    console = Console(highlight=False, soft_wrap=True)
    groups = ", ".join(sorted({name.split(".")[0] for name in found.left_out})) or "none"
    console.print(f"Matched: all {len(found.tensors)} tensors of {found.backbone}. Left out: {groups}.", markup=False)
    console.print("\n".join((f"{out}:", *_NOTES)), markup=False)
    return encoder


def build_tower(found: MammoClipTower) -> ConvEncoder:
    """An encoder that gives the tower's map, and its mean as the vector."""
    with torch.random.fork_rng(devices=[]):  # whose first values are drawn for nothing
        encoder = ConvEncoder(
            ConvEncoderConfig(
                backbone=found.backbone, tokenizer="none", depth=0, dropout=0.0, positions=False, pooling="mean",
                projection=len(found.tensors["conv_head.weight"]),
            )
        )  # fmt: skip
    encoder.backbone.load_state_dict(encoder.backbone.state_dict() | fold_channels(encoder.backbone, found.tensors))
    with torch.no_grad():
        torch.nn.init.eye_(encoder.project.weight)
        torch.nn.init.zeros_(encoder.project.bias)
    return encoder.eval()
