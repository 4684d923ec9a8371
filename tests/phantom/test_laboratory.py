"""Laboratory values: their arithmetic, their spread in health and illness, and who is missing them."""

from __future__ import annotations

import numpy as np
import pytest

from hilum.laboratory.vocabulary import read_vocabulary
from hilum.phantom.physiology.analytes import ANALYTES, PANELS, QUANTITIES, SHARE_WITH_LABORATORY
from hilum.phantom.physiology.effects import GIVEN, LABORATORY
from hilum.phantom.physiology.laboratory import (
    derive_analytes,
    draw_laboratory,
    draw_ordered,
    draw_quantities,
    name_nuisances,
)

ITEMS = list(ANALYTES)
NAMES = {analyte.name: item for item, analyte in ANALYTES.items()}


@pytest.fixture(scope="module")
def values(plans, bodies) -> np.ndarray:
    """(study, analyte), NaN where missing."""
    rows = [draw_laboratory(plan, body).values() for plan, body in zip(plans, bodies, strict=True)]
    return np.array([[np.nan if value is None else value for value in row] for row in rows])


@pytest.fixture(scope="module")
def drawn(plans, bodies) -> np.ndarray:
    """(study, analyte) before anything is missing."""
    return np.array(
        [list(derive_analytes(draw_quantities(plan, body)).values()) for plan, body in zip(plans, bodies, strict=True)]
    )


def test_there_are_fifty_in_the_order_of_symile() -> None:
    assert len(ITEMS) == 50
    vocabulary = read_vocabulary("symile").variables
    assert [str(variable.itemid) for variable in vocabulary] == ITEMS
    for variable, analyte in zip(vocabulary, ANALYTES.values(), strict=True):
        assert variable.unit == analyte.unit or analyte.unit in ("", "units"), analyte.name
    assert {analyte.panel for analyte in ANALYTES.values()} == set(PANELS)
    usual = {name: spread.normal for name, spread in QUANTITIES.items()}
    assert list(derive_analytes(usual)) == ITEMS


def test_a_laboratory_s_arithmetic_by_hand() -> None:
    usual = {name: spread.normal for name, spread in QUANTITIES.items()}
    found = derive_analytes(
        {
            **usual,
            "haemoglobin": 15.0,
            "mchc": 100 / 3,
            "mcv": 90.0,
            "bicarbonate": 24.0,
            "pco2": 40.0,
            "neutrophils": 6.0,
            "lymphocytes": 2.0,
            "monocytes": 1.0,
            "eosinophils": 0.5,
            "basophils": 0.4,
            "immature": 0.1,
            "sodium": 139.5,
            "potassium": 4.0,
            "bilirubin": 1.0,
        }
    )
    by_hand = {
        "Hematocrit": 45.0,  # 100 x 15 / 33.3
        "Red Blood Cells": 5.0,  # 10 x 45 / 90
        "MCH": 30.0,  # 10 x 15 / 5
        "White Blood Cells": 10.0,
        "Neutrophils": 60.0,
        "Lymphocytes": 20.0,
        "Immature Granulocytes": 1.0,
        "pH": 7.391,  # 6.1 + lg(24 / (0.0307 x 40))
        "Calculated Total CO2": 25.228,  # 24 + 0.0307 x 40
        "Chloride": 103.4,  # 103 + 0.5 x 0.8
        "Anion Gap": 16.1,  # 139.5 + 4 - 103.4 - 24
        "I": 2.1,
    }
    for name, value in by_hand.items():
        assert found[NAMES[name]] == pytest.approx(value, abs=1e-3), name


def test_well_people_have_well_people_s_values(values, bodies) -> None:
    ranges = {  # of reference laboratories, men and women together
        "Sodium": (135, 146),
        "Potassium": (3.4, 5.1),
        "Creatinine": (0.5, 1.3),
        "Urea Nitrogen": (7, 26),
        "Bicarbonate": (21, 30),
        "Chloride": (97, 109),
        "Hemoglobin": (11.0, 16.5),
        "Platelet Count": (140, 420),
        "White Blood Cells": (3.8, 11),
        "Albumin": (3.2, 5.0),
        "INR(PT)": (0.9, 1.25),
        "Lactate": (0.7, 2.3),
        "MCV": (81, 99),
        "Magnesium": (1.6, 2.5),
        "Phosphate": (2.3, 4.7),
    }
    well = np.array([body.causes["illness"] < 0.05 for body in bodies])
    for name, (low, high) in ranges.items():
        column = values[well, ITEMS.index(NAMES[name])]
        column = column[~np.isnan(column)]
        assert np.mean((column >= low) & (column <= high)) > 0.80, name
    shares = [NAMES[name] for name in ("Basophils", "Eosinophils", "Lymphocytes", "Monocytes", "Neutrophils")]
    shares.append(NAMES["Immature Granulocytes"])
    total = values[:, [ITEMS.index(item) for item in shares]].sum(1)
    assert np.abs(total[~np.isnan(total)] - 100).max() < 0.5


