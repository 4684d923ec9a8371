"""The 50 laboratory values, by the item numbers MIMIC-IV gives them: units, panels, and how healthy people spread.

The order is that of Symile-MIMIC, item numbers sorted as text (P 1.2). What is drawn are 37 quantities (QUANTITIES);
the analytes that the others make by arithmetic follow from them (`laboratory.derive_analytes`), as in a real machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from hilum.phantom.physiology.effects import LABORATORY


@dataclass(frozen=True)
class Analyte:
    """One laboratory value: its name in MIMIC-IV, unit, the panel it is ordered with, decimals it is reported with."""

    name: str
    unit: str
    panel: str
    decimals: int


ANALYTES: dict[str, Analyte] = {
    "50802": Analyte("Base Excess", "mEq/L", "gas", 0),
    "50804": Analyte("Calculated Total CO2", "mEq/L", "gas", 0),
    "50813": Analyte("Lactate", "mmol/L", "lactate", 1),
    "50818": Analyte("pCO2", "mm Hg", "gas", 0),
    "50820": Analyte("pH", "units", "gas", 2),
    "50821": Analyte("pO2", "mm Hg", "gas", 0),
    "50861": Analyte("Alanine Aminotransferase (ALT)", "IU/L", "liver", 0),
    "50862": Analyte("Albumin", "g/dL", "albumin", 1),
    "50863": Analyte("Alkaline Phosphatase", "IU/L", "liver", 0),
    "50868": Analyte("Anion Gap", "mEq/L", "basic", 0),
    "50878": Analyte("Asparate Aminotransferase (AST)", "IU/L", "liver", 0),
    "50882": Analyte("Bicarbonate", "mEq/L", "basic", 0),
    "50885": Analyte("Bilirubin, Total", "mg/dL", "liver", 1),
    "50893": Analyte("Calcium, Total", "mg/dL", "minerals", 1),
    "50902": Analyte("Chloride", "mEq/L", "basic", 0),
    "50910": Analyte("Creatine Kinase (CK)", "IU/L", "muscle", 0),
    "50912": Analyte("Creatinine", "mg/dL", "basic", 1),
    "50931": Analyte("Glucose", "mg/dL", "basic", 0),
    "50934": Analyte("H", "", "indices", 0),
    "50947": Analyte("I", "", "indices", 0),
    "50960": Analyte("Magnesium", "mg/dL", "minerals", 1),
    "50970": Analyte("Phosphate", "mg/dL", "minerals", 1),
    "50971": Analyte("Potassium", "mEq/L", "basic", 1),
    "50983": Analyte("Sodium", "mEq/L", "basic", 0),
    "51006": Analyte("Urea Nitrogen", "mg/dL", "basic", 0),
    "51133": Analyte("Absolute Lymphocyte Count", "K/uL", "absolute", 2),
    "51146": Analyte("Basophils", "%", "differential", 1),
    "51200": Analyte("Eosinophils", "%", "differential", 1),
    "51221": Analyte("Hematocrit", "%", "count", 1),
    "51222": Analyte("Hemoglobin", "g/dL", "count", 1),
    "51237": Analyte("INR(PT)", "", "coagulation", 1),
    "51244": Analyte("Lymphocytes", "%", "differential", 1),
    "51248": Analyte("MCH", "pg", "count", 1),
    "51249": Analyte("MCHC", "g/dL", "count", 1),
    "51250": Analyte("MCV", "fL", "count", 0),
    "51254": Analyte("Monocytes", "%", "differential", 1),
    "51256": Analyte("Neutrophils", "%", "differential", 1),
    "51265": Analyte("Platelet Count", "K/uL", "count", 0),
    "51274": Analyte("PT", "sec", "coagulation", 1),
    "51275": Analyte("PTT", "sec", "coagulation", 1),
    "51277": Analyte("RDW", "%", "count", 1),
    "51279": Analyte("Red Blood Cells", "m/uL", "count", 2),
    "51301": Analyte("White Blood Cells", "K/uL", "count", 1),
    "51678": Analyte("L", "", "indices", 0),
    "52069": Analyte("Absolute Basophil Count", "K/uL", "absolute", 2),
    "52073": Analyte("Absolute Eosinophil Count", "K/uL", "absolute", 2),
    "52074": Analyte("Absolute Monocyte Count", "K/uL", "absolute", 2),
    "52075": Analyte("Absolute Neutrophil Count", "K/uL", "absolute", 2),
    "52135": Analyte("Immature Granulocytes", "%", "immature", 1),
    "52172": Analyte("RDW-SD", "fL", "red_width", 1),
}


@dataclass(frozen=True)
class Panel:
    """Values that are ordered together: in what share of healthy people's studies, and where not at all."""

    share: float
    missing_at: tuple[str, ...] = ()  # hospitals whose laboratory does not report it
    alone: float = 0.02  # share in which one value of the panel fails by itself


