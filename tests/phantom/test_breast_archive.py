"""The breast phantom on disk: tables agree with what was planted; the bytes do not depend on who wrote them."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pydicom
import pytest
from PIL import Image

from hilum.breasts import BREASTS
from hilum.cli import main
from hilum.errors import UserError
from hilum.phantom.breast.archive import write_archive
from hilum.phantom.breast.clinic import plan_women

SEED, SIZE, WOMEN, ENRICHMENT = 16, 64, 3, 8.0


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by one process, with masks."""
    out = tmp_path_factory.mktemp("breasts") / "whole"
    write_archive(out, WOMEN, seed=SEED, size=SIZE, masks=True, enrichment=ENRICHMENT, progress=False)
    return out


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _hash_files(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_images_are_mammograms_that_agree_with_the_tables(archive: Path) -> None:
    rows = _read(archive / "images.csv")
    exams = [exam for exams, _ in plan_women(WOMEN, SEED, ENRICHMENT) for exam in exams]
    assert len(rows) == sum(len(exam.views) for exam in exams)
    for row in rows:
        file = pydicom.dcmread(archive / row["path"])
        assert (file.Modality, file.ImageLaterality, file.ViewPosition) == ("MG", row["laterality"], row["view"])
        assert file.pixel_array.shape == (int(row["rows"]), int(row["columns"])) == (SIZE, round(0.6 * SIZE))
        assert float(file.PixelSpacing[0]) == float(row["pixel_mm"])
        assert hashlib.sha256((archive / row["path"]).read_bytes()).hexdigest() == row["sha256"]
        assert (file.FieldOfViewHorizontalFlip == "YES") == (row["mirrored"] == "1")


def test_every_finding_read_was_planted_and_its_box_holds_its_mask(archive: Path) -> None:
    truth = {(row["exam_id"], row["laterality"], row["finding"]): row for row in _read(archive / "truth.csv")}
    planted = {
        (exam.exam, side, str(place)): finding
        for exams, _ in plan_women(WOMEN, SEED, ENRICHMENT)
        for exam in exams
        for side, findings in exam.findings.items()
        for place, finding in enumerate(findings)
    }
    assert truth.keys() == planted.keys()
    found = _read(archive / "findings.csv")
    assert found
    for row in found:
        there = truth[row["exam_id"], row["laterality"], row["finding"]]
        assert row["views"] == there["seen"]
        assert float(row["size_mm"]) == planted[row["exam_id"], row["laterality"], row["finding"]].size
        for view in row["views"].split(";"):
            box = [float(each) for each in row[f"{view.lower()}_box"].split()]
            mask = np.asarray(Image.open(archive / row[f"{view.lower()}_mask"]))
            rows, cols = np.nonzero(mask)
            assert box[0] <= cols.min() <= cols.max() < box[2]
            assert box[1] <= rows.min() <= rows.max() < box[3]
    for row in truth.values():
        assert set(row["seen"].split(";")) <= {"", *row["shown"].split(";")}
        if row["kind"] == "asymmetry":
            assert row["shown"] in ("", row["only"])


def test_vindr_has_every_image_and_one_description_for_each_breast(archive: Path) -> None:
    images, findings = (_read(archive / "vindr" / f"{name}_annotations.csv") for name in ("breast-level", "finding"))
    assert len(images) == 4 * WOMEN
    assert {row["image_id"] for row in findings} == {row["image_id"] for row in images}
    breasts: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for row in images:
        assert (archive / "vindr" / "images" / row["study_id"] / f"{row['image_id']}.dicom").is_file()
        assert (row["height"], row["width"]) == (str(SIZE), str(round(0.6 * SIZE)))
        said = row["breast_birads"], row["breast_density"], row["split"]
        breasts.setdefault((row["study_id"], row["laterality"]), set()).add(said)
    assert all(len(said) == 1 for said in breasts.values())
    boxed = [row for row in findings if row["finding_categories"] != "['No Finding']"]
    assert boxed
    for row in findings:
        assert bool(row["xmin"]) == bool(row["finding_birads"]) == (row in boxed)
        assert not row["finding_birads"] or row["finding_birads"] <= row["breast_birads"]
    last = {exams[-1].exam for exams, _ in plan_women(WOMEN, SEED, ENRICHMENT)}
    seen = [
        row for row in _read(archive / "findings.csv") if row["exam_id"] in last and int(row["finding_birads"]) >= 3
    ]
    assert len(boxed) == sum(len(row["views"].split(";")) for row in seen)


def test_rsna_cancers_are_the_planted_ones(archive: Path) -> None:
    rows = _read(archive / "rsna" / "train.csv")
    sick = {
        (exams[-1].patient, side)
        for exams, _ in plan_women(WOMEN, SEED, ENRICHMENT)
        for side, findings in exams[-1].findings.items()
        if any(finding.malignant for finding in findings)
    }
    assert sick
    assert {(row["patient_id"], row["laterality"]) for row in rows if row["cancer"] == "1"} == sick
    for row in rows:
        assert (archive / "rsna" / "train_images" / row["patient_id"] / f"{row['image_id']}.dcm").is_file()
        assert (row["density"] == "") == (row["site_id"] == "2")
        assert row["BIRADS"] in ("", "0.0", "1.0", "2.0")
        assert row["invasive"] <= row["cancer"] <= row["biopsy"]


def test_outcomes_count_from_each_exam(archive: Path) -> None:
    rows = {row["exam_id"]: row for row in _read(archive / "outcomes.csv")}
    for exams, outcome in plan_women(WOMEN, SEED, ENRICHMENT):
        for exam in exams:
            row = rows[exam.exam]
            assert int(row["days"]) == outcome.days + exams[-1].day - exam.day
            assert int(row["event"]) == outcome.event
            assert (row["years_to_cancer"] == "100") == (not outcome.event)


def test_follow_up_is_what_ingest_reads(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "breasts.parquet"
    assert main(["ingest", "table", str(archive / "follow_up.csv"), "--out", str(out)]) == 0
    frame, outcomes = pl.read_parquet(out), pl.read_csv(archive / "outcomes.csv")
    assert len(frame) == len(outcomes)
    breasts = frame[BREASTS].explode().struct.unnest()
    assert len(breasts) == 2 * len(frame)
    came = outcomes.filter(pl.col("event") == 1)["days"].sort().to_numpy() / 365.25
    np.testing.assert_allclose(breasts["years_to_cancer"].drop_nulls().sort(), came, atol=1e-4)
    followed = np.sort(np.repeat(outcomes["days"].to_numpy() / 365.25, 2))
    np.testing.assert_allclose(breasts["years_to_last_followup"].sort(), followed, atol=1e-4)
    assert breasts["density"].null_count() == frame["age"].null_count() == frame["day"].null_count() == 0


def test_bytes_are_the_same_for_any_number_of_workers_and_after_a_stop(archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_archive(other, 1, seed=SEED, size=SIZE, masks=True, enrichment=ENRICHMENT, progress=False)
    next((other / "images").rglob("*.dcm")).unlink()
    (other / "exams.csv").unlink()
    write_archive(other, WOMEN, seed=SEED, size=SIZE, workers=2, masks=True, enrichment=ENRICHMENT, progress=False)
    assert _hash_files(other) == _hash_files(archive)


def test_other_settings_are_not_mixed(archive: Path, tmp_path: Path) -> None:
    assert json.loads((archive / "phantom.json").read_text())["patients"] == WOMEN
    with pytest.raises(UserError, match=r"seed 16, asked for is 3"):
        write_archive(archive, WOMEN, seed=3, size=SIZE, enrichment=ENRICHMENT, progress=False)
    with pytest.raises(UserError, match="at least as many"):
        write_archive(archive, 1, seed=SEED, size=SIZE, enrichment=ENRICHMENT, progress=False)
    with pytest.raises(UserError, match="64 rows"):
        write_archive(tmp_path / "small", 1, size=10)