@pytest.mark.parametrize(
    ("target", "name", "factor"),
    [
        ("sepsis", "White Blood Cells", 1.3),
        ("sepsis", "Absolute Neutrophil Count", 1.4),
        ("sepsis", "Lactate", 1.2),
        ("sepsis", "Albumin", 0.95),
        ("renal_failure", "Creatinine", 1.4),
        ("renal_failure", "Urea Nitrogen", 1.4),
        ("renal_failure", "Phosphate", 1.1),
        ("congestion", "RDW", 1.02),
        ("congestion", "Sodium", 0.99),
        ("diabetes", "Glucose", 1.3),
    ],
)
def test_illness_moves_its_values(drawn, bodies, target: str, name: str, factor: float) -> None:
    column = drawn[:, ITEMS.index(NAMES[name])]
    ill = np.array([body.targets[target] for body in bodies], bool)
    ratio = np.median(column[ill]) / np.median(column[~ill])
    assert ratio > factor if factor > 1 else ratio < factor


def test_effects_are_those_of_the_table(plans, bodies) -> None:
    """Least squares of the drawn deviates on the causes gives the planted sizes back."""
    for name in ("creatinine", "sodium", "haemoglobin", "neutrophils", "glucose"):
        spread, effects = QUANTITIES[name], LABORATORY[name]
        raw = np.array([draw_quantities(plan, body)[name] for plan, body in zip(plans, bodies, strict=True)])
        deviate = (np.log(raw / spread.normal) if spread.logarithmic else raw - spread.normal) / spread.deviation
        table = np.array([[*(body.causes[cause] for cause in effects), 1.0] for body in bodies])
        fit = np.linalg.lstsq(table, deviate, rcond=None)[0]
        error = np.sqrt(np.diag(np.linalg.inv(table.T @ table)))
        assert (np.abs(fit - np.array([*effects.values(), 0.0])) < 8 * error).all(), (name, fit)


def test_more_is_known_of_the_ill(values, plans, bodies) -> None:
    illness = np.array([body.causes["illness"] for body in bodies])
    known = ~np.isnan(values)
    any_known = known.any(1)
    groups = [illness < 0.1, (illness >= 0.1) & (illness < 0.5), illness >= 0.5]
    shares = [known[group].mean() for group in groups]
    assert shares[0] + 0.04 < shares[1] < shares[2] - 0.08
    assert abs(any_known[groups[0]].mean() - SHARE_WITH_LABORATORY) < 0.08
    lactate = known[:, ITEMS.index(NAMES["Lactate"])]
    assert lactate[groups[2]].mean() > 1.8 * lactate[groups[0]].mean()
    assert 0.55 < known[any_known].mean() < 0.80
    ecg = np.array([draw_ordered(plan, body)["ecg"] for plan, body in zip(plans, bodies, strict=True)])
    assert ecg[groups[2]].mean() > ecg[groups[0]].mean() + 0.1
    small = np.array([plan.institution == "northfield" for plan in plans])
    index = known[:, ITEMS.index(NAMES["L"])]
    assert not index[small].any()
    assert index[~small].any()


def test_nuisances_depend_on_nothing_in_the_image(drawn, bodies) -> None:
    nuisances = name_nuisances()
    named = {ANALYTES[item].name for item in nuisances}
    assert {"Glucose", "MCV", "MCH", "MCHC", "Magnesium", "Calcium, Total", "H", "L"} <= named
    assert not named & {"Hemoglobin", "Creatinine", "Sodium", "White Blood Cells", "Eosinophils", "RDW-SD"}
    shown = np.array([[*(body.causes[name] for name in GIVEN), *body.image.values()] for body in bodies])
    for item in nuisances:
        column = drawn[:, ITEMS.index(item)]
        found = [np.corrcoef(np.log(column + 1e-6), each)[0, 1] for each in shown.T if each.std() > 0]
        assert np.abs(found).max() < 0.14, ANALYTES[item].name
