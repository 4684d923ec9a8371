from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as TF

from hilum.augment import draw_changes, jitter, prepare, resample
from hilum.batch import StudyBatch
from hilum.config import AugmentConfig
from hilum.errors import UserError

SOME = AugmentConfig(flip_probability=0.5)


def make_batch(num_views: list[int], *, side: int = 80, seed: int = 0, dtype=torch.uint8, key=None) -> StudyBatch:
    rng = np.random.default_rng(seed)
    views, studies = sum(num_views), len(num_views)
    top = 256 if dtype == torch.uint8 else 65536
    pixels = torch.from_numpy(rng.integers(0, top, (views, 1, side, side), dtype=str(dtype).removeprefix("torch.")))
    length = rng.uniform(side / 2, side, views)
    start = rng.uniform(0, 1, (views, 2)) * np.minimum(side - length, 1)[:, None]
    zeros = torch.zeros(studies, dtype=torch.int64)
    return StudyBatch(
        patient=zeros,
        dataset=zeros,
        row=torch.arange(studies),
        key=torch.arange(studies) * 7919 - 5 if key is None else key,
        draw=torch.arange(studies) % 3,
        pixels=pixels,
        crop=torch.from_numpy(np.concatenate([start, np.stack([length, length], 1)], 1)).float(),
        view_kind=torch.zeros(views, dtype=torch.int64),
        laterality=torch.zeros(views, dtype=torch.int64),
        study=torch.repeat_interleave(torch.arange(studies), torch.tensor(num_views)),
        view_row=torch.arange(views),
    )


def select(batch: StudyBatch, study: int) -> StudyBatch:
    """The batch of one study."""
    views = batch.study == study
    parts = {name: getattr(batch, name)[study : study + 1] for name in ("patient", "dataset", "row", "key", "draw")}
    parts |= {name: getattr(batch, name)[views] for name in ("pixels", "crop", "view_kind", "laterality", "view_row")}
    return StudyBatch(**parts, study=torch.zeros(int(views.sum()), dtype=torch.int64))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(20, 300),
    st.integers(20, 300),
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(16, 130),
    st.booleans(),
)
def test_whole_pixel_crops_resize_as_torch_and_torchvision_do(height, width, top, left, size, flipped) -> None:
    image = torch.from_numpy(np.random.default_rng(height * width).integers(0, 256, (1, height + 15, width + 15)))
    image = image.to(torch.uint8)
    crop = torch.tensor([[top, left, height, width]], dtype=torch.float32)
    ours = resample(image, crop, torch.tensor([flipped]), size, 255.0)
    piece = image[None, :, top : top + height, left : left + width].float() / 255
    if flipped:
        piece = piece.flip(3)
    theirs = F.interpolate(piece, size=(size, size), mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours, TF.resize(piece[0], [size, size], antialias=True), atol=1e-5, rtol=0)


def test_a_sub_pixel_crop_is_where_it_says() -> None:
    """On a ramp of grey, resampling anywhere is exact: the value at the centre of each output pixel."""
    plane = (torch.arange(100) * 2).to(torch.uint8)[None, :, None].expand(1, 100, 100)
    crop = torch.tensor([[10.3, 20.6, 51.2, 51.2]])
    out = resample(plane, crop, torch.tensor([False]), 64, 1.0)
    expected = 2 * (10.3 + (torch.arange(64) + 0.5) * 51.2 / 64 - 0.5)
    inside = slice(2, -2)  # at the rim the triangle is cut
    torch.testing.assert_close(out[0, inside, 30], expected[inside], atol=1e-3, rtol=0)
    turned = resample(plane.transpose(1, 2).contiguous(), crop[:, [1, 0, 3, 2]], torch.tensor([True]), 64, 1.0)
    torch.testing.assert_close(turned[0, 30, inside], expected.flip(0)[inside], atol=1e-3, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.booleans(), st.integers(0, 99))
def test_jitter_is_torchvisions(brightness, contrast, contrast_first, seed) -> None:
    image = torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(seed))
    steps = [lambda x: TF.adjust_brightness(x, brightness), lambda x: TF.adjust_contrast(x, contrast)]
    theirs = image
    for step in reversed(steps) if contrast_first else steps:
        theirs = step(theirs)
    ours = jitter(image.clone(), torch.tensor([brightness]), torch.tensor([contrast]), torch.tensor([contrast_first]))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_no_jitter_leaves_the_bits() -> None:
    image = torch.rand(3, 20, 30)
    kept = jitter(image.clone(), torch.ones(3), torch.ones(3), torch.tensor([True, False, True]))
    assert torch.equal(kept, image)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_studys_pixels_are_the_same_bits_in_any_batch_on_any_canvas(num_threads: int) -> None:
    batch = make_batch([1, 3, 2, 1, 4, 1, 2])
    before = torch.get_num_threads()
    together = prepare(batch, size=224, mean=0.5, std=0.25, augment=SOME, seed=5)
    torch.set_num_threads(num_threads)
    try:
        for study in range(batch.num_studies):
            alone = select(batch, study)
            larger = replace(alone, pixels=F.pad(alone.pixels.float(), (0, 41, 0, 17), value=200).to(torch.uint8))
            for one in (alone, larger):
                prepared = prepare(one, size=224, mean=0.5, std=0.25, augment=SOME, seed=5)
                assert torch.equal(prepared.pixels, together.pixels[batch.study == study])
    finally:
        torch.set_num_threads(before)


