"""The grammar: the same every time, varied, within its budget, and never more than the record has."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from hilum.text.breast.fact_check import check_facts
from hilum.text.breast.grammar import STYLES, Budget, write_text
from hilum.text.breast.record import Finding, Location
from hilum.text.breast.skeletons import fill_skeleton, read_phrases
from hilum.text.tokenizer import train_tokenizer
from toy_breasts import EMPTY, NEGATIVE, RICH, SPARSE


@pytest.mark.parametrize(
    ("slots", "several", "sentence"),
    [
        ({"shape": "oval", "margin": "obscured"}, False, "There is an oval mass with obscured margins."),
        ({"shape": "round"}, False, "There is a round mass."),
        ({"size": "8 mm"}, False, "There is an 8 mm mass."),
        ({"size": "18 mm"}, False, "There is an 18 mm mass."),
        ({"size": "1.8 cm"}, False, "There is a 1.8 cm mass."),
        ({}, True, "There are masses."),
    ],
)
def test_skeletons(slots: dict[str, str], several: bool, sentence: str) -> None:
    skeleton = "there {is|are} {a|} [{size}] [{shape}] {mass|masses}[ with {margin} margins]."
    assert fill_skeleton(skeleton, slots, several=several) == sentence


def test_a_text_is_a_function_of_record_variant_and_seed() -> None:
    assert write_text(RICH, 1) == write_text(RICH, 1)
    assert len({write_text(RICH, variant) for variant in range(20)}) == 20
    assert write_text(RICH, 1) != write_text(RICH, 1, seed=1)
    assert write_text(RICH, 1) != write_text(replace(RICH, patient="another"), 1)


def test_every_slot_has_three_to_six_skeletons() -> None:
    phrases = read_phrases()
    lists = [phrases[name]["skeletons"] for name in ("exam", "composition", "negative", "impression")]
    lists += [kind["skeletons"] for kind in phrases["finding"].values()]
    assert {len(skeletons) for skeletons in lists} <= {3, 4, 5, 6}


@pytest.mark.parametrize("style", STYLES)
def test_without_dropout_everything_is_said(style) -> None:
    for variant in range(15):
        text = write_text(RICH, variant, style=style, dropout=0.0).lower()
        assert all(
            word in text for word in ("left", "oval", "amorphous", "high-density", "upper", "outer", "posterior")
        )
        assert "12 mm" in text or "1.2 cm" in text
        assert "architectural distortion" in text
        assert "4" in text


def test_dropout_leaves_fields_out_but_no_finding_side_or_assessment() -> None:
    texts = [write_text(RICH, variant, dropout=0.5).lower() for variant in range(30)]
    assert 5 < sum("oval" in text for text in texts) < 25
    assert all("mass" in text and "calcification" in text and "left" in text and "4" in text for text in texts)


def test_the_report_style_stands_in_its_order_and_sentences_do_not() -> None:
    reports = [write_text(RICH, variant, style="report", dropout=0.0).lower() for variant in range(20)]
    assert all(text.index("findings:") < text.rindex("bi-rads") for text in reports)
    assert all("mass" not in text[: text.index("findings:")] for text in reports)
    texts = [write_text(RICH, variant, style="sentence", dropout=0.0) for variant in range(20)]
    assert len({text.index("BI-RADS") < text.lower().index("amorphous") for text in texts}) == 2


def test_what_is_not_recorded_is_not_said() -> None:
    texts = " ".join(write_text(SPARSE, variant, dropout=0.0) for variant in range(30)).lower()
    assert not [word for word in (" no ", "absent", "not seen", "bi-rads", "mass", "calcif", "view") if word in texts]


def test_places_are_named_only_where_geometry_told_them() -> None:
    nowhere = replace(RICH, findings=tuple(replace(one, location=Location()) for one in RICH.findings))
    texts = " ".join(write_text(nowhere, variant, dropout=0.0) for variant in range(30)).lower()
    places = ("upper", "lower", "outer", "inner", "quadrant", "posterior", "anterior", "middle", "third", "half")
    assert not [word for word in places if word in texts.split()]


def test_neither_ids_nor_outcomes_nor_what_leads_to_them() -> None:
    risky = replace(RICH, age_band="60-69", implant=True, exam_reason="palpable lump")
    texts = " ".join(write_text(one, variant) for one in (risky, NEGATIVE) for variant in range(30)).lower()
    words = ("4711", "0815", "toy", "malignan", "benign", "cancer", "60", "implant", "palpable", "biopsy", "none")
    assert not [word for word in words if word in texts]


def test_absences_are_qualified_where_only_suspicious_findings_are_recorded() -> None:
    record = replace(NEGATIVE, exhaustive_for="suspicious")
    for variant in range(30):
        text = write_text(record, variant, dropout=0.0).lower()
        assert "suspicious" in text, text


def test_a_budget_drops_what_matters_least_and_never_the_assessment() -> None:
    corpus = [write_text(RICH, variant, dropout=0.0) for variant in range(40)]
    tokenizer = train_tokenizer(corpus, 400)

    def count(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    whole = [write_text(RICH, variant, style="sentence", dropout=0.0) for variant in range(30)]
    for limit in (20, 60, 80):
        texts = [
            write_text(RICH, variant, style="sentence", dropout=0.0, budget=Budget(limit, count))
            for variant in range(30)
        ]
        assert all(count(text) <= limit or text.count("BI-RADS") == text.count(".") == 1 for text in texts)
        assert all("BI-RADS" in text for text in texts)
    for short, long in zip(texts, whole, strict=True):  # of 80 tokens: the mass is worth more than the calcifications
        assert "mass" in short.lower() or "amorphous" not in short.lower()
        assert short == long or count(long) > 80
    generous = Budget(1000, count)
    assert write_text(RICH, 3, dropout=0.0, budget=generous) == write_text(RICH, 3, dropout=0.0)


def test_several_findings_of_a_kind_are_said_so_without_one_size() -> None:
    record = replace(SPARSE, findings=(Finding("mass", several=True, size_mm=9.0, size_source="box"),))
    texts = [write_text(record, variant, style="sentence", dropout=0.0).lower() for variant in range(20)]
    assert all("masses" in text and " mm" not in text for text in texts)


@pytest.mark.parametrize("kind", ["mass", "lymph node", "focal asymmetry"])
def test_several_findings_and_a_single_view_are_named_in_their_number(kind: str) -> None:
    finding = Finding(kind, several=True, views=("cc",), mass_density="high" if kind == "mass" else None)  # ty: ignore[invalid-argument-type]
    record = replace(SPARSE, views=("cc",), findings=(finding,))
    for style in STYLES:
        texts = [write_text(record, variant, style=style, dropout=0.0) for variant in range(40)]
        assert not [text for text in texts if re.search(r"\b(?:It|Its|views|projections)\b", text, re.IGNORECASE)]
        assert all(check_facts(text, record).is_true for text in texts)
    assert any("They are" in write_text(record, variant, style="report", dropout=0.0) for variant in range(40))


def test_a_record_that_says_nothing_has_no_text() -> None:
    with pytest.raises(AssertionError):
        write_text(EMPTY)
