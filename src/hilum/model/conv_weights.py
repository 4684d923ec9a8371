"""A convolutional encoder on disk, and what one may start from: its own kind of file, or timm's of its backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from hilum.config import ConvEncoderConfig
from hilum.errors import UserError

from .conv_encoder import ConvEncoder, fold_channels
from .towers.files import read_any_tensors
from .weights import read_metadata, write_tensors

FORMAT = "hilum-conv-encoder-1"
_CONFIG = TypeAdapter(ConvEncoderConfig)
# Settings that say how it is computed or trained, and not what it computes.
_FREE = ("statistics", "chunk", "channels_last", "dropout")


def save_conv_encoder(encoder: ConvEncoder, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write the encoder's weights, its config, and `metadata` (as of `weights.save_encoder`); bytes repeat."""
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    config = _CONFIG.dump_python(encoder.config, mode="json")
    write_tensors(path, weights, {"format": FORMAT, "encoder": config, **metadata})


def load_conv_encoder(path: Path) -> tuple[ConvEncoder, dict[str, Any]]:
    """The encoder in evaluation mode, as it was saved, and its metadata.

    Raises:
        UserError: not such a file, of a format that this version does not know, weights that do not fit its config, or
            that are not what was written.
    """
    config, header = read_conv_header(path)
    weights = read_any_tensors(path)
    with torch.random.fork_rng(devices=[]):  # whose first values are drawn for nothing
        encoder = ConvEncoder(config)
    _check_fit(path, encoder.state_dict(), weights)
    encoder.load_state_dict(weights)
    return encoder.eval(), header


def read_conv_header(path: Path) -> tuple[ConvEncoderConfig, dict[str, Any]]:
    """The encoder's config and all metadata, without its tensors.

    Raises:
        UserError: not such a file, or of a format that this version does not know.
    """
    header = read_metadata(path)
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path}: not a convolutional encoder written by Hilum (its format is {header.get('format')!r}, not "
            f"{FORMAT!r}). Give the weights.safetensors of a run of custom_clip, mv_clip or mv_clip_tr."
        )
    try:
        config = _CONFIG.validate_python(header["encoder"])
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{path}: encoder.{'.'.join(map(str, first['loc']))}: {first['msg']}. "
            "Was it written by another version of Hilum?"
        ) from error
    return config, header


def start_conv_encoder(encoder: ConvEncoder, path: Path) -> tuple[str, ...]:
    """Give an encoder the weights of a file: of Hilum's own, all of them; else of its backbone, under timm's names.

    Of weights for three channels the first convolution is summed, and a classifier is left out.

    Returns:
        Parts that the file does not have and that keep their first values.

    Raises:
        UserError: another architecture, or weights that do not fit; the encoder is then as before.
    """
    header, weights = read_metadata(path), read_any_tensors(path)
    if header.get("format") == FORMAT:
        there, here = header["encoder"], asdict(encoder.config)
        differing = [name for name in here if there.get(name) != here[name] and name not in _FREE]
        if differing:
            found = "; ".join(f"encoder.{name} is {there.get(name)} there and {here[name]} here" for name in differing)
            raise UserError(f"{path}: weights of another architecture: {found}. Set these alike, or start elsewhere.")
        _check_fit(path, encoder.state_dict(), weights)
        encoder.load_state_dict(weights)
        return ()
    own = encoder.backbone.state_dict()
    folded = fold_channels(encoder.backbone, weights)
    counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    folded = counters | folded  # old files have no counters
    _check_fit(path, own, folded)
    encoder.backbone.load_state_dict({name: folded[name] for name in own})
    return ("tokens", "blocks", "pool", "project")


def _check_fit(path: Path, own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Every tensor of the model must be there in its shape; what the file holds besides is not used."""
    missing = [name for name in own if name not in found]
    unlike = [name for name in own if name in found and own[name].shape != found[name].shape]
    if missing or unlike:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for names, what in ((missing, "missing"), (unlike, "of another shape"))
            if names
        ]
        raise UserError(
            f"{path}: not the weights of this encoder: of its {len(own)} tensors {'; '.join(parts)}. Give a "
            "weights.safetensors of Hilum's of the same settings, or timm's file of the backbone."
        )
