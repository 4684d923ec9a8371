"""The image tower of MV-MLM: a convolutional network of timm, tokens of its map, a small transformer, one vector.

It reads one grey channel. Published first convolutions read three that hold the same: the sum of their weights is the
same function of the image, exactly, also at its edges, where what is padded is 0 in all of them (L 1.1).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import timm
import torch
from jaxtyping import Float, Int64
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hilum.config import ConvEncoderConfig
from hilum.errors import UserError

from .attention import BlockNorm, build_block, enter_blocks
from .chunks import run_in_chunks
from .feature_tokens import TokenMap, build_tokens
from .image_encoder import Features, ImageEncoder
from .init import initialize
from .pooling import TokenPool


class ConvEncoder(ImageEncoder):
    """Views of any shape to tokens and one vector each; nothing mixes two views, but for statistics of a batch.

    Of the tokens the mean and the largest are what is read; the vector of the contrast is not.

    Attributes:
        backbone: timm's network without pooling and classifier, under timm's names.
        channels: of its map.
    """

    has_class_token = False
    offers_max = True

    def __init__(self, config: ConvEncoderConfig) -> None:
        """Fresh weights from torch's default generator.

        Raises:
            UserError: timm has no such network, it has no map of the stride, or tokens do not divide into heads.
        """
        super().__init__()
        self.config = config
        self.image_size, self.depth = config.image_size, config.depth
        self.backbone, self.channels = build_backbone(config.backbone, config.stride)
        self.tokens = build_tokens(config, self.channels, count_places(config))
        self.width = self.tokens.width
        if config.depth and self.width % config.heads:
            raise UserError(
                f"encoder.tokenizer={config.tokenizer} gives tokens of {self.width} numbers, which do not divide into "
                f"encoder.heads={config.heads}: set --encoder.heads to a divisor, such as {math.gcd(self.width, 8)}."
            )
        self.blocks = nn.ModuleList(
            build_block(self.width, config.heads, config.mlp_ratio, qk_norm=False, dropout=config.dropout)
            for _ in range(config.depth)
        )
        self.norm = BlockNorm(self.width) if config.depth else nn.Identity()
        self.pool = TokenPool(self.width, config.pooling)
        self.project = nn.Linear(self.width, config.projection)
        for part in (self.tokens, self.blocks, self.pool, self.project):
            initialize(part, "xavier")
        if config.channels_last:
            self.backbone.to(memory_format=torch.channels_last)
        self.train()  # a module begins in training mode without being told: frozen statistics must be

    def train(self, mode: bool = True) -> ConvEncoder:
        """Batch normalisation by frozen statistics stays in evaluation mode; its scale and shift are trained."""
        super().train(mode)
        if self.config.statistics == "frozen":
            for norm in list_batch_norms(self):
                norm.eval()
        return self

    def encode(
        self, pixels: Float[Tensor, "view 1 height width"], view_kind: Int64[Tensor, " view"] | None = None
    ) -> Features:
        """Tokens after the last norm, and `embedding`: the projected vector of each view, in 32 bit.

        In chunks where the settings say so, see `chunks.py`. The kind of view is not read.

        Raises:
            UserError: a map of another size than the tokenizer is made for.
        """
        chunk = self.config.chunk
        if chunk is None or torch.compiler.is_exporting() or len(pixels) <= chunk:
            tokens, embedding = self._encode(pixels)
        else:
            tokens, embedding = run_in_chunks(self._encode, pixels, chunk, list_batch_norms(self))
        return Features(tokens, embedding=embedding)

    forward = encode

    def _encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        read = self.read_map(self.make_map(pixels))
        return read.tokens, self.project(self.pool(read.tokens, read.mask)).float()

    def read_map(self, feature_map: Float[Tensor, "view channel row column"]) -> TokenMap:
        """Tokens of a map after blocks and norm: what is pooled."""
        mapped = self.tokenize(feature_map)
        tokens = enter_blocks(mapped.tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return mapped._replace(tokens=self.norm(tokens.float()))

    def make_map(self, pixels: Float[Tensor, "view 1 height width"]) -> Float[Tensor, "view channel row column"]:
        """The network's last map of the stride."""
        if self.config.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        found = self.backbone(pixels)
        found = found if isinstance(found, Tensor) else found[0]
        if found.ndim != 4 or found.shape[1] != self.channels:
            raise UserError(
                f"encoder.backbone={self.config.backbone} is no convolutional network (it gives numbers of shape "
                f"{tuple(found.shape)}): name one, such as resnet34."
            )
        return found

    def find_grid(self, num_patches: int) -> tuple[int, int] | None:
        empty = torch.zeros(1, self.channels, *count_places(self.config), device=self.project.weight.device)
        with torch.no_grad():
            grid = self.tokenize(empty).grid
        return (grid.token_rows, grid.token_columns) if grid.token_rows else None

    def number_layer(self, name: str) -> int:
        place, *rest = name.split(".")
        if place == "blocks":
            return int(rest[0]) + 1
        return self.depth + 1 if place in ("norm", "pool", "project") else 0

    def tokenize(self, feature_map: Float[Tensor, "view channel row column"]) -> TokenMap:
        """Tokens of a map, before the blocks."""
        return self.tokens(feature_map)


def build_backbone(name: str, stride: int) -> tuple[nn.Module, int]:
    """timm's network of that name with random weights, giving its map of the stride; and the map's channels.

    Raises:
        UserError: no such network, no convolutional one, or no map of the stride.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"encoder.backbone: timm {timm.__version__} has no model '{name}'.{hint}")
    try:
        if stride == 32:
            network = timm.create_model(name, num_classes=0, global_pool="", in_chans=1)
            return network, int(network.num_features)  # ty: ignore[invalid-argument-type] - every network of timm's
        with torch.device("meta"):  # asked for its maps alone
            about: Any = timm.create_model(name, features_only=True, in_chans=1).feature_info
        strides, channels = list(about.reduction()), list(about.channels())
        if stride not in strides:
            raise UserError(f"encoder.stride={stride}: {name} has maps of strides {strides} and no other.")
        place = len(strides) - 1 - strides[::-1].index(stride)
        network = timm.create_model(name, features_only=True, out_indices=(place,), in_chans=1)
        return network, int(channels[place])
    except (TypeError, RuntimeError, AttributeError, AssertionError) as error:
        raise UserError(
            f"encoder.backbone={name} gives no map of features of one-channel images ({str(error).splitlines()[0]}): "
            "name a convolutional network, such as resnet34."
        ) from error


def count_places(config: ConvEncoderConfig) -> tuple[int, int]:
    """Rows and columns of the map: every step of a padded convolution rounds up, 1520 x 912 px give 48 x 29 places."""
    return -(-config.image_height // config.stride), -(-config.image_width // config.stride)


def list_batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Batch normalisations, timm's with an activation among them."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


def fold_channels(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights for a network that reads one channel: of three that hold the same, the sum of their weights."""
    first = f"{_name_first(network)}.weight"
    return {name: adapt_input_conv(1, value) if name == first else value for name, value in weights.items()}


def _name_first(network: nn.Module) -> str:
    """Name of the first convolution."""
    return next(name for name, part in network.named_modules() if isinstance(part, nn.Conv2d))
