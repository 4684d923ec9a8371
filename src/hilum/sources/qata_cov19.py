"""QaTa-COV19 v2 (Degerli et al. 2022): 9,258 X-rays with masks of COVID-19 infection, in folders, without patients.

    {Train Set,Test Set}/Images/NAME, {Train Set,Test Set}/Ground-truths/mask_NAME

Validation is drawn from training when the cache is made (P 4.4). For who is whom and what is left out of training see
`paired.py`.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.sources.archive import Reading, compare_counts, find_folder
from hilum.sources.paired import lay_out, pair_masks

PUBLISHED = {"images": 9_258}
_FOLDERS = ((None, "Train Set"), ("test", "Test Set"))


def read(root: Path, *, quick: bool = False) -> Reading:
    """Read the two folders below `root`; `quick` looks at names only."""
    train = find_folder(root, "Train Set")
    if train is None:
        raise UserError(f"{root} has no folder 'Train Set', in it or up to three folders below: give the download's.")
    reading = Reading(pl.DataFrame())
    rows = []
    for split, folder in _FOLDERS:
        place = train.parent / folder
        pairs = pair_masks(root, place / "Images", place / "Ground-truths", "mask_", reading)
        rows += [(split, image, mask) for image, mask in pairs]
    reading.counts = compare_counts({"images": len(rows)}, PUBLISHED)
    reading.images = lay_out(root, rows, reading, quick)
    reading.cache_settings = ("--fractions", "0.9", "0.1", "0")
    return reading
