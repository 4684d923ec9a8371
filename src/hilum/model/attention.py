"""Attention, and the one place that chooses how it is computed.

Measured on one core of a processor with AMX (forward + backward, ms; torch 2.14; `softmax(q k) v` spelled out against
`scaled_dot_product_attention`):

| views x heads x queries/keys x head width | bf16 spelled out | bf16 fused | fp32 spelled out | fp32 fused |
|---|---|---|---|---|
| encoder, 22 x 12 x 20/20 x 64             |  12.4 |  70.7 |  15.6 |  14.8 |
| self decoder, 22 x 12 x 197/197 x 64      | 123.5 | 296.2 | 305.7 | 208.4 |
| cross decoder, 22 x 16 x 44/20 x 32       |  16.0 |  90.4 |  10.5 |  15.2 |
| tiny encoder, 64 x 3 x 65/65 x 64         |  21.1 |  75.2 |  29.0 |  28.6 |

The fused backward in bfloat16 on a CPU is the outlier; without a gradient, in 32 bit and on GPUs fused is as fast or
faster, and needs no memory for the probabilities.
"""

from __future__ import annotations

from functools import partial

import timm.layers
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn


def attend(
    query: Float[Tensor, "view head query dim"],
    key: Float[Tensor, "view head key dim"],
    value: Float[Tensor, "view head key dim"],
    allowed: Bool[Tensor, "#view #head #query key"] | None = None,
) -> Float[Tensor, "view head query dim"]:
    """softmax(query key^T / sqrt(dim)) value, by the path that was measured to be faster (see above).

    Args:
        allowed: False where a query does not see a key; every query sees one at least. None: all see all.
    """
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and torch.is_grad_enabled():
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        return scores.softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)


def enter_blocks(tokens: Float[Tensor, "view token dim"]) -> Float[Tensor, "view token dim"]:
    """Tokens in the precision in which blocks add to them: on a CPU under autocast that of the matrix products.

    Sums and norms then move half the bytes, and nothing is cast on its way into a product (LOG.md has the times).
    Elsewhere they stay in 32 bit: not measured there.
    """
    if tokens.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return tokens.to(torch.get_autocast_dtype("cpu"))
    return tokens


class BlockNorm(nn.LayerNorm):
    """LayerNorm inside blocks: masked autoencoders and the released MVMAE code agree on this epsilon."""

    def __init__(
        self, width: int, eps: float = 1e-6, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(width, eps=eps, device=device, dtype=dtype)


class SelfAttention(timm.layers.Attention):
    """timm's attention layer (its parameters and their names), computed by `attend`."""

    def forward(
        self,
        x: Float[Tensor, "view token dim"],
        attn_mask: Bool[Tensor, "#view 1 #token token"] | None = None,
        is_causal: bool = False,
    ) -> Float[Tensor, "view token dim"]:
        assert not is_causal, "say it with attn_mask"
        query, key, value = self.split_heads(x)
        return self.proj_drop(self.proj(attend(query, key, value, attn_mask).transpose(1, 2).reshape(x.shape)))

    def weigh(self, x: Float[Tensor, "view token dim"]) -> Float[Tensor, "view head token token"]:
        """How much of each token (last axis) each token reads: the probabilities within `forward`, in 32 bit."""
        query, key, _ = self.split_heads(x)
        return ((query.float() * self.head_dim**-0.5) @ key.float().transpose(-2, -1)).softmax(dim=-1)

    def split_heads(self, x: Float[Tensor, "view token dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (view head token head_dim) each."""
        num_views, num_tokens, _ = x.shape
        qkv = self.qkv(x).reshape(num_views, num_tokens, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        # LayerNorm may leave 32 bit under autocast; the three must agree.
        return self.q_norm(query).to(value.dtype), self.k_norm(key).to(value.dtype), value


def build_block(
    width: int, heads: int, mlp_ratio: float, qk_norm: bool, norm_eps: float = 1e-6, dropout: float = 0.0
) -> Block:
    """timm's pre-norm vision transformer block around `SelfAttention`; `dropout` after attention and in the MLP."""
    return Block(
        width,
        heads,
        mlp_ratio=mlp_ratio,
        qkv_bias=True,
        qk_norm=qk_norm,
        proj_drop=dropout,
        norm_layer=partial(BlockNorm, eps=norm_eps),  # ty: ignore[invalid-argument-type] - what timm itself passes
        attn_layer=SelfAttention,
    )


class CrossBlock(nn.Module):
    """Pre-norm block whose queries read the keys and never each other: each query's output is its own business."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, key_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = BlockNorm(width)
        self.key_norm = BlockNorm(key_width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(key_width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = BlockNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(
        self,
        queries: Float[Tensor, "view query dim"],
        keys: Float[Tensor, "view key key_dim"],
        present: Bool[Tensor, "view key"] | None = None,
    ) -> Float[Tensor, "view query dim"]:
        """`present`: False at keys that only fill up a row; None: all are keys."""
        query = self._split(self.query(self.norm1(queries)))
        key, value = (self._split(half) for half in self.key_value(self.key_norm(keys)).chunk(2, dim=-1))
        allowed = None if present is None else present[:, None, None]
        mixed = attend(query, key, value, allowed).transpose(1, 2).flatten(2)
        queries = queries + self.proj(mixed)
        return queries + self.mlp(self.norm2(queries))

    def weigh(
        self, queries: Float[Tensor, "view query dim"], keys: Float[Tensor, "view key key_dim"]
    ) -> Float[Tensor, "view head query key"]:
        """How much of each key (last axis) each query reads: the probabilities within `forward`, in 32 bit."""
        query = self._split(self.query(self.norm1(queries))).float()
        key = self._split(self.key_value(self.key_norm(keys)).chunk(2, dim=-1)[0]).float()
        return (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1)

    def _split(self, rows: Float[Tensor, "view row dim"]) -> Float[Tensor, "view head row head_dim"]:
        return rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)
