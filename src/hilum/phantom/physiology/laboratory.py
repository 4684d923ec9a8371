"""The 50 laboratory values of a study in their units, with what was never ordered missing.

Quantities are drawn healthy, moved by the causes of `effects.LABORATORY`, and made into the values a laboratory reports
by its own arithmetic: red cells from haemoglobin, shares from counts, pH from bicarbonate and carbon dioxide. Values
are missing because nobody asked (`effects.ORDERS`): less is known of the well, so that what is missing tells, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log10

from hilum.phantom.dice import Dice
from hilum.phantom.physiology.analytes import (
    ANALYTES,
    FOLLOWS,
    PANELS,
    QUANTITIES,
    SHARE_WITH_ECG,
    SHARE_WITH_LABORATORY,
)
from hilum.phantom.physiology.effects import LABORATORY, ORDERS, add_effects, find_linked
from hilum.phantom.physiology.state import Physiology, draw_deviate, mix_deviates
from hilum.phantom.plan import StudyPlan

CO2_SOLUBILITY, CARBONIC_PK = 0.0307, 6.1  # mmol/L per mm Hg; Henderson and Hasselbalch
ALWAYS_SAID = 0.98  # the greatest share of anything


def draw_quantities(plan: StudyPlan, physiology: Physiology) -> dict[str, float]:
    """QUANTITIES of a study; most of a healthy deviation is the patient's own and comes back at every study."""
    person, day = Dice("laboratory of the person", plan.person.key), Dice("laboratory", plan.key)
    drawn = {}
    for name, spread in QUANTITIES.items():
        own = mix_deviates(draw_deviate(person), draw_deviate(day))
        drawn[name] = spread.place(own + add_effects(LABORATORY.get(name, {}), physiology.causes))
    return drawn


def derive_analytes(drawn: Mapping[str, float]) -> dict[str, float]:
    """All ANALYTES from QUANTITIES, in their units, not rounded."""
    q = drawn
    cells = {name: q[name] for name in ("neutrophils", "lymphocytes", "monocytes", "eosinophils", "basophils")}
    white = sum(cells.values()) + q["immature"]
    haematocrit = 100 * q["haemoglobin"] / q["mchc"]
    red = 10 * haematocrit / q["mcv"]
    chloride = 103.0 + 0.8 * (q["sodium"] - 139.5) - 0.5 * (q["bicarbonate"] - 24.8) + q["chloride_rest"]
    dissolved = CO2_SOLUBILITY * q["pco2"]
    ph = CARBONIC_PK + log10(q["bicarbonate"] / dissolved)
    return {
        "50802": 0.93 * (q["bicarbonate"] - 24.4 + 14.8 * (ph - 7.4)),
        "50804": q["bicarbonate"] + dissolved,
        "50813": q["lactate"],
        "50818": q["pco2"],
        "50820": ph,
        "50821": q["po2"],
        "50861": q["alt"],
        "50862": q["albumin"],
        "50863": q["alkaline_phosphatase"],
        "50868": max(q["sodium"] + q["potassium"] - chloride - q["bicarbonate"], 2.0),
        "50878": q["ast"],
        "50882": q["bicarbonate"],
        "50885": q["bilirubin"],
        "50893": q["calcium"],
        "50902": chloride,
        "50910": q["creatine_kinase"],
        "50912": q["creatinine"],
        "50931": q["glucose"],
        "50934": q["haemolysis"],
        "50947": max(1.0 + 1.1 * q["bilirubin"] + q["icterus_rest"], 0.0),
        "50960": q["magnesium"],
        "50970": q["phosphate"],
        "50971": q["potassium"],
        "50983": q["sodium"],
        "51006": q["urea"],
        "51133": q["lymphocytes"],
        "51146": 100 * q["basophils"] / white,
        "51200": 100 * q["eosinophils"] / white,
        "51221": haematocrit,
        "51222": q["haemoglobin"],
        "51237": q["inr"],
        "51244": 100 * q["lymphocytes"] / white,
        "51248": 10 * q["haemoglobin"] / red,
        "51249": q["mchc"],
        "51250": q["mcv"],
        "51254": 100 * q["monocytes"] / white,
        "51256": 100 * q["neutrophils"] / white,
        "51265": q["platelets"],
        "51274": 11.1 * q["inr"] + q["pt_rest"],
        "51275": q["ptt"],
        "51277": q["red_width"],
        "51279": red,
        "51301": white,
        "51678": q["lipaemia"],
        "52069": q["basophils"],
        "52073": q["eosinophils"],
        "52074": q["monocytes"],
        "52075": q["neutrophils"],
        "52135": 100 * q["immature"] / white,
        "52172": 3.55 * q["red_width"] * q["mcv"] / 100 + q["red_width_rest"],
    }


def draw_ordered(plan: StudyPlan, physiology: Physiology) -> dict[str, bool]:
    """Whether each of "ecg", "laboratory" and the analytes was measured at all."""
    dice = Dice("ordered", plan.key)

    def happens(what: str, share: float) -> bool:
        return dice.happens(min(share + add_effects(ORDERS.get(what, {}), physiology.causes), ALWAYS_SAID))

    ordered = {"ecg": happens("ecg", SHARE_WITH_ECG), "laboratory": happens("laboratory", SHARE_WITH_LABORATORY)}
    panels: dict[str, bool] = {}
    for name, panel in PANELS.items():
        asked = happens(name, panel.share) and plan.institution not in panel.missing_at
        panels[name] = asked and panels.get(FOLLOWS.get(name, ""), True)
    for item, analyte in ANALYTES.items():
        failed = dice.happens(PANELS[analyte.panel].alone)
        ordered[item] = ordered["laboratory"] and panels[analyte.panel] and not failed
    return ordered


def draw_laboratory(plan: StudyPlan, physiology: Physiology) -> dict[str, float | None]:
    """All ANALYTES of a study in their units, rounded as reported; None where nothing was measured."""
    values = derive_analytes(draw_quantities(plan, physiology))
    ordered = draw_ordered(plan, physiology)
    return {
        item: round(values[item], analyte.decimals) + 0.0 if ordered[item] else None
        for item, analyte in ANALYTES.items()
    }


def name_nuisances() -> list[str]:
    """Analytes whose values depend on nothing that shows in the image: all that is made of free quantities alone."""
    linked = find_linked()
    free = {name for name in QUANTITIES if not linked & {*LABORATORY.get(name, {})}}
    usual = {name: spread.normal for name, spread in QUANTITIES.items()}
    before = derive_analytes(usual)
    moved: set[str] = set()
    for name in {*QUANTITIES} - free:
        after = derive_analytes({**usual, name: 1.1 * usual[name]})
        moved |= {item for item in ANALYTES if abs(after[item] - before[item]) > 1e-9}
    return [item for item in ANALYTES if item not in moved]
