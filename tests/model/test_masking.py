"""Masks: how many, how fair, shared or not, and the same wherever they are drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from batches import make_batch, take_studies
from hilum.model.masking import Mask, count_visible, draw_masks, put_patches, take_patches

SHARINGS = ["none", "positions", "rows"]


@pytest.mark.parametrize(("ratio", "visible"), [(0.75, 49), (0.90, 19), (0.93, 13), (0.0, 196)])
def test_visible_counts_of_196_patches(ratio: float, visible: int) -> None:
    assert count_visible(196, ratio) == visible
    mask = draw_masks(make_batch([2, 1], size=1), num_patches=196, ratio=ratio, seed=0)
    assert mask.visible.shape == (3, visible)
    assert mask.masked.shape == (3, 196 - visible)


@given(patches=st.integers(1, 2000), percent=st.integers(0, 99))
def test_visible_count_is_the_floor_in_exact_arithmetic(patches: int, percent: int) -> None:
    assert count_visible(patches, percent / 100) == patches * (100 - percent) // 100


@pytest.mark.parametrize("sharing", SHARINGS)
def test_visible_and_masked_are_all_patches_once(sharing: str) -> None:
    mask = draw_masks(make_batch([3, 1, 2], size=1), num_patches=196, ratio=0.9, sharing=sharing, seed=0)
    assert torch.equal(mask.visible, mask.visible.sort(dim=1).values)
    together = torch.cat([mask.visible, mask.masked], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(196).expand(6, -1))


def test_without_masking_the_order_is_the_identity_for_any_seed() -> None:
    for seed in range(3):
        mask = draw_masks(make_batch([2], size=1), num_patches=49, ratio=0.0, seed=seed)
        assert torch.equal(mask.visible, torch.arange(49).expand(2, -1))


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("part", ["visible", "first masked"])
def test_every_patch_is_drawn_equally_often(sharing: str, part: str) -> None:
    mask = draw_masks(make_batch([1] * 10_000, size=1), num_patches=196, ratio=0.9, sharing=sharing, seed=0)
    chosen = mask.visible if part == "visible" else mask.masked[:, :44]
    share = chosen.shape[1] / 196
    counts = torch.bincount(chosen.flatten(), minlength=196).double()
    # Drawing without replacement: the variance of a count is n p (1 - p), and counts of a row add up.
    statistic = ((counts - 10_000 * share) ** 2).sum() / (10_000 * share * (1 - share)) * 195 / 196
    assert chi2.cdf(float(statistic), 195) == pytest.approx(0.5, abs=0.499)


def test_views_share_what_the_setting_says() -> None:
    batch = make_batch([2] * 50, size=1)

    def draw(sharing: str) -> tuple[Mask, torch.Tensor]:
        mask = draw_masks(batch, num_patches=196, ratio=0.9, sharing=sharing, seed=0)
        rows = torch.nn.functional.one_hot(mask.visible // 14, 14).sum(dim=1)
        return mask, rows

    mask, rows = draw("none")
    assert not (rows[::2] == rows[1::2]).all(dim=1).any()
    mask, _ = draw("positions")
    assert torch.equal(mask.visible[::2], mask.visible[1::2])
    mask, rows = draw("rows")
    assert torch.equal(rows[::2], rows[1::2])
    assert not (mask.visible[::2] == mask.visible[1::2]).all(dim=1).any()


@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_mask_depends_on_its_study_its_draw_and_the_seed_only(sharing: str) -> None:
    batch = make_batch([2, 1, 3, 1], size=1)
    mask = draw_masks(batch, num_patches=64, ratio=0.75, sharing=sharing, seed=5)
    alone = draw_masks(take_studies(batch, [2]), num_patches=64, ratio=0.75, sharing=sharing, seed=5)
    assert torch.equal(alone.visible, mask.visible[3:6])
    assert torch.equal(alone.masked, mask.masked[3:6])
    again = draw_masks(replace(batch, draw=batch.draw + 1), num_patches=64, ratio=0.75, sharing=sharing, seed=5)
    other = draw_masks(batch, num_patches=64, ratio=0.75, sharing=sharing, seed=6)
    for changed in (again, other):
        assert not (changed.visible == mask.visible).all(dim=1).any()


@settings(max_examples=20, deadline=None)
@given(side=st.integers(1, 5), patch_size=st.integers(1, 4), seed=st.integers(0, 1000))
def test_patches_are_row_major_and_go_back_where_they_came_from(side: int, patch_size: int, seed: int) -> None:
    size = side * patch_size
    pixels = torch.arange(2.0 * size * size).reshape(2, 1, size, size)
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(side * side, generator=generator) for _ in range(2)])
    patches = take_patches(pixels, order, patch_size)
    for view in range(2):
        for place, patch in enumerate(order[view].tolist()):
            top, left = patch // side * patch_size, patch % side * patch_size
            expected = pixels[view, 0, top : top + patch_size, left : left + patch_size].flatten()
            assert torch.equal(patches[view, place], expected)
    assert torch.equal(put_patches(torch.zeros_like(pixels), order, patches), pixels)
