"""What one phantom study is, before any pixel: the person, the findings in the body, the views, the institution.

`clinic` draws plans, `anatomy` turns a plan into 3-D bodies, `projector` and `detector` turn those into images,
`reports` describes the plan in words, `archive` writes it all as files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sex = Literal["F", "M"]
Side = Literal["left", "right", "both", "none"]  # the patient's side
Zone = Literal["upper", "middle", "lower", "none"]
Projection = Literal["PA", "AP", "LATERAL"]

# What a finding can be within itself: every value `Lesion.kind` takes (findings not named here have kind "").
KINDS: dict[str, tuple[str, ...]] = {
    "Atelectasis": ("plate", "lobar"),
    "Enlarged Cardiomediastinum": ("wide", "aorta"),
    "Fracture": ("rib", "clavicle", "vertebra"),
    "Lung Lesion": ("nodule", "mass"),
    "Pleural Effusion": ("free", "loculated"),
    "Pleural Other": ("thickening", "plaque"),
    "Support Devices": ("tube", "line", "port", "pacemaker", "gastric", "drain", "wires"),
}


@dataclass(frozen=True)
class Person:
    """One patient's anatomy, fixed over all of their studies."""

    key: int  # seeds everything of this body that is not named here (rib curvature, vessel tree, heart axis)
    sex: Sex
    age: float  # years at the first study
    height: float  # metres
    body_mass_index: float  # kg / m^2
    heart_ratio: float  # cardiothoracic ratio without cardiomegaly, about 0.38 to 0.49


@dataclass(frozen=True)
class Lesion:
    """One finding at one place; it changes the 3-D body, so every view of the study shows it from its side."""

    finding: str  # one of labels.FINDINGS
    side: Side
    zone: Zone
    severity: float  # 0 (barely visible) to 1
    key: int  # seeds shape and exact position
    kind: str = ""  # what it is within its finding, e.g. "nodule", "tube", "port", "pacemaker", "rib", "loculated"


@dataclass(frozen=True)
class StudyPlan:
    """One study: a person on a day, with lesions, imaged in some projections at an institution."""

    study: str
    patient: str
    person: Person
    day: float  # since the patient's first study
    lesions: tuple[Lesion, ...]
    projections: tuple[Projection, ...]
    institution: str
    key: int  # seeds pose (rotation, inspiration) and acquisition of this study
    prior: tuple[Lesion, ...] | None = None  # lesions at the patient's previous study (same key = same lesion)