def test_changes_follow_seed_study_draw_and_view() -> None:
    batch = make_batch([2] * 200)
    changes = draw_changes(batch, SOME, 0)
    np.testing.assert_array_equal(changes, draw_changes(batch, SOME, 0))
    assert len(np.unique(changes[:, 1][changes[:, 1] != 1])) > 300  # jittered views, nearly all different
    assert not np.array_equal(changes, draw_changes(batch, SOME, 1))
    assert not np.array_equal(changes, draw_changes(replace(batch, draw=batch.draw + 1), SOME, 0))
    assert (changes[0::2, 0] != changes[1::2, 0]).any()
    whole = draw_changes(batch, replace(SOME, flip_whole_study=True), 0)
    np.testing.assert_array_equal(whole[0::2, 0], whole[1::2, 0])
    np.testing.assert_array_equal(whole[:, 1:], changes[:, 1:])


def test_a_vertical_flip_is_drawn_apart_and_turns_views_upside_down() -> None:
    batch = make_batch([2] * 200, side=4)
    both = replace(SOME, vertical_flip_probability=0.5)
    changes = draw_changes(batch, both, 0)
    np.testing.assert_array_equal(changes[:, :4], draw_changes(batch, SOME, 0)[:, :4])
    assert abs(changes[:, 4].mean() - 0.5) < 0.08
    assert abs((changes[:, 0] == changes[:, 4]).mean() - 0.5) < 0.08
    assert (changes[0::2, 4] != changes[1::2, 4]).any()
    whole = draw_changes(batch, replace(both, flip_whole_study=True), 0)
    np.testing.assert_array_equal(whole[0::2, 4], whole[1::2, 4])
    batch, plain = make_batch([3, 2]), AugmentConfig(jitter_probability=0.0)
    how = {"size": (40, 24), "mean": 0.4, "std": 0.2}
    still = prepare(batch, **how, augment=plain).pixels
    turned = prepare(batch, **how, augment=replace(plain, vertical_flip_probability=1.0)).pixels
    torch.testing.assert_close(turned, still.flip(2), atol=1e-5, rtol=0)


def test_changes_have_the_distribution_the_settings_say() -> None:
    changes = draw_changes(make_batch([1] * 4000, side=2), SOME, 0)
    flip, brightness, contrast, order, _ = changes.T
    assert abs(flip.mean() - 0.5) < 0.03
    assert abs(order.mean() - 0.5) < 0.03
    assert abs((brightness != 1).mean() - 0.8) < 0.02
    np.testing.assert_array_equal(brightness != 1, contrast != 1)
    for factor in (brightness, contrast):
        drawn = factor[factor != 1]
        assert 0.6 <= drawn.min() < 0.61
        assert 1.39 < drawn.max() <= 1.4
        assert abs(drawn.mean() - 1) < 0.02
    off = draw_changes(make_batch([1] * 50, side=2), AugmentConfig(jitter_probability=0), 0)
    np.testing.assert_array_equal(off[:, :3], np.tile([0, 1, 1], (50, 1)))


def test_evaluation_normalises_and_nothing_else() -> None:
    batch = make_batch([1, 2], side=64)
    batch = replace(batch, crop=torch.tensor([[0.0, 0.0, 64.0, 64.0]]).expand(3, 4))
    prepared = prepare(batch, size=64, mean=0.3, std=0.2)
    torch.testing.assert_close(prepared.pixels, (batch.pixels.float() / 255 - 0.3) / 0.2, atol=1e-5, rtol=0)
    assert prepared.pixels.shape == (3, 1, 64, 64)
    torch.testing.assert_close(prepared.crop, batch.crop)


def test_images_may_be_of_any_shape() -> None:
    """A squashed view is torch's antialiased resize to height and width; all changes keep the shape."""
    batch = make_batch([2, 1])
    batch = replace(batch, crop=torch.tensor([[0.0, 0.0, 80.0, 80.0], [4.0, 8.0, 70.0, 44.0], [0.0, 5.0, 33.0, 75.0]]))
    size = (40, 24)
    ready = prepare(batch, size=size, mean=0.0, std=1.0)
    for view, (top, left, height, width) in enumerate(batch.crop.int().tolist()):
        piece = batch.pixels[view, :, top : top + height, left : left + width].float() / 255
        expected = F.interpolate(piece[None], size=size, mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(ready.pixels[view], expected, atol=1e-5, rtol=0)
    assert ready.crop[0].tolist() == [0, 0, 40, 24]
    augment = AugmentConfig(flip_probability=0.5, affine_probability=1.0, blur_probability=1.0, erase_probability=1.0)
    changed = prepare(batch, size=size, mean=0.0, std=1.0, augment=augment)
    assert changed.pixels.shape == (batch.num_views, 1, 40, 24)
    square = prepare(batch, size=(32, 32), mean=0.0, std=1.0, augment=augment)
    assert torch.equal(square.pixels, prepare(batch, size=32, mean=0.0, std=1.0, augment=augment).pixels)


def test_sixteen_bits_have_their_own_scale() -> None:
    batch = make_batch([1, 2], side=64, dtype=torch.uint16)
    batch = replace(batch, crop=torch.tensor([[0.0, 0.0, 64.0, 64.0]]).expand(3, 4))
    prepared = prepare(batch, size=64, mean=0.0, std=1.0)
    torch.testing.assert_close(prepared.pixels, batch.pixels.float() / 65535, atol=1e-6, rtol=0)


def test_pixels_of_the_wrong_range_are_refused() -> None:
    batch = make_batch([1])
    once = prepare(batch, size=32, mean=0.5, std=0.25)
    with pytest.raises(UserError, match=r"Pixels must be the uint8 .* found torch.float32 from -?\d"):
        prepare(once, size=32, mean=0.5, std=0.25)
