"""The archives of mammograms: every trap of their tables (L 4), and what is known of breasts and views afterwards."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from hilum.breasts import BREAST_FINDINGS, tabulate_breasts, tabulate_views
from hilum.cli import main
from hilum.errors import UserError
from hilum.identifiers import Naming
from hilum.sources import cbis_ddsm, csaw_cc, embed, rsna_mammo, vindr_mammo
from hilum.sources.named import check_archive, ingest_archive
from hilum.splits import assign_splits
from hilum.study import read_studies
from sources.archives.csv_files import read_csv, set_cell, write_csv
from sources.archives.mammography import write_cbis, write_csaw, write_embed, write_rsna
from sources.archives.vindr_mammo import BOX, write_published_counts, write_vindr_mammo
from toy_table import QUIET


def ingest(name: str, root: Path, **settings) -> pl.DataFrame:
    """The study table, ids readable and without the archive's name."""
    naming = Naming(keep_ids=True, id_space="")
    summary, _ = ingest_archive(name, root, root / "out" / "breasts.parquet", naming=naming, console=QUIET, **settings)
    return read_studies(summary.out)


def get_breast(breasts: pl.DataFrame, study: str, side: str) -> dict:
    (row,) = breasts.filter((pl.col("study") == study) & (pl.col("laterality") == side)).iter_rows(named=True)
    return row


def get_findings(frame: pl.DataFrame, study: str) -> list[dict]:
    return frame.filter(pl.col("study") == study)[BREAST_FINDINGS][0].to_list()


def get_labels(breast: dict, *names: str) -> tuple[int | None, ...]:
    return tuple(breast[name] for name in names)


# --- VinDr-Mammo


@pytest.fixture(scope="module")
def vindr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vindr_mammo(tmp_path_factory.mktemp("vindr"))


def test_vindr_states_every_finding_of_every_breast_and_of_every_view(vindr: Path) -> None:
    frame = ingest("vindr-mammo", vindr)
    breasts = tabulate_breasts(frame)
    assert len(breasts) == 2 * len(frame) == 10
    left = get_breast(breasts, "e1", "left")
    assert get_labels(left, "assessment", "assessment_source", "density") == (4, "breast", "c")
    assert get_labels(left, "mass", "calcification", "skin retraction", "asymmetry", "cancer") == (1, 1, 1, 0, None)
    assert get_labels(get_breast(breasts, "e1", "right"), "mass", "lymph node") == (0, 0)
    views = tabulate_views(frame, ["mass", "calcification"])
    first = views.filter(pl.col("study") == "e1").select("kind", "laterality", "mass", "calcification").rows()
    assert first == [("cc", "left", 1, 0), ("mlo", "left", 1, 1), ("cc", "right", 0, 0), ("mlo", "right", 0, 0)]


def test_vindr_boxes_are_source_pixels_and_a_box_of_two_words_is_two_findings(vindr: Path) -> None:
    frame = ingest("vindr-mammo", vindr)
    found = get_findings(frame, "e1")
    left, top, right, bottom = BOX
    sides = ("top", "left", "bottom", "right")
    assert [(one["kind"], one["assessment"], one["path"]) for one in found] == [
        ("mass", 4, "images/e1/e1-0.dicom"),
        ("mass", 4, "images/e1/e1-1.dicom"),
        ("skin retraction", 4, "images/e1/e1-1.dicom"),
        ("calcification", 3, "images/e1/e1-1.dicom"),
    ]
    assert [found[0][side] for side in sides] == [top, left, bottom, right]
    # Counted within each image: a number within the table would lead back to the exam.
    every = frame.select(pl.col(BREAST_FINDINGS)).explode(BREAST_FINDINGS).unnest(BREAST_FINDINGS).drop_nulls("row")
    assert every.group_by("path").agg(first=pl.col("row").min())["first"].unique().to_list() == [0]
    assert [one["row"] for one in found] == [0, 0, 0, 1]
    (node,) = get_findings(frame, "e3")  # a finding that no BI-RADS was given to
    assert (node["kind"], node["assessment"], node["laterality"]) == ("lymph node", None, "right")
    assert [node[side] for side in sides] == [20.25, 8.5, 70.0, 60.0]
    assert get_findings(frame, "e4") == []
    assert [one["suspicious"] for one in [*found, node]] == [None, None, None, True, True]


