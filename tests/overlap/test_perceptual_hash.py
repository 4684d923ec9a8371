"""Perceptual hashes: what stays near, what stays away, and the record that is kept of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hilum.overlap.perceptual_hash import (
    NEAR,
    NUM_BITS,
    SIDE,
    SLOWEST,
    count_bits,
    find_near_splits,
    find_nearest,
    hash_image,
    hash_picture,
    hash_views,
    order_frequencies,
    pack_hashes,
    take_square,
    unpack_hashes,
)
from hilum.study import read_studies, write_studies
from sources.archives.pictures import compress, draw, resize, save, turn
from toy_archive import make_cache, write_archive
from toy_cache import build


def measure(one: np.ndarray, other: np.ndarray) -> int:
    """Bits between two images."""
    a, b = hash_image(one), hash_image(other)
    return min(int(np.bitwise_count(a[part] ^ b[part]).sum()) for part in (0, 1))


PICTURE = draw(1, (200, 240))
NOISE = np.random.default_rng(0).normal(0, 8, PICTURE.shape)


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        ("the same", PICTURE),
        ("JPEG", compress(PICTURE, quality=40)),
        ("half the size", resize(PICTURE, 100, 120)),
        ("brighter", np.clip(PICTURE * 1.2 + 10.0, 0, 255).astype(np.uint8)),
        ("gamma", (255 * (PICTURE / 255) ** 0.7).astype(np.uint8)),
        ("noise", np.clip(PICTURE + NOISE, 0, 255).astype(np.uint8)),
        ("squashed", resize(PICTURE, 128, 128)),
        ("cut to its central square", take_square(PICTURE)),
        ("16 bits", (PICTURE.astype(np.uint16) << 8) + 77),
    ],
)
def test_copies_are_near(name: str, copy: np.ndarray) -> None:
    assert measure(PICTURE, copy) <= NEAR, name


def test_others_are_not() -> None:
    hashes = np.stack([hash_image(draw(seed)) for seed in range(40)])
    bits = count_bits(hashes[:, 0], hashes[:, 0])
    assert bits[~np.eye(40, dtype=bool)].min() > 2 * NEAR
    assert measure(PICTURE, turn(PICTURE, 20)) > NEAR
    assert measure(PICTURE, PICTURE[:, ::-1]) > NEAR


def test_the_hash_is_the_sign_of_cosines_of_greys_and_ranks() -> None:
    picture = np.asarray(Image.fromarray(PICTURE).resize((SIDE, SIDE)))
    order = np.argsort(picture.ravel(), kind="stable")
    rank = np.empty(picture.size)
    for level in np.unique(picture):  # of equals the mean rank
        same = np.flatnonzero(picture.ravel()[order] == level)
        rank[order[same]] = same.mean()
    parts = [picture.ravel() / picture.std(), rank / rank.std()]
    shown = sum(part - part.mean() for part in parts).reshape(SIDE, SIDE)
    words = hash_picture(picture)
    bits = np.unpackbits(words.astype("<u8").view(np.uint8))
    for place in (0, 1, 500, NUM_BITS - 1):
        down, across = divmod(int(order_frequencies()[SLOWEST + place]), SIDE)
        total = sum(
            shown[y, x] * math.cos(math.pi * down * (y + 0.5) / SIDE) * math.cos(math.pi * across * (x + 0.5) / SIDE)
            for y in range(SIDE)
            for x in range(SIDE)
        )
        assert bits[place] == (total > 0)


def test_frequencies_are_ordered_without_the_constant() -> None:
    first = [divmod(int(place), SIDE) for place in order_frequencies()[:5]]
    assert first == [(0, 1), (1, 0), (1, 1), (0, 2), (2, 0)]


def find_slowly(asked: np.ndarray, known: np.ndarray) -> list[tuple[int, int]]:
    """(bits, place) by a loop; of equally near ones the first."""
    found = []
    for one in asked:
        bits = [min(int(np.bitwise_count(one[part] ^ other[part]).sum()) for part in (0, 1)) for other in known]
        place = int(np.argmin(bits))
        found.append((bits[place], place) if bits[place] <= NEAR else (NUM_BITS, -1))
    return found


def test_the_nearest_is_found_as_a_loop_finds_it() -> None:
    rng = np.random.default_rng(1)
    known = np.stack([hash_image(draw(seed)) for seed in range(30)])
    asked = known[rng.integers(0, 30, 20)].copy()
    for row, hashes in enumerate(asked):  # flip 0, 10, 20, ... bits of one part and spoil the other of some
        flat = np.unpackbits(hashes.astype("<u8").view(np.uint8).reshape(2, -1), axis=1)
        flat[row % 2, rng.choice(NUM_BITS, 10 * row, replace=False)] ^= 1
        flat[1 - row % 2] ^= 1 if row % 3 else 0
        asked[row] = np.packbits(flat, axis=1).view("<u8")
    bits, place = find_nearest(asked, known)
    assert list(zip(bits.tolist(), place.tolist(), strict=True)) == find_slowly(asked, known)
    assert (bits <= NEAR).any()
    assert (bits > NEAR).any()
    none = find_nearest(asked, known[:0])
    assert (none[0] == NUM_BITS).all()


def test_a_record_keeps_each_hash_once() -> None:
    hashes = np.stack([hash_image(draw(seed)) for seed in (3, 1, 3)])
    kept = unpack_hashes(pack_hashes(hashes))
    assert kept is not None
    assert len(kept) == 2
    assert (find_nearest(hashes, kept)[0] == 0).all()
    assert unpack_hashes(None) is None
    assert unpack_hashes({"version": 0, "hashes": ""}) is None


def test_hashes_of_a_cache_are_kept_beside_it(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [1, 2, 1])
    hashes = hash_views(cache)
    assert np.array_equal(hashes[2], hash_image(cache.image(2)))
    kept = list((cache.path / "side").glob("perceptual-*.npz"))
    assert len(kept) == 1
    assert np.array_equal(hash_views(cache), hashes)


def test_copies_across_the_splits_of_one_cache_are_found(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "a", [1] * 6, split=["train", "train", "val", "val", "test", "test"])
    for study, picture in ((0, PICTURE), (4, compress(PICTURE))):
        save(picture, tmp_path / "a" / f"toy-{study:03d}-0.png")
    frame = read_studies(table).with_columns(patient=pl.format("p{}", "study"), group=pl.format("p{}", "study"))
    write_studies(frame, table)
    cache = build(table, tmp_path / "cache")
    assert find_near_splits(cache).tolist() == [[4, 0]]


@pytest.mark.needs_real_data
def test_copies_between_two_public_collections_are_found_each_with_its_source(real_data: Path) -> None:
    """The COVID-19 image collection took 82 X-rays of Hannover, cut to squares and compressed anew, under other ids of
    patients; the images' own ids tell which."""
    sets = {}
    for name in ("cxr_multiview", "hannover_cxr_labs"):
        listed = pl.read_csv(real_data / name / "manifest.csv", infer_schema=False).select("image_id", "path")
        sets[name] = {image.removesuffix(".jpg"): real_data / name / path for image, path in listed.iter_rows()}
    sources = sets["hannover_cxr_labs"]
    taken = [image for image in sets["cxr_multiview"] if image in sources]
    others = [image for image in sets["cxr_multiview"] if image not in sources][::8]
    asked = hash_files([sets["cxr_multiview"][image] for image in [*taken, *others]])
    bits, place = find_nearest(asked, hash_files(list(sources.values())))
    near = bits <= NEAR
    assert len(taken) == 82
    assert near[: len(taken)].sum() >= 76
    assert [list(sources)[at] for at in place[near]] == [
        image for image, found in zip(taken, near, strict=False) if found
    ]
    assert not near[len(taken) :].any()
    assert (bits[near] < NEAR / 2).all()  # nothing lies near the border


def hash_files(paths: list[Path]) -> np.ndarray:
    return np.stack([hash_image(np.asarray(Image.open(path).convert("L"))) for path in paths])
