"""Masks at the pixels of the cache, and mask files that do not belong to their image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hilum.errors import UserError
from hilum.identifiers import Naming
from hilum.imaging.rejection import RejectedImage
from hilum.masks import read_mask, read_masks
from hilum.sources.named import ingest_archive
from hilum.study import read_studies, write_studies
from sources.archives.folders import make_mask, write_cxl_seg, write_qata_cov19
from sources.archives.pictures import draw, save
from toy_archive import write_archive
from toy_cache import build
from toy_table import QUIET


def ingest(name: str, root: Path) -> Path:
    summary, _ = ingest_archive(name, root, root / "s.parquet", naming=Naming(keep_ids=True), console=QUIET)
    return summary.out


def test_masks_are_those_of_the_images_at_the_size_of_the_cache(tmp_path: Path) -> None:
    cache = build(ingest("cxl-seg", write_cxl_seg(tmp_path / "d")), tmp_path / "cache", short_side=48)
    masks = read_masks(cache)
    assert masks.view.tolist() == [0, 1, 2, 3]
    for view, path in enumerate(cache.table()["views"].list.first().struct.field("path")):
        mask = masks.read(cache, view)
        assert mask is not None
        assert mask.shape == cache.image(view).shape == (48, 56)
        number = int(Path(path).stem[-1]) - 1
        # Lossy files and half the size: within a pixel of the border of the disc that was drawn.
        drawn = np.asarray(Image.fromarray(make_mask(number, (96, 112))).resize((56, 48), Image.Resampling.BOX)) / 255
        assert (mask == (drawn >= 0.5)).mean() > 0.99
        assert mask[drawn == 1].all() or (~mask[drawn == 1]).mean() < 0.02


def test_masks_are_kept_and_need_the_archive_once(tmp_path: Path) -> None:
    root = write_qata_cov19(tmp_path / "d")
    cache = build(ingest("qata-cov19", root), tmp_path / "cache")
    first = read_masks(cache)
    for path in root.rglob("mask_*"):
        path.unlink()
    again = read_masks(cache)
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in ("view", "offset", "bits"))
    # What the study table calls the mask of an image is the file of that image.
    seeds = {Path(f"mask_{path.name}").name: 200 + number for number, path in enumerate(_list_written(root))}
    for view, name in enumerate(cache.table()["extra_mask"].str.split("/").list.last()):
        drawn = Image.fromarray(make_mask(seeds[name])).resize((64, 64), Image.Resampling.HAMMING)
        mask = again.read(cache, view)
        assert mask is not None
        assert (mask == (np.asarray(drawn) >= 128)).mean() > 0.995


def _list_written(root: Path) -> list[Path]:
    """Images in the order in which the fixture draws them."""
    home = root / "QaTa-COV19-v2"
    train = sorted(
        (home / "Train Set" / "Images").iterdir(), key=lambda path: (path.name.startswith("covid"), path.name)
    )
    test = sorted((home / "Test Set" / "Images").iterdir(), key=lambda path: path.name.startswith("covid"))
    return [*train, *test]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda path: save(make_mask(1, (90, 112)), path), "a mask of 112 x 90 pixels, but its image has 112 x 96"),
        (lambda path: save(draw(5, (96, 112)), path), "neither black nor white: it is a picture, no mask"),
        (lambda path: path.unlink(), "the file is missing"),
        (lambda path: path.write_bytes(b"<html>"), "not an image"),
    ],
)
def test_a_mask_that_does_not_fit_is_named_with_its_file(tmp_path: Path, spoil, found: str) -> None:
    root = write_cxl_seg(tmp_path / "d")
    cache = build(ingest("cxl-seg", root), tmp_path / "cache")
    spoil(root / "files" / "19000002" / "80000003" / "dcm-3-mask.jpg")
    with pytest.raises(UserError, match=rf"1 of 4 masks cannot be used:\n.*dcm-3-mask.jpg: .*{found}"):
        read_masks(cache)
    assert not list((cache.path / "side").glob("masks-*"))


def test_masks_of_ones_and_of_16_bits_are_read(tmp_path: Path) -> None:
    disc = make_mask(0) // 255
    for name, values in (("ones", disc), ("bytes", disc * 255), ("words", disc.astype(np.uint16) * 65535)):
        save(values, tmp_path / f"{name}.png")
        assert np.array_equal(read_mask(tmp_path / f"{name}.png", (96, 96)), disc.astype(bool))
    save(np.zeros((96, 96), np.uint8), tmp_path / "empty.png")  # nothing there to mark
    assert not read_mask(tmp_path / "empty.png", (96, 96)).any()
    with pytest.raises(RejectedImage, match=r"ones\.png: a mask of 96 x 96 pixels, but its image has 96 x 100"):
        read_mask(tmp_path / "ones.png", (100, 96))


def test_a_cache_without_masks_says_so_and_a_mask_is_of_one_image(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "a", [1, 2, 1])
    with pytest.raises(UserError, match="no study names a mask"):
        read_masks(build(table, tmp_path / "one"))
    frame = read_studies(table).with_columns(extra_mask=pl.Series([None, "toy-001-0.png", None]))
    write_studies(frame, table)
    with pytest.raises(UserError, match=r"a mask is of one image, and 1 study \(toy/s001\) have several"):
        read_masks(build(table, tmp_path / "two"))


def test_studies_without_a_mask_have_none(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "a", [1, 1, 1])
    frame = read_studies(table)
    with Image.open(tmp_path / "a" / "toy-001-0.png") as image:
        save(make_mask(0, (image.height, image.width)), tmp_path / "a" / "mask.png")
    write_studies(frame.with_columns(extra_mask=pl.Series([None, "mask.png", None])), table)
    cache = build(table, tmp_path / "cache")
    masks = read_masks(cache)
    assert [masks.read(cache, view) is None for view in range(3)] == [True, False, True]
