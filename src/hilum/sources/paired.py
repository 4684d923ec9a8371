"""Segmentation sets that are folders of images and folders of masks, and list no patients.

Some names are those of BIMCV and hold its subject ("sub-S03047_ses-E06101_..."): such images are one patient's, and
stand on several sides of official splits (P 7.4), as do copies. Other images are patients of their own, for want of
better. What training shares with a later split is left out (`apart.py`). Masks are `extra_mask` (`masks.py`).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.overlap.copies import find_copies
from hilum.sources.apart import keep_apart
from hilum.sources.archive import Reading, list_images

_SUBJECT = r"sub-(S\d+)"
_COLUMNS = ("split", "path", "extra_mask")


def pair_masks(root: Path, images: Path, masks: Path, prefix: str, reading: Reading) -> list[tuple[str, str]]:
    """Images with the mask of their name; an image without one is rejected, a mask without one noted."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}: unpack the download again.")
    mask_of = {Path(mask).name.removeprefix(prefix): mask for mask in list_images(root, masks)}
    pairs = []
    for image in list_images(root, images):
        mask = mask_of.pop(Path(image).name, None)
        if mask is None:
            reading.rejected.append((image, f"no mask {prefix}NAME in {masks.name}"))
        else:
            pairs.append((image, mask))
    if mask_of:
        reading.notes.append(f"{len(mask_of):,} masks in {masks.relative_to(root)} have no image of their name.")
    return pairs


def lay_out(root: Path, rows: list[tuple[str | None, str, str]], reading: Reading, quick: bool) -> pl.DataFrame:
    """Images of (split, image, mask) without those that training shares with a later split; `quick` keeps them."""
    images = pl.DataFrame(rows, schema=dict.fromkeys(_COLUMNS, pl.String), orient="row")
    subject = pl.col("path").str.extract(r"([^/]*)$", 1).str.extract(_SUBJECT, 1)
    images = images.with_columns(
        study="path",
        patient=pl.coalesce(pl.format("bimcv:{}", subject), pl.format("image:{}", "path")),
        kind=pl.lit("frontal"),
    )
    named = images.filter(pl.col("patient").str.starts_with("bimcv:"))
    reading.warnings.append(
        f"Of {len(images):,} images {len(named):,} have a subject in their name, of {named['patient'].n_unique():,}; "
        "each of the others counts as a patient of its own, but for copies that are found."
    )
    return images if quick else keep_apart(images, reading, find_copies(root, images))
