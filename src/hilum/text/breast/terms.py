"""The words of BI-RADS that a record of a breast may hold (L 2.2)."""

from __future__ import annotations

from typing import Literal, get_args

Side = Literal["left", "right"]
View = Literal["cc", "mlo"]
BreastDensity = Literal["a", "b", "c", "d"]  # a: almost entirely fatty ... d: extremely dense
Assessment = Literal[0, 1, 2, 3, 4, 5, 6]

Shape = Literal["oval", "round", "lobular", "irregular"]
Margin = Literal["circumscribed", "obscured", "microlobulated", "indistinct", "spiculated"]
MassDensity = Literal["high", "equal", "low", "fat-containing"]
Morphology = Literal[
    "skin", "vascular", "coarse", "large rod-like", "round", "punctate", "rim", "dystrophic", "milk of calcium",
    "suture", "amorphous", "coarse heterogeneous", "fine pleomorphic", "fine linear branching",
]  # fmt: skip
Distribution = Literal["diffuse", "regional", "grouped", "linear", "segmental"]
Category = Literal[
    "mass", "calcification", "architectural distortion", "asymmetry", "focal asymmetry", "global asymmetry",
    "developing asymmetry", "skin thickening", "skin retraction", "nipple retraction", "lymph node", "post-surgical",
    "clip",
]  # fmt: skip
Vertical = Literal["upper", "lower"]
Horizontal = Literal["outer", "inner"]
Depth = Literal["anterior", "middle", "posterior"]

CATEGORIES: tuple[Category, ...] = get_args(Category)
ASYMMETRIES: tuple[Category, ...] = ("asymmetry", "focal asymmetry", "global asymmetry", "developing asymmetry")
SUSPICIOUS: tuple[Morphology, ...] = (
    "amorphous", "coarse heterogeneous", "fine pleomorphic", "fine linear branching",
)  # fmt: skip