PANELS: dict[str, Panel] = {  # effects.ORDERS says what raises the shares
    "basic": Panel(0.96),
    "count": Panel(0.96),
    "minerals": Panel(0.72),
    "differential": Panel(0.62),
    "absolute": Panel(0.85, ("northfield",)),  # of those that have a differential, as the next
    "immature": Panel(0.80, ("northfield", "harbour")),
    "liver": Panel(0.60),
    "albumin": Panel(0.42),
    "coagulation": Panel(0.60),
    "gas": Panel(0.15),
    "lactate": Panel(0.22),
    "muscle": Panel(0.18),
    "indices": Panel(0.70, ("northfield",)),
    "red_width": Panel(0.90, ("northfield",)),
}
FOLLOWS = {"absolute": "differential", "immature": "differential"}  # panel -> one it is a part of
SHARE_WITH_ECG, SHARE_WITH_LABORATORY = 0.62, 0.66  # of healthy people's studies


@dataclass(frozen=True)
class Spread:
    """How healthy people of a hospital spread: a normal number, or its logarithm."""

    normal: float  # the median
    deviation: float  # of the value, or of its natural logarithm
    logarithmic: bool = False
    low: float = 0.0
    high: float = float("inf")

    def place(self, deviate: float) -> float:
        """The value so many deviations from the median, within its limits."""
        shift = self.deviation * deviate
        value = self.normal * exp(shift) if self.logarithmic else self.normal + shift
        return min(max(value, self.low), self.high)


def _log(normal: float, deviation: float, low: float = 0.0, high: float = float("inf")) -> Spread:
    return Spread(normal, deviation, True, low, high)


QUANTITIES: dict[str, Spread] = {
    "sodium": Spread(139.5, 2.8, low=115.0, high=165.0),
    "potassium": Spread(4.1, 0.38, low=2.4, high=8.0),
    "bicarbonate": Spread(24.8, 2.4, low=6.0, high=45.0),
    "chloride_rest": Spread(0.0, 2.3, low=-12.0),  # what sodium and bicarbonate do not explain
    "urea": _log(15.0, 0.34, 3.0, 180.0),
    "creatinine": _log(0.78, 0.20, 0.2, 15.0),
    "glucose": _log(107.0, 0.16, 35.0, 800.0),
    "calcium": Spread(8.9, 0.48, low=5.5, high=14.0),
    "magnesium": Spread(2.0, 0.22, low=0.8, high=4.5),
    "phosphate": Spread(3.4, 0.62, low=0.8, high=13.0),
    "alt": _log(21.0, 0.50, 4.0, 8000.0),
    "ast": _log(24.0, 0.42, 6.0, 9000.0),
    "alkaline_phosphatase": _log(76.0, 0.32, 20.0, 1500.0),
    "bilirubin": _log(0.48, 0.42, 0.1, 40.0),
    "albumin": Spread(3.9, 0.40, low=1.2, high=5.4),
    "creatine_kinase": _log(85.0, 0.62, 10.0, 40000.0),
    "inr": _log(1.08, 0.09, 0.8, 15.0),
    "ptt": _log(29.5, 0.13, 18.0, 150.0),
    "lactate": _log(1.35, 0.30, 0.4, 22.0),
    "pco2": Spread(41.0, 5.0, low=18.0, high=110.0),
    "po2": _log(92.0, 0.30, 25.0, 500.0),
    "haemoglobin": Spread(12.6, 1.10, low=4.5, high=19.0),
    "mcv": Spread(90.0, 5.2, low=62.0, high=122.0),
    "mchc": Spread(33.0, 1.05, low=27.0, high=37.5),
    "red_width": _log(13.5, 0.065, 11.0, 30.0),
    "red_width_rest": Spread(0.0, 1.2, low=-5.0),
    "platelets": _log(230.0, 0.28, 8.0, 1200.0),
    "neutrophils": _log(4.7, 0.30, 0.2, 60.0),
    "lymphocytes": _log(1.65, 0.36, 0.1, 12.0),
    "monocytes": _log(0.52, 0.30, 0.02, 5.0),
    "eosinophils": _log(0.13, 0.70, 0.0, 4.0),
    "basophils": _log(0.03, 0.50, 0.0, 0.5),
    "immature": _log(0.035, 0.55, 0.0, 6.0),
    "haemolysis": _log(7.0, 0.70, 0.0, 800.0),
    "lipaemia": _log(9.0, 0.50, 0.0, 600.0),
    "icterus_rest": Spread(0.0, 0.45, low=-2.0),
    "pt_rest": Spread(0.0, 0.12, low=-1.0),
}
assert set(LABORATORY) <= set(QUANTITIES)
