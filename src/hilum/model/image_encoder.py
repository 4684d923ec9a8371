"""What probes, fine-tuning and embedding ask of an encoder: Hilum's own, or a public one (`towers/`)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from hilum.errors import UserError

Interpolation = Literal["bilinear", "bicubic"]


class Features(NamedTuple):
    """What an encoder makes of V views.

    `layers` (only on request): the embedded input and the output of every block, the last one after the final norm, so
    that it is `tokens`. Whoever reads layers thus also trains the norm that the features are read through.
    `view_vectors`: what was added to a view's patches for its kind, for decoders that share the table.
    `embedding`: of encoders that make one vector of a view themselves, that vector.
    `text_embedding`: the vectors of the batch's descriptions, where an objective reads them.
    """

    tokens: Float[Tensor, "view token dim"]  # after the final norm; the class token, where there is one, is the first
    layers: tuple[Float[Tensor, "view token dim"], ...] = ()
    view_vectors: Float[Tensor, "view dim"] | None = None  # None without a view table
    embedding: Float[Tensor, "view embedded"] | None = None
    text_embedding: Float[Tensor, "text embedded"] | None = None


class PixelRangeError(UserError):
    """Views whose pixels are not what an encoder reads.

    `views` are their places in the batch; who knows the batch's studies can name them.
    """

    def __init__(self, message: str, views: Sequence[int]) -> None:
        super().__init__(message)
        self.views = tuple(views)


class ImageEncoder(nn.Module, ABC):
    """One grey view in, its tokens out.

    Attributes:
        config: what decides its features beside its weights; its text enters the features' digest.
        image_size: side in pixels of the squares it is shown, or their height and width, resampled by `interpolation`.
        width: length of a token.
        depth: layers, for learning rates that fall with them.
        crop: which part of an image it is made for, where that is part of it and not a setting of its run.
        has_class_token: whether the first token stands for the whole image; the others are patches, row by row.
        offers_max: whether the largest number of all patches is read of it too, beside their mean.
        record: what a reader of results must know of it.
        blocks: timm's transformer blocks, of encoders that leave `list_branches` as it is.
    """

    config: Any
    blocks: nn.ModuleList
    image_size: int | tuple[int, int]
    width: int
    depth: int
    has_class_token: bool = True
    offers_max: bool = False
    interpolation: Interpolation = "bilinear"
    crop: Literal["center", "squash"] | None = None
    record: dict[str, Any] = {}  # noqa: RUF012 - replaced as a whole, never changed

    @abstractmethod
    def encode(self, pixels: Float[Tensor, "view 1 height width"], view_kind: Int64[Tensor, " view"]) -> Features:
        """Tokens of views seen whole.

        Raises:
            PixelRangeError: pixels of another range than it reads, where it normalises them itself.
        """

    @property
    def side(self) -> int:
        """Of the squares it is shown.

        Raises:
            UserError: it is shown no squares.
        """
        if isinstance(self.image_size, int):
            return self.image_size
        raise UserError(
            f"This encoder reads images of {' x '.join(map(str, self.image_size))} px; masks, decoders and teachers' "
            "maps are laid on squares. Probe, embed or fine-tune it, or give an encoder of squares."
        )

    def find_grid(self, num_patches: int) -> tuple[int, int] | None:
        """Rows and columns of so many patches; None: they are no places of the image."""
        side = int(num_patches**0.5)
        return side, side

    def limit_views(self, views: int) -> int:
        """How many views fit where `views` squares of 224 px do, of encoders whose images are no squares."""
        if isinstance(self.image_size, int):
            return views
        return min(views, max(1, views * 224**2 // math.prod(self.image_size)))

    def count_patches(self) -> int:
        """How many patch tokens a view has: those of an empty one are counted."""
        device, trains = next(self.parameters()).device, self.training
        shape = (self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size
        pixels = torch.zeros(1, 1, *shape, device=device)
        with torch.no_grad():
            tokens = self.eval().encode(pixels, torch.zeros(1, dtype=torch.int64, device=device)).tokens
        self.train(trains)
        return tokens.shape[1] - int(self.has_class_token)

    @abstractmethod
    def number_layer(self, name: str) -> int:
        """Place of the parameter of that name: 0 for patches, positions and tokens, d for the d-th layer, and
        `depth + 1` for what follows the last."""

    def list_branches(self) -> list[tuple[nn.Module, ...]]:
        """Residual branches of every layer, which drop path may skip; empty where they are not separate modules."""
        return [(block.get_submodule("attn"), block.get_submodule("mlp")) for block in self.blocks]
