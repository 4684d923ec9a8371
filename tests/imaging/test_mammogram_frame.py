"""Where the breast is, the one frame of all breasts, and the way back to the source pixel."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from breast_pictures import WIDTH, draw_breast
from hilum.imaging.affine import (
    map_boxes_from_source,
    map_boxes_to_source,
    map_from_source,
    map_heat_to_source,
    map_to_source,
    measure_spacing,
)
from hilum.imaging.mammography.breast import compute_otsu, fill_hull, find_breast
from hilum.imaging.mammography.frame import FRAME, frame_breast
from hilum.imaging.read import read_image


def grey(picture: np.ndarray) -> np.ndarray:
    return (picture / 4095).astype(np.float32)


# --- Otsu and the hull


def test_otsu_of_a_hand_worked_case():
    # Four pixels at 0, four at 2, two at 10, in ten bins of width 1: the cut behind 2 is best (48 : 4 * 4 * ...).
    values = np.array([0.0] * 4 + [2.0] * 4 + [10.0] * 2)
    threshold = compute_otsu(values, num_bins=10)
    assert 2 < threshold < 10
    assert threshold == 6.0  # the middle of the equal cuts at 3, 4, ... 9


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40))
@settings(max_examples=50, deadline=None)
def test_otsu_agrees_with_a_slow_loop(values: list[float]):
    found = compute_otsu(np.array(values), num_bins=8)
    low, high = min(values), max(values)
    if low == high:
        assert found == low
        return
    counts, edges = np.histogram(values, 8, (low, high))
    centers = [(a + b) / 2 for a, b in pairwise(edges)]
    scores = []
    for cut in range(1, 8):
        below, above = sum(counts[:cut]), sum(counts[cut:])
        mean_below = sum(c * x for c, x in zip(counts[:cut], centers[:cut], strict=True)) / below
        mean_above = sum(c * x for c, x in zip(counts[cut:], centers[cut:], strict=True)) / above
        scores.append(below * above * (mean_below - mean_above) ** 2)
    best = [edges[cut] for cut in range(1, 8) if scores[cut - 1] >= max(scores) * (1 - 1e-12)]
    assert found == pytest.approx(np.mean(best))


def test_a_hull_fills_a_cut_and_leaves_a_line_as_it_is():
    square = np.zeros((9, 9), dtype=bool)
    square[1:8, 1:8] = True
    whole = square.copy()
    square[3:6, 4:8] = False
    np.testing.assert_array_equal(fill_hull(square), whole)
    line = np.zeros((9, 9), dtype=bool)
    line[4, 2:7] = True
    np.testing.assert_array_equal(fill_hull(line), line)


# --- the breast


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_breast_is_found_and_letters_are_not_part_of_it(side: str):
    picture = draw_breast(side, letters=True)
    breast = find_breast(grey(picture))
    assert breast.fault == ""
    assert breast.chest_wall == side
    assert breast.mask is not None
    drawn = (picture > 200) & (picture < 4000)
    assert breast.mask[drawn].mean() > 0.999
    assert breast.mask.mean() < 1.25 * drawn.mean()
    assert not breast.mask[picture == 4095].any()  # the letters


def test_a_frame_of_a_film_and_a_grey_background_are_not_the_breast():
    picture = grey(draw_breast())
    film = 0.3 + 0.6 * picture  # a film's air is no black
    film[:, :3], film[:, -3:] = 1.0, 1.0  # and its edge is clear
    breast = find_breast(film)
    assert breast.fault == ""
    assert breast.mask is not None
    assert breast.mask.mean() == pytest.approx(find_breast(picture).mask.mean(), abs=0.03)


@pytest.mark.parametrize("power", [1, 2])
def test_a_bright_muscle_is_not_taken_for_the_breast_however_dark_the_fat(power: int):
    picture = draw_breast(muscle=True)
    breast = find_breast(grey(picture) ** power)
    drawn = picture > 200
    assert drawn.mean() > 3 * (picture > 3000).mean()
    assert breast.mask is not None
    assert breast.mask[drawn].mean() > 0.999


@pytest.mark.parametrize(
    ("picture", "fault"),
    [
        (np.full((200, 160), 0.4, np.float32), "no contrast"),
        (np.zeros((200, 160), np.float32), "no contrast"),
        (np.pad(np.ones((12, 12), np.float32), 94), "fills"),  # a marker on an empty field
        (np.pad(np.ones((400, 506), np.float32), ((0, 0), (0, 6))), "fills"),  # cut to the breast already
    ],
)
def test_where_no_breast_is_found_the_whole_frame_is_kept_with_the_reason(picture: np.ndarray, fault: str):
    with np.errstate(all="raise"):  # no division by zero
        framed = frame_breast(picture, FRAME)
    assert fault in framed.fault
    height, width = picture.shape
    np.testing.assert_array_equal(framed.pixels[(1520 - height) // 2 :][:height, :width], picture)


# --- the frame and the way back


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("size", [(200, 120), (1520, 912)])
def test_points_boxes_and_lengths_survive_both_ways(side: str, size: tuple[int, int]):
    picture = draw_breast(side)
    framed = frame_breast(grey(picture), size)
    assert framed.pixels.shape == size
    affine = framed.affine
    points = np.array([[120.0, 60.0], [200.25, 100.5]])
    if side == "right":
        points[:, 1] = WIDTH - 1 - points[:, 1]
    there = map_from_source(affine, points)
    np.testing.assert_allclose(map_to_source(affine, there), points, atol=1e-3)
    # What is bright at a point of the source is bright at its place in the frame.
    spot = grey(picture).copy()
    row, column = 200, 80 if side == "left" else WIDTH - 1 - 80
    spot[row - 4 : row + 5, column - 4 : column + 5] = 1.0
    marked = frame_breast(spot, size)
    center = map_from_source(marked.affine, np.array([[row, column]], float))[0]
    bright = np.argwhere(marked.pixels > 0.95).mean(0)
    np.testing.assert_allclose(bright, center, atol=0.6)
    box = np.array([[row - 4.0, column - 4.0, row + 5.0, column + 5.0]])
    inside = map_boxes_from_source(marked.affine, box)
    assert (inside[0, :2] < inside[0, 2:]).all()
    np.testing.assert_allclose(map_boxes_to_source(marked.affine, inside), box, atol=1e-3)
    down, across = measure_spacing(marked.affine, (0.07, 0.08))
    size_mm = (inside[0, 2] - inside[0, 0]) * down, (inside[0, 3] - inside[0, 1]) * across
    assert size_mm == pytest.approx((9 * 0.07, 9 * 0.08), rel=1e-4)


def test_a_right_breast_is_the_mirror_image_of_a_left_one():
    left, right = (frame_breast(grey(draw_breast(side)), (200, 120)) for side in ("left", "right"))
    np.testing.assert_array_equal(left.pixels, right.pixels)
    assert (left.chest_wall, right.chest_wall) == ("left", "right")


def test_the_aspect_is_kept_and_nothing_is_enlarged():
    framed = frame_breast(grey(draw_breast()), FRAME)
    assert (framed.affine[0], framed.affine[4]) == (1.0, 1.0)
    small = frame_breast(grey(draw_breast()), (200, 120))
    assert small.affine[0] == pytest.approx(small.affine[4], rel=0.01)
    assert small.pixels[:, -1].max() == 0  # what is left of the frame is black
    wide = np.pad(grey(draw_breast()), ((0, 0), (0, 300)))[150:250]
    assert frame_breast(wide, (200, 120)).affine[0] > 1


def test_a_heat_map_goes_back_to_the_pixels_it_was_made_of():
    picture = grey(draw_breast("right"))
    framed = frame_breast(picture, (200, 120))
    back = map_heat_to_source(framed.affine, framed.pixels, picture.shape)
    breast = find_breast(picture)
    assert back.shape == picture.shape
    assert np.corrcoef(back[breast.mask], picture[breast.mask])[0, 1] > 0.9
    assert back[:, : WIDTH // 5].max() == 0  # air that the frame does not show


@pytest.mark.needs_real_data
def test_a_real_exam_has_all_its_breasts_and_no_letters(real_data: Path):
    for name in ("L_CC", "L_MLO", "R_CC", "R_MLO"):
        grey_image = read_image(real_data / "mammo" / f"nyu-birads_0_{name}.png", "mammo-auto-1")
        breast = find_breast(np.square(grey_image.pixels[::4, ::4]))
        assert breast.fault == ""
        assert breast.chest_wall == "left"  # the right ones too: stored mirrored
        assert breast.mask is not None
        # Of this darker picture Otsu's threshold of the grey itself keeps a tenth of each MLO: the pectoral muscle.
        assert 0.4 < breast.mask.mean() < 0.75
        assert not breast.mask[:20, -60:].any()  # letters
