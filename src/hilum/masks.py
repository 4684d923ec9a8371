"""Masks of images, at the pixels that a cache keeps of them.

The study table names the mask file of a study's one image (`extra_mask`). Masks are a side table of the cache: one bit
a pixel, of the same height and width as the cached image and resized as it was, so that whatever crops, turns or
mirrors the image does the same to its mask. 30,000 images of 256 x 256 pixels take 250 MB, CXLSeg's 243,324 about
2.4 GB. Made when first asked for, which needs the archive; from then on the cache is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from .cache import Cache
from .cache.side_table import read_side_table, write_side_table
from .errors import UserError
from .imaging.raster import read_raster
from .imaging.rejection import RejectedImage, list_reasons, reject
from .imaging.resize import resize_short_side

VERSION = 1
_MIDDLE = (0.1, 0.9)  # grey that is neither mask nor ground: the edges of lossy files have some
_MOST_IN_MIDDLE = 0.1  # of all pixels


@dataclass(frozen=True)
class Masks:
    """The masks of a cache's views; views without one are not listed."""

    view: Int64[np.ndarray, " mask"]  # ascending
    offset: Int64[np.ndarray, " mask_plus_1"]  # bytes of `bits`
    bits: UInt8[np.ndarray, " byte"]  # a mask after the other, rows first, padded to whole bytes

    def read(self, cache: Cache, view: int) -> Bool[np.ndarray, "height width"] | None:
        """The mask of a view, of the size of its cached image, or None where it has none."""
        place = int(np.searchsorted(self.view, view))
        if place == len(self.view) or self.view[place] != view:
            return None
        height, width = int(cache.views["height"][view]), int(cache.views["width"][view])
        packed = self.bits[self.offset[place] : self.offset[place + 1]]
        return np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool)


def read_masks(cache: Cache) -> Masks:
    """The masks of a cache, made from the archive's files where nobody asked for them yet.

    Raises:
        UserError: the study table names no masks, names one for a study of several views, or a mask file is missing,
            unreadable, of another size than its image, or no mask; with the first such file and their number.
    """
    made_by = {"version": VERSION}
    stored = read_side_table(cache, "masks", made_by)
    if stored is None:
        stored = _make_masks(cache)
        write_side_table(cache, "masks", stored, made_by)
    return Masks(**stored)


def _make_masks(cache: Cache) -> dict[str, np.ndarray]:
    """Views, offsets and bits of all masks."""
    from .sources.assemble import read_each

    named = list(_list_masks(cache))
    read = partial(_read_packed, short_side=cache.index["short_side"])
    views, packed, faults = [], [], []
    tasks = [task for _, task in named]
    for (view, (path, *_)), found in zip(named, read_each(read, tasks, "reading masks"), strict=True):
        if isinstance(found, str):
            faults.append((path, found))
        else:
            height, width, bits = found
            assert (height, width) == (cache.views["height"][view], cache.views["width"][view])
            views.append(view)
            packed.append(bits)
    if faults:
        lines = "\n".join(list_reasons(faults))
        raise UserError(f"{cache.path}: {len(faults):,} of {len(named):,} masks cannot be used:\n{lines}")
    sizes = [len(bits) for bits in packed]
    return {
        "view": np.array(views, np.int64),
        "offset": np.cumsum([0, *sizes], dtype=np.int64),
        "bits": np.concatenate(packed),
    }


def _list_masks(cache: Cache) -> Iterator[tuple[int, tuple[str, int, int]]]:
    """(view, (mask file, height and width of the image's file)) of every study that names a mask."""
    from .study import MASK, name_studies, read_studies

    if "frame" in cache.index:
        raise UserError(f"{cache.path}: masks are not cut and turned as policy {cache.policy} does images.")
    table = read_studies(cache.path / "studies.parquet")
    if MASK not in table.columns or table[MASK].null_count() == len(table):
        raise UserError(
            f"{cache.path}: no study names a mask. Archives with masks: cxl-seg, covid-qu-ex, qata-cov19; in a table "
            f"of your own the column {MASK} names the mask file of each row's image."
        )
    named = table.filter(table[MASK].is_not_null())
    several = named.filter(named["views"].list.len() > 1)
    if len(several):
        raise UserError(f"{cache.path}: a mask is of one image, and {name_studies(several)} have several.")
    first = cache.studies["first_view"]
    for row, root, mask, views in table.with_row_index("row").select("row", "root", MASK, "views").iter_rows():
        if mask is not None:
            yield int(first[row]), (str(Path(root) / mask), views[0]["height"], views[0]["width"])


def _read_packed(task: tuple[str, int, int], short_side: int) -> tuple[int, int, UInt8[np.ndarray, " byte"]] | str:
    """Height, width and bits of a mask as the cache keeps its image, or what is wrong with the file."""
    path, height, width = task
    if not Path(path).is_file():
        return "the file is missing"
    try:
        mask = read_mask(Path(path), (height, width))
    except RejectedImage as error:
        return error.reason
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    small = resize_short_side(mask.astype(np.float32), short_side)[0] >= 0.5
    return *small.shape, np.packbits(small)


def read_mask(path: Path, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """A mask file as true and false: from half of white upwards, or 1 where it holds 0 and 1.

    Args:
        path: A picture file of one grey value a pixel, or colours that are grey.
        size: Height and width that it must have, those of its image.

    Raises:
        RejectedImage: another size, or a picture of so many greys that it is no mask.
    """
    values = read_raster(path).stored.values
    if values.shape != size:
        found, expected = (f"{width} x {height}" for height, width in (values.shape, size))
        raise reject(path, f"a mask of {found} pixels, but its image has {expected}: they do not belong together")
    grey = _scale(values)
    between = float(((grey > _MIDDLE[0]) & (grey < _MIDDLE[1])).mean())
    if between > _MOST_IN_MIDDLE:
        raise reject(path, f"{between:.0%} of its pixels are neither black nor white: it is a picture, no mask")
    return grey >= 0.5


def _scale(values: np.ndarray) -> Float32[np.ndarray, "height width"]:
    """0 to 1: of files that hold nothing but 0 and 1 as they are."""
    if values.max() <= 1:
        return values.astype(np.float32)
    white = np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else values.max()
    return (values / white).astype(np.float32)
