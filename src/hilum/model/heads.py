"""From a view's tokens to one vector, and from there to where two vectors are compared."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from .attention import BlockNorm
from .encoder import Features
from .init import initialize

Feature = Literal["class", "mean", "all"]


def pool_tokens(features: Features, feature: Feature) -> Float[Tensor, "view dim"]:
    """class: the class token; mean: mean of the visible patch tokens; all: mean of both (the released code)."""
    if feature == "class":
        return features.tokens[:, 0]
    return features.tokens[:, 1:].mean(dim=1) if feature == "mean" else features.tokens.mean(dim=1)


class Projector(nn.Sequential):
    """Linear layers with LayerNorm and GELU between them; no widths: the vector itself.

    LayerNorm and not the usual BatchNorm, so that a view's vector does not depend on its batch or process.
    """

    def __init__(self, width: int, widths: tuple[int, ...], init: Literal["xavier", "released"]) -> None:
        layers: list[nn.Module] = []
        for before, after in zip((width, *widths), widths, strict=False):
            layers += [nn.Linear(before, after), BlockNorm(after), nn.GELU()]
        super().__init__(*layers[:-2])  # the last layer is linear
        initialize(self, init)
