"""Turning, blurring, erasing: as torchvision does them, by numbers of a view's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from hilum.augment import prepare
from hilum.config import AugmentConfig
from hilum.distort import bend, blur, draw_distortions, draw_fields, erase, move
from hilum.keyed_random import make_keys
from test_augment import make_batch, select

ALL = AugmentConfig(
    affine_probability=0.6, shear=20.0, elastic_probability=0.4, elastic_alpha=60.0, elastic_sigma=4.0,
    vertical_flip_probability=0.5, blur_probability=0.5, erase_probability=0.5,
)  # fmt: skip


def make_smooth(num: int = 3, height: int = 48, width: int = 48) -> torch.Tensor:
    noise = torch.rand(num, 8, 8, generator=torch.Generator().manual_seed(0))
    return TF.resize(noise, [height, width], interpolation=InterpolationMode.BICUBIC).clamp(0, 1)


def draw(augment: AugmentConfig, num: int = 4000):
    return draw_distortions(augment, {name: make_keys(name, 0, np.arange(num)) for name in ("affine", "blur", "erase")})


@pytest.mark.parametrize("shape", [(48, 48), (80, 48), (40, 72)])
@pytest.mark.parametrize(
    ("degrees", "down", "right", "zoom", "shear"),
    [
        (10.0, 0, 0, 1.0, (0.0, 0.0)), (0.0, 0.125, 0, 1.0, (0.0, 0.0)), (0.0, 0, -0.25, 1.0, (0.0, 0.0)),
        (0.0, 0, 0, 0.9, (0.0, 0.0)), (-7.0, 0.1, 0.05, 1.1, (0.0, 0.0)), (0.0, 0, 0, 1.0, (20.0, 0.0)),
        (0.0, 0, 0, 1.0, (0.0, -15.0)), (8.0, 0.05, -0.1, 1.1, (-12.0, 9.0)),
    ],
)  # fmt: skip
def test_a_moved_view_is_torchvisions(
    degrees: float, down: float, right: float, zoom: float, shear: tuple[float, float], shape: tuple[int, int]
) -> None:
    pixels, (height, width) = make_smooth(3, *shape), shape
    how = torch.tensor([[1, math.radians(degrees), down, right, zoom, *map(math.radians, shear)]]).repeat(3, 1)
    expected = TF.affine(
        pixels[:, None], angle=degrees, translate=[right * width, down * height], scale=zoom, shear=list(shear),
        interpolation=InterpolationMode.BILINEAR, fill=[0.0],
    )[:, 0]  # fmt: skip
    # torchvision blends what lies on the border with its fill in another way.
    rows, columns = (slice(side // 6, -(side // 6)) for side in shape)
    inside = (move(torch.ones_like(pixels), how) > 0.9999)[:, rows, columns]
    assert inside.float().mean() > 0.6
    found, expected = (torch.where(inside, moved[:, rows, columns], 0) for moved in (move(pixels, how), expected))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    spared = how * torch.tensor([[1.0], [0.0], [1.0]])
    assert torch.equal(move(pixels, spared)[1], pixels[1])


def test_black_comes_in_from_outside() -> None:
    moved = move(torch.ones(1, 40, 40), torch.tensor([[1, 0, 0.25, 0, 1.0, 0, 0]]))
    assert float(moved[0, :10].abs().max()) < 1e-5
    torch.testing.assert_close(moved[0, 11:], torch.ones(29, 40))


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_a_blurred_view_is_torchvisions(sigma: float) -> None:
    pixels = torch.rand(2, 30, 21, generator=torch.Generator().manual_seed(1))
    expected = TF.gaussian_blur(pixels, [5, 5], [sigma, sigma])
    torch.testing.assert_close(blur(pixels, torch.tensor([[1, sigma], [1, sigma]])), expected, atol=1e-5, rtol=0)
    assert torch.equal(blur(pixels, torch.tensor([[0, sigma], [1, sigma]]))[0], pixels[0])


def test_an_erased_rectangle_is_where_and_as_large_as_it_says() -> None:
    pixels = torch.ones(2, 40, 20)
    found = erase(pixels, torch.tensor([[1, 0.25, 0.5, 0.1, 0.2], [0, 0.25, 0.5, 0.1, 0.2]]))
    expected = torch.ones(40, 20)
    expected[10:14, 10:14] = 0
    assert torch.equal(found[0], expected)
    assert torch.equal(found[1], pixels[1])


def test_numbers_are_as_often_and_as_large_as_the_settings_say() -> None:
    augment = AugmentConfig(
        affine_probability=0.6, rotation=15.0, shift=0.2, zoom=0.3, shear=25.0,
        blur_probability=0.15, min_blur=0.5, max_blur=1.0, erase_probability=0.25, min_erased=0.05, max_erased=0.08,
    )  # fmt: skip
    affine, blurred, erased = draw(augment)
    for column, expected in ((affine, 0.6), (blurred, 0.15), (erased, 0.25)):
        assert float(column[:, 0].mean()) == pytest.approx(expected, abs=0.03)
    reach = [math.radians(15), 0.2, 0.2]
    for place, most in enumerate(reach, start=1):
        assert float(affine[:, place].min()) == pytest.approx(-most, rel=0.01)
        assert float(affine[:, place].max()) == pytest.approx(most, rel=0.01)
    assert (float(affine[:, 4].min()), float(affine[:, 4].max())) == pytest.approx((0.7, 1.3), rel=0.01)
    for column in (5, 6):
        reached = float(affine[:, column].min()), float(affine[:, column].max())
        assert reached == pytest.approx((-math.radians(25), math.radians(25)), rel=0.01)
    assert (float(blurred[:, 1].min()), float(blurred[:, 1].max())) == pytest.approx((0.5, 1.0), rel=0.01)
    _, top, left, height, width = erased.unbind(1)
    area, aspect = height * width, height / width
    assert (float(area.min()), float(area.max())) == pytest.approx((0.05, 0.08), rel=0.01)
    assert (float(aspect.min()), float(aspect.max())) == pytest.approx((1 / 3.3, 3.3), rel=0.02)
    assert float(top.min()) >= 0
    assert float((left + width).max()) <= 1 + 1e-6
    assert float((top + height).max()) <= 1 + 1e-6


def test_largest_and_longest_erased_rectangles_fit() -> None:
    _, _, erased = draw(AugmentConfig(erase_probability=1.0, min_erased=0.3, max_erased=0.3))
    assert float(erased[:, 3:].max()) <= 1.0


def bend_slowly(pixels: torch.Tensor, noise: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
    """Each pixel by itself: sums the Gaussians of all knots, and blends the four neighbours of where it comes from."""
    height, width = pixels.shape

    def look(row: int, column: int) -> float:
        return float(pixels[row, column]) if 0 <= row < height and 0 <= column < width else 0.0

    def weigh(place: float, knot: int) -> float:
        distance = place + 0.5 - (knot * sigma / 2 - 4 * sigma)
        density = math.exp(-0.5 * (distance / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        return density * math.sqrt(sigma / 2)

    bent = torch.zeros(height, width)
    for row in range(height):
        for column in range(width):
            by_row = torch.tensor([weigh(row, knot) for knot in range(noise.shape[1])])
            by_column = torch.tensor([weigh(column, knot) for knot in range(noise.shape[2])])
            right, down = (alpha * float(by_row @ one @ by_column) for one in noise)
            x, y = column + right, row + down
            left, top = math.floor(x), math.floor(y)
            for i, share in ((top, 1 - (y - top)), (top + 1, y - top)):
                for j, part in ((left, 1 - (x - left)), (left + 1, x - left)):
                    bent[row, column] += share * part * look(i, j)
    return bent


def test_a_bent_view_is_a_slow_loops() -> None:
    pixels = make_smooth(2, 20, 14)
    augment = AugmentConfig(elastic_probability=1.0, elastic_alpha=20.0, elastic_sigma=2.0)
    fields = draw_fields(augment, make_keys("elastic", 0, np.arange(2)), 20, 14)
    found = bend(pixels, fields, 20.0, 2.0)
    torch.testing.assert_close(found[0], bend_slowly(pixels[0], fields[0], 20.0, 2.0), atol=1e-4, rtol=0)
    assert (found - pixels).abs().max() > 0.05
    spared = fields * torch.tensor([1.0, 0.0])[:, None, None, None]
    assert torch.equal(bend(pixels, spared, 20.0, 2.0), torch.stack([found[0], pixels[1]]))


@pytest.mark.parametrize("sigma", [3.0, 8.0])
def test_a_field_moves_pixels_as_noise_at_every_pixel_would(sigma: float) -> None:
    """By alpha / (2 sigma sqrt(3 pi)) in the root mean square, 0.16 alpha / sigma."""
    augment = AugmentConfig(elastic_probability=0.8, elastic_sigma=sigma)
    fields = draw_fields(augment, make_keys("elastic", 1, np.arange(400)), 40, 30)
    chosen = fields.flatten(1).any(dim=1)
    assert float(chosen.float().mean()) == pytest.approx(0.8, abs=0.06)
    # The column of each pixel: what a view whose greys are columns loses is how far it came.
    ramp = torch.arange(30.0).expand(int(chosen.sum()), 40, 30)
    moved = (bend(ramp, fields[chosen], 2.0, sigma) - ramp)[:, 5:-5, 5:-5]
    assert float(moved.square().mean().sqrt()) == pytest.approx(2 / (2 * sigma * math.sqrt(3 * math.pi)), rel=0.08)
    assert float(moved.mean()) == pytest.approx(0, abs=0.02)


def test_a_views_changes_do_not_depend_on_its_batch() -> None:
    batch = make_batch([2, 3, 1, 4, 2, 1])
    how = {"size": 32, "mean": 0.4, "std": 0.2, "augment": ALL, "seed": 5}
    whole, plain = prepare(batch, **how), prepare(batch, **{**how, "augment": AugmentConfig()})
    assert (whole.pixels != plain.pixels).flatten(1).any(dim=1).float().mean() > 0.5
    for study in range(6):
        alone = prepare(select(batch, study), **how)
        # A study's views are told apart by their place in it; alone it has the same places.
        assert torch.equal(alone.pixels, whole.pixels[batch.study == study])
    again, other = prepare(batch, **how), prepare(batch, **{**how, "seed": 6})
    assert torch.equal(again.pixels, whole.pixels)
    assert not torch.equal(other.pixels, whole.pixels)


def test_what_is_off_leaves_the_bits_as_they_were() -> None:
    batch = make_batch([2, 2])
    how = {"size": 32, "mean": 0.4, "std": 0.2, "seed": 5}
    still = AugmentConfig(jitter_probability=0.0)
    barely = AugmentConfig(jitter_probability=0.0, affine_probability=1e-30)
    assert torch.equal(prepare(batch, **how, augment=still).pixels, prepare(batch, **how, augment=barely).pixels)
