"""Scores of written reports: by hand, and beside reports that know nothing of the study."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from hilum.evaluate.report_scores import (
    REAL_DEALT,
    WRITTEN,
    WRITTEN_DEALT,
    describe_silent,
    list_languages,
    list_silent,
    read_language,
    score_reports,
    tabulate_agreement,
)


def test_the_rules_of_a_language_are_found_by_what_archives_call_it() -> None:
    assert [read_language(said) for said in (None, "", "en-GB", "ES", "es_ES", "de", "spanish")] == [
        "en", "en", "en", "es", "es", None, None,
    ]  # fmt: skip
    assert list_languages(pl.DataFrame({"study": ["a", "b"]})) == ["en", "en"]
    assert list_languages(pl.DataFrame({"extra_language": ["es", None]})) == ["es", "en"]


def test_scores_by_hand_in_two_languages() -> None:
    """Of two English reports one finding is found, one missed and one too many: F1 2/(2 + 1 + 1) of diseases; each text
    states one or more, so that No Finding is in neither. The Spanish one without a report does not count."""
    written = ["Pneumothorax.", "Large effusion.", "Derrame pleural.", "Neumotórax.", "Neumotórax."]
    real = ["Pneumothorax.", "Cardiomegaly.", "Derrame pleural.", "Neumotórax.", ""]
    archive = ["a", "a", "padchest", "padchest", "padchest"]
    scored = score_reports(
        written,
        real,
        archive=archive,
        patient=np.arange(5),
        language=["en", "en", "es", "es", "es"],
    )
    assert [(one.archive, one.texts, one.num) for one in scored] == [
        (name, texts, 2) for name in ("a", "padchest") for texts in (WRITTEN, WRITTEN_DEALT, REAL_DEALT)
    ]
    english, spanish = scored[:3], scored[3:]
    assert english[0].rouge_l == pytest.approx(0.5)
    assert english[0].findings.micro == pytest.approx(2 / 4)
    assert english[0].findings.macro == pytest.approx(1 / 3)  # of three findings one
    assert english[2].findings.micro == english[2].rouge_l == 0, "other patients have other findings"
    assert spanish[0].findings.micro == spanish[0].rouge_l == 1
    assert spanish[1].findings.micro == spanish[1].rouge_l == 0, "the same two texts, exchanged"


def test_reports_that_name_no_finding_are_counted() -> None:
    """A text without sense counts as No Finding like "normal chest"; an empty one as nothing."""
    written = ["there......", "Normal chest.", "No effusion.", "", "Edema."]
    real = ["Normal chest."] * 5
    archive = ["a"] * 5
    assert list_silent(written, ["en", "en", "en", "en", None]) == [True, True, False, False, None]
    own, dealt, others = score_reports(written, real, archive=archive, patient=np.arange(5), language=["en"] * 5)
    assert [one.num_silent for one in (own, dealt, others)] == [2, 2, 5]
    assert describe_silent([own, dealt, others]).startswith(
        "2 of the 5 written and 5 of the 5 real reports name no finding, present or absent, and so count as No Finding"
    )
    assert describe_silent([own]).startswith("2 of the 5 written reports name")
    assert describe_silent([replace(own, findings=None, num_silent=None)]) == ""


def test_what_cannot_be_scored_is_left_out() -> None:
    scored = score_reports(
        ["Herzschatten normal gross."] * 3,
        ["Herzschatten normal gross.", "Herzschatten normal gross.", ""],
        archive=["c", "c", "d"],
        patient=np.array([4, 4, 5]),
        language=[None] * 3,
    )
    (only,) = scored  # both of one patient: none can be dealt; and archive d has no report
    assert (only.archive, only.texts, only.num, only.findings, only.num_silent) == ("c", WRITTEN, 2, None, None)
    assert only.bleu == pytest.approx(1)
    said = io.StringIO()
    Console(file=said, width=100).print(tabulate_agreement(scored))
    row = next(line for line in said.getvalue().splitlines() if "written" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["c", "written", "2", "100.0", "100.0", "-", "-"]
