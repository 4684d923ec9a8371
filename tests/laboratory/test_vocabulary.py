"""Names, order and units of laboratory values."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hilum.errors import UserError
from hilum.laboratory.units import find_factor, list_units, normalize_unit
from hilum.laboratory.vocabulary import LaboratoryVariable, LaboratoryVocabulary, read_vocabulary

# P 1.2, in the order of Symile's arrays.
_ITEMIDS = """
50802 50804 50813 50818 50820 50821 50861 50862 50863 50868 50878 50882 50885 50893 50902 50910
50912 50931 50934 50947 50960 50970 50971 50983 51006 51133 51146 51200 51221 51222 51237 51244
51248 51249 51250 51254 51256 51265 51274 51275 51277 51279 51301 51678 52069 52073 52074 52075
52135 52172
"""
ITEMIDS = _ITEMIDS.split()


def test_symiles_laboratory_values_stand_in_the_order_of_its_arrays() -> None:
    vocabulary = read_vocabulary("symile")
    assert [str(variable.itemid) for variable in vocabulary.variables] == ITEMIDS == sorted(ITEMIDS)
    # Haemolysis, icterus and lipaemia are indices, each laboratory's own.
    assert [variable.name for variable in vocabulary.variables if not variable.unit] == ["H", "I", "L"]
    assert vocabulary.names[16] == "Creatinine"
    assert vocabulary.find("50912") == vocabulary.find("creatinine") == 16


@pytest.mark.needs_real_data
def test_names_are_those_of_mimics_own_table(real_data: Path) -> None:
    file = real_data / "labs" / "D_LABITEMS.csv"
    listed = {row["ITEMID"]: row["LABEL"].strip() for row in csv.DictReader(file.read_text().splitlines())}
    known = [variable for variable in read_vocabulary("symile").variables if str(variable.itemid) in listed]
    assert len(known) == 43  # the others came with MIMIC-IV
    theirs = [listed[str(variable.itemid)].replace("Asparate", "Aspartate") for variable in known]
    assert theirs == [variable.name for variable in known]


def test_a_users_vocabulary(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("name,unit\nCRP,mg/L\nD-dimer,\n")
    vocabulary = read_vocabulary(file)
    assert vocabulary.variables == (LaboratoryVariable("CRP", "mg/L"), LaboratoryVariable("D-dimer"))
    assert vocabulary.find("d_dimer") == 1
    assert vocabulary.find("ldh") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,unit\nCRP,mg/L\ncrp,mg/dL\n", "'crp'"),
        ("label,unit\nCRP,mg/L\n", "label, unit"),
        ("name,unit\n,mg/L\n", "row 2"),
        ("name,unit\n", "without rows"),
    ],
)
def test_a_vocabulary_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_vocabulary(tmp_path / "mine.csv")


def test_the_difference_of_two_vocabularies_is_said() -> None:
    one = LaboratoryVocabulary((LaboratoryVariable("CRP", "mg/L"), LaboratoryVariable("LDH", "U/L")))
    other = LaboratoryVocabulary((LaboratoryVariable("CRP", "mg/dL"), LaboratoryVariable("LDH", "U/L")))
    assert one.describe_difference(one) is None
    assert one.describe_difference(other) == "value 1 is 'CRP' (mg/dL) and not 'CRP' (mg/L)"
    assert one.describe_difference(LaboratoryVocabulary(one.variables[:1])) == "1 laboratory values and not 2"


@pytest.mark.parametrize(
    ("name", "unit", "value", "expected"),
    [
        ("Creatinine", "\u00b5mol/L", 88.4, 1.0),
        ("Creatinine", "umol/l", 88.4, 1.0),
        ("Creatinine", "mg/dl", 1.2, 1.2),
        ("Glucose", "mmol/L", 5.55, 100.0),
        ("Urea Nitrogen", "mmol/L", 7.14, 20.0),
        ("Bilirubin, Total", "umol/L", 17.1, 1.0),
        ("Calcium, Total", "mmol/L", 2.5, 10.02),
        ("Calcium, Total", "mEq/L", 5.0, 10.02),
        ("Magnesium", "mmol/L", 0.823, 2.0),
        ("Phosphate", "mmol/L", 1.0, 3.097),
        ("Lactate", "mg/dL", 18.0, 1.998),
        ("pO2", "kPa", 13.33, 100.0),
        ("Hemoglobin", "g/L", 140.0, 14.0),
        ("Platelet Count", "x10^9/L", 250.0, 250.0),
        ("Platelet Count", "10*3/uL", 250.0, 250.0),
        ("White Blood Cells", "10E9/L", 7.0, 7.0),
        ("Red Blood Cells", "10^12/L", 4.5, 4.5),
        ("Alanine Aminotransferase (ALT)", "ukat/L", 1.0, 60.0),
        ("Sodium", "mmol/L", 140.0, 140.0),
        ("INR(PT)", "ratio", 1.1, 1.1),
        ("Sodium", "", 140.0, 140.0),
    ],
)
def test_units_by_hand(name: str, unit: str, value: float, expected: float) -> None:
    """Against conversion tables of laboratories, to the digits that these give."""
    vocabulary = read_vocabulary("symile")
    place = vocabulary.find(name)
    assert place is not None
    factor = find_factor(vocabulary.variables[place], unit)
    assert factor is not None
    assert factor * value == pytest.approx(expected, rel=2e-3)


def test_what_no_table_says_is_not_converted() -> None:
    creatinine = LaboratoryVariable("Creatinine", "mg/dL")
    assert find_factor(creatinine, "mmol/mol") is None
    assert find_factor(LaboratoryVariable("CRP", "mg/dL"), "umol/L") is None  # creatinine's factor is creatinine's
    assert find_factor(LaboratoryVariable("CRP"), "anything") == 1.0
    assert list_units(creatinine)[0] == "mg/dL"
    assert "umol/L" in list_units(creatinine)


def test_a_factor_reads_both_ways() -> None:
    inward = find_factor(LaboratoryVariable("Creatinine", "mg/dL"), "umol/L")
    outward = find_factor(LaboratoryVariable("Creatinine", "umol/L"), "mg/dL")
    assert inward is not None
    assert outward == pytest.approx(1 / inward)
    assert normalize_unit("\u03bcmol / L") == normalize_unit("umol/L")
