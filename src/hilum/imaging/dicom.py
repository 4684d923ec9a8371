"""DICOM files: what may be opened, and the pixels as stored. What the pixels mean in grey is `intensity.py`."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Shaped
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from hilum.imaging.intensity import Lut, Rescale, StoredImage, Window, WindowFunction
from hilum.imaging.quality import find_size_fault
from hilum.imaging.rejection import reject, rejecting

_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)

# One decoder for each transfer syntax, so that a lossy stream gives the same pixels on every machine. All of them were
# tried on truncated and damaged streams: each raises, none invents the missing part.
_DECODERS: dict[str, str] = {
    **dict.fromkeys(_NATIVE, ""),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg"),
    **dict.fromkeys((*JPEGLSTransferSyntaxes, JPEGLossless, JPEGLosslessSV1, JPEGExtended12Bit), "gdcm"),
    JPEGBaseline8Bit: "pillow",
    RLELossless: "pydicom",
}

# pydicom's complaints quote header values, names among them; and archives are full of values that break the standard.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
config.settings.reading_validation_mode = config.IGNORE


@dataclass(frozen=True)
class DicomImage:
    """The one frame of a DICOM file as stored, before any intensity policy."""

    stored: StoredImage  # values (height, width) in the file's own units, with its windows and its photometric sense
    bits: int  # meaningful bits of a stored pixel (BitsStored)
    photometric: str  # PhotometricInterpretation, such as "MONOCHROME2"
    spacing_mm: tuple[float, float] | None  # between rows, between columns; None where the header has none


def is_dicom(path: Path) -> bool:
    """Whether the file carries the DICOM preamble (PS3.10), whatever its name says."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except FileNotFoundError as error:
        raise reject(path, "the file does not exist") from error
    except OSError as error:
        raise reject(path, f"cannot be opened ({error.strerror})") from error


def open_dicom(path: Path, tags: Sequence[str] | None = None) -> Dataset:
    """The dataset, pixels included; with `tags`, these attributes only and no pixels. Values are parsed on access."""
    with rejecting(path, "damaged or cut-off DICOM header"):
        return dcmread(path, stop_before_pixels=tags is not None, specific_tags=None if tags is None else list(tags))


def read_dicom(
    path: Path, *, modalities: Sequence[str], allow_burned_in: bool, allow_processing: bool = False
) -> DicomImage:
    """One projection image as stored. Raises `RejectedImage` for anything else, before its pixels are decoded."""
    header = open_dicom(path, _GATE_TAGS)
    taken = {"allow_burned_in": allow_burned_in, "allow_processing": allow_processing}
    if fault := find_header_fault(header, modalities=modalities, **taken):
        raise reject(path, fault)
    if fault := find_size_fault(int_of(header, "Rows") or 0, int_of(header, "Columns") or 0):
        raise reject(path, fault)

    dataset = open_dicom(path)
    values, photometric = _decode_pixels(path, dataset)
    bits = int_of(dataset, "BitsStored") or 8 * values.dtype.itemsize
    stored = _describe_stored(dataset, values, photometric, bits)
    return DicomImage(stored, bits, photometric, read_spacing(dataset))


_GATE_TAGS = (
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BurnedInAnnotation",
    "PresentationIntentType",
)


def find_header_fault(
    header: Dataset, *, modalities: Sequence[str], allow_burned_in: bool, allow_processing: bool = False
) -> str | None:
    """Why a file is no projection image to learn from, as far as its header tells; None where it is one."""
    modality = text_of(header, "Modality").upper()
    num_frames = int_of(header, "NumberOfFrames") or 1
    if int_of(header, "Rows") is None or int_of(header, "Columns") is None:
        if modality in ("", *modalities):
            return "the DICOM header does not describe any pixels; the file may be cut off"
        return f"holds no image (modality {modality}: a waveform, report or other object)"
    if modality not in modalities:
        wanted = ", ".join(name or "blank" for name in modalities)
        return f"modality {modality or 'is blank'}; expected one of {wanted} (--modalities says which)"
    if num_frames > 1:
        return f"{num_frames} frames; volumes and cine loops are not built yet"
    if text_of(header, "BurnedInAnnotation").upper() == "YES" and not allow_burned_in:
        return "its header says text is burned into the pixels, which may name the patient (--allow-burned-in takes it)"
    if text_of(header, "PresentationIntentType").upper() == "FOR PROCESSING" and not allow_processing:
        return "raw detector values (FOR PROCESSING); expected the image made for presentation"
    return None


def read_spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Millimetres between rows and between columns: calibrated, else at the detector, else of the film scanner."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = numbers_of(dataset, keyword)
        if len(spacing) == 2 and all(math.isfinite(step) and step > 0 for step in spacing):
            return spacing[0], spacing[1]
    return None


def text_of(dataset: Dataset, keyword: str) -> str:
    """The attribute's first value as stripped text, "" where absent or empty."""
    values = texts_of(dataset, keyword)
    return values[0] if values else ""


def texts_of(dataset: Dataset, keyword: str) -> list[str]:
    return [str(value).strip(" \0") for value in _values_of(dataset, keyword)]


def numbers_of(dataset: Dataset, keyword: str) -> list[float]:
    """The attribute's values as numbers, empty where absent or not numbers."""
    try:
        return [float(value) for value in _values_of(dataset, keyword)]
    except (TypeError, ValueError):
        return []


def int_of(dataset: Dataset, keyword: str) -> int | None:
    numbers = numbers_of(dataset, keyword)
    return int(numbers[0]) if numbers and math.isfinite(numbers[0]) else None


