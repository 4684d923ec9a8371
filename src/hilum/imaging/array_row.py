"""Images that are rows of a NumPy file, named as a path with a row: `cxr_train.npy#12`.

Symile-MIMIC publishes its X-rays so: (image, 3, 320, 320) float32, normalised by ImageNet's mean and deviation, three
times the same grey (P 4.1). They are read back to 8-bit grey, a twelfth of the size. Pixels that were 8 bits before
they were normalised come back exactly; any others are off by at most half a grey level, 1/510 of the range, and so by
at most 1/510/0.224 = 0.0088 in normalised units.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from hilum.imaging.intensity import StoredImage
from hilum.imaging.quality import find_size_fault
from hilum.imaging.rejection import reject, rejecting

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Grey in [0, 1]: how far channels may differ from each other and values may lie outside, by rounding of the writer.
_SLACK = 1 / 255


def name_row(file: str, row: int) -> str:
    """The path of a row: `cxr_train.npy#12`."""
    return f"{file}#{row}"


def split_row(path: str | Path) -> tuple[Path, int | None]:
    """File and row of such a path; a path of any other form is a file by itself, without a row."""
    match = re.fullmatch(r"(.+\.npy)#(\d+)", str(path), re.DOTALL)
    return (Path(match[1]), int(match[2])) if match else (Path(path), None)


def is_there(path: str | Path) -> bool:
    """Whether the file exists; rows of it are not counted."""
    return split_row(path)[0].is_file()


def hash_row(file: Path, row: int) -> str:
    """sha256 of the bytes of one row, in hexadecimal. Raises ValueError or IndexError where there is no such row."""
    return hashlib.sha256(np.load(file, mmap_mode="r", allow_pickle=False)[row].tobytes()).hexdigest()


def read_array_row(file: Path, row: int) -> StoredImage:
    """One row as 8-bit grey: (3, height, width) floats normalised as ImageNet is, or (height, width) of 8 bits.

    Raises:
        RejectedImage: no such row, another shape or type, values that no such normalisation gives, or colour.
    """
    path = file.with_name(name_row(file.name, row))
    with rejecting(path, "not a readable array"):
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    if row >= len(array):
        raise reject(path, f"the array has {len(array):,} rows")
    values = np.asarray(array[row])
    if fault := find_size_fault(*values.shape[-2:]) if values.ndim >= 2 else f"a row of shape {values.shape}":
        raise reject(path, fault)
    if values.dtype == np.uint8 and values.ndim == 2:
        return StoredImage(values, display_range=(0.0, 255.0))
    if not (np.issubdtype(values.dtype, np.floating) and values.ndim == 3 and len(values) == 3):
        raise reject(path, f"{values.dtype} of shape {values.shape}; expected float32 (3, height, width)")
    if not np.isfinite(values).all():
        raise reject(path, "values that are not numbers")
    grey = unnormalize(values)
    if np.ptp(grey, axis=0).max() > _SLACK or grey.min() < -_SLACK or grey.max() > 1 + _SLACK:
        low, high = values.min(), values.max()
        raise reject(
            path,
            f"values from {low:.2f} to {high:.2f} are no grey image normalised by ImageNet's mean and deviation, which "
            "lie between -2.12 and 2.64 with three equal channels",
        )
    return StoredImage(to_bytes(grey), display_range=(0.0, 255.0))


def unnormalize(values: Float[np.ndarray, "3 height width"]) -> Float[np.ndarray, "3 height width"]:
    """value * deviation + mean, for each channel: what was in [0, 1] before `torchvision.transforms.Normalize`."""
    mean, std = (np.array(numbers, np.float64)[:, None, None] for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    return values * std + mean


def to_bytes(grey: Float[np.ndarray, "3 height width"]) -> UInt8[np.ndarray, "height width"]:
    """The mean of the channels, to the nearest of 256 grey levels."""
    return np.rint(np.clip(grey.mean(axis=0), 0, 1) * 255).astype(np.uint8)
