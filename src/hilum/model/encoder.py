"""The shared vision transformer: one view in, its visible tokens out.

Blocks and parameter names are timm's, so that public weights load by name. Nothing here mixes two views: a view's
features are the same whatever else is in the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from hilum.config import EncoderConfig

from .attention import build_block, enter_blocks
from .image_encoder import Features, ImageEncoder
from .init import initialize
from .masking import Mask, take_patches


class PatchEmbed(nn.Module):
    """Linear map of a patch's pixels, stored as the convolution that it is in timm's layout.

    Of three channels that hold the same, one is read with the sum of their weights.
    """

    def __init__(self, patch_size: int, width: int, channels: int = 1) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch_size, patch_size)

    def forward(self, patches: Float[Tensor, "view patch pixel"]) -> Float[Tensor, "view patch dim"]:
        weight = self.proj.weight
        weight = weight.flatten(1) if weight.shape[1] == 1 else weight.sum(dim=1).flatten(1)
        return F.linear(patches, weight, self.proj.bias)


class Encoder(ImageEncoder):
    """ViT over the visible patches of one-channel views, with a learned vector for the kind of view (M 2.1).

    Patch tokens get position and view vectors; the class token gets neither (of fixed positions it has a row of zeros).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size, self.width, self.depth = config.image_size, config.width, config.depth
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        num_rows = config.num_patches + (config.positions == "fixed")
        self.pos_embed = nn.Parameter(torch.empty(1, num_rows, config.width), config.positions == "learned")
        self.view_embed = (
            nn.Parameter(torch.empty(config.num_view_kinds, config.width)) if config.view_embedding else None
        )
        self.patch_embed = PatchEmbed(config.patch_size, config.width, config.channels)
        self.blocks = nn.ModuleList(
            build_block(config.width, config.heads, config.mlp_ratio, config.qk_norm, config.block_norm_eps)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.final_norm_eps)
        initialize(self, config.init)

    def count_patches(self) -> int:
        """How many patch tokens a view has."""
        return self.config.num_patches

    def encode(
        self,
        pixels: Float[Tensor, "view 1 height width"],
        view_kind: Int64[Tensor, " view"],
        mask: Mask | None = None,
        return_layers: bool = False,
    ) -> Features:
        """Embed the visible patches only (all of them, in order, without a mask) and run the blocks."""
        assert pixels.shape[2:] == (self.config.image_size,) * 2, f"{pixels.shape} is not {self.config.image_size} px"
        if mask is None:
            # Not len(pixels), here and below: it is a plain number, at which an exported graph would stay.
            visible = torch.arange(self.config.num_patches, device=pixels.device).expand(pixels.shape[0], -1)
        else:
            visible = mask.visible
        tokens = self.patch_embed(take_patches(pixels, visible, self.config.patch_size))
        tokens = tokens + F.embedding(visible, self.pos_embed[0, -self.config.num_patches :])
        view_vectors = None if self.view_embed is None else F.embedding(view_kind, self.view_embed)
        if view_vectors is not None:
            tokens = tokens + view_vectors[:, None]
        tokens = enter_blocks(torch.cat([self.cls_token.expand(pixels.shape[0], -1, -1), tokens], dim=1))
        layers = [tokens]
        for block in self.blocks:
            tokens = block(tokens)
            layers.append(tokens)
        layers[-1] = tokens = self.norm(tokens.float())
        return Features(tokens, tuple(layers) if return_layers else (), view_vectors)

    forward = encode

    def number_layer(self, name: str) -> int:
        place, *rest = name.split(".")
        if place == "blocks":
            return int(rest[0]) + 1
        return self.depth + 1 if place == "norm" else 0