def test_vindr_exam_without_left_mlo_keeps_both_left_cc(vindr: Path) -> None:
    breasts = tabulate_breasts(ingest("vindr-mammo", vindr))
    odd = get_breast(breasts, "e2", "left")
    assert (len(odd["cc"]), odd["mlo"], odd["others"]) == (2, [], [])
    right = get_breast(breasts, "e2", "right")
    assert (len(right["cc"]), len(right["mlo"])) == (1, 1)


def test_vindr_test_exams_stay_tests_and_ids_are_hashed(vindr: Path, tmp_path: Path) -> None:
    assert main(["ingest", "vindr-mammo", str(vindr), "--out", str(tmp_path / "breasts.parquet")]) == 0
    frame = read_studies(tmp_path / "breasts.parquet")
    assert not {"e1", "exam:e1", "e3"} & {*frame["study"], *frame["patient"], *frame["group"]}
    assert sorted(frame["split"].fill_null("").to_list()) == [""] * 4 + ["test"]
    drawn = assign_splits(frame, fractions={"train": 0.5, "val": 0.5, "test": 0.0})
    assert (drawn["split"] == "test").to_list() == (frame["split"] == "test").fill_null(False).to_list()
    own = ingest("vindr-mammo", vindr, own_splits=True)
    assert own["split"].null_count() == len(own)


def test_check_counts_a_download_against_the_published_one(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    few, whole = write_vindr_mammo(tmp_path / "few"), write_published_counts(tmp_path / "whole")
    assert main(["ingest", "vindr-mammo", str(few), "--check"]) == 3
    said = capsys.readouterr().out
    assert "differs  images: 20, published 20,000" in said
    check_archive("vindr-mammo", whole)  # its images are not there
    said = capsys.readouterr().out
    assert "differs" not in said
    num_counts = len(vindr_mammo.PUBLISHED)
    assert f"{num_counts} of {num_counts} counts are as published." in said


@pytest.mark.parametrize(
    ("file", "column", "cell", "reason"),
    [
        ("breast-level_annotations.csv", "breast_birads", "BI-RADS 9", "BI-RADS 0 to BI-RADS 6"),
        ("breast-level_annotations.csv", "breast_density", "DENSITY B", "two values of density"),
        ("breast-level_annotations.csv", "image_id", "e1-1", "image_id e1-1"),
        ("breast-level_annotations.csv", "split", "testing", "'testing', expected training or test"),
        ("breast-level_annotations.csv", "laterality", "X", "'X', expected L, R"),
        ("finding_annotations.csv", "finding_categories", "Mass", "expected ['Mass']"),
        ("finding_annotations.csv", "finding_categories", "['Mss']", "'Mss' is no finding"),
        ("finding_annotations.csv", "image_id", "zz", "names image zz"),
    ],
)
def test_vindr_cells_that_mean_nothing_are_refused(tmp_path: Path, file: str, column: str, cell: str, reason: str):
    root = write_vindr_mammo(tmp_path)
    set_cell(root / file, 0, column, cell)
    with pytest.raises(UserError, match=reason.replace("[", r"\[").replace("]", r"\]")):
        vindr_mammo.read(root)


OTHERS = {
    "rsna-mammo": (rsna_mammo, write_rsna),
    "cbis-ddsm": (cbis_ddsm, write_cbis),
    "embed": (embed, write_embed),
    "csaw-cc": (csaw_cc, write_csaw),
}


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("rsna-mammo", "laterality"),
        ("cbis-ddsm", "left or right breast"),
        ("embed", "ImageLateralityFinal"),
        ("embed", "side"),
        ("embed", "bside"),
        ("csaw-cc", "imagelaterality"),
        ("csaw-cc", "x_cancer_laterality"),
    ],
)
def test_a_side_that_is_none_is_refused(tmp_path: Path, name: str, column: str) -> None:
    refuse(tmp_path, name, column, "X", rf"column '{column}' .* has 'X', expected L, R")


