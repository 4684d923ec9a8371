"""Patch tokens of views of a cache as a decoder reads them: kept in memory where they fit, computed again where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.evaluate.tokens import MAX_TOKEN_NUMBERS
from hilum.model.image_encoder import ImageEncoder
from hilum.model.segmentation import read_layers

from .squares import read_squares

Layers = tuple[Float[Tensor, "view patch dim"], ...]


@dataclass(frozen=True)
class Shown:
    """How views are shown: their rows in the cache, mirrored or not, turned by some degrees or not."""

    view_row: Int64[np.ndarray, " view"]
    mirrored: Bool[np.ndarray, " view"]
    degrees: Float[np.ndarray, " view"]  # counter-clockwise


def show_plainly(view_row: Int64[np.ndarray, " view"]) -> Shown:
    """Views as they are."""
    return Shown(view_row, np.zeros(len(view_row), bool), np.zeros(len(view_row)))


@dataclass(frozen=True)
class Screen:
    """What an encoder's pixels are made of: a cache, and how it is normalised and cropped."""

    cache: Cache
    encoder: ImageEncoder
    mean: float
    std: float
    crop: CropConfig
    precision: str
    num_layers: int  # that the decoder reads

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def read_pixels(self, shown: Shown) -> Float[Tensor, "view 1 height width"]:
        """Squares of views, on the encoder's device; what turns into a corner from outside is black."""
        pixels = read_squares(
            self.cache,
            shown.view_row,
            size=self.encoder.side,
            mean=self.mean,
            std=self.std,
            crop=self.crop,
            interpolation=self.encoder.interpolation,
        ).to(self.device)
        black = -self.mean / self.std
        return change(pixels - black, shown, "bilinear") + black if shown.degrees.any() else change(pixels, shown)

    def read_kinds(self, shown: Shown) -> Int64[Tensor, " view"]:
        """Kinds of views, which encoders may be told."""
        return torch.from_numpy(self.cache.views["view_kind"][shown.view_row]).to(self.device)

    def encode(self, shown: Shown) -> Layers:
        """Patch tokens of the decoder's layers, with gradients where they are wanted."""
        pixels, kind = self.read_pixels(shown), self.read_kinds(shown)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            return read_layers(self.encoder, pixels, kind, self.num_layers)


def change(images: Float[Tensor, "view channel size size"], shown: Shown, mode: str = "nearest") -> Tensor:
    """Images or masks mirrored and turned about their middle as views are shown; 0 comes in from outside."""
    if shown.mirrored.any():
        mirrored = torch.from_numpy(shown.mirrored).to(images.device)[:, None, None, None]
        images = torch.where(mirrored, images.flip(-1), images)
    if not shown.degrees.any():
        return images
    angle = torch.from_numpy(np.radians(shown.degrees)).to(images)
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Rows point down: an output pixel of a picture turned counter-clockwise comes from clockwise of it.
    turn = torch.stack([torch.stack([cos, -sin, none], dim=1), torch.stack([sin, cos, none], dim=1)], dim=1)
    grid = F.affine_grid(turn, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)


class FrozenLayers:
    """Layers of a frozen encoder for views shown plainly or mirrored, of which there are as many as twice the views.

    The encoder runs once over each (P 7.5: with a flip as the only augmentation two variants are all there is). They
    are kept as 16-bit numbers; what does not fit is computed whenever it is read, and rounded alike.
    """

    def __init__(
        self,
        screen: Screen,
        view_row: Int64[np.ndarray, " view"],
        *,
        mirrored: bool,
        limit: int = MAX_TOKEN_NUMBERS,
        batch_views: int = 64,
        title: str | None = None,
    ) -> None:
        """
        Args:
            screen: the frozen encoder.
            view_row: the views, ascending.
            mirrored: keep mirrored ones too.
            limit: numbers to keep at most.
            title: of a progress bar; None shows none.
        """
        self.screen, self.view_row = screen, view_row
        encoder = screen.encoder.eval()
        variants = 2 if mirrored else 1
        numbers = variants * len(view_row) * encoder.count_patches() * encoder.width * screen.num_layers
        self.kept: list[Sequence[Tensor]] = []
        if numbers > limit:
            return
        with Progress(console=Console(stderr=True), disable=title is None) as bar:
            task = bar.add_task(title or "", total=variants * len(view_row))
            for mirror in range(variants):
                parts = []
                for first in range(0, len(view_row), batch_views):
                    rows = view_row[first : first + batch_views]
                    parts.append(self._compute(Shown(rows, np.full(len(rows), bool(mirror)), np.zeros(len(rows)))))
                    bar.advance(task, len(rows))
                self.kept.append([torch.cat(layer) for layer in zip(*parts, strict=True)])

    def read(self, shown: Shown) -> Layers:
        """Layers of some of the views, in 32 bit, on the encoder's device."""
        if not self.kept or shown.degrees.any():
            return tuple(layer.float().to(self.screen.device) for layer in self._compute(shown))
        place = torch.from_numpy(np.searchsorted(self.view_row, shown.view_row))
        mirrored = torch.from_numpy(shown.mirrored)[:, None, None]
        found = []
        for layer in range(len(self.kept[0])):
            plain = self.kept[0][layer][place]
            if shown.mirrored.any():
                plain = torch.where(mirrored, self.kept[1][layer][place], plain)
            found.append(plain.float().to(self.screen.device))
        return tuple(found)

    @torch.no_grad()
    def _compute(self, shown: Shown) -> list[Tensor]:
        return [layer.half().cpu() for layer in self.screen.encode(shown)]
