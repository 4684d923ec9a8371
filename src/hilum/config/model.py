"""Encoder, masks and decoders."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic.dataclasses import dataclass
from tyro.conf import Suppress

from hilum.ranges import Count, Fraction, Positive

from .strict import STRICT


@dataclass(frozen=True, config=STRICT)
class EncoderConfig:
    """The vision transformer shared by all views (timm's blocks and parameter names)."""

    image_size: Count = 224
    """Side of the square the model sees, in pixels."""
    patch_size: Count = 16
    """Side of a patch, in pixels."""
    channels: Literal[1, 3] = 1
    """1: grey; 3: the same grey three times, in what goes in and in what is predicted, as plain masked autoencoders
    have it: more weights for the same functions of the image."""
    width: Count = 768
    """Length of a token."""
    depth: Count = 12
    """Number of transformer blocks."""
    heads: Count = 12
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of a block's hidden layer, in token lengths."""
    qk_norm: bool = True
    """LayerNorm on queries and keys; off for weights of plain masked autoencoders (M 6.2)."""
    positions: Literal["learned", "fixed"] = "learned"
    """learned; or fixed: two-dimensional sine-cosine waves that stay as they are, in encoder and decoders, with a row
    (of zeros) for the class token, as plain masked autoencoders have it."""
    view_embedding: bool = True
    """Add a learned vector for the view kind to every patch token, in encoder and decoder."""
    num_view_kinds: Annotated[int, Ge(1), Le(5)] = 3
    """Rows of the view tables: 3 for frontal, lateral, unknown (chests); 5 for cc and mlo too (mammograms)."""
    block_norm_eps: Positive = 1e-6
    """Epsilon of the LayerNorms within blocks."""
    final_norm_eps: Positive = 1e-6
    """Epsilon of the last LayerNorm (1e-5 in the released MVMAE code)."""
    init: Literal["xavier", "released"] = "xavier"
    """xavier: as masked autoencoders do; released: PyTorch's defaults, as the released MVMAE code does."""

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, config=STRICT)
class MaskConfig:
    """Which patches the encoder does not see in pretraining."""

    ratio: Annotated[float, Ge(0.0), Lt(1.0)] = 0.90
    """Share of masked patches; floor(patches * (1 - ratio)) stay visible."""
    sharing: Literal["none", "positions", "rows"] = "none"
    """none: each view by itself; positions: the views of a study share visible patches (needed by token alignment);
    rows: they share visible rows (frontal and lateral share height, not width)."""


@dataclass(frozen=True, config=STRICT)
class SelfDecoder:
    """Decoder with self-attention over all patches (M 2.2)."""

    width: Count = 768
    """Length of a decoder token."""
    depth: Count = 4
    """Number of decoder blocks."""
    heads: Count = 12
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of a block's hidden layer, in token lengths."""
    shared_view_table: bool = False
    """Add the encoder's view vectors, as the paper says (eq. 3), instead of those of a table of its own."""
    kind: Annotated[Literal["self"], Suppress] = "self"


@dataclass(frozen=True, config=STRICT)
class CrossDecoder:
    """Decoder whose queries are masked patches and whose keys are the visible tokens (CrossMAE; M 7.3 C)."""

    width: Count = 512
    """Length of a decoder token."""
    depth: Count = 8
    """Number of decoder blocks."""
    heads: Count = 16
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of a block's hidden layer, in token lengths."""
    predict: Annotated[float, Gt(0.0), Le(1.0)] = 0.25
    """Share of the masked patches that is predicted in a step."""
    other_views: Fraction = 0.0
    """Share of the studies with two or more views whose patches are predicted from the visible tokens of all their
    views, drawn anew each time (cross-view reconstruction, M 7.3 D); 0: each view from itself alone."""
    kind: Annotated[Literal["cross"], Suppress] = "cross"
