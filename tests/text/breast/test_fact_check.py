"""The fact checker: what texts of any writer claim, and how that compares with a record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evidence.breast_errors import ERRORS, draw_record
from evidence.report_facts import WORDINGS, read_prose, score_planted, score_true_texts

from hilum.text.breast.fact_check import check_facts
from hilum.text.breast.grammar import STYLES
from hilum.text.breast.reading import read_claims
from hilum.text.breast.record import Finding, Location
from toy_breasts import NEGATIVE, RICH, SPARSE

TRUE = (
    "The left breast is heterogeneously dense. In the upper outer quadrant, at posterior depth, there is a 12 mm oval "
    "mass of high density with ill-defined margins, seen on the MLO view only. Grouped amorphous microcalcifications "
    "are noted on both views. There is no architectural distortion and no asymmetry. BI-RADS 4."
)


def test_a_true_text_of_another_hand_states_everything() -> None:
    check = check_facts(TRUE, RICH)
    assert check.is_true
    assert check.is_complete
    assert check.missing == ()
    assert check.num_facts == 17


@pytest.mark.parametrize(
    ("right", "wrong", "fact"),
    [
        ("left breast", "right breast", "side: right"),
        ("left breast", "breasts bilaterally", "side: right"),
        ("BI-RADS 4", "BI-RADS 5", "assessment: 5 (record: 4)"),
        ("BI-RADS 4", "BI-RADS category IV, benign", "assessment: 2 (record: 4)"),
        ("BI-RADS 4", "Assessment: five", "assessment: 5 (record: 4)"),
        ("heterogeneously dense", "extremely dense", "density: d (record: c)"),
        ("heterogeneously dense", "of ACR density B", "density: b (record: c)"),
        ("there is a 12 mm", "there is no 12 mm", "no mass (record: mass)"),
        ("microcalcifications are noted on", "microcalcifications are absent on", "no calcification"),
        ("no architectural distortion", "architectural distortion", "finding: architectural distortion"),
        ("a 12 mm oval mass", "two 12 mm oval masses", "finding: several of mass (record: one)"),
        ("oval", "irregular", "mass.shape: irregular"),
        ("ill-defined", "circumscribed", "mass.margin: circumscribed"),
        ("ill-defined", "irregular", "mass.margin: irregular"),
        ("of high density", "of low density", "mass.mass_density: low"),
        ("amorphous", "fine pleomorphic", "calcification.morphology: fine pleomorphic"),
        ("Grouped", "Segmental", "calcification.distribution: segmental"),
        ("12 mm", "21 mm", "mass.size: 21 mm"),
        ("12 mm", "2.1 cm", "mass.size: 21 mm"),
        ("12 mm", "12 cm", "mass.size: 120 mm"),
        ("upper outer", "lower outer", "mass.vertical: lower"),
        ("upper outer", "upper inner", "mass.horizontal: inner"),
        ("posterior", "anterior", "mass.depth: anterior"),
        ("MLO view only", "CC view only", "mass.view: cc"),
        ("on both views", "on the CC view only", "calcification.view: only cc"),
    ],
)
def test_a_wrong_word_is_a_contradiction(right: str, wrong: str, fact: str) -> None:
    assert right in TRUE
    check = check_facts(TRUE.replace(right, wrong), RICH)
    assert any(found.startswith(fact) for found in check.contradicted), check


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        ("Skin thickening is present.", "finding: skin thickening"),
        ("There is no skin thickening.", "no skin thickening"),
        ("A clip marks the biopsy site.", "finding: clip"),
        ("The calcifications span 8 mm.", "calcification.size: 8 mm"),
        ("The calcifications are in the retroareolar region.", "calcification.region: retroareolar"),
        ("Compared with the prior study of 2019 this is new.", "comparison: prior"),
        ("Compared with the prior study of 2019 this is new.", "date: 2019"),
        ("Ultrasound-guided biopsy is recommended.", "recommendation: biopsy"),
        ("This is most likely invasive carcinoma.", "outcome: carcinoma"),
        ("The patient is 61 years old.", "person: years old"),
        ("Accession 20384756.", "identifier: 20384756"),
        ("The mass is at the 10 o'clock position.", "clock face: 10 o'clock"),
        ("The mass is palpable.", "complaint: palpable"),
        ("There is skin edema.", "unrecorded: edema"),
    ],
)
def test_what_the_record_does_not_hold_is_invented(words: str, fact: str) -> None:
    assert fact in check_facts(f"{TRUE} {words}", RICH).invented


@pytest.mark.parametrize(
    ("right", "wrong", "fact"),
    [
        ("is heterogeneously dense", "tissue is fatty", "density: a (record: c)"),
        ("BI-RADS 4", "BI-RADS 4-5", "assessment: 5 (record: 4)"),
        ("BI-RADS 4", "BI-RADS 4 or 5", "assessment: 5 (record: 4)"),
        ("BI-RADS 4", "Score: 2", "assessment: 2 (record: 4)"),
        ("left breast", "RT breast", "side: right"),
        ("left breast", "R breast", "side: right"),
        ("upper outer quadrant", "LIQ", "mass.vertical: lower"),
        ("upper outer quadrant", "LIQ", "mass.horizontal: inner"),
        ("There is no architectural distortion", "There are no microcalcs", "no calcification (record: calcification)"),
        ("12 mm", "2 inches", "mass.size: 50.8 mm"),
        ("12 mm", "twenty-millimetre", "mass.size: 20 mm"),
        ("12 mm", "twenty two mm", "mass.size: 22 mm"),
        ("a 12 mm", "a large 12 mm", "mass.extent: large"),
        ("a 12 mm", "a tiny 12 mm", "mass.extent: tiny"),
    ],
)
def test_short_and_loose_words_are_read_too(right: str, wrong: str, fact: str) -> None:
    assert right in TRUE
    assert any(found.startswith(fact) for found in check_facts(TRUE.replace(right, wrong), RICH).contradicted)


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        ("The mass is new since last year.", "comparison: new"),
        ("The mass has a halo.", "unrecorded: halo"),
        ("Mrs. Miller.", "person: mrs"),
        ("The calcifications are in a large area.", "calcification.extent: large"),  # their size is not recorded
    ],
)
def test_loose_words_that_no_record_holds_are_invented(words: str, fact: str) -> None:
    assert fact in check_facts(f"{TRUE} {words}", RICH).invented


def test_the_same_facts_in_short_words_are_true() -> None:
    words = {"left breast": "L breast", "upper outer quadrant": "UOQ", "12 mm": "twelve-millimetre"}
    words |= {"microcalcifications": "microcalcs", "BI-RADS 4": "BI-RADS score: 4"}
    text = TRUE
    for plain, short in words.items():
        assert plain in text
        text = text.replace(plain, short)
    check = check_facts(text, RICH)
    assert (check.is_true, check.missing) == (True, ())
    small = replace(SPARSE, findings=(Finding("mass", size_mm=8.0, size_source="box"),))
    assert check_facts("Right breast: small mass of one centimetre.", small).contradicted == ("mass.size: 10 mm",)
    assert check_facts("Right breast: small mass, 8 mm. BI-RADS unknown.", small).is_true


def test_what_is_left_out_is_missing_and_without_a_finding_the_text_is_incomplete() -> None:
    check = check_facts("Left breast: oval mass and calcifications. BI-RADS 4.", RICH)
    assert check.is_true
    assert check.is_complete
    assert "finding 1 (mass).margin: indistinct" in check.missing
    assert "density: c" in check.missing
    assert not check_facts("Left breast: oval mass. BI-RADS 4.", RICH).is_complete
    assert not check_facts("Left breast: oval mass and calcifications.", RICH).is_complete


@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("Right breast with scattered fibroglandular densities. No suspicious finding. BI-RADS 1, negative.", True),
        ("Right mammogram: no mass, calcification or distortion. BI-RADS 1.", True),
        ("No masses or calcifications are seen in the right breast. BI-RADS 1.", True),
        ("Neither a mass nor calcifications are present on the right. BI-RADS 1.", True),
        ("The right breast is negative for mass. BI-RADS 1.", True),
        ("No masses are seen but a small cluster of calcifications is present on the right. BI-RADS 1.", False),
        ("The right breast shows a mass. BI-RADS 1.", False),
        ("Right breast, BI-RADS 1 with density category B, benign.", False),
    ],
)
def test_denials(text: str, is_true: bool) -> None:
    assert check_facts(text, NEGATIVE).is_true == is_true


def test_nothing_may_be_denied_that_the_archive_does_not_record() -> None:
    assert check_facts("Right breast, extremely dense. No mass.", SPARSE).invented == ("no mass",)
    assert check_facts("Right breast, extremely dense. No suspicious finding.", SPARSE).invented == (
        "no suspicious any",
    )
    only = replace(NEGATIVE, exhaustive_for="suspicious")
    assert check_facts("Right breast: no suspicious mass.", only).is_true
    assert check_facts("Right breast: no mass.", only).invented == ("no mass (record: no suspicious one)",)


def test_large_rods_are_a_kind_of_calcification_and_no_size() -> None:
    record = replace(SPARSE, findings=(Finding("calcification", morphologies=("large rod-like",), suspicious=False),))
    assert check_facts("Right breast: large rod-like calcifications.", record).is_true


def test_round_is_a_shape_of_masses_and_a_kind_of_calcification() -> None:
    record = replace(SPARSE, findings=(Finding("mass", shapes=("oval",)), Finding("calcification", morphologies=("round",), suspicious=False)))  # fmt: skip # noqa: E501
    assert check_facts("Right breast: oval mass. Round calcifications.", record).is_true
    assert not check_facts("Right breast: round mass. Calcifications.", record).is_true


def test_two_masses_are_told_apart() -> None:
    one = Finding("mass", shapes=("oval",), size_mm=8.0, size_source="table", location=Location("upper"))
    other = Finding("mass", shapes=("round",), size_mm=20.0, size_source="table", location=Location("lower"))
    record = replace(SPARSE, findings=(one, other))
    text = (
        "Right breast. An oval mass of 8 mm is in the upper breast. A round mass in the lower breast measures 2.0 cm."
    )
    check = check_facts(text, record)
    assert check.is_true
    assert check.missing == ("density: d",)
    assert not check_facts(text.replace("8 mm", "2 cm"), record).is_true


def test_an_asymmetry_may_stand_for_its_kind_but_not_for_another() -> None:
    record = replace(SPARSE, findings=(Finding("focal asymmetry"),))
    assert check_facts("Right breast: asymmetry.", record).is_true
    assert not check_facts("Right breast: global asymmetry.", record).is_true


def test_sizes_are_compared_within_their_rounding() -> None:
    record = replace(SPARSE, findings=(Finding("mass", size_mm=11.6, size_source="box"),))
    for size, is_true in (
        ("12 mm", True),
        ("1.2 cm", True),
        ("11 x 12 mm", True),
        ("12.0 mm", True),
        ("11 mm", False),
        ("1 cm", False),
    ):
        assert check_facts(f"Right breast: mass, {size}.", record).is_true == is_true, size


def test_a_descriptor_in_the_next_sentence_belongs_to_the_last_finding() -> None:
    claims = read_claims("There is a mass in the left breast. It measures 8 mm. Its margins are spiculated.")
    (mass,) = claims.mentions
    assert mass.slots == {"size": {(8.0, 0.5)}, "margin": {"spiculated"}}


def test_errors_in_prose_written_by_hand_are_found() -> None:
    accepted = 0
    for text, record, wrong in read_prose():
        accepted += check_facts(text, record).is_true
        for kind, changed in wrong:
            assert not check_facts(changed, record).is_true, (kind, changed)
    assert accepted >= 15  # one tells two masses apart by "the larger"


@pytest.mark.parametrize("wording", WORDINGS)
def test_no_true_text_is_turned_down_and_planted_errors_are_found(wording: str) -> None:
    """A sample of `evidence/report_facts.py`, which has thousands."""
    records = [draw_record(number, seed=9) for number in range(7)]
    for style in STYLES:
        assert score_true_texts(records[:4], style, WORDINGS[wording]).all()
    for kind, plant in ERRORS.items():
        found = score_planted(records, kind, plant, WORDINGS[wording])
        assert len(found), kind
        assert np.mean(found) >= 0.95, kind
