"""Which DICOM files are mammograms to learn from: by default the standard views made for presentation (L 4.6-1).

Volumes, projections of a tomosynthesis, specimens, test objects and other modalities are never taken. What a user may
ask for besides, by `take`: see SPECIAL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydicom.dataset import Dataset
from pydicom.uid import (
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    SecondaryCaptureImageStorage,
)

from hilum.imaging.dicom import int_of, numbers_of, text_of, texts_of, value_of

Special = Literal["spot", "displaced", "synthetic", "secondary", "processing"]

SPECIAL: dict[Special, str] = {
    "spot": "a spot compression or magnification view, a part of the breast",
    "displaced": "an implant-displaced view",
    "synthetic": "a 2D image computed from a tomosynthesis (C-View, S-View and the like)",
    "secondary": "a secondary capture that is no digitised film",
    "processing": "raw detector values (FOR PROCESSING)",
}
GATE_TAGS = (
    *("SOPClassUID", "Modality", "BodyPartExamined", "ImageType", "ConversionType", "NumberOfFrames"),
    *("PresentationIntentType", "ViewPosition", "ViewCodeSequence", "SeriesDescription", "PaddleDescription"),
    *("EstimatedRadiographicMagnificationFactor", "QualityControlImage", "BreastImplantPresent"),
)
# View Modifier Code Sequence (CID 4015), SNOMED CT and RT.
_DISPLACED_CODES = ("399209000", "R-102D5")
_SPOT_CODES = ("399163009", "R-102D6", "399055006", "R-102D7")
_SPECIMEN_CODE = "127457009"
# Contact views magnify by less than 1.1, the thickness of the breast; magnification stands give 1.5 to 2.
_MAGNIFIED = 1.3

_SYNTHETIC_WORDS = re.compile(r"\b([CS][- ]?VIEW|INTELLIGENT 2D|V[- ]?PREVIEW|INSIGHT 2D|SYNTHE\w+)\b")
_SPOT_WORDS = re.compile(r"\b(SPOT|MAG|MAGNIFI\w*|M(CC|MLO|ML|LM))\b")
_DISPLACED_WORDS = re.compile(r"\b(IMPLANT[- ]DISPLACED|EKLUND|[LR]?(CC|MLO|ML|LM)[ _-]?ID)\b")


def find_mammogram_fault(header: Dataset, take: Sequence[str] = ()) -> str | None:
    """Why a file opened with GATE_TAGS is no mammogram to learn from; None where it is one.

    `take` names kinds of SPECIAL that are taken too. An implant by itself is no fault (`has_implant`).
    """
    modality, body_part = text_of(header, "Modality").upper(), text_of(header, "BodyPartExamined").upper()
    if modality not in ("", "MG") and body_part != "BREAST":
        return f"no mammogram: modality {modality}, body part {body_part or 'blank'}; expected MG, or BREAST"
    if fault := _find_kind_fault(header):
        return fault
    found = next((kind for kind in list_special(header) if kind not in take), None)
    return None if found is None else f"{SPECIAL[found]} (--take {found} takes such files)"


def _find_kind_fault(header: Dataset) -> str | None:
    """What is never taken."""
    sop_class, num_frames = text_of(header, "SOPClassUID"), int_of(header, "NumberOfFrames") or 1
    is_tomosynthesis = sop_class == BreastTomosynthesisImageStorage or _has_type(header, "TOMOSYNTHESIS")
    if num_frames > 1:
        what = "a tomosynthesis volume" if is_tomosynthesis else "a volume or cine loop"
        return f"{what} of {num_frames} frames; expected a projection image"
    projections = (BreastProjectionXRayImageStorageForPresentation, BreastProjectionXRayImageStorageForProcessing)
    if sop_class in projections:
        return "a projection of a tomosynthesis, of a fraction of the dose; expected a mammogram"
    if is_tomosynthesis and "synthetic" not in list_special(header):
        return "a slice of a tomosynthesis; expected a projection image"
    if text_of(header, "QualityControlImage").upper() == "YES":
        return "an image of a test object (Quality Control Image)"
    if "SPECIMEN" in _describe(header) or _SPECIMEN_CODE in _list_codes(header)[0]:
        return "a radiograph of a specimen"
    return None


def list_special(header: Dataset) -> list[Special]:
    """Which kinds of SPECIAL a file is, by codes, image type and words; none for a standard view."""
    _, modifiers = _list_codes(header)
    words, factor = _describe(header), numbers_of(header, "EstimatedRadiographicMagnificationFactor")
    # PS3.3 C.8.6.1: DF is a digitised film, which is as much a mammogram as any.
    is_capture = text_of(header, "SOPClassUID") == SecondaryCaptureImageStorage
    is_magnified = bool(factor and factor[0] > _MAGNIFIED)
    is_kind: dict[Special, bool] = {
        "synthetic": _has_type(header, "GENERATED_2D") or bool(_SYNTHETIC_WORDS.search(words)),
        "secondary": is_capture and text_of(header, "ConversionType") != "DF",
        "processing": text_of(header, "PresentationIntentType").upper() == "FOR PROCESSING",
        "spot": bool(set(_SPOT_CODES) & modifiers) or is_magnified or bool(_SPOT_WORDS.search(words)),
        "displaced": bool(set(_DISPLACED_CODES) & modifiers) or bool(_DISPLACED_WORDS.search(words)),
    }
    return [kind for kind, is_such in is_kind.items() if is_such]


def has_implant(header: Dataset) -> bool:
    """Whether Breast Implant Present says so."""
    return text_of(header, "BreastImplantPresent").upper() == "YES"


def _has_type(header: Dataset, word: str) -> bool:
    return word in (value.upper() for value in texts_of(header, "ImageType"))


def _describe(header: Dataset) -> str:
    keywords = ("ViewPosition", "SeriesDescription", "PaddleDescription")
    return " | ".join(text_of(header, keyword) for keyword in keywords).upper()


def _list_codes(header: Dataset) -> tuple[set[str], set[str]]:
    """Codes of the view, and of its modifiers."""
    views = value_of(header, "ViewCodeSequence") or []
    modifiers = [item for view in views for item in value_of(view, "ViewModifierCodeSequence") or []]
    return {text_of(item, "CodeValue") for item in views}, {text_of(item, "CodeValue") for item in modifiers}
