"""Decoders of pretraining: from visible tokens to the pixels of masked patches.

Both return `Prediction`: which patches they predict and their pixels, so that the loss does not know which one ran.
(Of three channels, a pixel's three values stand next to each other.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from hilum.config import CrossDecoder as CrossDecoderConfig
from hilum.config import EncoderConfig
from hilum.config import SelfDecoder as SelfDecoderConfig

from .attention import CrossBlock, build_block, enter_blocks
from .encoder import Features
from .init import initialize
from .masking import Mask


class Prediction(NamedTuple):
    patches: Int64[Tensor, "view predicted"]
    pixels: Float[Tensor, "view predicted pixel"]


class SelfDecoder(nn.Module):
    """Self-attention over visible tokens and mask tokens at all positions (M 2.2).

    It has its own position table, with a row for the class token. The view's vector is added to all tokens, the class
    token included: from its own table as in the released code, or from the encoder's as in the paper (eq. 3). Where its
    width is the encoder's there is no layer between the two.
    """

    reads_layers = False

    def __init__(self, config: SelfDecoderConfig, encoder: EncoderConfig) -> None:
        super().__init__()
        width = config.width
        self.embed = nn.Identity() if width == encoder.width else nn.Linear(encoder.width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + encoder.num_patches, width), encoder.positions == "learned")
        has_table = encoder.view_embedding and not config.shared_view_table
        self.view_embed = nn.Parameter(torch.empty(encoder.num_view_kinds, width)) if has_table else None
        self.shares_view_table = config.shared_view_table
        self.blocks = nn.ModuleList(
            build_block(width, config.heads, config.mlp_ratio, encoder.qk_norm) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=encoder.final_norm_eps)
        self.head = nn.Linear(width, encoder.channels * encoder.patch_size**2)
        initialize(self, encoder.init)

    def forward(
        self,
        features: Features,
        mask: Mask,
        view_kind: Int64[Tensor, " view"],
        predict_all: bool = False,
        sources: Int64[Tensor, "view source"] | None = None,
    ) -> Prediction:
        """Predict every masked patch (`predict_all` is for decoders that otherwise predict a part)."""
        assert sources is None, "this decoder reads one view"
        tokens = self.embed(features.tokens)
        absent = self.mask_token.to(tokens.dtype).expand(*mask.masked.shape, -1)
        # The order is class token, visible, masked; positions tell the tokens apart, so nothing needs restoring.
        tokens = torch.cat([tokens, absent], dim=1)
        class_row = mask.visible.new_zeros(len(tokens), 1)
        tokens = tokens + F.embedding(
            torch.cat([class_row, 1 + mask.visible, 1 + mask.masked], dim=1), self.pos_embed[0]
        )
        if self.shares_view_table:
            assert features.view_vectors is not None, "check_effects refuses this"
            tokens = tokens + features.view_vectors[:, None]
        elif self.view_embed is not None:
            tokens = tokens + F.embedding(view_kind, self.view_embed)[:, None]
        tokens = enter_blocks(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return Prediction(mask.masked, self.head(self.norm(tokens[:, -mask.masked.shape[1] :])))


class CrossDecoder(nn.Module):
    """Cross-attention from a part of the masked patches to the visible tokens (CrossMAE, Fu et al. 2024; M 7.3 C).

    A query is mask token + position + view kind. Each decoder layer reads its own learned weighted sum of the
    encoder's layers, its input included; the sums start as the plain mean. Where a term names `sources`, keys are the
    visible tokens of other views of the study too, told from the view's own by a learned vector.
    """

    reads_layers = True

    def __init__(self, config: CrossDecoderConfig, encoder: EncoderConfig) -> None:
        super().__init__()
        width = config.width
        self.predict = config.predict
        self.layer_weights = nn.Parameter(torch.full((config.depth, encoder.depth + 1), 1 / (encoder.depth + 1)))
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, encoder.num_patches, width), encoder.positions == "learned")
        self.view_embed = nn.Parameter(torch.empty(encoder.num_view_kinds, width)) if encoder.view_embedding else None
        self.other_view_token = nn.Parameter(torch.empty(1, 1, encoder.width)) if config.other_views else None
        self.blocks = nn.ModuleList(
            CrossBlock(width, config.heads, config.mlp_ratio, encoder.width) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=encoder.final_norm_eps)
        self.head = nn.Linear(width, encoder.channels * encoder.patch_size**2)
        initialize(self, encoder.init)

    def forward(
        self,
        features: Features,
        mask: Mask,
        view_kind: Int64[Tensor, " view"],
        predict_all: bool = False,
        sources: Int64[Tensor, "view source"] | None = None,
    ) -> Prediction:
        """Predict floor(predict * masked) patches of each view, the first of their random order (44 of 177 at 25 %).

        sources: the views whose tokens each view reads, itself first, -1 where it reads fewer than others do; None:
            each reads its own.
        """
        num_queries = mask.masked.shape[1] if predict_all else max(1, int(self.predict * mask.masked.shape[1] + 1e-6))
        patches = mask.masked[:, :num_queries]
        queries = self.mask_token + F.embedding(patches, self.pos_embed[0])
        if self.view_embed is not None:
            queries = queries + F.embedding(view_kind, self.view_embed)[:, None]
        queries = enter_blocks(queries)
        layers = torch.stack([layer.to(queries.dtype) for layer in features.layers])
        keys = torch.einsum("kl,lvtd->kvtd", self.layer_weights, layers)
        present = None
        if sources is not None and self.other_view_token is not None:
            own, others = keys, (keys + self.other_view_token)[:, sources[:, 1:].clamp(min=0)].flatten(2, 3)
            keys = torch.cat([own, others], dim=2)
            present = (sources >= 0).repeat_interleave(own.shape[2], dim=1)
        for block, layer_keys in zip(self.blocks, keys, strict=True):
            queries = block(queries, layer_keys, present)
        return Prediction(patches, self.head(self.norm(queries)))


def build_decoder(config: SelfDecoderConfig | CrossDecoderConfig, encoder: EncoderConfig) -> SelfDecoder | CrossDecoder:
    """The decoder that a setting describes, for an encoder of this shape."""
    return SelfDecoder(config, encoder) if isinstance(config, SelfDecoderConfig) else CrossDecoder(config, encoder)
