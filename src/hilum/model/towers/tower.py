"""A public image encoder behind Hilum's interface: grey pixels from 0 to 1 in, its tokens out.

A tower prepares pixels as its authors did (size, resampling, crop, statistics of each channel), so that nobody who
compares encoders feeds one of them wrongly; grey becomes as many equal channels as it reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torchvision.transforms.functional import center_crop

from hilum.model.image_encoder import Features, ImageEncoder, Interpolation, PixelRangeError


@dataclass(frozen=True)
class Preprocessing:
    """From an image of any size to what a tower reads."""

    size: int  # side of what it reads, in pixels
    mean: tuple[float, ...]  # of each channel, on the scale 0..1
    std: tuple[float, ...]
    interpolation: Interpolation = "bicubic"
    crop: Literal["center", "squash"] = "center"  # the central square, or the whole image with its sides scaled apart
    resized: int | None = None  # side before the margins around `size` are cut off; None: there are none


HEAD = ""  # in the place of a name: what will be trained on top of the network
_NUM_NAMED = 5  # views named in a message
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Tokens(NamedTuple):
    """What a network says of V views."""

    class_token: Float[Tensor, "view dim"] | None
    patches: Float[Tensor, "view patch dim"]  # row by row


@dataclass(frozen=True)
class TowerConfig:
    """What decides a tower's features beside its weights, and what may be done with them."""

    name: str  # as it is called on the command line, such as timm:resnet50
    preprocessing: Preprocessing
    licence: str  # of the published weights
    library: str  # whose code computes it, with its version
    weights: str = "random"  # file or folder they were read from (its name), random, or downloaded


class Tower(ImageEncoder):
    """A network of another library, frozen or to be fine-tuned.

    Args:
        model: the network.
        config: name, preprocessing, licence.
        read: the network's tokens of normalised pixels (view channel size size).
        layers: place of each parameter and of the head, see `ImageEncoder.number_layer`.
        branches: residual branches of each layer, see `ImageEncoder.list_branches`; looked up anew in copies.

    Raises:
        UserError: the network says something else of an image than tokens.
    """

    config: TowerConfig
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        config: TowerConfig,
        *,
        read: Callable[[nn.Module, Tensor], Tokens],
        layers: Mapping[str, int],
        branches: Callable[[nn.Module], list[tuple[nn.Module, ...]]] = lambda model: [],
    ) -> None:
        super().__init__()
        shown = config.preprocessing
        self.model = model
        self.describe(config)
        self.image_size, self.interpolation = shown.resized or shown.size, shown.interpolation
        self.crop = shown.crop
        self._read, self._layers, self._branches = read, dict(layers), branches
        self.depth = self._layers[HEAD] - 1
        # Not part of the state: the same weights have the same digest however they are fed.
        self.register_buffer("mean", torch.tensor(shown.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(shown.std)[:, None, None], persistent=False)
        device = next(model.parameters()).device
        self.eval()
        with torch.no_grad():  # one blank image tells width and class token, whatever the network
            tokens = read(model, torch.zeros(1, len(shown.mean), shown.size, shown.size, device=device))
        self.width, self.has_class_token = tokens.patches.shape[2], tokens.class_token is not None

    def encode(self, pixels: Float[Tensor, "view 1 height width"], view_kind: Int64[Tensor, " view"]) -> Features:
        """Tokens of grey views from 0 to 1, of `image_size`; their kind is not looked at.

        Raises:
            PixelRangeError: pixels of another range, such as 0 to 255, normalised, or divided twice.
        """
        assert pixels.shape[2:] == (self.image_size,) * 2, f"{pixels.shape} is not {self.image_size} px"
        check_range(pixels, self.config.name)
        pixels = center_crop(pixels, [self.config.preprocessing.size] * 2)
        class_token, patches = self._read(self.model, (pixels - self.mean) / self.std)
        return Features(patches if class_token is None else torch.cat([class_token[:, None], patches], dim=1))

    forward = encode

    def number_layer(self, name: str) -> int:
        return self._layers[name.removeprefix("model.")]

    def list_branches(self) -> list[tuple[nn.Module, ...]]:
        return self._branches(self.model)

    def describe(self, config: TowerConfig) -> None:
        """Say what this is, in another word or with where the weights are from."""
        self.config, self.record = config, {"tower": asdict(config)}


def check_range(pixels: Float[Tensor, "view 1 height width"], name: str) -> None:
    """Refuse pixels that cannot be grey values from 0 to 1: the wrong scale gives features, only of nothing.

    Raises:
        PixelRangeError: a value below 0 or above 1, or none of the whole batch above 1/255 but for black images.
    """
    if torch.compiler.is_exporting() or pixels.device.type == "meta" or not pixels.numel():
        return
    low, high = pixels.flatten(1).aminmax(dim=1)
    wrong = ~((low >= -1e-4) & (high <= 1 + 1e-4))  # NaN is within no range
    if 0 < float(high.max()) <= 1 / 255:
        wrong = high > 0
    views = wrong.nonzero().flatten().tolist()
    if not views:
        return
    places = ", ".join(map(str, views[:_NUM_NAMED])) + (", ..." if len(views) > _NUM_NAMED else "")
    raise PixelRangeError(
        f"{name} reads grey pixels from 0 to 1; found {float(low[wrong].min()):.4g} to {float(high[wrong].max()):.4g} "
        f"in {len(views)} of {len(pixels)} views (from 0: {places}). It normalises them itself: divide integers by "
        "their largest value (255 or 65535), once, and nothing else (`hilum.augment.prepare` with mean 0 and std 1).",
        views,
    )


def number_by_name(model: nn.Module, list_name: str = r"(?:stages|layers?|blocks?)") -> dict[str, int]:
    """Place of every parameter by its number in the first list of layers in its name: what comes before the first of
    them in the network is 0, what comes after the last one more than it."""
    pattern = re.compile(rf"(?:^|\.){list_name}\.?(\d+)\.")
    found = {name: pattern.search(name) for name, _ in model.named_parameters()}
    layers = {name: int(match[1]) + 1 for name, match in found.items() if match}
    numbered = list(layers)
    first = list(found).index(numbered[0]) if numbered else 0
    last = max(layers.values(), default=0) + 1
    return {name: layers.get(name, 0 if place < first else last) for place, name in enumerate(found)} | {HEAD: last}
