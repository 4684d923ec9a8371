"""The canonical record: what it refuses, which breasts are described alike, how often a batch holds such."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from hilum.breasts import BREAST, BREAST_FINDINGS, BREASTS, FINDING, LISTS
from hilum.errors import UserError
from hilum.study import STUDY_SCHEMA, VIEW, build_studies, read_studies, write_studies
from hilum.text.breast.duplicates import count_identical, expect_identical
from hilum.text.breast.record import (
    Box,
    BreastRecord,
    Finding,
    Location,
    describe_record,
    dump_record,
    hash_description,
    hash_record,
    name_facts,
    order_by_concern,
    read_records,
    write_records,
)
from hilum.text.breast.study_breasts import open_records, read_breasts
from toy_breasts import NEGATIVE, RICH, SPARSE


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Finding("asymmetry", margins=("spiculated",)), "mass's shape, margin"),
        (lambda: Finding("mass", distributions=("grouped",)), "calcification's"),
        (lambda: Finding("mass", shapes=("square",)), "shapes"),
        (lambda: Finding("mass", size_mm=12.0), "needs its source"),
        (lambda: Finding("mass", size_mm=-1.0, size_source="box"), "greater than 0"),
        (lambda: Finding("mass", boxes=(Box("cc", 0, 0, 5, 5),)), "box in a view"),
        (lambda: Box("cc", 5, 0, 5, 5), "no area"),
        (lambda: BreastRecord("d", "p", "s", "left", 4), "needs its source"),
        (
            lambda: BreastRecord("d", "p", "s", "left", views=("cc",), findings=(Finding("mass", views=("mlo",)),)),
            "not taken",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make()


def test_descriptions_hold_neither_ids_nor_side_nor_boxes() -> None:
    moved = replace(RICH, patient="another", study="other", laterality="right", dataset="elsewhere")
    boxed = replace(moved, findings=(replace(RICH.findings[0], boxes=(Box("mlo", 1, 1, 9, 9),)), RICH.findings[1]))
    assert describe_record(boxed) == describe_record(RICH)
    assert hash_description(boxed) == hash_description(RICH)
    assert hash_record(boxed) != hash_record(RICH)
    assert not [word for word in ("4711", "0815", "left", "toy") if word in str(describe_record(RICH))]


def test_descriptions_do_not_depend_on_the_order_of_findings_and_tell_what_texts_tell() -> None:
    turned = replace(RICH, findings=RICH.findings[::-1])
    assert hash_description(turned) == hash_description(RICH)
    elsewhere = replace(RICH.findings[0], location=Location("lower"))
    other = replace(RICH, findings=(elsewhere, RICH.findings[1]))
    assert hash_description(other) != hash_description(RICH)


def test_facts_are_statements_that_tell_who_is_described_alike() -> None:
    assert name_facts(NEGATIVE) == ["assessment: 1", "density: b", "no finding"]
    assert name_facts(SPARSE) == ["density: d"]
    assert name_facts(RICH) == [
        "assessment: 4", "density: c",
        "calcification", "calcification, suspicious: True", "calcification, morphology: amorphous",
        "calcification, distribution: grouped", "calcification, views: cc", "calcification, views: mlo",
        "mass", "mass, shape: oval", "mass, margin: indistinct", "mass, mass_density: high", "mass, size_mm: 12",
        "mass, views: mlo", "mass, vertical: upper", "mass, horizontal: outer", "mass, depth: posterior",
    ]  # fmt: skip
    assert name_facts(replace(RICH, findings=RICH.findings[::-1], laterality="right")) == name_facts(RICH)
    round_oval, one_each = (
        replace(NEGATIVE, findings=tuple(Finding("mass", shapes=shapes) for shapes in both))
        for both in ((("oval", "round"), ()), (("oval",), ("round",)))
    )
    assert set(name_facts(round_oval)) != set(name_facts(one_each))


def test_a_finding_of_one_view_counts_where_two_were_taken() -> None:
    assert RICH.has_single_view_finding()  # its mass, seen in the MLO
    assert not replace(RICH, findings=RICH.findings[1:]).has_single_view_finding()
    assert not NEGATIVE.has_single_view_finding()
    assert not replace(SPARSE, views=("cc",), findings=(Finding("mass", views=("cc",)),)).has_single_view_finding()


def test_an_asymmetry_of_any_kind_is_no_absence_of_asymmetry() -> None:
    record = replace(NEGATIVE, findings=(Finding("focal asymmetry"),))
    assert record.list_absent() == ("mass", "calcification", "architectural distortion")


def test_incomplete_worries_more_than_probably_benign() -> None:
    findings = [Finding("mass", birads=value) for value in (2, 0, None, 3, 5)]
    assert [one.birads for one in order_by_concern(findings)] == [5, 0, 3, 2, None]


def test_records_come_back_from_their_file_and_wrong_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records([RICH, NEGATIVE, SPARSE], path)
    assert read_records(path) == [RICH, NEGATIVE, SPARSE]
    assert open_records(path) == [RICH, NEGATIVE, SPARSE]
    path.write_text(path.read_text() + '{"dataset": "d", "patient": "p", "study": "s", "laterality": "middle"}\n')
    with pytest.raises(UserError, match=r"line 4: laterality: .* \(found 'middle'\)"):
        read_records(path)
    path.write_text('{"dataset": "d", "patient": "p", "study": "s", "laterality": "left", "assessment": 7}\n')
    with pytest.raises(UserError, match="line 1: assessment: Input should be 0, 1"):
        read_records(path)
    write_records([RICH, RICH], path)
    with pytest.raises(UserError, match="line 2: the left breast of study study-0815 again"):
        read_records(path)


def view(kind: str, side: str = "left") -> dict[str, str]:
    return {"path": f"{side}-{kind}.dcm", "kind": kind, "position": kind.upper(), "laterality": side}


def found(kind: str, path: str | None = "left-cc.dcm", **fields) -> dict:
    return dict.fromkeys(FINDING.to_schema()) | {"laterality": "left", "kind": kind, "path": path} | fields


def build_table(findings: list[dict], **breast) -> pl.DataFrame:
    known = dict.fromkeys(BREAST.to_schema()) | {"laterality": "left", "labels": []} | breast
    row = {"dataset": "d", "patient": "hashed", "study": "one", "root": "/", BREASTS: [known]}
    row |= {"views": [view("cc"), view("mlo"), view("cc", "right")], BREAST_FINDINGS: findings}
    schema = {**LISTS, "views": STUDY_SCHEMA["views"]}
    views = [{**dict.fromkeys(VIEW.to_schema()), **one} for one in row["views"]]
    return build_studies(
        pl.DataFrame({name: [value] for name, value in {**row, "views": views}.items()}, schema_overrides=schema)
    )


def test_a_study_table_says_what_is_known_of_a_breast_and_its_outcomes_are_not_read(tmp_path: Path) -> None:
    box = {"top": 1.0, "left": 2.0, "bottom": 30.0, "right": 40.0}
    mass = found(
        "mass", assessment=4, shape="oval;lobular", margin="indistinct", density="high", pathology="malignant", **box
    )
    other = found("calcification", path=None, morphology="pleomorphic;generic", distribution="grouped")
    labels = [{"name": "mass", "state": 1}, {"name": "skin thickening", "state": 0}, {"name": "biopsy", "state": 0}]
    said = {"assessment": 4, "assessment_source": "finding", "density": "c", "cancer": 1, "labels": labels}
    table = build_table([mass, other, found("region", **box)], **said)
    write_studies(table, tmp_path / "studies.parquet")
    (record,) = open_records(tmp_path / "studies.parquet")
    assert (record.patient, record.study, record.laterality, record.views) == ("hashed", "one", "left", ("cc", "mlo"))
    assert (record.assessment, record.assessment_source, record.density) == (4, "finding-max", "c")
    assert (record.list_absent(), record.exhaustive_for) == (("skin thickening",), "suspicious")
    first, second = record.findings
    assert (first.shapes, first.margins, first.mass_density) == (("oval", "lobular"), ("indistinct",), "high")
    assert (first.birads, first.views, first.boxes) == (4, ("cc",), (Box("cc", 1, 2, 30, 40),))
    assert (second.morphologies, second.suspicious, second.views) == (("fine pleomorphic",), True, ())
    text = dump_record(record)
    assert "malignant" not in text
    assert "cancer" not in text


def test_boxes_of_one_kind_are_several_where_a_view_has_two_and_named_findings_stay_apart() -> None:
    places = ("left-cc.dcm", "left-mlo.dcm", "left-cc.dcm")
    (one,) = read_breasts(build_table([found("mass", path) for path in places[:2]]), "table")[0].findings
    assert (one.several, one.views) == (False, ("cc", "mlo"))
    (several,) = read_breasts(build_table([found("mass", path) for path in places]), "table")[0].findings
    assert several.several
    named = [found("mass", path, finding=word) for path, word in zip(places, "112", strict=True)]
    assert [one.views for one in read_breasts(build_table(named), "table")[0].findings] == [("cc", "mlo"), ("cc",)]


def test_what_an_archives_word_calls_suspicious_is_and_tables_of_earlier_releases_are_read(tmp_path: Path) -> None:
    node = found("lymph node", suspicious=True)
    coarse = found("calcification", morphology="coarse")
    records = read_breasts(build_table([node, coarse]), "table")[0].findings
    assert [one.suspicious for one in records] == [True, False]
    frame = build_table([coarse])
    write_studies(frame, tmp_path / "now.parquet")
    fields = [field.name for field in FINDING.fields if field.name != "suspicious"]
    entry = pl.element().struct
    old = pl.read_parquet(tmp_path / "now.parquet").with_columns(
        pl.col(BREAST_FINDINGS).list.eval(pl.struct(entry.field(name) for name in fields))
    )
    assert "suspicious" not in str(old.schema[BREAST_FINDINGS])
    old.write_parquet(tmp_path / "old.parquet")
    assert read_studies(tmp_path / "old.parquet").equals(read_studies(tmp_path / "now.parquet"))
    assert len(read_breasts(old, "table")) == 1


def test_descriptors_that_views_of_a_finding_disagree_on_stay_open() -> None:
    rows = [
        found("mass", path, finding="1", margin=word)
        for path, word in (("left-cc.dcm", "obscured"), (None, "spiculated"))
    ]
    (record,) = read_breasts(build_table(rows), "table")
    assert record.findings[0].margins == ()


def test_a_negative_breast_is_free_of_everything_that_is_listed() -> None:
    labels = [{"name": "mass", "state": 0}]
    (negative,) = read_breasts(build_table([], assessment=1, assessment_source="breast", labels=labels), "table")
    (benign,) = read_breasts(build_table([], assessment=2, assessment_source="breast", labels=labels), "table")
    assert (negative.exhaustive_for, benign.exhaustive_for) == ("all", "suspicious")
    with pytest.raises(UserError, match=r"table, study one: size_mm: .*less than or equal to 300 \(found 900.0\)"):
        read_breasts(build_table([found("mass", size_mm=900.0)]), "table")
    with pytest.raises(UserError, match="no column breasts"):
        read_breasts(build_table([]).drop(BREASTS), "table")


def test_identical_negatives_of_a_batch_by_hand() -> None:
    assert count_identical(["a", "a", "b"]) == pytest.approx((2 / 3, 2 / 3))
    assert count_identical(["a", "b", "c"]) == (0.0, 0.0)
    assert count_identical([]) == (0.0, 0.0)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 6, 7])
def test_expected_identical_negatives_are_the_mean_over_all_batches(batch_size: int) -> None:
    descriptions = list("aaabbcd")
    batches = [count_identical(one) for one in combinations(descriptions, batch_size)]
    mean = tuple(sum(values) / len(batches) for values in zip(*batches, strict=True))
    assert expect_identical(descriptions, batch_size) == pytest.approx(mean)
