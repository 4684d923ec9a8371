"""A stand-in for the released code: its training step, from its description (M 1.1, 2.1-2.5), to compare with.

Every study has three slots, absent ones hold black images that are encoded and decoded like the rest; all patches are
embedded and the visible ones gathered afterwards; the decoder is as wide as the encoder and predicts every patch.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

_Block = partial(Block, qkv_bias=True, qk_norm=True, norm_layer=partial(nn.LayerNorm, eps=1e-6))


class PaddedMAE(nn.Module):
    """ViT-B/16 encoder and 768 x 4 decoder over (study, 3, 1, 224, 224)."""

    def __init__(
        self, width: int = 768, depth: int = 12, heads: int = 12, decoder_depth: int = 4, patches: int = 196
    ) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 16, 16)
        self.position = nn.Parameter(torch.randn(1, patches, width) * 0.02)
        self.view = nn.Parameter(torch.randn(3, width) * 0.02)
        self.class_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.decoder_position = nn.Parameter(torch.randn(1, patches + 1, width) * 0.02)
        self.decoder = nn.Sequential(*(_Block(width, heads) for _ in range(decoder_depth)))
        self.decoder_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256)

    def forward(self, images: Tensor, present: Tensor, view: Tensor, mask_ratio: float) -> Tensor:
        """Loss of a batch; `present` (study, 3) says which slots hold an image."""
        flat = images.flatten(0, 1)
        tokens = self.patch(flat).flatten(2).transpose(1, 2) + self.position + self.view[view.flatten()][:, None]
        total = tokens.shape[1]
        visible = int(total * (1 - mask_ratio))
        order = torch.rand(len(flat), total).argsort(1)
        restore = order.argsort(1)[..., None].expand(-1, -1, tokens.shape[2])
        kept = tokens.gather(1, order[:, :visible, None].expand(-1, -1, tokens.shape[2]))
        encoded = self.norm(self.blocks(torch.cat([self.class_token.expand(len(flat), -1, -1), kept], 1)))
        padded = torch.cat([encoded[:, 1:], self.mask_token.expand(len(flat), total - visible, -1)], 1)
        full = torch.cat([encoded[:, :1], padded.gather(1, restore)], 1) + self.decoder_position
        predicted = self.head(self.decoder_norm(self.decoder(full)))[:, 1:]
        mask = torch.ones(len(flat), total).scatter(1, order[:, :visible], 0.0)
        target = F.unfold(flat, 16, stride=16).transpose(1, 2)
        per_image = ((predicted - target).square().mean(2) * mask).mean(1) / mask_ratio
        reconstruction = (per_image.view(present.shape) * present).mean()
        pooled = F.normalize(encoded.mean(1), dim=1).view(*present.shape, -1)
        distance = (pooled[:, :, None] - pooled[:, None]).square().mean(3)
        both = present[:, :, None] * present[:, None]
        return reconstruction + 2.0 * (distance * both).sum((1, 2)).div(9).mean()