@pytest.mark.parametrize(
    ("name", "column", "cell"),
    [
        ("rsna-mammo", "BIRADS", "1.7"),
        ("rsna-mammo", "BIRADS", "300"),
        ("cbis-ddsm", "assessment", "3.5"),
        ("cbis-ddsm", "breast_density", "2.5"),
        ("embed", "path_severity", "0.7"),
        ("embed", "numfind", "1.5"),
        ("csaw-cc", "exam_year", "2010.5"),
    ],
)
def test_a_fraction_where_numbers_are_codes_is_refused(tmp_path: Path, name: str, column: str, cell: str) -> None:
    refuse(tmp_path, name, column, cell, rf"column '{column}' .* has '{cell}', expected a whole number")


def test_codes_that_embed_has_no_legend_for_are_said(tmp_path: Path) -> None:
    write_embed(tmp_path)
    assert not any("legend" in warning for warning in embed.read(tmp_path).warnings)
    (clinical,) = tmp_path.rglob("*clinical*.csv")
    set_cell(clinical, 0, "asses", "Z")
    set_cell(clinical, 1, "tissueden", "9.0")
    said = [warning for warning in embed.read(tmp_path).warnings if "legend" in warning]
    assert [warning.partition(":")[0] for warning in said] == [
        f"Column '{column}' has 1 cell of a code that is not in EMBED's legend ('{code}')"
        for column, code in (("asses", "Z"), ("tissueden", "9"))
    ]


def refuse(root: Path, name: str, column: str, cell: str, reason: str) -> None:
    """The archive with this cell in the first row of every table that has the column is refused."""
    module, write = OTHERS[name]
    write(root)
    for file in root.rglob("*.csv"):
        if column in file.read_text().splitlines()[0].replace('"', "").split(","):
            set_cell(file, 0, column, cell)
    with pytest.raises(UserError, match=reason):
        module.read(root)


# --- RSNA


