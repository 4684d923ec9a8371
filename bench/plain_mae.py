"""The yardstick: a masked autoencoder as one would write it in an afternoon, without any of Hilum.

ViT-Ti, 128 px, patch 8, 15 % visible, per-patch normalised target; class token and mean of patch tokens as features.
`evidence` trains it for the same minutes on the same images as Hilum's recipes and probes both in the same way. Its
attention is spelled out: fused attention's bfloat16 backward would make it half as fast on a processor.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from timm.models.vision_transformer import Block
from torch import Tensor, nn

SIDE, PATCH, VISIBLE = 128, 8, 0.15
GRID = SIDE // PATCH


def build_block(width: int, heads: int) -> Block:
    block = Block(width, heads, qkv_bias=True)
    block.attn.fused_attn = False  # ty: ignore[invalid-assignment]
    return block


class PlainMAE(nn.Module):
    """Encoder 192 x 12, decoder 128 x 2, learned positions."""

    def __init__(self, width: int = 192, depth: int = 12, heads: int = 3, decoder_width: int = 128) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH**2, width)
        self.position = nn.Parameter(torch.randn(1, GRID**2, width) * 0.02)
        self.class_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.blocks = nn.Sequential(*(build_block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.to_decoder = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, decoder_width) * 0.02)
        self.decoder_position = nn.Parameter(torch.randn(1, GRID**2, decoder_width) * 0.02)
        self.decoder = nn.Sequential(*(build_block(decoder_width, 4) for _ in range(2)))
        self.predict = nn.Linear(decoder_width, PATCH**2)

    def split(self, images: Tensor) -> Tensor:
        """(image, 1, 128, 128) to (image, patch, pixel)."""
        return F.unfold(images, PATCH, stride=PATCH).transpose(1, 2)

    def encode(self, patches: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens = self.embed(patches) + self.position
        if keep is not None:
            tokens = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))
        return self.norm(self.blocks(torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], 1)))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.split(images)
        num, total = patches.shape[:2]
        order = torch.rand(num, total, device=images.device).argsort(1)
        keep, masked = order.split([int(total * VISIBLE), total - int(total * VISIBLE)], 1)
        tokens = self.to_decoder(self.encode(patches, keep))
        full = self.mask_token.expand(num, total, -1).to(tokens.dtype).clone()
        full = full.scatter(1, keep[..., None].expand(-1, -1, full.shape[2]), tokens[:, 1:]) + self.decoder_position
        predicted = self.predict(self.decoder(torch.cat([tokens[:, :1], full], 1)))[:, 1:]
        target = (patches - patches.mean(2, keepdim=True)) / (patches.var(2, keepdim=True) + 1e-6).sqrt()
        error = (predicted.float() - target).square().mean(2)
        return error.gather(1, masked).mean()


def train_plain_mae(images: Tensor, steps: int, seed: int, batch: int = 64, lr: float = 5e-4) -> PlainMAE:
    """Train on uint8 images (image, 1, 128, 128); crops, AdamW, warm-up, cosine."""
    torch.manual_seed(seed)
    model = PlainMAE()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.05)
    for step in track(range(steps), "plain masked autoencoder", console=Console(stderr=True)):
        rate = lr * min(step / steps / 0.05, 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = images[torch.randint(len(images), (batch,))]
        side = int(SIDE * (0.7 + 0.3 * torch.rand(()).item()))
        top, left = (int(torch.randint(SIDE - side + 1, ()).item()) for _ in range(2))
        crop = F.interpolate(chosen[:, :, top : top + side, left : left + side].float(), (SIDE, SIDE), mode="bilinear")
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(normalize(crop))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.inference_mode()
def embed_plain_mae(model: PlainMAE, images: Tensor) -> Tensor:
    """Class token and patch tokens of whole images, (image, 1 + 256, 192)."""
    return torch.cat([model.encode(model.split(normalize(part.float()))) for part in images.split(128)])


def normalize(images: Tensor) -> Tensor:
    return (images / 255 - 0.5) / 0.25
