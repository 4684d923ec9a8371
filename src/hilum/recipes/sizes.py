"""Sizes of the networks, shared by recipes."""

from __future__ import annotations

from typing import Literal

Preset = Literal["paper", "code", "hilum"]
Size = Literal["nano", "tiny", "small", "base", "large"]

# width, depth, heads (M 2.2; tiny is ViT-Ti, small ViT-S). Nano is what learns most in minutes: in as long,
# ViT-Ti sees a third of the views and stays close to its random weights (LOG.md).
ENCODER_SIZES = {
    "nano": (128, 4, 4),
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
# The released code's decoders: width, depth, heads, mlp ratio (M 2.2).
SELF_DECODER_SIZES = {
    "nano": (96, 2, 4, 4.0),
    "tiny": (192, 4, 3, 4.0),
    "small": (384, 4, 6, 4.0),
    "base": (768, 4, 12, 4.0),
    "large": (1024, 8, 8, 2.0),
}
# Ours, about a tenth of the encoder's cost at 10 % visible (M 7.2).
CROSS_DECODER_SIZES = {
    "nano": (128, 2, 4),
    "tiny": (128, 4, 4),
    "small": (256, 6, 8),
    "base": (512, 8, 16),
    "large": (512, 8, 16),
}
# Ours for reports: CapPa's depth at a width that costs about as much as the encoder (M 7.2).
REPORT_DECODER_SIZES = {
    "nano": (128, 2, 4),
    "tiny": (128, 2, 4),
    "small": (256, 4, 8),
    "base": (512, 6, 8),
    "large": (512, 6, 8),
}
# Plain masked autoencoders' decoder (P 1.1; He et al. 2022, table 1): base and large are published, the others ours.
MAE_DECODER_SIZES = {
    "nano": (96, 2, 4),
    "tiny": (128, 4, 4),
    "small": (256, 6, 8),
    "base": (512, 8, 16),
    "large": (512, 8, 16),
}
# Network, height and width in pixels, image tokens, token width, heads (L 1.1, 1.2). Base and large are the paper's two
# networks at its size; the smaller ones see smaller images of the same shape.
CONV_SIZES = {
    "nano": ("test_resnet", 160, 96, 16, 128, 4),
    "tiny": ("resnet18", 380, 228, 64, 192, 4),
    "small": ("resnet34", 760, 456, 128, 384, 6),
    "base": ("resnet34", 1520, 912, 256, 512, 8),
    "large": ("tf_efficientnet_b5", 1520, 912, 256, 512, 8),
}
