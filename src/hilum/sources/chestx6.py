"""ChestX6, a set of 18,036 X-rays in folders split/class/file, from other public sets: six classes, no patients.

It holds copies of its own images, changed in size, grey or position, on both sides of its split (P 7.4). Images of
training and validation that show what a later split shows too are found by their pixels (`overlap/copies.py`) and
left out.
Every other image is a patient of its own, for want of better. Task `extra_class`: each class against the rest.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.overlap.copies import find_copies
from hilum.sources.apart import keep_apart
from hilum.sources.archive import Reading, compare_counts, list_images
from hilum.sources.cells import SPLIT_NAMES

CLASSES = ("Covid-19", "Emphysema", "Normal", "Pneumonia-Bacterial", "Pneumonia-Viral", "Tuberculosis")
PUBLISHED = {"train": 14_551, "val": 1_748, "test": 1_737}  # images of each split, copies included (P 3.7)
_PLACES = ("*", "*/*", "*/*/*")  # of the split's folders, below `root`


def read(root: Path, *, quick: bool = False) -> Reading:
    """Read the folders below `root`; `quick` looks at names only."""
    reading = Reading(pl.DataFrame())
    rows = []
    for split, folder in _find_splits(root).items():
        for name in sorted(path.name for path in folder.iterdir() if path.is_dir()):
            if name not in CLASSES:
                raise UserError(f"{folder} has a folder {name}, expected the classes {', '.join(CLASSES)}.")
            rows += [(split, name, path) for path in list_images(root, folder / name)]
    if not rows:
        raise UserError(f"{root}: the folders of splits and classes hold no images. Unpack the download again.")
    images = pl.DataFrame(rows, schema=dict.fromkeys(("split", "extra_class", "path"), pl.String), orient="row")
    images = images.with_columns(study="path", patient=pl.format("image:{}", "path"), kind=pl.lit("frontal"))
    found = {split: int((images["split"] == split).sum()) for split in PUBLISHED}
    reading.counts = compare_counts(found, PUBLISHED)
    reading.warnings.append(
        "ChestX6 says of no image whose it is: each counts as a patient of its own, but for copies that are found."
    )
    reading.images = images if quick else keep_apart(images, reading, find_copies(root, images))
    return reading


def _find_splits(root: Path) -> dict[str, Path]:
    """Split -> its folder: one that holds a folder of a class."""
    if not root.is_dir():
        raise UserError(f"There is no folder {root}: give the folder of the download.")
    found: dict[str, Path] = {}
    for path in (path for place in _PLACES for path in sorted(root.glob(place))):
        split = SPLIT_NAMES.get(path.name.lower())
        if split and path.is_dir() and any((path / name).is_dir() for name in CLASSES):
            if split in found:
                raise UserError(f"{root} holds two folders of the {split} split, {found[split]} and {path}: keep one.")
            found[split] = path
    if not {"train", "test"} <= found.keys():
        raise UserError(
            f"{root} has no folders like train/{CLASSES[0]} and test/{CLASSES[0]}, up to three folders below: give the "
            "folder of the download."
        )
    return found
