"""The crop that stretches (L 4.6-3): which columns and rows are kept, and the way back under unequal scales."""

from __future__ import annotations

import numpy as np
import pytest

from breast_pictures import draw_breast
from hilum.imaging.affine import map_boxes_from_source, map_boxes_to_source, map_from_source, map_to_source
from hilum.imaging.intensity import StoredImage, apply_policy
from hilum.imaging.mammography.framing import frame_mammogram
from hilum.imaging.mammography.stretch import find_longest_run, stretch_breast


def test_the_longest_run_is_the_first_of_equals() -> None:
    assert find_longest_run(np.array([1, 1, 0, 1, 1, 1, 0, 1, 1, 1], dtype=bool)) == (3, 6)
    assert find_longest_run(np.ones(4, dtype=bool)) == (0, 4)
    assert find_longest_run(np.zeros(4, dtype=bool)) == (0, 0)


def draw_part() -> np.ndarray:
    """60 x 50 pixels at 20 of 255 (black), a part of rows 15 to 34 and columns 12 to 21 at 41 and 200 in turn, and a
    letter of rows 45 to 47 and columns 30 to 32; a column at 39, below the threshold, beside the part."""
    levels = np.full((60, 50), 20)
    levels[15:35, 12:22] = np.where(np.arange(20)[:, None] % 2, 41, 200) + np.arange(10) % 2
    levels[15:35:2, 22] = 39
    levels[45:48, 30:33] = 255
    return (levels / 255).astype(np.float32)


def test_the_longest_runs_are_stretched_to_the_frame_whatever_their_aspect() -> None:
    framed = stretch_breast(draw_part(), (40, 40))  # of 20 x 10: two pixels a row, four a column
    assert (framed.fault, framed.area) == ("", 200)
    np.testing.assert_allclose(framed.affine, [0.5, 0, 15 - 0.25, 0, 0.25, 12 - 0.375])
    assert framed.pixels.min() > 40 / 255  # nothing of what lies around
    np.testing.assert_allclose(framed.pixels[[0, -1]].mean(axis=1) * 255, [200.5, 41.5], atol=1)


def test_what_is_below_forty_is_black_and_forty_is_not() -> None:
    levels = np.full((40, 40), 39)
    levels[10:20:2, 10:30] = 40
    levels[0, 0] = 255  # within the border, which is left out
    framed = stretch_breast((levels / 255).astype(np.float32), (32, 32))
    # Every second row: of columns a run of 20, of rows runs of one, of which the first counts.
    assert framed.affine[[2, 5]].tolist() == pytest.approx([10 + 0.5 / 32 - 0.5, 10 + 10 / 32 - 0.5])
    assert framed.area == 20


def test_a_point_and_a_box_come_back_where_sides_are_scaled_apart() -> None:
    picture = np.zeros((300, 200), np.float32)
    picture[40:260, 10:110] = 0.3
    picture[41:259:2, 11:109] = 0.5
    picture[100:110, 60:65] = 1.0  # a mark of 10 x 5
    framed = stretch_breast(picture, (128, 128))
    down, across = 220 / 128, 100 / 128
    assert framed.affine[[0, 4]].tolist() == pytest.approx([down, across])
    points = np.array([[0.0, 0.0], [127.0, 127.0], [63.5, 20.25]])
    source = map_to_source(framed.affine, points)
    np.testing.assert_allclose(source[0], [40 + 0.5 * down - 0.5, 10 + 0.5 * across - 0.5], atol=1e-4)
    np.testing.assert_allclose(map_from_source(framed.affine, source), points, atol=1e-4)
    mark = np.array([[100.0, 60.0, 110.0, 65.0]])
    box = map_boxes_from_source(framed.affine, mark)
    np.testing.assert_allclose(box[0], [60 / down, 50 / across, 70 / down, 55 / across], atol=1e-3)
    np.testing.assert_allclose(map_boxes_to_source(framed.affine, box), mark, atol=1e-3)
    # The brightest pixel of the frame lies in the mark of the source.
    brightest = np.argwhere(framed.pixels == framed.pixels.max())
    found = map_to_source(framed.affine, brightest.astype(np.float64))
    assert (found >= [99.5, 59.5]).all()
    assert (found <= [109.5, 64.5]).all()


def test_images_without_two_values_and_tiny_ones_are_whole() -> None:
    flat = stretch_breast(np.full((30, 20), 0.1, np.float32), (32, 32))
    assert "no pixels of two values" in flat.fault
    assert flat.area == 0
    corners = map_to_source(flat.affine, np.array([[-0.5, -0.5], [31.5, 31.5]]))
    np.testing.assert_allclose(corners, [[4.5, 4.5], [24.5, 14.5]], atol=1e-5)  # within the border
    tiny = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert stretch_breast(tiny, (32, 32)).pixels.shape == (32, 32)


def test_the_grey_is_stretched_within_the_border_and_no_side_is_mirrored() -> None:
    values = np.arange(100, 100 + 20 * 30, dtype=np.uint16).reshape(20, 30)
    values[0], values[:, -1] = 4095, 0  # a frame, brighter and darker than the image
    inner = values[5:-5, 5:-5].astype(np.float64)
    grey = apply_policy("mammo-clip-1", StoredImage(values))
    expected = (inner - inner.min()) / (inner.max() - inner.min())
    np.testing.assert_allclose(grey[5:-5, 5:-5], expected, atol=1e-6)
    assert grey[:5].max() == grey[:, -5:].max() == 0
    inverted = apply_policy("mammo-clip-1", StoredImage(values, inverted=True))
    np.testing.assert_allclose(inverted[5:-5, 5:-5], 1 - expected, atol=1e-6)
    left, right = (draw_breast(side).astype(np.float32) / 4095 for side in ("left", "right"))
    shown = frame_mammogram(left, "mammo-clip-1", (96, 64)), frame_mammogram(right, "mammo-clip-1", (96, 64))
    assert [one.chest_wall for one in shown] == ["left", "right"]
    np.testing.assert_allclose(shown[0].pixels, shown[1].pixels[:, ::-1], atol=1e-5)
    assert not np.array_equal(shown[0].pixels, frame_mammogram(left, "mammo-auto-1", (96, 64)).pixels)
