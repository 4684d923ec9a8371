"""View kind, laterality and the few other facts that leave a DICOM header.

Views are a closed vocabulary (`hilum.vocabulary`): a code nobody listed is `unknown`, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple, TypedDict

from pydicom.dataset import Dataset

from hilum.imaging.dicom import int_of, open_dicom, read_spacing, text_of, texts_of, value_of
from hilum.vocabulary import Laterality, ViewKind

_LATERAL_POSITIONS = ("LATERAL", "LL", "RL", "XTABLE LATERAL")
# Whole words that name a view in a description or file name; LL and RL are left out (lobes, sides and limbs use them).
_KIND_OF_WORD: dict[str, ViewKind] = {
    "AP": "frontal",
    "PA": "frontal",
    "FRONTAL": "frontal",
    "LATERAL": "lateral",
    "LAT": "lateral",
    "CC": "cc",
    "LCC": "cc",
    "RCC": "cc",
    "MLO": "mlo",
    "LMLO": "mlo",
    "RMLO": "mlo",
}
_LATERALITY_OF_CODE: dict[str, Laterality] = {"L": "left", "R": "right", "B": "both"}
_LATERALITY_OF_WORD: dict[str, Laterality] = {
    **dict.fromkeys(("L", "LEFT", "LCC", "LMLO"), "left"),
    **dict.fromkeys(("R", "RIGHT", "RCC", "RMLO"), "right"),
}

# View Code Sequence (CID 4010 and 4014), SNOMED CT and the older SNOMED RT codes that most archives still hold.
_POSITION_OF_CODE = {
    **dict.fromkeys(("399348003", "R-10206"), "AP"),
    **dict.fromkeys(("272479007", "R-40888", "R-10214"), "PA"),
    **dict.fromkeys(("399173006", "R-10236"), "LL"),
    **dict.fromkeys(("399198007", "R-10232"), "RL"),
    **dict.fromkeys(("399067008", "R-102CD"), "LATERAL"),
    **dict.fromkeys(("399162004", "R-10242"), "CC"),
    **dict.fromkeys(("399368009", "R-10226"), "MLO"),
    **dict.fromkeys(("399260004", "R-10224"), "ML"),
    **dict.fromkeys(("399352003", "R-10228"), "LM"),
    **dict.fromkeys(("399099002", "R-10230"), "LMO"),
    **dict.fromkeys(("399192008", "R-1024A"), "XCCL"),
    **dict.fromkeys(("399101009", "R-1024B"), "XCCM"),
    **dict.fromkeys(("399196006", "R-10244"), "FB"),
    **dict.fromkeys(("399188001", "R-102D0"), "SIO"),
}


def classify_view(
    position: str,
    *,
    modality: str = "",
    orientation: Sequence[str] = (),
    description: str = "",
    body_part: str = "",
) -> ViewKind:
    """The view kind that `position` (DICOM View Position, or an archive's column) names; upper or lower case.

    MVMAE's 25 raw positions fold as its specification has them (1.1): AP* and PA* are frontal; LATERAL, LL, RL and
    XTABLE LATERAL are lateral; the rest is unknown. CC and MLO name themselves; ML is not MLO. The kinds' own names
    are understood.

    Two other witnesses count, and only where `position` is empty: a `description` whose words name exactly one kind,
    then, for a CR or DX of the chest (`body_part`), the patient's directions along rows and columns (`orientation`).
    Of mammograms (modality MG, body part BREAST) nothing but cc and mlo comes out: their lateral is not a chest's.
    """
    words = re.split(r"[\s_]+", position.strip().upper())
    is_breast = modality.strip().upper() == "MG" or body_part.strip().upper() == "BREAST"
    if words != [""]:
        kind = _fold_position(words)
    else:
        kind = _find_kind(_split_words(description))
        is_chest = body_part.strip().upper() in ("CHEST", "THORAX") and modality.strip().upper() in ("CR", "DX")
        if kind == "unknown" and is_chest:
            kind = _fold_orientation(orientation)
    return "unknown" if is_breast and kind not in ("cc", "mlo") else kind


def _fold_position(words: list[str]) -> ViewKind:
    position = " ".join(words)
    if position in _LATERAL_POSITIONS:
        return "lateral"
    # Two views named at once ("PA LATERAL") are no view; the star of AP* is further words, so APICAL is not AP.
    if words[0] in ("AP", "PA", "FRONTAL") and not {"LAT", *_LATERAL_POSITIONS} & set(words[1:]):
        return "frontal"
    if position in ("CC", "MLO"):
        return "cc" if position == "CC" else "mlo"
    return "unknown"


def _fold_orientation(orientation: Sequence[str]) -> ViewKind:
    """PS3.3 C.7.6.1.1.1: rows along left-right are a frontal projection, along front-back a lateral one."""
    directions = tuple(direction.strip().upper() for direction in orientation)
    if directions in (("L", "F"), ("R", "F")):
        return "frontal"
    if directions in (("A", "F"), ("P", "F")):
        return "lateral"
    return "unknown"


class NamedView(NamedTuple):
    kind: ViewKind
    laterality: Laterality


UNKNOWN_VIEW = NamedView("unknown", "unknown")


def classify_name(path: str | PurePath) -> NamedView:
    """What the file's own name says, else its folder's: `view1_frontal.jpg`, `0_L_MLO.png`, `lateral/017.png`.

    Words are what stands between anything but letters and digits, so the folder PA000001 of a DICOM export names no
    view. Sides are read only of mammograms: in a chest's name L may be lateral.
    """
    path = PurePath(path)
    for part in (path.stem, path.parent.name):
        words = _split_words(part)
        kind = _find_kind(words)
        if kind != "unknown":
            sides = {_LATERALITY_OF_WORD[word] for word in words if word in _LATERALITY_OF_WORD}
            return NamedView(kind, sides.pop() if kind in ("cc", "mlo") and len(sides) == 1 else "unknown")
    return UNKNOWN_VIEW


def _split_words(text: str) -> list[str]:
    return re.split(r"[^A-Z0-9]+", text.upper())


def _find_kind(words: list[str]) -> ViewKind:
    kinds = {_KIND_OF_WORD[word] for word in words if word in _KIND_OF_WORD}
    return kinds.pop() if len(kinds) == 1 else "unknown"


def parse_age(age: str) -> float | None:
    """PatientAge to years: 045Y, 006M, 010W, 003D; bare digits are years (RSNA's files). None where it says nothing."""
    match = re.fullmatch(r"(\d{1,3})([YMWD]?)", age.strip().upper())
    if not match:
        return None
    years = int(match[1]) * {"Y": 1.0, "": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}[match[2]]
    return years if years <= 120 else None


class DicomHeader(TypedDict):
    """Everything that leaves a header; absent is None (or "" and "unknown" for the view). Identifiers and dates are
    for the caller to hash and to count days from, never to write down."""

    modality: str
    view_position: str  # View Position, else the position its View Code Sequence names
    view_kind: ViewKind
    laterality: Laterality
    photometric: str
    rows: int | None
    columns: int | None
    spacing_mm: tuple[float, float] | None
    patient_id: str | None
    study_uid: str | None
    series_uid: str | None
    sop_uid: str | None
    study_date: str | None
    study_time: str | None
    age_years: float | None
    sex: str | None
    body_part: str
    manufacturer: str
    model: str
    num_frames: int


HEADER_TAGS = (
    "Modality",
    "ViewPosition",
    "ViewCodeSequence",
    "PatientOrientation",
    "SeriesDescription",
    "ImageLaterality",
    "Laterality",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "StudyDate",
    "StudyTime",
    "PatientAge",
    "PatientSex",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "PresentationIntentType",
    "NumberOfFrames",
    "BurnedInAnnotation",
)


def read_dicom_header(path: str | Path) -> DicomHeader:
    """The allow-listed facts of one DICOM file; its pixels are not read, other attributes not even parsed."""
    return describe_header(open_dicom(Path(path), HEADER_TAGS))


def describe_header(dataset: Dataset) -> DicomHeader:
    """The allow-listed facts of a header opened with HEADER_TAGS.

    Orientation and series description serve to classify the view and stay behind.
    """
    modality, body_part = text_of(dataset, "Modality").upper(), text_of(dataset, "BodyPartExamined").upper()
    position = text_of(dataset, "ViewPosition") or _read_view_code(dataset)
    side = (text_of(dataset, "ImageLaterality") or text_of(dataset, "Laterality")).upper()
    sex = text_of(dataset, "PatientSex").upper()
    return DicomHeader(
        modality=modality,
        view_position=position,
        view_kind=classify_view(
            position,
            modality=modality,
            orientation=texts_of(dataset, "PatientOrientation"),
            description=text_of(dataset, "SeriesDescription"),
            body_part=body_part,
        ),
        laterality=_LATERALITY_OF_CODE.get(side, "unknown"),
        photometric=text_of(dataset, "PhotometricInterpretation").upper(),
        rows=int_of(dataset, "Rows"),
        columns=int_of(dataset, "Columns"),
        spacing_mm=read_spacing(dataset),
        patient_id=text_of(dataset, "PatientID") or None,
        study_uid=text_of(dataset, "StudyInstanceUID") or None,
        series_uid=text_of(dataset, "SeriesInstanceUID") or None,
        sop_uid=text_of(dataset, "SOPInstanceUID") or None,
        study_date=text_of(dataset, "StudyDate") or None,
        study_time=text_of(dataset, "StudyTime") or None,
        age_years=parse_age(text_of(dataset, "PatientAge")),
        sex=sex if sex in ("F", "M") else None,
        body_part=body_part,
        manufacturer=text_of(dataset, "Manufacturer"),
        model=text_of(dataset, "ManufacturerModelName"),
        num_frames=int_of(dataset, "NumberOfFrames") or 1,
    )


def _read_view_code(dataset: Dataset) -> str:
    sequence = value_of(dataset, "ViewCodeSequence")
    return _POSITION_OF_CODE.get(text_of(sequence[0], "CodeValue"), "") if sequence else ""
