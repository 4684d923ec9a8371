"""What is cut from a language model's answer, and what stays."""

from __future__ import annotations

import pytest

from hilum.text.breast.cleaning import clean_answer, reduce_words

REPORT = "Left breast with an oval mass. BI-RADS 4."


@pytest.mark.parametrize(
    "answer",
    [
        REPORT,
        f"Sure! Here is the report:\n\n{REPORT}",
        f"Certainly, here's a report in a terse style: {REPORT}",
        f"Here is the dictated text:\n```text\n{REPORT}\n```",
        f"# Mammography report\n\n{REPORT}",
        f"**Findings:** {REPORT}",
        "FINDINGS:\n- Left breast with an oval mass\n- BI-RADS 4",
        "1. Left breast with an oval mass.\n2. BI-RADS 4.",
        f'"{REPORT}"',
        f"{REPORT}\n\nNote: this text was written by a model.",
        f"{REPORT}\nLet me know if you need anything else!",
        f"<think>The patient has a mass.\nBI-RADS 4.</think>\n{REPORT}",
        "Left  breast\nwith an oval mass.\n\n\nBI-RADS 4.".replace("breast\n", "breast "),
    ],
)
def test_only_the_report_is_left(answer: str) -> None:
    assert clean_answer(answer) == REPORT


def test_nothing_is_left_of_a_thought_without_end_and_of_a_preamble() -> None:
    assert clean_answer("<think>Let me see, the patient") == ""
    assert clean_answer("Sure, here is the report:") == ""


def test_words_that_begin_a_report_are_no_preamble() -> None:
    text = "Here there is a mass: 8 mm. Impression of a left mass. 1.2 cm in size."
    assert clean_answer(text) == text


def test_words_as_mammo_clip_has_them() -> None:
    assert (
        reduce_words("Left breast: an ill-defined máss. No mass. BI-RADS 4.")
        == "left breast an ill defined mass bi rads 4"
    )
