"""Rows of arrays as images: what comes back, how far off it may be, and what is no image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hilum.imaging.array_row import IMAGENET_MEAN, IMAGENET_STD, hash_row, is_there, name_row, split_row
from hilum.imaging.read import read_image
from hilum.imaging.rejection import RejectedImage
from sources.archives.symile_mimic import make_picture, normalize

STEP = 1 / 255


def save(path: Path, *rows: np.ndarray) -> str:
    np.save(path, np.stack(rows))
    return str(path)


def test_pixels_that_were_8_bits_come_back_exactly(tmp_path: Path) -> None:
    every = np.arange(64 * 64).reshape(64, 64).astype(np.uint8)  # all 256 levels
    file = save(tmp_path / "cxr.npy", normalize(every), normalize(make_picture("val", 3)))
    for row, picture in enumerate((every, make_picture("val", 3))):
        image = read_image(name_row(file, row))
        assert np.array_equal(np.rint(image.pixels * 255), picture)
        assert (image.source_bits, image.source_size) == (8, (64, 64))


def test_other_pixels_are_off_by_half_a_grey_level_at_most(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).uniform(0, 1, (80, 70)).astype(np.float32)
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    normalized = (grey[None] - mean) / std
    image = read_image(name_row(save(tmp_path / "cxr.npy", normalized), 0))
    error = np.abs(image.pixels - grey)
    assert STEP / 2 * 0.99 < error.max() <= STEP / 2 + 1e-6
    again = np.abs((image.pixels[None] - mean) / std - normalized).max()
    assert again <= 0.0088  # as the module says, in units of the array


def test_a_row_is_named_with_its_file(tmp_path: Path) -> None:
    assert split_row("a/cxr_train.npy#12") == (Path("a/cxr_train.npy"), 12)
    assert split_row("a/cxr#1.png") == (Path("a/cxr#1.png"), None)
    file = save(tmp_path / "cxr.npy", normalize(make_picture("val", 0)), normalize(make_picture("val", 1)))
    assert is_there(name_row(file, 1))
    assert not is_there(name_row(str(tmp_path / "none.npy"), 1))
    assert hash_row(Path(file), 0) != hash_row(Path(file), 1)


PICTURE = make_picture("val", 0)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (PICTURE.astype(np.float32)[None].repeat(3, 0), "no grey image normalised by ImageNet"),  # 0 to 255
        (normalize(PICTURE) * np.array([1, 1.2, 1], np.float32)[:, None, None], "no grey image normalised"),
        (normalize(PICTURE)[:1], r"shape \(1, 64, 64\)"),
        (normalize(PICTURE)[:, :32], "expected at least 64"),
        (np.where(PICTURE == 7, np.nan, normalize(PICTURE)).astype(np.float32), "not numbers"),
        (np.zeros((3, 64, 64), np.int64), "int64"),
        (np.zeros(5, np.float32), r"shape \(5,\)"),
    ],
)
def test_what_is_no_such_image_is_rejected_with_its_row(tmp_path: Path, row: np.ndarray, found: str) -> None:
    with pytest.raises(RejectedImage, match=rf"cxr.npy#0: .*{found}"):
        read_image(name_row(save(tmp_path / "cxr.npy", row), 0))


def test_a_row_beyond_the_end_and_a_file_that_is_no_array_are_rejected(tmp_path: Path) -> None:
    file = save(tmp_path / "cxr.npy", normalize(PICTURE))
    with pytest.raises(RejectedImage, match="#1: the array has 1 rows"):
        read_image(name_row(file, 1))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(RejectedImage, match="not a readable array"):
        read_image(name_row(str(tmp_path / "objects.npy"), 0))


def test_bytes_in_rows_are_taken_as_they_are(tmp_path: Path) -> None:
    image = read_image(name_row(save(tmp_path / "grey.npy", PICTURE), 0))
    assert np.array_equal(np.rint(image.pixels * 255), PICTURE)
