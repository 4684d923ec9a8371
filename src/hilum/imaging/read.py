"""Any image file to one grey image in [0, 1], or a reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from hilum.imaging.array_row import read_array_row, split_row
from hilum.imaging.dicom import is_dicom, open_dicom, read_dicom
from hilum.imaging.intensity import DEFAULT_POLICY, POLICIES, apply_policy, is_mammographic
from hilum.imaging.mammography.gate import GATE_TAGS, find_mammogram_fault, has_implant
from hilum.imaging.quality import describe_quality
from hilum.imaging.raster import read_raster
from hilum.imaging.rejection import RejectedImage, reject
from hilum.imaging.view import HEADER_TAGS, UNKNOWN_VIEW, NamedView, describe_header
from hilum.vocabulary import MODALITIES

__all__ = ["DEFAULT_POLICY", "POLICIES", "GreyImage", "RejectedImage", "read_image"]


@dataclass(frozen=True)
class GreyImage:
    """One image file as grey, under an intensity policy, at the resolution of its source."""

    pixels: Float32[np.ndarray, "height width"]  # in [0, 1], air black, bone white
    source_bits: int  # meaningful bits of a stored pixel
    photometric: str  # DICOM photometric interpretation, Pillow's mode of a raster file, or "array"
    spacing_mm: tuple[float, float] | None  # between rows, between columns; raster files cannot say
    policy_id: str
    source_size: tuple[int, int]  # height, width of the upright image (after EXIF orientation)
    tagged: NamedView = UNKNOWN_VIEW  # view and side in the header of a mammogram
    implant: bool = False  # as the header of a mammogram says


def read_image(
    path: str | Path,
    policy: str = DEFAULT_POLICY,
    *,
    modalities: Sequence[str] = MODALITIES,
    allow_burned_in: bool = False,
    take: Sequence[str] = (),
) -> GreyImage:
    """Read one file of any supported kind; the content decides which kind, not the name.

    A row of a NumPy file is named `file.npy#row` (`array_row.py`).
    `policy` is an id of `intensity.POLICIES`; `modalities` lists the DICOM modalities let through ("" lets files pass
    whose de-identification removed it). A single CT slice reads too if "CT" is listed. Under a policy of mammograms a
    DICOM file must be one (`mammography/gate.py`), and `take` lists the special kinds that are taken too. Raises
    `RejectedImage` with a reason. A decoder may take long on a damaged stream: callers that read archives limit the
    time.
    """
    file, row = split_row(path)
    path, spacing = Path(path), None
    tagged, implant = UNKNOWN_VIEW, False
    if row is not None:
        stored, bits, photometric = read_array_row(file, row), 8, "array"
    elif is_dicom(path):
        if is_mammographic(policy):
            tagged, implant = _pass_gate(path, take)
        source = read_dicom(
            path, modalities=modalities, allow_burned_in=allow_burned_in, allow_processing="processing" in take
        )
        stored, bits, photometric, spacing = source.stored, source.bits, source.photometric, source.spacing_mm
    else:
        raster = read_raster(path)
        stored, bits, photometric = raster.stored, raster.bits, raster.mode
    pixels = apply_policy(policy, stored)
    if describe_quality(pixels)["is_blank"]:
        raise reject(path, f"blank: no contrast under intensity policy {policy}")
    return GreyImage(pixels, bits, photometric, spacing, policy, pixels.shape, tagged, implant)


def _pass_gate(path: Path, take: Sequence[str]) -> tuple[NamedView, bool]:
    """View and side, and whether there is an implant, of a file that is a mammogram; RejectedImage for any other."""
    header = open_dicom(path, [*HEADER_TAGS, *GATE_TAGS])
    if fault := find_mammogram_fault(header, take):
        raise reject(path, fault)
    described = describe_header(header)
    return NamedView(described["view_kind"], described["laterality"]), has_implant(header)
