"""What an image shows, in bits: the same film scanned, windowed, compressed, resized or cropped again is found again.

`content_hash` is of pixels and changes with any of them. A perceptual hash changes little: the signs of 1,024 low
frequencies of a 64 x 64 picture, of the whole image and of its central square, since archives are cut to squares. Two
images are near if either pair of hashes differs in at most NEAR bits.

The usual 64 bits of an 8 x 8 picture will not do here, as all chests look alike: among 343,000 pairs of X-rays of
different patients (ChestX-ray14) the nearest differ in 4 of 63 bits. Therefore the 127 slowest frequencies are left out
and there are many more. Of 82 X-rays that one public collection took from another, cut to squares and compressed anew,
76 are found, at up to 51 bits; the nearest of a million pairs of other patients differ in 351 (`bench/copies.py`). A
mirrored, turned, or otherwise cropped copy is not found: that is what `copies.py` looks for.
"""

from __future__ import annotations

import base64
import errno
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64, Integer, UInt8, UInt64
from PIL import Image
from scipy.fft import dctn

from hilum.cache.side_table import read_side_table, write_side_table
from hilum.vocabulary import SPLITS

if TYPE_CHECKING:
    from hilum.cache import Cache

SIDE = 64  # pixels of the picture that is hashed
SLOWEST, NUM_BITS = 127, 1024  # frequencies left out, and taken
NEAR = 154  # bits, 15 % of them
VERSION = 1  # of what is hashed, for what is kept of it
_FIRST, _LIKELY = 4, 77  # words compared first, and their bits that may differ: 30 %, where others differ in half
_BLOCK = 1 << 16  # pairs at a time, which a processor's cache holds


def hash_image(pixels: Integer[np.ndarray, "height width"]) -> UInt64[np.ndarray, "2 16"]:
    """The hashes of the whole image and of its central square, from 8 or 16 bits a pixel."""
    return np.stack([hash_picture(shrink(part)) for part in (pixels, take_square(pixels))])


def take_square(pixels: Integer[np.ndarray, "height width"]) -> Integer[np.ndarray, "side side"]:
    """The central square, as `CenterCrop` takes it."""
    side = min(pixels.shape)
    top, left = ((size - side) // 2 for size in pixels.shape)
    return pixels[top : top + side, left : left + side]


def shrink(pixels: Integer[np.ndarray, "height width"]) -> UInt8[np.ndarray, "64 64"]:
    """The image squashed to a small square, antialiased."""
    grey = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    return np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize((SIDE, SIDE), Image.Resampling.HAMMING))


def hash_picture(picture: UInt8[np.ndarray, "64 64"]) -> UInt64[np.ndarray, "16"]:
    """Signs of low frequencies (DCT-II), of grey values and their ranks in equal parts.

    Ranks do not change with the tone of the image, but are noise where it is flat; grey values are the other way
    around. Each part is scaled to unit deviation; an image of one grey value has the hash 0.
    """
    counts = np.bincount(picture.ravel(), minlength=256)
    rank = (np.cumsum(counts) - counts / 2)[picture]  # of equals the mean rank
    grey, rank = (part / max(float(part.std()), 1e-6) for part in (picture - picture.mean(), rank - rank.mean()))
    signs = dctn(grey + rank).ravel()[order_frequencies()[SLOWEST:][:NUM_BITS]] > 0
    return np.packbits(signs).view("<u8").astype(np.uint64)


@lru_cache(maxsize=1)
def order_frequencies() -> Int64[np.ndarray, " frequency"]:
    """Places of the frequencies in a flat 64 x 64 DCT, the slowest first, without the constant."""
    square = np.arange(SIDE) ** 2
    return np.argsort(np.add.outer(square, square).ravel(), kind="stable")[1:]