def test_rsna_knows_cancer_by_breast_and_keeps_every_image(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    frame = ingest("rsna-mammo", write_rsna(tmp_path))
    breasts = tabulate_breasts(frame)
    right = get_breast(breasts, "101", "right")
    assert get_labels(right, "cancer", "biopsy", "invasive", "assessment", "density") == (1, 1, 1, 0, "b")
    assert (len(right["cc"]), len(right["mlo"]), len(right["others"])) == (1, 2, 1)
    assert get_labels(get_breast(breasts, "101", "left"), "cancer", "biopsy", "implant") == (0, 0, False)
    other = get_breast(breasts, "102", "left")
    assert get_labels(other, "cancer", "biopsy", "difficult_negative_case", "implant") == (0, 1, 1, True)
    assert get_labels(other, "assessment", "density") == (None, None)
    assert "10008" not in frame["patient"]  # test.csv has no labels


def test_rsna_other_views_are_neither_cc_nor_mlo_and_sites_are_told_apart(tmp_path: Path) -> None:
    frame = ingest("rsna-mammo", write_rsna(tmp_path))
    views = frame["views"].explode().struct.unnest()
    kinds = dict(views.select("position", "kind").unique().rows())
    assert kinds == {"CC": "cc", "MLO": "mlo", **dict.fromkeys(("AT", "ML", "LMO", "LM"), "unknown")}
    assert frame.select("extra_site", "extra_scanner", "age").rows() == [("1", "49", 61.0), ("2", "21", None)]
    reading = ingest_archive("rsna-mammo", tmp_path, tmp_path / "a.parquet", console=QUIET)[0]
    (note,) = [note for note in reading.notes if "Missing" in note]
    assert "site 1 age 0, BIRADS 0, density 0; site 2 age 4, BIRADS 4, density 4" in note
    assert any("tells the site" in warning for warning in reading.warnings)


def test_rsna_counts_are_of_images_breasts_patients_and_cells(tmp_path: Path) -> None:
    counts = {count.what: count.found for count in rsna_mammo.read(write_rsna(tmp_path)).counts}
    assert set(counts) == set(rsna_mammo.PUBLISHED)
    expected = {"images": 10, "patients": 2, "breasts": 4, "machines": 2, "images, cancer": 4, "breasts, cancer": 1}
    expected |= {"patients, cancer": 1, "images, biopsy": 7, "breast views of several images": 1, "images, MLO": 3}
    expected |= {"images without age": 4, "images of site 1 with density": 6, "images of site 2 with density": 0}
    assert {what: counts[what] for what in expected} == expected


def test_rsna_images_of_one_breast_must_agree_on_cancer(tmp_path: Path) -> None:
    root = write_rsna(tmp_path)
    set_cell(root / "train.csv", 3, "cancer", "0")
    with pytest.raises(UserError, match=r"disagree on cancer or biopsy \(1 breasts\)"):
        ingest("rsna-mammo", root)


# --- CBIS-DDSM


def test_cbis_reads_descriptors_pathology_and_masks_whatever_breaks_the_lines(tmp_path: Path) -> None:
    frame = ingest("cbis-ddsm", write_cbis(tmp_path))
    found = get_findings(frame, "P_00001")
    mass = found[0]
    assert (mass["kind"], mass["shape"], mass["margin"]) == ("mass", "irregular", "indistinct;spiculated")
    assert (mass["assessment"], mass["pathology"]) == (5, "malignant")
    assert mass["path"] == "Mass-Training_P_00001_LEFT_CC/1.3/1.4/000000.dcm"
    assert mass["mask"] == "Mass-Training_P_00001_LEFT_CC_1/1.5/1.6/000000.dcm"
    # The shape's other word is a finding of its own, under the same name, in both views.
    assert [(one["kind"], one["finding"]) for one in found[:4]] == [
        ("mass", "mass 1"),
        ("architectural distortion", "mass 1"),
    ] * 2
    calc = found[4:]
    assert [(one["morphology"], one["distribution"]) for one in calc] == [("pleomorphic", "linear;segmental")] * 2
    assert [one["finding"] for one in calc] == ["calc 1", "calc 2"]  # two in one image
    (node,) = get_findings(frame, "P_00002")
    assert (node["kind"], node["shape"], node["margin"]) == ("lymph node", None, None)
    (round_ones,) = get_findings(frame, "P_00004")
    assert round_ones["morphology"] == "punctate;round"


def test_cbis_breasts_have_the_worst_assessment_and_only_what_is_stated(tmp_path: Path) -> None:
    breasts = tabulate_breasts(ingest("cbis-ddsm", write_cbis(tmp_path)))
    left = get_breast(breasts, "P_00001", "left")
    assert get_labels(left, "assessment", "assessment_source", "cancer", "density") == (5, "finding", 1, "c")
    assert get_labels(left, "mass", "calcification") == (1, 1)
    # No table says that there is no calcification, and a lymph node is no mass; density 0 is none.
    other = get_breast(breasts, "P_00002", "right")
    assert get_labels(other, "mass", "calcification", "lymph node", "cancer") == (None, None, 1, 0)
    assert get_labels(get_breast(breasts, "P_00004", "right"), "density", "cancer") == (None, 0)


def test_cbis_patient_of_two_sets_and_splits_is_in_the_test_with_all_images(tmp_path: Path) -> None:
    frame = ingest("cbis-ddsm", write_cbis(tmp_path))
    assert dict(frame.select("study", "split").rows()) == {
        "P_00001": "test",
        "P_00002": None,
        "P_00003": "test",
        "P_00004": None,
    }
    assert frame.filter(pl.col("study") == "P_00001")["views"].list.len().to_list() == [3]
    summary, settings = ingest_archive("cbis-ddsm", tmp_path, tmp_path / "b.parquet", console=QUIET)
    assert any("1 patients are in training of one set and in the test of the other" in note for note in summary.notes)
    assert settings[:6] == ("--policy", "mammo-auto-1", "--bits", "16", "--take", "secondary")
    assert not check_archive("cbis-ddsm", tmp_path, console=QUIET)


def test_cbis_files_are_found_as_the_usual_download_names_them(tmp_path: Path) -> None:
    root = write_cbis(tmp_path)
    series = "07-20-2016-DDSM-NA-30288"
    for name in (
        f"Mass-Training_P_00001_LEFT_CC/{series}/1.000000-full mammogram images-24515/1-1.dcm",
        f"Mass-Training_P_00001_LEFT_CC_1/{series}/1.000000-cropped images-1/1-1.dcm",
        f"Mass-Training_P_00001_LEFT_CC_1/{series}/1.000000-ROI mask images-2/1-2.dcm",
    ):
        (root / "CBIS-DDSM" / name).parent.mkdir(parents=True)
        (root / "CBIS-DDSM" / name).touch()
    first = get_findings(ingest("cbis-ddsm", root), "P_00001")[0]
    assert first["path"].endswith("full mammogram images-24515/1-1.dcm")
    assert first["path"].startswith("CBIS-DDSM/")
    assert first["mask"].endswith("ROI mask images-2/1-2.dcm")


def test_cbis_descriptors_that_come_late_are_read_too(tmp_path: Path) -> None:
    root = write_cbis(tmp_path)
    header, rows = read_csv(root / "mass_case_description_train_set.csv")
    more = [[f"P_1{number:04}", *rows[2][1:-3], f"{number}/a.dcm", "", ""] for number in range(150)]
    write_csv(root / "mass_case_description_train_set.csv", header, more + rows)
    (found,) = get_findings(ingest("cbis-ddsm", root), "P_00004")
    assert (found["distribution"], found["mask"]) == ("grouped", "Calc-Training_P_00004_RIGHT_CC_1/1.5/1.6/000000.dcm")


def test_cbis_needs_a_column_of_densities_by_either_name(tmp_path: Path) -> None:
    root = write_cbis(tmp_path)
    file = root / "calc_case_description_test_set.csv"
    header, rows = read_csv(file)
    write_csv(file, [name.replace("breast density", "density") for name in header], rows)
    with pytest.raises(UserError, match="no column 'breast density' nor 'breast_density'"):
        ingest("cbis-ddsm", root)


# --- EMBED


def test_embed_joins_findings_by_exam_and_side(tmp_path: Path) -> None:
    frame = ingest("embed", write_embed(tmp_path))
    breasts = tabulate_breasts(frame)
    left, right = (get_breast(breasts, "1002", side) for side in ("left", "right"))
    # Left: suspicious, and the benign finding without a side; right: that one and "additional evaluation".
    assert (left["assessment"], right["assessment"]) == (4, 0)
    assert (left["cancer"], right["cancer"], left["density"]) == (1, None, "c")
    for side in ("left", "right"):  # side B
        assert get_breast(breasts, "1001", side)["assessment"] == 1
    male = get_breast(breasts, "1003", "right")
    assert get_labels(male, "assessment", "density", "cancer") == (None, None, 0)
    assert get_breast(breasts, "1004", "right")["assessment"] is None


def test_embed_codes_become_words(tmp_path: Path) -> None:
    frame = ingest("embed", write_embed(tmp_path))
    found = {(one["laterality"], one["kind"], one["finding"]): one for one in get_findings(frame, "1002")}
    mass = found["left", "mass", "1"]
    assert (mass["shape"], mass["margin"], mass["density"], mass["pathology"]) == (
        "irregular",
        "spiculated",
        "high",
        "malignant",
    )
    calc = found["left", "calcification", "1"]
    assert (calc["morphology"], calc["distribution"], calc["shape"]) == ("fine pleomorphic", "linear", None)
    assert {key[0] for key in found if key[2] == "2"} == {"left", "right"}  # no side: both
    assert ("right", "focal asymmetry", "3") in found
    assert [one["kind"] for one in get_findings(frame, "1003")] == ["architectural distortion"]


def test_embed_boxes_lie_in_images_and_name_no_finding(tmp_path: Path) -> None:
    boxes = [one for one in get_findings(ingest("embed", write_embed(tmp_path)), "1002") if one["kind"] == "region"]
    assert [(one["top"], one["left"], one["bottom"], one["right"]) for one in boxes] == [
        (1216, 1136, 1511, 1435),
        (10, 20, 30, 40),
    ]
    assert {one["path"] for one in boxes} == {"cohort_1/11/2/c.dcm"}


def test_embed_spot_views_and_computed_images_are_taken_when_asked_for(tmp_path: Path) -> None:
    root = write_embed(tmp_path)
    assert ingest("embed", root)["views"].list.len().sum() == 6
    everything = ingest("embed", root, spot=True, synthetic=True)
    assert everything["views"].list.len().sum() == 8
    kinds = {view["path"][-5:]: view["kind"] for views in everything["views"] for view in views}
    assert (kinds["e.dcm"], kinds["d.dcm"]) == ("unknown", "mlo")  # ML is not MLO


def test_embed_years_count_from_the_exam_to_the_first_cancer_of_the_side(tmp_path: Path) -> None:
    frame = ingest("embed", write_embed(tmp_path))
    breasts = tabulate_breasts(frame)
    early, late = (get_breast(breasts, exam, "left") for exam in ("1001", "1002"))
    assert early["years_to_cancer"] == pytest.approx((2 * 365 + 14) / 365.25, abs=3e-3)
    assert late["years_to_cancer"] == pytest.approx(14 / 365.25)
    assert late["years_to_last_followup"] == late["years_to_cancer"]
    other = get_breast(breasts, "1001", "right")
    assert other["years_to_cancer"] is None
    assert other["years_to_last_followup"] == pytest.approx(early["years_to_cancer"])
    people = dict(frame.select("study", "sex").rows())
    assert (people["1001"], people["1003"]) == ("F", "M")
    assert frame.filter(pl.col("study") == "1002")["day"].to_list() == [730.0]
    counts = {count.what: count.found for count in embed.read(tmp_path).counts}
    assert counts["rows of metadata"] == 8
    assert counts["columns of clinical"] == 18


def test_embed_rows_of_one_breast_do_not_hide_a_cancer_of_the_other(tmp_path: Path) -> None:
    """The exam of 2012 has a row of the right breast alone; the left has cancer two years later."""
    root = write_embed(tmp_path)
    (clinical,) = root.rglob("*clinical*.csv")
    text = clinical.read_text()
    assert text.count("3.0,N,1,B,") == 1
    clinical.write_text(text.replace("3.0,N,1,B,", "3.0,N,1,R,"))
    breasts = tabulate_breasts(ingest("embed", root))
    left, right = (get_breast(breasts, "1001", side) for side in ("left", "right"))
    assert left["years_to_cancer"] == pytest.approx((2 * 365 + 14) / 365.25, abs=3e-3)
    assert (left["assessment"], left["cancer"], right["assessment"]) == (None, None, 1)
    assert right["years_to_last_followup"] == pytest.approx(left["years_to_cancer"])


# --- CSAW-CC


def test_csaw_years_follow_from_the_timing_of_exams(tmp_path: Path) -> None:
    frame = ingest("csaw-cc", write_csaw(tmp_path))
    breasts = tabulate_breasts(frame)
    years = {
        (row["study"], row["laterality"]): (row["cancer"], row["years_to_cancer"], row["years_to_last_followup"])
        for row in breasts.iter_rows(named=True)
    }
    assert years == {
        ("7 2010", "left"): (0, 4.0, 4.0),
        ("7 2010", "right"): (0, None, 4.0),
        ("7 2014", "left"): (1, 0.0, 0.0),
        ("7 2014", "right"): (0, None, 0.0),
        ("8 2011", "right"): (None, 1.0, 1.0),  # an interval cancer: between 60 and 729 days
        ("9 2009", "right"): (0, None, 2.0),  # longer than 729 days after: free for two years
        ("10 2011", "left"): (0, None, 2.0),
        ("10 2013", "left"): (0, None, 0.0),
    }
    assert get_breast(breasts, "7 2014", "left")["exam recalled"] == 1
    assert frame["patient"].n_unique() == 4
    assert frame.filter(pl.col("study") == "7 2014")["day"].to_list() == [4 * 365.25]
    assert not frame["age"].drop_nulls().len()  # ages are bands
    assert [count.found for count in csaw_cc.read(tmp_path).counts] == [8]


def test_csaw_timing_that_means_nothing_tells_nothing_of_the_woman(tmp_path: Path) -> None:
    root = write_csaw(tmp_path)
    (file,) = root.glob("*.csv")
    whole = tabulate_breasts(ingest("csaw-cc", root))
    set_cell(file, 2, "rad_timing", "7")  # of woman 7's cancer of 2014
    reading = csaw_cc.read(root)
    assert any("1 row of 1 woman with another rad_timing than 1, 2, 3 and blank (7)" in note for note in reading.notes)
    breasts = tabulate_breasts(ingest("csaw-cc", root))
    known = ["cancer", "years_to_cancer", "years_to_last_followup"]
    of_her = pl.col("study").str.starts_with("7 ")
    assert breasts.filter(of_her).select(pl.col(known).null_count()).row(0) == (4, 4, 4)
    assert breasts.filter(~of_her).select(known).equals(whole.filter(~of_her).select(known))


def test_every_archive_of_mammograms_is_described(capsys: pytest.CaptureFixture) -> None:
    for name in ("vindr-mammo", "rsna-mammo", "cbis-ddsm", "embed", "csaw-cc"):
        assert main(["sources", name]) == 0
    assert "without permission" in capsys.readouterr().out
