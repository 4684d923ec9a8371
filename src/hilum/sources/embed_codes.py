"""What EMBED's letters mean, in BI-RADS's words (its clinical legend; L 4.4)."""

from __future__ import annotations

ASSESSMENTS = {"A": 0, "N": 1, "B": 2, "P": 3, "S": 4, "M": 5, "K": 6}  # X is no assessment
# The first is "generic": a mass whose shape nobody described.
SHAPES = {"R": "round", "O": "oval", "X": "irregular"}
SHAPE_KINDS = {
    **dict.fromkeys(("G", "R", "O", "X"), "mass"),
    **dict.fromkeys(("A", "Q"), "architectural distortion"),
    **{"B": "global asymmetry", "F": "focal asymmetry", "S": "asymmetry", "V": "developing asymmetry"},
    **dict.fromkeys(("N", "Y"), "lymph node"),
    "T": "dilated duct",
}
MARGINS = {"D": "circumscribed", "U": "obscured", "M": "microlobulated", "I": "indistinct", "S": "spiculated"}
MASS_DENSITIES = {"+": "high", "=": "equal", "-": "low", "0": "fat-containing"}
MORPHOLOGIES = {
    **{"A": "amorphous", "H": "coarse heterogeneous", "I": "fine pleomorphic", "K": "pleomorphic"},
    **{"F": "fine linear", "B": "fine linear or branching", "9": "benign", "G": "generic"},
    **{"C": "coarse or popcorn", "Q": "coarse", "D": "dystrophic", "E": "rim", "O": "lucent-centred"},
    **{"L": "large rod-like", "M": "milk of calcium", "J": "oil cyst", "P": "punctate", "R": "round"},
    **{"S": "skin", "U": "suture", "V": "vascular"},
}
DISTRIBUTIONS = {
    **{"G": "grouped", "C": "grouped", "S": "segmental", "R": "regional"},
    **{"D": "diffuse", "L": "linear"},
}
