"""VinDr-CXR 1.0.0 (Nguyen et al. 2022): 18,000 PA images with 27 labels and "No finding", read by radiologists.

The training table has a row for each image and reader, three readers an image: a label is present where at least half
of its readers say so (mean >= 0.5; P 3.7). Of the test table one row is the consensus of five. It calls "Other disease"
what the training table calls "Other diseases".

No table says who is whose image. Every image counts as a study and a patient of its own, which nobody outside can
check; identical pixels are joined when the cache is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.sources.archive import (
    ADVICE,
    Reading,
    check_header,
    check_unique,
    choose_paths,
    compare_counts,
    find_table,
    name_labels,
    read_flags,
    read_table,
)

TABLES = {"train": "image_labels_train.csv", "test": "image_labels_test.csv"}
NO_FINDING = "No finding"
RENAMED = {"Other disease": "Other diseases"}
LABELS = (
    *("Aortic enlargement", "Atelectasis", "COPD", "Calcification", "Cardiomegaly", "Clavicle fracture"),
    *("Consolidation", "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity"),
    *("Lung cyst", "Lung tumor", "Mediastinal shift", "Nodule/Mass", "Other diseases", "Other lesion"),
    *("Pleural effusion", "Pleural thickening", "Pneumonia", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture"),
    "Tuberculosis",
)
# Images, and those of training that most readers give a label, of the 19 labels of the published comparison (P 3.7).
PUBLISHED = {
    **{"training images": 15_000, "test images": 3_000},
    **{"Pneumothorax": 58, "Atelectasis": 62, "Mediastinal shift": 85, "Consolidation": 121, "Lung tumor": 134},
    **{"ILD": 152, "Calcification": 177, "Infiltration": 245, "Other lesion": 362, "Nodule/Mass": 409},
    **{"Pneumonia": 471, "Tuberculosis": 482, "Lung Opacity": 547, "Pleural effusion": 634},
    **{"Pleural thickening": 882, "Pulmonary fibrosis": 1_017, "Cardiomegaly": 1_817, "Aortic enlargement": 2_346},
    "Other diseases": 4_003,
}


def read(root: Path, *, min_positives: int = 0, quick: bool = False) -> Reading:
    """Read both tables below `root`; `quick` changes nothing.

    Labels with fewer than `min_positives` training images are left out; the published comparison has 50 and with it 19
    of 27 labels (P 3.7).
    """
    reading = Reading(pl.DataFrame())
    parts = {split: _read_part(root, split) for split in TABLES}
    shared = parts["train"].join(parts["test"], on="image", how="semi")
    if len(shared):
        raise UserError(
            f"{root}: {len(shared):,} images are in training and test ({shared['image'][0]}, ...). {ADVICE}"
        )
    positives = {label: int((parts["train"][label] == "1").sum()) for label in LABELS}
    sizes = {"training images": len(parts["train"]), "test images": len(parts["test"])}
    reading.counts = compare_counts(sizes | positives, PUBLISHED)
    kept = [label for label in LABELS if positives[label] >= min_positives]
    if not kept:
        raise UserError(f"--min-positives {min_positives}: no label has so many; most has {max(positives.values()):,}.")
    if len(kept) < len(LABELS):
        rare = ", ".join(f"{label} {positives[label]}" for label in LABELS if label not in kept)
        reading.notes.append(f"Labels with fewer than {min_positives} training images are left out: {rare}.")
    table = pl.concat(parts.values())
    name = table["image"]
    layouts = [
        pl.select(pl.format(f"{{}}/{{}}.{kind}", table["split"], name)).to_series() for kind in ("dicom", "png", "jpg")
    ]
    frame = table.select(
        row="_row",
        study="image",
        patient=pl.format("image:{}", "image"),
        split=pl.when(pl.col("split") == "test").then("split"),
        path=choose_paths(root, layouts),
        position=pl.lit("PA"),
        kind=pl.lit("frontal"),
    )
    reading.images = frame.hstack(name_labels("vindr", [table[label] for label in kept]))
    reading.warnings.append(
        "VinDr-CXR says of no image whose it is: each counts as a patient of its own, so that a person with several "
        "images could be on both sides of a split. Copies of an image on both sides stop an evaluation."
    )
    reading.notes.append(
        f"{TABLES['test']} is the test split; `hilum cache --fractions 0.9 0.1 0` draws validation from the others."
    )
    reading.cache_settings = ("--fractions", "0.9", "0.1", "0")
    return reading


def _read_part(root: Path, split: str) -> pl.DataFrame:
    """_row, split, image and the labels as "1" and "0", one row per image, images in the order of the table."""
    file = find_table(root, TABLES[split], needed="it holds the images and their labels")
    assert file is not None
    header = check_header(file, ["image_id"])
    called = {RENAMED.get(name, name): name for name in header}
    missing = [label for label in LABELS if label not in called]
    if missing:
        raise UserError(f"{file} has no column '{missing[0]}'. {ADVICE}")
    columns = [called[label] for label in LABELS]
    table = read_table(file, ["image_id", *columns], filled=["image_id"])
    flags = [flag.alias(label) for flag, label in zip(read_flags(table, file, columns), LABELS, strict=True)]
    table = table.select("_row", split=pl.lit(split), image=pl.col("image_id").str.strip_chars()).hstack(flags)
    if split == "train":
        return vote(table, LABELS)
    check_unique(table.rename({"image": "image_id"}), ["image_id"], file)
    return table


def vote(readings: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """One row per image: "1" where at least half of the readers who answered say so, blank where none did.

    Example: of three readers 1, 1 and 0 give "1"; 1, 0 and 0 give "0"; of two readers 1 and 0 give "1".
    """
    said = pl.col(list(labels)).cast(pl.Int8).mean()
    votes = readings.group_by("image", maintain_order=True).agg(pl.col("_row", "split").first(), said)
    return votes.select(
        "_row",
        "split",
        "image",
        pl.when(pl.col(list(labels)).is_not_null()).then((pl.col(list(labels)) >= 0.5).cast(pl.Int8).cast(pl.String)),
    )
