"""A public encoder sees of a grey image what its own library would show it."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import timm.data
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2
from transformers import BlipImageProcessor

from hilum.augment import resample, weigh_cubic
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.loader import place_crops
from hilum.model.image_encoder import PixelRangeError
from hilum.model.towers.biomedclip import _PREPROCESSING as BIOMEDCLIP
from hilum.model.towers.timm_model import read_preprocessing
from hilum.model.towers.tower import (
    CLIP_MEAN,
    CLIP_STD,
    HEAD,
    Preprocessing,
    Tokens,
    Tower,
    TowerConfig,
    check_range,
)

CHEXAGENT = Preprocessing(448, CLIP_MEAN, CLIP_STD, "bicubic", "squash")


def draw_image(height: int, width: int) -> Image.Image:
    """Smooth grey hills with a hard edge."""
    rows, columns = np.mgrid[:height, :width]
    grey = 120 + 60 * np.sin(rows / 17) + 50 * np.cos(columns / 23) + 20 * (columns > width // 2)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def show(image: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """What a tower's network gets of an image: Hilum's crop, resampling, and the tower's own rest."""

    def keep(model: nn.Module, pixels: Tensor) -> Tokens:
        return Tokens(None, pixels.flatten(2))

    about = TowerConfig("eye", preprocessing, "none", "none")
    tower = Tower(nn.Linear(1, 1), about, read=keep, layers={HEAD: 1})
    pixels = torch.from_numpy(np.asarray(image).copy())[None]
    height, width = (np.array([side]) for side in pixels.shape[1:])
    crop = torch.from_numpy(place_crops(CropConfig(mode=tower.crop), height, width, np.zeros(1, np.uint64)))
    how = (torch.tensor([False]), tower.image_size, 255.0, tower.interpolation)
    grey = resample(pixels, crop.float(), *how)[:, None]
    side = preprocessing.size
    return tower.encode(grey, torch.zeros(1, dtype=torch.long)).tokens.unflatten(2, (side, side))[0]


@pytest.mark.parametrize(("side", "size"), [(256, 224), (300, 64), (40, 56)], ids=["less", "far less", "more"])
def test_bicubic_is_torchs(side: int, size: int) -> None:
    image = torch.from_numpy(np.asarray(draw_image(side, side)).copy())[None]
    whole = torch.tensor([[0.0, 0.0, side, side]])
    ours = resample(image, whole, torch.tensor([False]), size, 255.0, "bicubic")
    theirs = F.interpolate(image[None] / 255, (size, size), mode="bicubic", antialias=True)
    torch.testing.assert_close(ours[0], theirs[0, 0].clamp(0, 1), atol=1e-5, rtol=0)


def test_the_cubic_by_hand() -> None:
    # Keys 1981: 1 at 0, 0 at whole numbers; at 1/2 9/16, at 3/2 -1/16.
    found = weigh_cubic(torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0]))
    assert found.tolist() == [1.0, 0.5625, 0.0, -0.0625, 0.0, 0.0]


@pytest.mark.parametrize("name", ["test_vit", "vit_base_patch16_224", "resnet18"])
def test_as_timm(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    image = draw_image(260, 260)
    ours, theirs = show(image, read_preprocessing(model)), transform(image.convert("RGB"))
    assert ours.shape == theirs.shape
    # Pillow rounds to whole grey levels, twice.
    torch.testing.assert_close(ours, theirs, atol=2 / 255 / min(model.pretrained_cfg["std"]), rtol=0)


def test_biomedclip_as_open_clip() -> None:
    """Its recipe: the short side to 224 px, the centre, CLIP's statistics."""
    theirs = v2.Compose(
        [
            v2.Resize(224, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(224),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
        ]
    )
    image = draw_image(256, 256 + 2 * 32)  # whole pixels on both sides after resizing
    torch.testing.assert_close(show(image, BIOMEDCLIP), theirs(image.convert("RGB")), atol=2 / 255 / 0.26, rtol=0)


def test_chexagent_as_blips_processor() -> None:
    image = draw_image(460, 600)
    processor = BlipImageProcessor(size={"height": 448, "width": 448})
    theirs = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(show(image, CHEXAGENT), theirs, atol=2 / 255 / 0.26, rtol=0)


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (torch.full((1, 1, 8, 8), 200.0), "200 to 200"),
        ((torch.rand(1, 1, 8, 8) - 0.5) / 0.25, "-"),
        (torch.rand(1, 1, 8, 8) / 255, "to 0.003"),
    ],
    ids=["0 to 255", "normalised", "divided twice"],
)
def test_the_wrong_range_is_refused(pixels: Tensor, found: str) -> None:
    with pytest.raises(UserError, match=f"eye reads grey pixels from 0 to 1; found .*{found}"):
        check_range(pixels, "eye")
    check_range(torch.rand(1, 1, 8, 8), "eye")
    check_range(torch.zeros(0, 1, 8, 8), "eye")
    check_range(torch.zeros(1, 1, 8, 8), "eye")  # a black image is an image


def test_the_views_that_are_refused_are_told_from_the_others() -> None:
    pixels = torch.rand(9, 1, 8, 8)
    pixels[2, 0, 0, 0], pixels[7, 0, 0, 0] = 3.0, float("nan")
    with pytest.raises(PixelRangeError, match=r"in 2 of 9 views \(from 0: 2, 7\)") as caught:
        check_range(pixels, "eye")
    assert caught.value.views == (2, 7)
    dark = torch.rand(9, 1, 8, 8) / 300
    dark[4] = 0.0
    with pytest.raises(PixelRangeError, match=r"in 8 of 9 views \(from 0: 0, 1, 2, 3, 5, \.\.\.\)") as caught:
        check_range(dark, "eye")
    assert caught.value.views == (0, 1, 2, 3, 5, 6, 7, 8), "black images are images"