def value_of(dataset: Dataset, keyword: str) -> Any:
    """The attribute as pydicom parses it; None where absent, or where its bytes cannot be what its VR says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dataset.get(keyword)
    except Exception:  # pydicom parses on access; an unreadable attribute says as much as an absent one
        return None


def _values_of(dataset: Dataset, keyword: str) -> list:
    value = value_of(dataset, keyword)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple, MultiValue)) else [value]


def _decode_pixels(path: Path, dataset: Dataset) -> tuple[Shaped[np.ndarray, "height width"], str]:
    """One grey plane as stored (colour becomes its luminance) and its photometric interpretation."""
    if "PixelData" not in dataset:
        raise reject(path, "cut off: the header describes an image, but its pixels are not all there")
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise reject(path, "the header does not name a transfer syntax, so its pixels cannot be decoded")
    if syntax not in _DECODERS:
        raise reject(path, f"pixels as {syntax.name}, which is not a still-image format Hilum reads")
    with rejecting(path, f"damaged or cut-off pixels: the {syntax.name} stream does not decode"):
        values, facts = get_decoder(syntax).as_array(dataset, decoding_plugin=_DECODERS[syntax])
        if facts["photometric_interpretation"] == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)
    photometric = text_of(dataset, "PhotometricInterpretation").upper()
    if values.ndim == 3 and values.shape[2] == 3:
        # ITU-R BT.601, in integers: equal red, green and blue give exactly that value.
        weights = np.array([19595, 38470, 7471], dtype=np.int64)
        values = ((values.astype(np.int64) @ weights + (1 << 15)) >> 16).astype(values.dtype)
    if values.ndim != 2 or not photometric:
        raise reject(path, f"pixels of shape {values.shape} ({photometric or 'no photometric interpretation'})")
    return values, photometric


def _describe_stored(
    dataset: Dataset, values: Shaped[np.ndarray, "height width"], photometric: str, bits: int
) -> StoredImage:
    is_grey = photometric in ("MONOCHROME1", "MONOCHROME2")
    if not is_grey:
        top = 255.0 if values.dtype == np.uint8 else 65535.0
        return StoredImage(values, display_range=(0.0, top))
    is_signed = int_of(dataset, "PixelRepresentation") == 1
    modality = _read_modality(dataset, is_signed)
    return StoredImage(
        values,
        # PS3.3 C.8.11.3: INVERSE goes with MONOCHROME1 and says the same thing again; it is no second inversion.
        inverted=photometric == "MONOCHROME1" or text_of(dataset, "PresentationLUTShape").upper() == "INVERSE",
        modality=modality,
        voi=_read_voi(dataset, is_signed or (isinstance(modality, Rescale) and modality.intercept < 0)),
        display_range=(0.0, 2.0**bits - 1) if bits <= 8 and not is_signed and modality == Rescale() else None,
        padding=_read_padding(dataset, is_signed),
        full_range=(-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if is_signed else (0.0, 2.0**bits - 1),
    )


def _read_modality(dataset: Dataset, is_signed: bool) -> Rescale | Lut:
    sequence = value_of(dataset, "ModalityLUTSequence")
    table = _read_lut(sequence[0], is_signed) if sequence else None
    if table is not None:
        return table
    slope, intercept = numbers_of(dataset, "RescaleSlope"), numbers_of(dataset, "RescaleIntercept")
    if slope and intercept and slope[0] != 0 and math.isfinite(slope[0]) and math.isfinite(intercept[0]):
        return Rescale(slope[0], intercept[0])
    return Rescale()


def _read_voi(dataset: Dataset, is_signed: bool) -> Lut | Window | None:
    sequence = value_of(dataset, "VOILUTSequence")
    table = _read_lut(sequence[0], is_signed) if sequence else None
    if table is not None:
        return table
    functions: dict[str, WindowFunction] = {name: name for name in get_args(WindowFunction)}
    function = functions.get(text_of(dataset, "VOILUTFunction").upper() or "LINEAR")
    if function is None:
        return None
    centers, widths = numbers_of(dataset, "WindowCenter"), numbers_of(dataset, "WindowWidth")
    for center, width in zip(centers, widths, strict=False):
        if math.isfinite(center) and math.isfinite(width) and (width >= 1 if function == "LINEAR" else width > 0):
            return Window(center, width, function)
    return None


def _read_lut(item: Dataset, is_signed: bool) -> Lut | None:
    """A Modality or VOI LUT item, or None where it is unusable. Data come as words, or as bytes of 8 or 16 bits."""
    descriptor = numbers_of(item, "LUTDescriptor")
    data = value_of(item, "LUTData")
    if len(descriptor) != 3 or data is None or not 8 <= descriptor[2] <= 16:
        return None
    num_entries = int(descriptor[0]) % 65536 or 65536  # 0 stands for 65536, which does not fit its 16 bits
    if isinstance(data, bytes):
        values = np.frombuffer(data, dtype="<u2" if len(data) >= 2 * num_entries else np.uint8)
    else:
        values = np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
    values = values[:num_entries].astype(np.int64)
    return Lut(_resolve_sign(int(descriptor[1]), is_signed), values, int(descriptor[2])) if values.size else None


def _read_padding(dataset: Dataset, is_signed: bool) -> tuple[int, int] | None:
    value = int_of(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = int_of(dataset, "PixelPaddingRangeLimit")
    ends = [_resolve_sign(end, is_signed) for end in (value, value if limit is None else limit)]
    return min(ends), max(ends)


def _resolve_sign(value: int, is_signed: bool) -> int:
    """16-bit attributes of VR "US or SS" are often written under the wrong one."""
    if is_signed:
        return value - 65536 if value >= 32768 else value
    return value + 65536 if value < 0 else value
