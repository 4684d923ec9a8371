"""Sections of hand-written reports in the layouts of MIMIC-CXR's files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.text.sections import split_sections

USUAL = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old woman with cough.  // eval for pneumonia

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  ___

 FINDINGS:

 The lungs are clear.  There is no
 pleural effusion.

 LINES: None.

 The heart is normal.

 IMPRESSION:

 1. No acute process.
 2. Old granuloma.
"""


def test_headers_in_capitals_name_sections_and_lines_of_a_paragraph_are_joined() -> None:
    assert split_sections(USUAL) == {
        "examination": "CHEST (PA AND LAT)",
        "indication": "___ year old woman with cough. // eval for pneumonia",
        "technique": "Chest PA and lateral",
        "comparison": "___",
        # A header nobody knows belongs to the section it stands in, and findings go on over paragraphs.
        "findings": "The lungs are clear. There is no pleural effusion.\nLINES: None.\nThe heart is normal.",
        "impression": "1. No acute process. 2. Old granuloma.",
    }


def test_the_last_paragraph_without_a_header_is_the_report_not_the_comparison() -> None:
    text = "FINAL REPORT\n CHEST RADIOGRAPHS\n\n HISTORY:  Fall.\n\n COMPARISONS:  None.\n\n"
    text += " The lungs are clear.\n No fracture."
    assert split_sections(text) == {
        "examination": "CHEST RADIOGRAPHS",
        "history": "Fall.",
        "comparison": "None.",
        "report": "The lungs are clear. No fracture.",
    }


def test_a_header_nobody_knows_after_a_short_section_begins_the_report() -> None:
    text = "REASON FOR EXAM: Cough.\nPORTABLE AP CHEST: The heart is large.\n\nThere is edema."
    assert split_sections(text) == {
        "indication": "Cough.",
        "report": "PORTABLE AP CHEST: The heart is large.\nThere is edema.",
    }


@pytest.mark.parametrize("header", ["ADDENDUM", "ADDENDUM:", "ADDENDUM: "])
def test_an_addendum_is_its_own_section_and_ends_at_the_line_of_underscores(header: str) -> None:
    text = f"{header} There is a nodule.\n Follow up.\n{'_' * 40}\n FINAL REPORT\n\n"
    text += " INDICATION: Pain.\n\n IMPRESSION: Normal."
    assert split_sections(text) == {
        "addendum": "There is a nodule. Follow up.",
        "indication": "Pain.",
        "impression": "Normal.",
    }


def test_a_wet_read_before_the_final_report_stays_apart() -> None:
    text = "WET READ: ___ ___ 9:39 PM\n  No pneumonia.\n______________\n FINAL REPORT\n FINDINGS: Clear."
    assert split_sections(text) == {"wet read": "___ ___ 9:39 PM No pneumonia.", "findings": "Clear."}


def test_headers_within_a_line_count_where_a_sentence_ends_before_them() -> None:
    text = "INDICATION: Cough. COMPARISON: None. FINDINGS: Clear lungs, see IMPRESSION: no. IMPRESSION: Normal."
    assert split_sections(text) == {
        "indication": "Cough.",
        "comparison": "None.",
        "findings": "Clear lungs, see IMPRESSION: no.",
        "impression": "Normal.",
    }


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        (
            "The lungs are clear.\nNo effusion.\n\nHeart normal.",
            {"report": "The lungs are clear. No effusion.\nHeart normal."},
        ),
        ("NO ACUTE DISEASE", {"report": "NO ACUTE DISEASE"}),
        ("", {}),
        (" \n\n ", {}),
        ("IMPRESSION:\n\n", {}),
        ("IMPRESSION\n Normal.", {"impression": "Normal."}),
        ("Impression: Normal.", {"impression": "Normal."}),
        ("FINDINGS: Clear.\r\n\r\nIMPRESSION: Normal.\r\n", {"findings": "Clear.", "impression": "Normal."}),
        ("FINDINGS AND IMPRESSION: Clear.", {"findings and impression": "Clear."}),
        ("CONCLUSION: One.\n\nIMPRESSION: Two.", {"impression": "One.\nTwo."}),
        ("Compared at 5:32 A.M. the lungs are clear.", {"report": "Compared at 5:32 A.M. the lungs are clear."}),
    ],
)
def test_texts_without_sections_and_odd_headers(text: str, sections: dict[str, str]) -> None:
    assert split_sections(text) == sections


@given(st.lists(st.sampled_from(["FINDINGS:", "IMPRESSION: x", "the lungs", "", "HEART:", "____________", "A CHEST"])))
def test_no_word_is_lost_but_headers_and_rules(lines: list[str]) -> None:
    sections = split_sections("\n".join(lines))
    kept = sorted(" ".join(sections.values()).split())
    said = [line.removeprefix("IMPRESSION:") for line in lines if line != "FINDINGS:" and "_" not in line]
    assert kept == sorted(" ".join(said).split())
    assert all(text == text.strip() != "" for text in sections.values())
