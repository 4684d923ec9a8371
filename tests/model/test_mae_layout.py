"""Our modules in the layout of public masked autoencoders (M 6.2, M 8-9): the same tensors, and what differs of them.

Ours have one grey channel where MAE has three, in what goes in and in what is predicted, and no position for the class
token in the encoder (M 6.2 adds it to the token); everything else is of the same number and shape.
"""

from __future__ import annotations

import torch
from torch import nn

from hilum.config import EncoderConfig, SelfDecoder
from hilum.model.decoders import build_decoder
from hilum.model.encoder import Encoder

LAYOUT = EncoderConfig(qk_norm=False, view_embedding=False)
BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
PATCH = 16 * 16


def count_values(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def list_pairs(*layers: str) -> set[str]:
    return {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}


def test_the_encoder_has_maes_150_tensors() -> None:
    with torch.device("meta"):
        encoder = Encoder(LAYOUT)
    blocks = [f"blocks.{i}.{layer}" for i in range(12) for layer in BLOCK]
    names = {name for name, _ in encoder.named_parameters()}
    assert names == {"cls_token", "pos_embed"} | list_pairs("patch_embed.proj", "norm", *blocks)
    assert len(names) == 150
    two_more_channels, class_position = 2 * PATCH * 768, 768
    assert count_values(encoder) + two_more_channels + class_position == 85_798_656


def test_with_its_decoder_there_are_254_tensors() -> None:
    with torch.device("meta"):
        encoder = Encoder(LAYOUT)
        decoder = build_decoder(SelfDecoder(width=512, depth=8, heads=16), LAYOUT)
    blocks = [f"blocks.{i}.{layer}" for i in range(8) for layer in BLOCK]
    names = {name for name, _ in decoder.named_parameters()}
    assert names == {"mask_token", "pos_embed"} | list_pairs("embed", "norm", "head", *blocks)
    assert len(names) + 150 == 254
    assert decoder.pos_embed.shape == (1, 197, 512)
    two_more_channels_in, class_position, two_more_channels_out = 2 * PATCH * 768, 768, 2 * PATCH * (512 + 1)
    ours = count_values(encoder) + count_values(decoder)
    assert ours + two_more_channels_in + class_position + two_more_channels_out == 111_907_840
