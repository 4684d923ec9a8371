"""VinDr-CXR 1.0.0: a row for each image and reader in training, one for each image in the test. No row is real.

The test table calls "Other disease" what the other calls "Other diseases", as published.
"""

from __future__ import annotations

from pathlib import Path

from hilum.sources.vindr_cxr import LABELS
from sources.archives.csv_files import write_csv
from sources.archives.pixels import write_image

# Image -> for each of its three readers the labels found.
READ = {
    "aaa1": [["ILD", "Other diseases"], ["ILD"], []],
    "aaa2": [[], [], ["Cardiomegaly"]],
    "aaa3": [["Cardiomegaly", "COPD"], ["Cardiomegaly"], ["Cardiomegaly"]],
}
TEST = {"bbb1": ["Other diseases"], "bbb2": []}


def write_vindr_cxr(root: Path) -> Path:
    """Three images for training and two for the test, as PNG; returns the folder to ingest."""
    names = [*LABELS, "No finding"]

    def tell(found: list[str]) -> list[str]:
        return [str(int(name in found or (name == "No finding" and not found))) for name in names]

    rows = [
        [image, f"R{reader + 1}", *tell(found)]
        for reader in range(3)
        for image in READ
        for found in [READ[image][reader]]
    ]
    write_csv(root / "annotations" / "image_labels_train.csv", ["image_id", "rad_id", *names], rows)
    called = ["Other disease" if name == "Other diseases" else name for name in names]
    write_csv(
        root / "annotations" / "image_labels_test.csv",
        ["image_id", *called],
        [[image, *tell(found)] for image, found in TEST.items()],
    )
    for split, images in (("train", READ), ("test", TEST)):
        for image in images:
            write_image(root / split / f"{image}.png")
    return root
