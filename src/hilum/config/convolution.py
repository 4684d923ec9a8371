"""Image encoder of a convolutional network, tokens and a small transformer (MV-MLM; L 1.1-1.3)."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge
from pydantic.dataclasses import dataclass
from tyro.conf import Suppress

from hilum.ranges import Count, Fraction, Positive

from .strict import STRICT

Tokenizer = Literal[
    "none", "token_linear", "channel_linear", "width_256", "adaptive_pool", "conv_stride", "resampler", "all"
]
Pooling = Literal["max", "mean", "attention", "gem"]


@dataclass(frozen=True, config=STRICT)
class ConvEncoderConfig:
    """A convolutional network of timm over whole views of any shape, and what makes one vector of its map."""

    backbone: str = "resnet34"
    """Name of a convolutional network in timm, such as resnet34 or tf_efficientnet_b5."""
    image_height: Count = 1520
    """Rows of pixels the model sees."""
    image_width: Count = 912
    """Columns of pixels the model sees."""
    stride: Literal[8, 16, 32] = 32
    """Pixels between two places of the map, either way: 32 is the network's last map; less gives finer tokens, of the
    last stage that has it."""
    tokenizer: Tokenizer = "token_linear"
    """How the map becomes tokens (L 1.3). none: its places, of the network's own width. token_linear: a linear layer
    along the places (needs one image size); channel_linear: channels are tokens; width_256: places, 256 numbers wide;
    adaptive_pool: means of regions; conv_stride: a convolution with steps; resampler: learned queries read the places;
    all: every place."""
    num_tokens: Count = 256
    """Tokens of token_linear and resampler. adaptive_pool and conv_stride have at most so many: of 256 and a map of
    48 x 29 places the first has 16 x 16 = 256, the second 16 x 10 = 160, for its steps are of whole places."""
    other_sizes: Literal["refuse", "resample"] = "refuse"
    """What token_linear does with a map of another size: an error, or resampling it to the trained one."""
    width: Count = 512
    """Length of a token (of the tokenizer none: the network's; of width_256: 256)."""
    depth: Annotated[int, Ge(0)] = 4
    """Transformer blocks over the tokens."""
    heads: Count = 8
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of a block's hidden layer, in token lengths."""
    dropout: Fraction = 0.1
    """Share of the numbers that is dropped after attention and in the hidden layer of a block, in training."""
    positions: bool = True
    """Add fixed two-dimensional sine-cosine waves to the places before they become tokens."""
    pooling: Pooling = "max"
    """What makes one vector of the tokens; gem: generalised mean with a learned exponent."""
    projection: Count = 512
    """Numbers of the space in which images and texts are compared."""
    statistics: Literal["batch", "frozen"] = "batch"
    """Batch normalisation by the statistics of the views computed together, or by those the weights came with."""
    chunk: Count | None = None
    """Views computed together, to save memory: the contrast still sees all of the batch, and the gradient is the same
    (with frozen statistics; L 1.5). None: all at once."""
    channels_last: bool = True
    """Lay numbers out place by place, which convolutions are faster with."""
    kind: Annotated[Literal["convolution"], Suppress] = "convolution"

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns of pixels."""
        return self.image_height, self.image_width
