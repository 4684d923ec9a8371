"""What archives' codes and words mean in the words of a record (L 4).

EMBED's letters are those of its public legend; VinDr's and CBIS's words are their tables'.
"""

from __future__ import annotations

from .terms import Assessment, BreastDensity, Category, Distribution, Margin, MassDensity, Morphology, Shape

# Suspicious: by the name of the category itself.
VINDR_CATEGORIES: dict[str, tuple[Category, bool | None]] = {
    "Mass": ("mass", None),
    "Suspicious Calcification": ("calcification", True),
    "Architectural Distortion": ("architectural distortion", None),
    "Asymmetry": ("asymmetry", None),
    "Focal Asymmetry": ("focal asymmetry", None),
    "Global Asymmetry": ("global asymmetry", None),
    "Skin Thickening": ("skin thickening", None),
    "Skin Retraction": ("skin retraction", None),
    "Nipple Retraction": ("nipple retraction", None),
    "Suspicious Lymph Node": ("lymph node", True),
}

# "mass shape" of CBIS also names what is no mass.
CBIS_SHAPES: dict[str, tuple[Category, Shape | None]] = {
    "OVAL": ("mass", "oval"),
    "ROUND": ("mass", "round"),
    "LOBULATED": ("mass", "lobular"),
    "IRREGULAR": ("mass", "irregular"),
    "ARCHITECTURAL_DISTORTION": ("architectural distortion", None),
    "ASYMMETRIC_BREAST_TISSUE": ("global asymmetry", None),  # the older name of it
    "FOCAL_ASYMMETRIC_DENSITY": ("focal asymmetry", None),
    "LYMPH_NODE": ("lymph node", None),
}
CBIS_MARGINS: dict[str, Margin] = {
    "CIRCUMSCRIBED": "circumscribed",
    "OBSCURED": "obscured",
    "MICROLOBULATED": "microlobulated",
    "ILL_DEFINED": "indistinct",
    "SPICULATED": "spiculated",
}
CBIS_MORPHOLOGIES: dict[str, Morphology] = {
    "AMORPHOUS": "amorphous",
    "COARSE": "coarse",
    "DYSTROPHIC": "dystrophic",
    "EGGSHELL": "rim",
    "FINE_LINEAR_BRANCHING": "fine linear branching",
    "LARGE_RODLIKE": "large rod-like",
    "LUCENT_CENTER": "rim",
    "LUCENT_CENTERED": "rim",
    "MILK_OF_CALCIUM": "milk of calcium",
    "PLEOMORPHIC": "fine pleomorphic",
    "PUNCTATE": "punctate",
    "ROUND_AND_REGULAR": "round",
    "SKIN": "skin",
    "VASCULAR": "vascular",
}
CBIS_DISTRIBUTIONS: dict[str, Distribution] = {
    "CLUSTERED": "grouped",
    "DIFFUSELY_SCATTERED": "diffuse",
    "LINEAR": "linear",
    "REGIONAL": "regional",
    "SEGMENTAL": "segmental",
}

EMBED_ASSESSMENTS: dict[str, Assessment] = {"A": 0, "N": 1, "B": 2, "P": 3, "S": 4, "M": 5, "K": 6}
EMBED_DENSITIES: dict[str, BreastDensity] = {"1": "a", "2": "b", "3": "c", "4": "d"}  # 5: a man's
# "massshape" of EMBED also names what is no mass. G is a mass of no named shape; T, a dilated duct, is left out.
EMBED_SHAPES: dict[str, tuple[Category, Shape | None]] = {
    "G": ("mass", None),
    "R": ("mass", "round"),
    "O": ("mass", "oval"),
    "X": ("mass", "irregular"),
    "A": ("architectural distortion", None),
    "Q": ("architectural distortion", None),
    "B": ("global asymmetry", None),
    "F": ("focal asymmetry", None),
    "S": ("asymmetry", None),
    "V": ("developing asymmetry", None),
    "N": ("lymph node", None),
    "Y": ("lymph node", None),
}
EMBED_MARGINS: dict[str, Margin] = {
    "D": "circumscribed", "U": "obscured", "M": "microlobulated", "I": "indistinct", "S": "spiculated",
}  # fmt: skip
EMBED_MASS_DENSITIES: dict[str, MassDensity] = {"+": "high", "=": "equal", "-": "low", "0": "fat-containing"}
EMBED_NO_MORPHOLOGY = ("G", "9")  # generic, "benign"
EMBED_CALCIFICATIONS: dict[str, Morphology] = {
    "A": "amorphous", "H": "coarse heterogeneous", "C": "coarse", "Q": "coarse", "D": "dystrophic", "E": "rim",
    "O": "rim", "J": "rim", "F": "fine linear branching", "B": "fine linear branching", "I": "fine pleomorphic",
    "K": "fine pleomorphic", "L": "large rod-like", "M": "milk of calcium", "P": "punctate", "R": "round", "S": "skin",
    "U": "suture", "V": "vascular",
}  # fmt: skip
EMBED_DISTRIBUTIONS: dict[str, Distribution] = {
    "G": "grouped", "C": "grouped", "S": "segmental", "R": "regional", "D": "diffuse", "L": "linear",
}  # fmt: skip
EMBED_OTHERS: dict[str, Category] = {
    "!": "post-surgical", "1": "post-surgical", "3": "post-surgical", "C": "post-surgical", "2": "lymph node",
    "A": "lymph node", "4": "asymmetry", "B": "clip", "D": "architectural distortion",
}  # fmt: skip