def find_near_splits(cache: Cache) -> Int64[np.ndarray, "pair 2"]:
    """Pairs of views of one cache, the first in validation or test, that show the same in an earlier split.

    Made once and kept as a side table. Identical pixels are never among them: they keep patients in one split.
    """
    made_by = {"version": VERSION}
    if (kept := read_side_table(cache, "near-splits", made_by)) is not None:
        return kept["pairs"]
    hashes, split = hash_views(cache), cache.studies["split"][cache.views["study"]]
    pairs = []
    for rank in range(1, len(SPLITS)):
        later, earlier = np.flatnonzero(split == rank), np.flatnonzero((split >= 0) & (split < rank))
        bits, place = find_nearest(hashes[later], hashes[earlier])
        near = bits <= NEAR
        pairs.append(np.stack([later[near], earlier[place[near]]], axis=1))
    found = np.concatenate(pairs)
    _keep(cache, "near-splits", {"pairs": found}, made_by)
    return found


def hash_views(cache: Cache) -> UInt64[np.ndarray, "view 2 16"]:
    """The hashes of all images of a cache; made once and kept as a side table."""
    made_by = {"version": VERSION}
    if (kept := read_side_table(cache, "perceptual", made_by)) is not None:
        return kept["hashes"]
    with ThreadPoolExecutor() as pool:
        hashes = np.stack(list(pool.map(lambda view: hash_image(cache.image(view)), range(len(cache.views)))))
    _keep(cache, "perceptual", {"hashes": hashes}, made_by)
    return hashes


def _keep(cache: Cache, name: str, arrays: dict[str, np.ndarray], made_by: dict[str, Any]) -> None:
    """For the next time, where the cache may be written to."""
    try:
        write_side_table(cache, name, arrays, made_by)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def pack_hashes(hashes: UInt64[np.ndarray, "view 2 16"]) -> dict[str, Any]:
    """For a record in JSON: the hashes as text (base64), each once, in an order that tells nothing."""
    flat = np.unique(hashes.reshape(len(hashes), -1), axis=0).astype("<u8")
    return {"version": VERSION, "hashes": base64.b64encode(flat.tobytes()).decode()}


def unpack_hashes(packed: dict[str, Any] | None) -> UInt64[np.ndarray, "view 2 16"] | None:
    """What `pack_hashes` made; None where there is none, or of another version."""
    if packed is None or packed["version"] != VERSION:
        return None
    return np.frombuffer(base64.b64decode(packed["hashes"]), "<u8").reshape(-1, 2, NUM_BITS // 64).astype(np.uint64)


def find_nearest(
    asked: UInt64[np.ndarray, "one 2 16"], known: UInt64[np.ndarray, "other 2 16"]
) -> tuple[Int64[np.ndarray, " one"], Int64[np.ndarray, " one"]]:
    """For each image asked the nearest known one: bits that differ (NUM_BITS where none is near), and its place.

    Whole images are compared with whole ones and squares with squares; the smaller number counts.
    """
    bits, place = np.full(len(asked), NUM_BITS), np.full(len(asked), -1)
    step = max(1, _BLOCK // max(len(known), 1))
    for first in range(0, len(asked) if len(known) else 0, step):
        for part in (0, 1):
            one, other = asked[first : first + step, part], known[:, part]
            rows, columns = np.nonzero(count_bits(one, other, slice(_FIRST)) <= _LIKELY)
            found = np.bitwise_count(one[rows] ^ other[columns]).sum(axis=1)
            for row, column, number in zip(first + rows, columns, found, strict=True):
                if number <= NEAR and number < bits[row]:
                    bits[row], place[row] = number, column
    return bits, place


def count_bits(
    one: UInt64[np.ndarray, "one word"], other: UInt64[np.ndarray, "other word"], words: slice = slice(None)
) -> Integer[np.ndarray, "one other"]:
    """Bits that differ in these words, of each with each."""
    total = np.zeros((len(one), len(other)), np.uint16)
    for a, b in zip(one[:, words].T, other[:, words].T, strict=True):
        total += np.bitwise_count(a[:, None] ^ b[None])
    return total
