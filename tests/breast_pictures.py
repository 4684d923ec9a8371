"""Synthetic mammograms whose breast is known, as pictures and as DICOM files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation

from imaging.dicom_files import write_dicom

HEIGHT, WIDTH = 400, 320


def draw_breast(
    side: str = "left", *, height: int = HEIGHT, width: int = WIDTH, letters: bool = False, muscle: bool = False
) -> np.ndarray:
    """12-bit picture (uint16): air 60, a half ellipse of fat at 500 to 900 with brighter glands; `side` is the chest's.

    The breast reaches from a tenth to nine tenths of the height and over six tenths of the width. `muscle`: a bright
    wedge at the chest wall, and no glands.
    """
    rows, columns = np.mgrid[:height, :width]
    across = columns / (0.6 * width)
    down = (rows - height / 2) / (0.4 * height)
    radius = np.hypot(across, down)
    rng = np.random.default_rng(5)
    picture = np.full((height, width), 60.0)
    tissue = 500 + 400 * (1 - radius)
    if muscle:
        tissue = np.where(across + 0.5 * down < 0.2, 3500.0, tissue)
    else:
        tissue += 1500 * np.exp(-((radius - 0.4) ** 2) / 0.02) * (np.sin(columns / 7) ** 2)
    picture = np.where(radius < 1, tissue + rng.normal(0, 20, picture.shape), picture)
    if letters:
        picture[height // 20 : height // 10, -width // 8 : -width // 20] = 4095
    picture = np.clip(picture, 0, 4095).round().astype(np.uint16)
    return np.ascontiguousarray(picture[:, ::-1] if side == "right" else picture)


def write_mammogram(path: Path, values: np.ndarray, **attributes) -> Path:
    """A DICOM mammogram FOR PRESENTATION; attributes by keyword, None removes."""
    facts = {
        "SOPClassUID": DigitalMammographyXRayImageStorageForPresentation,
        "Modality": "MG",
        "PresentationIntentType": "FOR PRESENTATION",
        "BodyPartExamined": "BREAST",
        "ImageType": ["ORIGINAL", "PRIMARY", ""],
    }
    return write_dicom(path, values, **(facts | attributes))
