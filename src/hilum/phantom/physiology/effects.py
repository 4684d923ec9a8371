"""What is planted, where it shows, and how much: the one table that image, ECG and laboratory values are made by.

A *cause* is a hidden state of the body from 0 (none) to 1. Those in GIVEN are read off the phantom's plan (its lesions,
devices, person and pose: all of them plain to see in the image); those in CAUSES are drawn: a base, plus what other
causes drive, plus what is the patient's own and the day's (normal, with these deviations), cut to 0..1. A *quantity* is
its normal value, plus a natural spread, plus the effects of causes, each given at cause = 1.

What shows where (in brackets an effect in natural spreads, at a cause of one half):

| target | image | ECG | laboratory |
|---|---|---|---|
| reduced ejection fraction | strong, with cardiomegaly; without, heart 5 % larger (1) | wide QRS, flat T | faint |
| left ventricular hypertrophy | faint: left ventricle rounded by 3 mm (1.5) | voltage (2), axis (1.7), strain | none |
| atrial fibrillation | faint: left atrium larger by 4 mm (1.7), age | rhythm | faint: INR |
| congestion | strong with oedema, effusion; before, vessels to the upper lobes (2.7) | faint: rate, voltage | faint |
| renal failure | faint: calcium of the aortic arch (2.8), lines, oedema | faint: T of high potassium | strong |
| sepsis | strong with pneumonia, without none | faint: rate | strong: white cells, lactate |
| long QT | none | QT (3.7) | none |
| diabetes | none | none | glucose (2.8) |

Long QT and diabetes depend on nothing else, not even on age or sex: an encoder that seems to see them in an image has
been tested wrongly. The same holds for the laboratory values in `name_nuisances`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Strength = Literal["strong", "faint", "none"]
Causes = Mapping[str, float]  # cause -> 0..1 (GIVEN ones in their own units)

GIVEN = {  # what the plan says, and how it is scaled
    "age": "(years - 60) / 15",
    "male": "0 or 1",
    "cardiomegaly": "0, or 0.35 to 1 with its severity",
    "edema": "0, or 0.4 to 1 with its severity",
    "effusion": "severity of the greater side",
    "left_effusion": "severity on the left",
    "left_air": "severity of a pneumothorax on the left",
    "pneumonia": "0, or 0.4 to 1 with its severity; of a consolidation alone 0.8 of that",
    "opacity": "severity of other opacities and of atelectasis",
    "malignancy": "a lung lesion or a port: 0 or 1",
    "tube": "0 or 1",
    "line": "0 or 1",
    "pacemaker": "0 or 1",
    "surgery": "wires of heart surgery: 0 or 1",
    "turn": "of the heart's long axis in the frontal plane, degrees; more is steeper",
    "rise": "of the diaphragm over its usual place, centimetres",
    "thickness": "of the fat under the skin over 1.2 cm, centimetres",
}


@dataclass(frozen=True)
class Cause:
    """A hidden state from 0 to 1: base + drivers + the patient's own + the day's, cut to this range."""

    meaning: str
    base: float
    person: float = 0.0  # deviation between patients, the same on all of a patient's days
    day: float = 0.0  # deviation between days
    drivers: Causes = field(default_factory=dict)


CAUSES: dict[str, Cause] = {  # in an order in which each follows what drives it
    "hypertension": Cause("years of high blood pressure", -0.15, 0.42, 0.0, {"age": 0.14}),
    "ischaemia": Cause("narrow coronary arteries", -0.40, 0.38, 0.05, {"age": 0.12, "male": 0.10}),
    "kidney": Cause("chronic kidney disease", -0.40, 0.45, 0.0, {"age": 0.12, "hypertension": 0.30}),
    "dysfunction": Cause(
        "weak left ventricle; ejection fraction 63 - 42 x %",
        -0.22,
        0.28,
        0.05,
        {"cardiomegaly": 0.70, "ischaemia": 0.30, "pacemaker": 0.10, "edema": 0.15, "surgery": 0.10, "male": 0.06},
    ),
    "hypertrophy": Cause(
        "thick left ventricle",
        -0.20,
        0.32,
        0.02,
        {"hypertension": 0.75, "kidney": 0.20, "cardiomegaly": 0.15, "male": 0.05},
    ),
    "atrium": Cause(
        "large left atrium; from ATRIAL_FIBRILLATION on it fibrillates",
        -0.24,
        0.32,
        0.05,
        {"age": 0.14, "hypertension": 0.20, "cardiomegaly": 0.25, "dysfunction": 0.25, "surgery": 0.15},
    ),
    "inflammation": Cause(
        "infection and the body's answer",
        -0.34,
        0.0,
        0.38,
        {"pneumonia": 0.75, "opacity": 0.25, "tube": 0.20, "line": 0.12, "effusion": 0.10},
    ),
    "renal": Cause(
        "kidneys that fail today", -0.12, 0.0, 0.12, {"kidney": 1.0, "inflammation": 0.25, "line": 0.15, "edema": 0.15}
    ),
    "congestion": Cause(
        "high filling pressure, fluid held back",
        -0.12,
        0.0,
        0.20,
        {"edema": 0.70, "effusion": 0.25, "dysfunction": 0.50, "renal": 0.30, "atrium": 0.15},
    ),
    "hypoxia": Cause(
        "too little oxygen in the blood",
        -0.25,
        0.0,
        0.16,
        {"edema": 0.45, "pneumonia": 0.50, "effusion": 0.30, "opacity": 0.25, "left_air": 0.30, "tube": 0.15},
    ),
    "hyperkalaemia": Cause("high potassium", -0.20, 0.0, 0.20, {"renal": 0.85}),
    "anaemia": Cause("too few red cells", -0.30, 0.36, 0.08, {"age": 0.10, "renal": 0.30, "malignancy": 0.20}),
    "liver": Cause("injured liver", -0.55, 0.42, 0.06, {"congestion": 0.20, "inflammation": 0.12}),
    "long_qt": Cause("slow repolarisation", -0.75, 0.80),
    "diabetes": Cause("high blood sugar", -0.75, 0.80),
    "illness": Cause(
        "how much a doctor wants to know; what decides which values are ordered",
        0.0,
        0.0,
        0.0,
        {"inflammation": 0.5, "congestion": 0.5, "hypoxia": 0.4, "renal": 0.3, "tube": 0.5, "line": 0.3},
    ),
}


@dataclass(frozen=True)
class Quantity:
    """Something measurable: normal + spread x a normal number + sum of effects x causes, cut to its limits."""

    unit: str
    normal: float
    spread: float  # natural deviation; most of it belongs to the patient
    effects: Causes
    low: float = -float("inf")
    high: float = float("inf")


IMAGE: dict[str, Quantity] = {  # 0 is the phantom as it is without physiology
    # The phantom's own hearts vary by 0.046 (clinic.py); nothing is added to that.
    "heart": Quantity("log of the heart's width", 0.0, 0.0, {"dysfunction": 0.09, "anaemia": 0.015}),
    "ventricle": Quantity("cm more radius of the left ventricle", 0.0, 0.20, {"hypertrophy": 0.60}, -0.5, 1.2),
    "atrium": Quantity("cm more radius of the left atrium", 0.0, 0.22, {"atrium": 0.75}, -0.5, 1.2),
    "upper_vessels": Quantity(
        "share of blood added to the upper lobes' vessels, and a haze around the hila",
        0.10,
        0.10,
        {"congestion": 0.55},
        0.0,
        1.0,
    ),
    "arch_calcium": Quantity("1/cm in the wall of the aortic arch", 0.10, 0.18, {"kidney": 1.0}, 0.0, 1.6),
}

ECG: dict[str, Quantity] = {
    "rate": Quantity(
        "1/min",
        72.0,
        9.0,
        {"inflammation": 34.0, "hypoxia": 16.0, "congestion": 14.0, "anaemia": 10.0, "dysfunction": 6.0},
        46.0,
        150.0,
    ),
    "variability": Quantity("log of the RR interval's relative deviation", -3.35, 0.35, {"age": -0.2, "illness": -0.4}),
    "pr": Quantity("ms from P to QRS", 158.0, 16.0, {"age": 5.0, "ischaemia": 12.0}, 115.0, 260.0),
    "p_duration": Quantity("ms", 104.0, 6.0, {"atrium": 26.0}, 80.0, 150.0),
    "qrs": Quantity(
        "ms",
        90.0,
        6.0,
        {"male": 5.0, "dysfunction": 12.0, "hypertrophy": 10.0, "cardiomegaly": 6.0, "hyperkalaemia": 18.0},
        72.0,
        150.0,
    ),
    "block": Quantity("share of a left bundle branch block", -0.45, 0.28, {"dysfunction": 1.0, "age": 0.08}, 0.0, 1.0),
    "axis": Quantity(
        "degrees of the QRS axis in the frontal plane",
        48.0,
        11.0,
        {"turn": 1.6, "rise": -4.0, "thickness": -4.0, "hypertrophy": -38.0, "left_air": 20.0},
        -85.0,
        120.0,
    ),
    "voltage": Quantity(
        "log of the QRS voltage",
        0.0,
        0.13,
        {
            "hypertrophy": 0.50,
            "cardiomegaly": 0.12,
            "male": 0.10,
            "age": -0.04,
            "thickness": -0.12,
            "edema": -0.15,
            "effusion": -0.15,
            "left_effusion": -0.35,
            "left_air": -0.35,
        },
    ),
    "posterior": Quantity("mV of the posterior forces of QRS", 0.72, 0.12, {"hypertrophy": 0.40}, 0.2, 2.0),
    "t_voltage": Quantity(
        "log of the T wave's voltage",
        0.0,
        0.22,
        {"hyperkalaemia": 0.9, "dysfunction": -0.8, "ischaemia": -0.4, "age": -0.08, "male": 0.15},
        -2.0,
        1.0,
    ),
    "strain": Quantity("share of T waves against QRS", 0.0, 0.05, {"hypertrophy": 0.95, "dysfunction": 0.30}, 0.0, 1.0),
    "st": Quantity("mV of the ST segment along QRS", 0.0, 0.012, {"ischaemia": -0.12}, -0.2, 0.1),
    "qtc": Quantity("ms, by Bazett", 412.0, 13.0, {"male": -9.0, "long_qt": 95.0}, 350.0, 540.0),
    "ectopy": Quantity(
        "share of beats that are ventricular", -0.02, 0.02, {"dysfunction": 0.10, "ischaemia": 0.06}, 0.0
    ),
}

LABORATORY: dict[str, Causes] = {  # in natural spreads of the analyte (analytes.py)
    "neutrophils": {"inflammation": 4.2, "tube": 0.4},
    "immature": {"inflammation": 2.8},
    "lymphocytes": {"inflammation": -1.4, "age": -0.2},
    "monocytes": {"inflammation": 0.6},
    "platelets": {"inflammation": -0.5, "malignancy": 0.4, "liver": -1.2},
    "lactate": {"inflammation": 2.4, "hypoxia": 1.0, "dysfunction": 0.4, "liver": 0.6},
    "albumin": {"inflammation": -1.6, "congestion": -0.5, "malignancy": -0.5, "liver": -1.2, "age": -0.2},
    "creatinine": {"renal": 7.0, "male": 0.9, "age": 0.2, "congestion": 0.5},
    "urea": {"renal": 3.6, "congestion": 1.0, "age": 0.4},
    "potassium": {"hyperkalaemia": 4.5, "renal": 0.4},
    "phosphate": {"renal": 2.6},
    "bicarbonate": {"renal": -1.6, "inflammation": -1.0},
    "sodium": {"congestion": -1.5, "dysfunction": -0.4},
    "bilirubin": {"liver": 2.4, "congestion": 0.8, "inflammation": 0.4},
    "alt": {"liver": 3.0},
    "ast": {"liver": 3.0, "ischaemia": 0.4},
    "alkaline_phosphatase": {"liver": 1.5, "malignancy": 0.5},
    "inr": {"liver": 2.5, "atrium": 1.5, "inflammation": 0.5},  # who fibrillates is given anticoagulants
    "ptt": {"liver": 1.2, "inflammation": 0.4},
    "creatine_kinase": {"ischaemia": 1.5, "male": 0.5},
    "haemoglobin": {"male": 1.3, "anaemia": -3.4, "renal": -0.8, "congestion": -0.4, "age": -0.2},
    "red_width": {"anaemia": 2.0, "congestion": 0.8, "dysfunction": 0.6, "age": 0.2},
    "pco2": {"hypoxia": 0.6, "inflammation": -0.5},
    "po2": {"hypoxia": -2.0, "tube": 1.2, "age": -0.2},
    "glucose": {"diabetes": 5.5},
}

ORDERS: dict[str, Causes] = {  # what raises the share of studies in which something is measured (analytes.PANELS)
    "ecg": {"illness": 0.25, "ischaemia": 0.20, "dysfunction": 0.25, "atrium": 0.20},
    "laboratory": {"illness": 0.45},
    "minerals": {"illness": 0.30},
    "differential": {"inflammation": 0.50, "illness": 0.20},
    "liver": {"illness": 0.40, "liver": 0.20},
    "albumin": {"illness": 0.40},
    "coagulation": {"illness": 0.40, "atrium": 0.20},
    "gas": {"hypoxia": 0.80, "tube": 0.40, "inflammation": 0.20},
    "lactate": {"inflammation": 0.60, "hypoxia": 0.40},
    "muscle": {"ischaemia": 0.40, "illness": 0.10},
}

ATRIAL_FIBRILLATION = 0.30  # of the cause "atrium"


@dataclass(frozen=True)
class Target:
    """A yes-or-no target of downstream tasks: whether a cause reaches a value, and where it can be read."""

    cause: str
    at_least: float
    image: Strength
    ecg: Strength
    laboratory: Strength


TARGETS: dict[str, Target] = {
    "reduced_ejection_fraction": Target("dysfunction", 0.40, "strong", "strong", "faint"),
    "left_ventricular_hypertrophy": Target("hypertrophy", 0.30, "faint", "strong", "none"),
    "atrial_fibrillation": Target("atrium", ATRIAL_FIBRILLATION, "faint", "strong", "faint"),
    "congestion": Target("congestion", 0.35, "strong", "faint", "faint"),
    "renal_failure": Target("renal", 0.30, "faint", "faint", "strong"),
    "sepsis": Target("inflammation", 0.40, "strong", "faint", "strong"),
    "long_qt": Target("long_qt", 0.30, "none", "strong", "none"),
    "diabetes": Target("diabetes", 0.15, "none", "none", "strong"),
}


def add_effects(effects: Causes, causes: Causes) -> float:
    """The sum of effect x cause."""
    return sum((size * causes[cause] for cause, size in effects.items()), start=0.0)


def find_linked() -> set[str]:
    """Causes with any link to the image: given ones, what shows in it, and what drives or follows either.

    The others are independent of the image, whatever an encoder reads of it.
    """
    linked = {*GIVEN, *(cause for quantity in IMAGE.values() for cause in quantity.effects)}
    while True:
        more = {name for name, cause in CAUSES.items() if linked & {*cause.drivers}}
        more |= {driver for name in linked & {*CAUSES} for driver in CAUSES[name].drivers}
        if more <= linked:
            return linked
        linked |= more
