"""Changed copies of images across the splits of an archive that was augmented before it was split (P 7.4).

A copy may be mirrored, turned, enlarged or moved a little, brighter, and compressed anew. Found in two steps: images of
a later split, mirrored, turned and enlarged in 42 ways, are compared with all of earlier ones by 256 bits of what they
show (`perceptual_hash.py`, here within a round window, as turning fills corners); of the nearest few the finest
alignment is sought, and a copy is what then agrees in detail: the correlation of high frequencies exceeds SAME.

What it finds of 1,463 public X-rays is in results/bench/copies.json (`python -m bench copies`); copies that were moved
further than a few percent may be missed.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Complex, Float32, UInt8, UInt64
from PIL import Image
from scipy.ndimage import gaussian_filter

from hilum.imaging.read import read_image
from hilum.imaging.rejection import RejectedImage
from hilum.imaging.resize import quantize
from hilum.sources.assemble import read_each, track
from hilum.vocabulary import SPLITS

from .perceptual_hash import NEAR, SIDE, count_bits, find_nearest, hash_picture, order_frequencies, shrink

# Correlation of high frequencies. No images of different patients agreed so well (bench/copies.py); two that did would
# cost a training image, where a copy that is missed makes a test easier than it is.
SAME = 0.75
_TURNS = (-15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0)  # degrees
WAYS = [(mirror, turn, size) for mirror in (False, True) for turn in _TURNS for size in (0.9, 1.0, 1.1)]
NUM_BITS, LIKELY, NUM_NEAREST = 256, 84, 12  # bits compared, bits that may differ, images that are looked at closely
_FINER = ((2.5, 0.05), (1.25, 0.025), (0.6, 0.012))  # degrees and size around the best way so far
_HOPELESS = 0.45  # correlation after the first, coarsest alignment; copies are above it
_FURTHEST = 6  # pixels of the small picture that a copy may be moved, about 9 %
_BLOCK = 64  # images asked for at a time
_DETAIL = 2.5  # pixels; slower structures are alike in all chests


def find_copies(root: Path, images: pl.DataFrame) -> list[tuple[str, str]]:
    """(path, path) of images in an earlier and a later split that are copies of each other.

    Args:
        root: where `images`' paths start.
        images: path and split; blank counts as training. Files that cannot be read are passed over.
    """
    pictures = read_pictures(root, images["path"].to_list())
    kept = images.with_row_index("_place").filter(pl.Series([picture is not None for picture in pictures]))
    side = kept["split"].fill_null(SPLITS[0]).to_numpy()
    shown = (
        np.stack([pictures[place] for place in kept["_place"]]) if len(kept) else np.zeros((0, SIDE, SIDE), np.uint8)
    )
    pairs = []
    for rank, split in enumerate(SPLITS[1:], 1):
        later, earlier = np.flatnonzero(side == split), np.flatnonzero(np.isin(side, SPLITS[:rank]))
        found = match_pictures(shown[later], shown[earlier])
        pairs += [(kept["path"][int(earlier[one])], kept["path"][int(later[other])]) for other, one in found]
    return pairs


def read_pictures(root: Path, paths: list[str]) -> list[UInt8[np.ndarray, "64 64"] | None]:
    """The images squashed to small squares, None for what cannot be read."""
    return list(read_each(partial(_read_picture, root=root), paths, "comparing images"))


def _read_picture(path: str, root: Path) -> UInt8[np.ndarray, "64 64"] | None:
    try:
        return shrink(quantize(read_image(root / path).pixels, 8))
    except (RejectedImage, OSError):  # `hilum cache` says why
        return None


def match_pictures(
    asked: UInt8[np.ndarray, "one 64 64"], known: UInt8[np.ndarray, "other 64 64"]
) -> list[tuple[int, int]]:
    """(place in `asked`, place in `known`) of copies."""
    if not len(asked) or not len(known):
        return []
    plain = [np.stack([np.stack([hash_picture(picture)] * 2) for picture in pictures]) for pictures in (asked, known)]
    bits, place = find_nearest(*plain)
    found = {(int(one), int(place[one])) for one in np.flatnonzero(bits <= NEAR)}
    spectra: dict[int, np.ndarray] = {}
    likely = list_likely(asked, known)
    for one, other, way in track(likely, "aligning likely copies", len(likely)):
        if (one, other) in found:
            continue
        if other not in spectra:
            spectra[other] = np.conj(np.fft.rfft2(take_detail(known[other])))
        if align(asked[one], spectra[other], WAYS[way]) > SAME:
            found.add((one, other))
    return sorted(found)


def list_likely(
    asked: UInt8[np.ndarray, "one 64 64"], known: UInt8[np.ndarray, "other 64 64"]
) -> list[tuple[int, int, int]]:
    """(place in `asked`, place in `known`, place in WAYS) of the nearest few that differ in at most LIKELY bits."""
    there = hash_round(known)
    likely = []
    blocks = range(0, len(asked), _BLOCK)
    for first in track(blocks, "looking for likely copies", len(blocks)):
        block = asked[first : first + _BLOCK]
        best = np.full((len(block), len(known)), NUM_BITS, np.uint16)
        way = np.zeros(best.shape, np.uint8)
        for number, (mirror, turn, size) in enumerate(WAYS):
            moved = np.stack([move(picture, mirror, turn, size) for picture in block])
            bits = count_bits(hash_round(moved), there)
            better = bits < best
            best[better], way[better] = bits[better], number
        nearest = np.argsort(best, axis=1, kind="stable")[:, :NUM_NEAREST]
        likely += [
            (first + one, int(other), int(way[one, other]))
            for one, others in enumerate(nearest)
            for other in others
            if best[one, other] <= LIKELY
        ]
    return likely


def hash_round(pictures: UInt8[np.ndarray, "picture 64 64"]) -> UInt64[np.ndarray, "picture 4"]:
    """Signs of the lowest frequencies of what a round window shows."""
    window = make_window() ** 0.5
    grey = pictures.reshape(len(pictures), -1).astype(np.float32)
    centred = (grey - (grey @ window.ravel() / window.sum())[:, None]) * window.ravel()
    return np.packbits(centred @ list_cosines(NUM_BITS).T > 0, axis=1).view("<u8").astype(np.uint64)


@lru_cache(maxsize=1)
def list_cosines(num: int) -> Float32[np.ndarray, "frequency 4096"]:
    """The first `num` functions of the two-dimensional DCT-II after the constant, the slowest first."""
    line = np.cos(np.outer(np.arange(SIDE), (np.arange(SIDE) + 0.5) * np.pi / SIDE))
    down, across = np.divmod(order_frequencies()[:num], SIDE)
    return (line[down][:, :, None] * line[across][:, None, :]).reshape(num, -1).astype(np.float32)


@lru_cache(maxsize=1)
def make_window() -> Float32[np.ndarray, "64 64"]:
    """1 in the middle, 0 in the corners."""
    down, across = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return np.clip(1.2 - np.hypot(down, across) / (SIDE / 2), 0, 1).astype(np.float32)


def move(picture: np.ndarray, mirror: bool, turn: float, size: float) -> np.ndarray:
    """A picture mirrored, then turned by so many degrees and enlarged by that factor about its middle."""
    angle, middle = np.deg2rad(turn), SIDE / 2  # in Pillow's pixels, whose centres lie at halves
    cosine, sine = np.cos(angle) / size, np.sin(angle) / size
    image = Image.fromarray(picture)
    if mirror:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    shift = (middle - (cosine + sine) * middle, middle - (cosine - sine) * middle)
    affine = (cosine, sine, shift[0], -sine, cosine, shift[1])
    return np.asarray(image.transform((SIDE, SIDE), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR))


def take_detail(picture: np.ndarray) -> Float32[np.ndarray, "64 64"]:
    """High frequencies within the round window, of mean 0 and length 1; 0 of an even picture."""
    grey = picture.astype(np.float32)
    detail = (grey - gaussian_filter(grey, _DETAIL)) * make_window()
    detail -= detail.mean()
    return detail / max(float(np.linalg.norm(detail)), 1e-6)


def align(
    picture: UInt8[np.ndarray, "64 64"], spectrum: Complex[np.ndarray, "64 33"], way: tuple[bool, float, float]
) -> float:
    """The largest correlation of a picture's detail with that of another (its conjugate spectrum), over small moves
    and ever finer turns and sizes around `way`; given up early where it is far from any copy's."""
    mirror, turn, size = way
    best = -1.0
    for degrees, part in _FINER:
        tried = [(turn + a * degrees, size + b * part) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        scores = [_correlate(move(picture, mirror, *at), spectrum) for at in tried]
        place = int(np.argmax(scores))
        best, (turn, size) = max(best, scores[place]), tried[place]
        if best < _HOPELESS:
            break
    return best


def _correlate(picture: UInt8[np.ndarray, "64 64"], spectrum: Complex[np.ndarray, "64 33"]) -> float:
    agreement = np.fft.irfft2(np.fft.rfft2(take_detail(picture)) * spectrum, s=(SIDE, SIDE))
    near = np.r_[-_FURTHEST : _FURTHEST + 1]
    return float(agreement[np.ix_(near, near)].max())
