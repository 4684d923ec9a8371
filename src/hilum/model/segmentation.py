"""From a view's patch tokens to the logits of masks: a light decoder, and a stronger one that reads several layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from hilum.errors import UserError

from .encoder import Encoder
from .image_encoder import ImageEncoder
from .towers.tower import Tower

Decoder = Literal["light", "dpt"]


class LightDecoder(nn.Module):
    """One 3 x 3 convolution, then doublings of the grid up to the image, ReLU between; no norm, no skips (P 3.5).

    At width 768, 14 x 14 patches of 16 px and one structure it has 1,942,113 parameters: 768 -> 256 -> 128 -> 64 -> 32
    -> 1. Narrower encoders get a third of their width (`choose_channels`), other patches as many doublings as they
    need, and what those overshoot (14-px patches) is resampled.
    """

    num_layers = 1  # of the encoder's that it reads: the last

    def __init__(self, width: int, grid: int, size: int, num_structures: int) -> None:
        super().__init__()
        doublings = max(1, math.ceil(math.log2(size / grid)))
        channels = [max(4, choose_channels(width) >> step) for step in range(doublings)]
        layers: list[nn.Module] = [nn.Conv2d(width, channels[0], 3, padding=1)]
        for before, after in zip(channels, [*channels[1:], num_structures], strict=True):
            layers += [nn.ReLU(), nn.ConvTranspose2d(before, after, 2, stride=2)]
        self.layers = nn.Sequential(*layers)
        self.grid, self.size = grid, size

    def forward(self, layers: Sequence[Float[Tensor, "view patch dim"]]) -> Float[Tensor, "view structure size size"]:
        """Logits of each structure from the encoder's last patch tokens."""
        return _resize(self.layers(lay_out(layers[-1], self.grid)), self.size)


class DptDecoder(nn.Module):
    """The dense prediction transformer's decoder on four layers (Ranftl et al. 2021), from segmentation-models-pytorch.

    Its pyramid (4, 2, 1 and 1/2 times the grid of patches) is relative to the grid, so that it takes patches of any
    size; the class token is not read. A third of the encoder's width takes the place of its 256 channels.
    """

    num_layers = 4

    def __init__(self, width: int, grid: int, size: int, num_structures: int) -> None:
        super().__init__()
        if grid % 2:
            raise UserError(f"The dpt decoder halves the grid of patches, and {grid} x {grid} is odd. Use light.")
        try:
            from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead
        except ImportError as error:
            raise UserError(
                "The dpt decoder needs segmentation-models-pytorch: pip install 'hilum[segmentation]'. The light one "
                "needs nothing."
            ) from error
        channels = choose_channels(width)
        self.decoder = DPTDecoder(
            encoder_out_channels=(width,) * 4,
            encoder_output_strides=(16,) * 4,
            encoder_has_prefix_tokens=False,
            readout="ignore",
            intermediate_channels=(channels, 2 * channels, 4 * channels, 4 * channels),
            fusion_channels=channels,
        )
        self.head = DPTSegmentationHead(channels, num_structures, upsampling=1.0)
        self.grid, self.size = grid, size

    def forward(self, layers: Sequence[Float[Tensor, "view patch dim"]]) -> Float[Tensor, "view structure size size"]:
        """Logits of each structure from patch tokens of four layers, the first layer first."""
        maps = [lay_out(layer, self.grid) for layer in layers]
        return _resize(self.head(self.decoder(maps, [None] * len(maps))), self.size)


AnyDecoder = LightDecoder | DptDecoder


def choose_channels(width: int) -> int:
    """A third of a token's width, to the nearest 16, from 16 to 256: 256 for ViT-B, 128 for ViT-S, 64 for ViT-Ti."""
    return min(256, max(16, 16 * round(width / 48)))


def build_decoder(decoder: Decoder, encoder: ImageEncoder, num_structures: int) -> AnyDecoder:
    """A decoder for the tokens of this encoder, with random weights.

    Raises:
        UserError: an encoder that does not show all of its square, or whose patches are no square grid.
    """
    if isinstance(encoder, Tower) and encoder.side != encoder.config.preprocessing.size:
        raise UserError(
            f"{encoder.config.name} cuts margins off its images ({encoder.side} to "
            f"{encoder.config.preprocessing.size} px): masks of whole squares would not lie on what it sees."
        )
    num = encoder.count_patches()
    grid = math.isqrt(num)
    if grid * grid != num:
        raise UserError(f"{num} tokens of a view are no square grid: there is no image to decode.")
    build = LightDecoder if decoder == "light" else DptDecoder
    return build(encoder.width, grid, encoder.side, num_structures)


def read_layers(
    encoder: ImageEncoder,
    pixels: Float[Tensor, "view 1 height width"],
    view_kind: Int64[Tensor, " view"],
    num_layers: int,
) -> tuple[Float[Tensor, "view patch dim"], ...]:
    """Patch tokens of `num_layers` layers, evenly spread, the last after the final norm.

    Of a public encoder the last ones as often as layers are asked for: its inner layers have no common form.
    """
    skip = int(encoder.has_class_token)
    if num_layers == 1 or not isinstance(encoder, Encoder):
        return (encoder.encode(pixels, view_kind).tokens[:, skip:],) * num_layers
    layers = encoder.encode(pixels, view_kind, return_layers=True).layers
    chosen = (math.ceil(place * encoder.depth / num_layers) for place in range(1, num_layers + 1))
    return tuple(layers[place][:, skip:] for place in chosen)


def lay_out(tokens: Float[Tensor, "view patch dim"], grid: int) -> Float[Tensor, "view dim {grid} {grid}"]:
    """Patch tokens as an image with as many channels as they are long; patches come row by row."""
    return tokens.transpose(1, 2).unflatten(2, (grid, grid)).contiguous()


def _resize(logits: Tensor, size: int) -> Tensor:
    if logits.shape[-1] == size:
        return logits
    return F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
