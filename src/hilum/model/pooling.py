"""One vector of a set of tokens, some of which only fill up a row: those are never read."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

MIN_POWER = 1.0


def pool_max(tokens: Float[Tensor, "row token dim"], valid: Bool[Tensor, "row token"]) -> Float[Tensor, "row dim"]:
    """The largest value of each number over the valid tokens (L 1.4: others are -inf before the maximum)."""
    return tokens.masked_fill(~valid[:, :, None], -torch.inf).amax(dim=1)


def pool_mean(tokens: Float[Tensor, "row token dim"], valid: Bool[Tensor, "row token"]) -> Float[Tensor, "row dim"]:
    """The mean over the valid tokens."""
    return tokens.masked_fill(~valid[:, :, None], 0).sum(dim=1) / valid.sum(dim=1, keepdim=True)


def pool_gem(
    tokens: Float[Tensor, "row token dim"],
    valid: Bool[Tensor, "row token"],
    power: Float[Tensor, ""] | float,
    eps: float = 1e-6,
) -> Float[Tensor, "row dim"]:
    """(mean over valid tokens of x^p)^(1/p), of values cut at `eps` from below (Radenovic et al. 2019, eq. 3)."""
    return pool_mean(tokens.clamp(min=eps) ** power, valid) ** (1 / power)


class TokenPool(nn.Module):
    """max, mean; attention: weights of the tokens are a learned linear function of them; gem: power learned, from 3."""

    def __init__(self, width: int, pooling: Literal["max", "mean", "attention", "gem"]) -> None:
        super().__init__()
        self.pooling = pooling
        if pooling == "attention":
            self.score = nn.Linear(width, 1)
        elif pooling == "gem":
            self.power = nn.Parameter(torch.tensor(3.0))

    def forward(
        self, tokens: Float[Tensor, "row token dim"], valid: Bool[Tensor, "row token"]
    ) -> Float[Tensor, "row dim"]:
        """One vector a row, in 32 bit; every row has a valid token."""
        tokens = tokens.float()
        match self.pooling:
            case "max":
                return pool_max(tokens, valid)
            case "mean":
                return pool_mean(tokens, valid)
            case "gem":
                return pool_gem(tokens, valid, self.power.clamp(min=MIN_POWER))
            case _:
                scores = self.score(tokens)[:, :, 0].float().masked_fill(~valid, -torch.inf)
                # A padding token may hold anything, and 0 times anything is not always 0.
                kept = tokens.masked_fill(~valid[:, :, None], 0)
                return (scores.softmax(dim=1)[:, None] @ kept)[:, 0].float()
