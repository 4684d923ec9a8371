"""Changed copies across splits: what is found, and that others are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hilum.overlap.copies import SAME, WAYS, align, find_copies, hash_round, match_pictures, move, take_detail
from hilum.overlap.perceptual_hash import SIDE, shrink
from sources.archives.pictures import compress, draw, save, turn

KNOWN = np.stack([shrink(draw(seed)) for seed in range(30)])


def enlarge(picture: np.ndarray, size: float) -> np.ndarray:
    side = round(len(picture) / size)
    first = (len(picture) - side) // 2
    return np.asarray(Image.fromarray(picture[first : first + side, first : first + side]).resize(picture.shape))


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        ("JPEG", compress(draw(3))),
        ("mirrored", draw(3)[:, ::-1]),
        ("turned", turn(draw(3), 7)),
        ("turned back and mirrored", turn(draw(3), -12, mirror=True)),
        ("enlarged", enlarge(draw(3), 1.07)),
        ("moved", np.roll(draw(3), (3, -2), (0, 1))),
        ("darker", (draw(3) * 0.8).astype(np.uint8)),
    ],
)
def test_a_copy_is_matched_with_its_source_and_no_other(name: str, copy: np.ndarray) -> None:
    assert match_pictures(shrink(copy)[None], KNOWN) == [(0, 3)], name


def test_other_images_are_no_copies() -> None:
    assert match_pictures(np.stack([shrink(draw(seed)) for seed in range(100, 106)]), KNOWN) == []
    assert match_pictures(KNOWN[:0], KNOWN) == []
    assert match_pictures(KNOWN, KNOWN[:0]) == []


def test_moving_turns_and_enlarges_about_the_middle() -> None:
    spot = np.zeros((SIDE, SIDE), np.uint8)
    spot[30:34, 44:48] = 255  # right of the middle
    down, across = np.nonzero(move(spot, mirror=True, turn=0.0, size=1.0))
    assert (down.mean(), across.mean()) == (31.5, SIDE - 1 - 45.5)
    weight = move(spot, mirror=False, turn=90.0, size=1.0).astype(float)
    place = [(grid * weight).sum() / weight.sum() for grid in np.mgrid[:SIDE, :SIDE]]
    assert sorted(np.round(place, 1)) in ([17.5, 31.5], [31.5, 45.5])
    weight = move(spot, mirror=False, turn=0.0, size=1.1).astype(float)
    assert (np.arange(SIDE) * weight.sum(0)).sum() / weight.sum() == pytest.approx(31.5 + 14 * 1.1, abs=0.2)


def test_an_image_agrees_with_itself_fully_and_an_even_one_with_none() -> None:
    spectrum = np.conj(np.fft.rfft2(take_detail(KNOWN[0])))
    assert align(KNOWN[0], spectrum, (False, 0.0, 1.0)) == pytest.approx(1.0, abs=1e-5)
    assert align(KNOWN[1], spectrum, (False, 0.0, 1.0)) < SAME
    assert (
        align(np.full((SIDE, SIDE), 7, np.uint8), spectrum, (False, 0.0, 1.0)) < 0.2
    )  # the corners that turning fills
    assert len(WAYS) == 42
    assert hash_round(KNOWN).shape == (30, 4)


def test_pairs_are_of_different_splits_and_unreadable_files_are_passed_over(tmp_path: Path) -> None:
    places = [("a", None, draw(1)), ("b", "train", draw(1)), ("c", "val", compress(draw(2))), ("d", "test", draw(2))]
    places += [("e", "test", compress(draw(1))), ("f", "test", draw(9)), ("g", "train", draw(2)[:, ::-1])]
    for name, _, picture in places:
        save(picture, tmp_path / f"{name}.png")
    (tmp_path / "f.png").write_bytes(b"no image")
    images = pl.DataFrame({"path": [f"{name}.png" for name, *_ in places], "split": [split for _, split, _ in places]})
    found = {tuple(Path(path).stem for path in pair) for pair in find_copies(tmp_path, images)}
    assert found == {("a", "e"), ("b", "e"), ("g", "c"), ("g", "d"), ("c", "d")}
