"""COVID-QU-Ex (Tahir et al. 2021): 33,920 X-rays of three classes with lung masks, in folders, without patients.

    .../Lung Segmentation Data/{Train,Val,Test}/{COVID-19,Non-COVID,Normal}/{images,lung masks}/NAME

An image and its mask have one name (P 4.4). Task `extra_class`: each class against the rest. For who is whom and what
is left out of training see `paired.py`.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.sources.archive import Reading, compare_counts, find_folder
from hilum.sources.paired import lay_out, pair_masks

HOME = "Lung Segmentation Data"
CLASSES = ("COVID-19", "Non-COVID", "Normal")
PUBLISHED = {"train": 21_715, "val": 5_417, "test": 6_788}  # images of each split (P 3.7)
_FOLDERS = {"train": "Train", "val": "Val", "test": "Test"}


def read(root: Path, *, quick: bool = False) -> Reading:
    """Read the folders below `root`; `quick` looks at names only."""
    home = find_folder(root, HOME)
    if home is None:
        raise UserError(f"{root} has no folder '{HOME}', in it or up to three folders below: give the download's.")
    train = find_folder(home, f"Train/{CLASSES[0]}")
    if train is None:
        raise UserError(f"{home} has no folder Train/{CLASSES[0]}, in it or below: unpack the download again.")
    reading = Reading(pl.DataFrame())
    rows = []
    for split, folder in _FOLDERS.items():
        for name in CLASSES:
            place = train.parents[1] / folder / name
            pairs = pair_masks(root, place / "images", place / "lung masks", "", reading)
            rows += [(split, image, mask) for image, mask in pairs]
    found = {split: sum(row[0] == split for row in rows) for split in PUBLISHED}
    reading.counts = compare_counts(found, PUBLISHED)
    images = lay_out(root, rows, reading, quick)
    reading.images = images.with_columns(extra_class=pl.col("path").str.extract(r"([^/]+)/images/[^/]+$", 1))
    return reading
