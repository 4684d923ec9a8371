"""What one mammography exam is, before any pixel: the woman, her breasts, the findings in them, the views.

`clinic` draws plans, `shape` compresses a breast, `tissue` and `lesions` fill it, `projector` and `detector` turn it
into images, `reader` says what shows, `reports` puts it into words, `archive` writes it all as files.

Frame of one breast (millimetres): x from the chest wall to the nipple, y outwards (away from the other breast), z up.
Left and right breasts share it; only stored images are mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Laterality = Literal["L", "R"]
Projection = Literal["CC", "MLO"]
PROJECTIONS: tuple[Projection, ...] = ("CC", "MLO")
LATERALITIES: tuple[Laterality, ...] = ("L", "R")
Density = Literal["a", "b", "c", "d"]
DENSITIES: tuple[Density, ...] = ("a", "b", "c", "d")
Kind = Literal[
    "mass",
    "calcification",
    "architectural distortion",
    "asymmetry",
    "focal asymmetry",
    "global asymmetry",
    "developing asymmetry",
    "skin thickening",
    "skin retraction",
    "nipple retraction",
    "lymph node",
]

# The vocabulary of L 2.2.
SHAPES = ("oval", "round", "irregular")
MARGINS = ("circumscribed", "obscured", "microlobulated", "indistinct", "spiculated")
MASS_DENSITIES = ("high", "equal", "low", "fat-containing")
BENIGN_MORPHOLOGIES = (
    "skin",
    "vascular",
    "coarse/popcorn",
    "large rod-like",
    "round",
    "punctate",
    "rim/lucent-centred",
    "dystrophic",
    "milk of calcium",
    "suture",
)
SUSPICIOUS_MORPHOLOGIES = ("amorphous", "coarse heterogeneous", "fine pleomorphic", "fine linear or branching")
DISTRIBUTIONS = ("diffuse", "regional", "grouped/clustered", "linear", "segmental")
ASYMMETRIES = ("asymmetry", "focal asymmetry", "global asymmetry", "developing asymmetry")


@dataclass(frozen=True)
class Finding:
    """One finding at one place of one breast, as it is on one exam.

    The same key on another exam is the same finding, larger or fainter. Descriptors that do not apply are "".
    """

    kind: Kind
    place: tuple[float, float, float]  # x, y, z, millimetres
    size: float  # greatest diameter, millimetres
    strength: float  # 1: as plain as such a finding gets; 0: nothing is added to the image
    key: int  # seeds its shape
    malignant: bool = False
    shape: str = ""
    margin: str = ""
    density: str = ""  # of a mass
    morphology: str = ""  # of calcifications
    distribution: str = ""
    only: Projection | Literal[""] = ""  # a summation: on this projection, and nowhere in the body


@dataclass(frozen=True)
class Woman:
    """One patient: what stays over all of her exams."""

    key: int
    number: int
    age: float  # years on the day of the last exam
    depth: float  # of the uncompressed breast, chest wall to nipple, millimetres
    radius: float  # across, millimetres
    glandularity: float  # 0 to 1, continuous; `density` is its class
    density: Density
    implant: bool
    nodes: tuple[tuple[Laterality, Finding], ...]  # normal lymph nodes in the axilla


@dataclass(frozen=True)
class ViewPlan:
    """One exposure of one breast."""

    laterality: Laterality
    projection: Projection
    repeat: int  # 0, or 1 for the second exposure of the same view


@dataclass(frozen=True)
class ExamPlan:
    """One exam: a woman on a day at an institution, with what is in each breast."""

    exam: str
    patient: str
    woman: Woman
    day: float  # since her first exam
    ordinal: int
    institution: str
    key: int
    findings: dict[Laterality, tuple[Finding, ...]]
    views: tuple[ViewPlan, ...]
    before_last: float = 0.0  # days from this exam to her last one

    @property
    def age(self) -> float:
        """Years on the day of this exam."""
        return self.woman.age - self.before_last / 365.25

    @property
    def is_last(self) -> bool:
        return self.before_last == 0

    def nodes(self, laterality: Laterality) -> tuple[Finding, ...]:
        """Lymph nodes of the axilla that are as they should be: nobody's finding, but on the image."""
        return tuple(node for side, node in self.woman.nodes if side == laterality)
