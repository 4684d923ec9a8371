"""The phantom on disk: real DICOM, tables that agree with it, and the same bytes however the writing went."""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from hilum.errors import UserError
from hilum.labels import FINDINGS
from hilum.laboratory.vocabulary import read_vocabulary
from hilum.laboratory.wide import read_wide
from hilum.phantom.archive import name_views, write_archive
from hilum.phantom.clinic import label_states, plan_studies, true_states
from hilum.phantom.detector import Acquisition
from hilum.phantom.dicom_file import encode_view, find_age, make_uid, name_position
from hilum.phantom.freeze import FROZEN, hash_settings, strip_source
from hilum.phantom.physiology.analytes import ANALYTES
from hilum.phantom.physiology.ecg import draw_ecg
from hilum.phantom.physiology.effects import TARGETS
from hilum.phantom.physiology.files import TARGET_PREFIX, name_ecg
from hilum.phantom.physiology.laboratory import draw_laboratory
from hilum.phantom.physiology.records import RECORDERS
from hilum.phantom.physiology.state import draw_physiology
from hilum.signals.read import read_record
from hilum.signals.record import RecordSource, take_leads
from hilum.sources.table import ingest_table
from hilum.study import name_label_column, read_studies

SEED, SIZE, NUM_STUDIES = 5, 24, 3


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written in one go by one process, with masks."""
    out = tmp_path_factory.mktemp("phantom") / "whole"
    write_archive(out, NUM_STUDIES, seed=SEED, size=SIZE, workers=1, masks=True, progress=False)
    return out


def _hash_files(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_images_read_back_and_agree_with_the_tables(archive: Path) -> None:
    plans = plan_studies(NUM_STUDIES, SEED)
    manifest = {row["path"]: row for row in _read_table(archive / "manifest.csv")}
    studies = _read_table(archive / "studies.csv")
    assert [row["study"] for row in studies] == [plan.study for plan in plans]
    for plan, row in zip(plans, studies, strict=True):
        assert row["views"].split(";") == name_views(plan)
        states = label_states(plan)
        assert {finding: row[finding] for finding in FINDINGS} == {
            finding: "" if state is None else str(state) for finding, state in states.items()
        }
        text = (archive / row["report_file"]).read_text("utf-8")
        assert text == f"FINDINGS:\n{row['findings']}\n\nIMPRESSION:\n{row['impression']}\n"
        for path, position in zip(row["views"].split(";"), row["positions"].split(";"), strict=True):
            image = pydicom.dcmread(archive / path)
            assert (image.PatientID, image.ViewPosition) == (row["patient"], position)
            assert int(image.PatientAge[:3]) == int(float(row["age"]) + 0.05) or abs(float(row["age"]) % 1) < 0.06
            pixels = image.pixel_array
            assert max(pixels.shape) == SIZE
            assert 0 <= pixels.min() < pixels.max() <= 4095
            assert pixels.std() > 100
            assert hashlib.sha256((archive / path).read_bytes()).hexdigest() == manifest.pop(path)["sha256"]
    assert not manifest
    assert [row["study"] for row in _read_table(archive / "paraphrases.csv")] == [plan.study for plan in plans]


def test_masks_lie_on_their_images_and_truth_is_told(archive: Path) -> None:
    plans = plan_studies(NUM_STUDIES, SEED)
    for plan, row in zip(plans, _read_table(archive / "truth.csv"), strict=True):
        assert {finding: int(row[finding]) for finding in FINDINGS} == true_states(plan)
        for lesion in plan.lesions:
            assert float(row[f"{lesion.finding} severity"]) >= lesion.severity
        for view, path in enumerate(name_views(plan)):
            heart = np.asarray(Image.open(archive / "masks" / plan.study / f"{view + 1}-heart.png"))
            assert heart.shape == pydicom.dcmread(archive / path).pixel_array.shape
            assert 0.01 < heart.mean() < 0.5
    assert len(_read_table(archive / "lesions.csv")) == sum(len(plan.lesions) for plan in plans)


def test_killed_and_continued_by_two_processes_gives_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    call = f"write_archive(Path({str(out)!r}), {NUM_STUDIES}, seed={SEED}, size={SIZE}, masks=True, progress=False)"
    code = f"from pathlib import Path; from hilum.phantom.archive import write_archive; {call}"
    process = subprocess.Popen([sys.executable, "-c", code])
    while process.poll() is None and len(list(out.rglob("*.dcm"))) < 2:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before the kill"
    assert not (out / "studies.csv").exists()
    first = min(out.rglob("*.dcm"))
    written = first.stat().st_mtime_ns
    # What a kill within a write leaves.
    first.with_name(".9.dcm.0123456789ab.tmp").write_bytes(b"half")

    write_archive(out, NUM_STUDIES, seed=SEED, size=SIZE, workers=2, masks=True, progress=False)
    assert _hash_files(out) == _hash_files(archive)
    assert first.stat().st_mtime_ns == written


def test_physiology_adds_files_and_columns_and_changes_images_alone(archive: Path, tmp_path: Path) -> None:
    out, by_two = tmp_path / "one", tmp_path / "two"
    write_archive(out, NUM_STUDIES, seed=SEED, size=SIZE, masks=True, physiology=True, progress=False)
    write_archive(by_two, NUM_STUDIES, seed=SEED, size=SIZE, masks=True, physiology=True, workers=2, progress=False)
    assert _hash_files(out) == _hash_files(by_two)

    plain, rows = _read_table(archive / "studies.csv"), _read_table(out / "studies.csv")
    assert [{name: row[name] for name in plain[0]} for row in rows] == plain
    assert _read_table(out / "truth.csv") == _read_table(archive / "truth.csv")
    images = {row["path"]: row["sha256"] for row in _read_table(archive / "manifest.csv")}
    assert all(images[row["path"]] != row["sha256"] for row in _read_table(out / "manifest.csv"))

    plans = plan_studies(NUM_STUDIES, SEED)
    for plan, row in zip(plans, rows, strict=True):
        targets = {name: int(row[f"{TARGET_PREFIX}{name}"]) for name in TARGETS}
        assert targets == draw_physiology(plan).targets
        assert row["ecg"] in ("", name_ecg(plan))
        assert (out / name_ecg(plan)).exists() == bool(row["ecg"])
        if row["ecg"]:
            assert len((out / row["ecg"]).with_suffix(".dat").read_bytes()) == 12 * 5000 * 2
    assert any(row["ecg"] for row in rows)
    laboratory = _read_table(out / "laboratory.csv")
    assert [row["study"] for row in laboratory] == [plan.study for plan in plans]
    assert list(laboratory[0]) == ["study", "patient", *ANALYTES]
    assert [row["study"] for row in _read_table(out / "physiology.csv")] == [plan.study for plan in plans]

    table = tmp_path / "studies.parquet"
    ingest_table(out / "studies.csv", table)
    studies = read_studies(table)
    columns = {name: name_label_column("physiology", name) for name in TARGETS}  # one task for `hilum probe`
    assert set(columns.values()) <= set(studies.columns)
    assert studies[columns["sepsis"]].to_list() == [row[columns["sepsis"]] for row in rows]


def test_records_and_values_read_back_as_any_hospital_s(tmp_path: Path) -> None:
    write_archive(tmp_path, NUM_STUDIES, seed=SEED, size=16, physiology=True, progress=False)
    plans = plan_studies(NUM_STUDIES, SEED)
    for plan in plans:
        if (tmp_path / name_ecg(plan)).exists():
            record = read_record(RecordSource(tmp_path / name_ecg(plan)))
            assert (record.channels, record.rate) == (RECORDERS[plan.institution].order, 500)
            leads = draw_ecg(draw_physiology(plan), plan.key)
            np.testing.assert_allclose(take_leads(record), leads, atol=0.016)  # three steps of the coarsest recorder
    vocabulary = read_vocabulary("symile")
    table = read_wide(tmp_path / "laboratory.csv", vocabulary, study="study", patient="patient")
    assert [note[:19] for note in table.notes] == ["No unit is stated, "]  # an itemid says it
    assert table.study == tuple(plan.study for plan in plans)
    values = [draw_laboratory(plan, draw_physiology(plan)).values() for plan in plans]
    expected = np.array([[np.nan if value is None else value for value in row] for row in values])
    np.testing.assert_allclose(table.values, expected)
    assert not np.isnan(expected).all()


def test_an_archive_has_physiology_or_has_not(archive: Path, tmp_path: Path) -> None:
    assert "physiology" not in json.loads((archive / "phantom.json").read_text())
    with pytest.raises(UserError, match=r"made with physiology None, asked for is [0-9a-f]{64}"):
        write_archive(archive, NUM_STUDIES, seed=SEED, size=SIZE, physiology=True, progress=False)
    out = tmp_path / "with"
    write_archive(out, 1, seed=SEED, size=16, physiology=True, progress=False)
    with pytest.raises(UserError, match=r"made with physiology [0-9a-f]{64}, asked for is None"):
        write_archive(out, 1, seed=SEED, size=16, progress=False)


def test_more_studies_add_to_the_archive_and_other_settings_are_refused(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "more"
    shutil.copytree(archive, out)
    before = {path: path.stat().st_mtime_ns for path in (out / "files").rglob("*") if path.is_file()}
    write_archive(out, NUM_STUDIES + 1, seed=SEED, size=SIZE, masks=True, progress=False)
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    assert _read_table(out / "studies.csv")[:NUM_STUDIES] == _read_table(archive / "studies.csv")
    assert len(_read_table(out / "studies.csv")) == NUM_STUDIES + 1

    with pytest.raises(UserError, match=r"phantom.json was made with seed 5, asked for is 6"):
        write_archive(out, NUM_STUDIES + 1, seed=6, size=SIZE, progress=False)
    with pytest.raises(UserError, match=r"size 24, asked for is 32"):
        write_archive(out, NUM_STUDIES + 1, seed=SEED, size=32, progress=False)
    with pytest.raises(UserError, match=r"holds 4 studies, asked for are 2"):
        write_archive(out, 2, seed=SEED, size=SIZE, progress=False)
    with pytest.raises(UserError, match=r"is not empty and holds no phantom\.json"):
        write_archive(out / "files", 2, seed=SEED, size=SIZE, progress=False)
    with pytest.raises(UserError, match="at least 1 study"):
        write_archive(tmp_path / "none", 0, progress=False)


def test_attributes_are_those_of_cr_and_dx(plans) -> None:
    unnamed = [plan for plan in plans if not name_position(plan, plan.projections[0])]
    assert 0.01 < len(unnamed) / len(plans) < 0.03
    first_day: dict[str, datetime.date] = {}
    identifiers, modalities = set(), set()
    chosen = list({plan.key: plan for plan in plans[:25] + unnamed[:4]}.values())
    for plan in chosen:
        for view, projection in enumerate(plan.projections):
            photometric = "MONOCHROME1" if view else "MONOCHROME2"
            pixels = np.arange(20, dtype=np.uint16).reshape(4, 5) * 200
            content = encode_view(plan, view, Acquisition(pixels, photometric, 2000.0, 3000.5, 1.75, 110.0, 4000.0))
            image = pydicom.dcmread(io.BytesIO(content))
            np.testing.assert_array_equal(image.pixel_array, pixels)
            assert (image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation) == (16, 12, 11, 0)
            assert (image.PhotometricInterpretation, image.BurnedInAnnotation) == (photometric, "NO")
            assert (float(image.WindowCenter), float(image.WindowWidth)) == (2000.0, 3000.5)
            assert [float(value) for value in image.PixelSpacing] == [1.75, 1.75]
            assert image.BodyPartExamined == "CHEST"
            assert image.PatientSex == plan.person.sex
            assert int(image.PatientAge.rstrip("Y")) == int(find_age(plan))
            assert image.ViewPosition == name_position(plan, projection)
            if image.ViewPosition == "":
                assert plan in unnamed
                assert not image.PatientOrientation
                assert "ViewCodeSequence" not in image
            else:
                frontal = image.ViewPosition in ("PA", "AP")
                assert frontal == (projection != "LATERAL")
                assert list(image.PatientOrientation) in ([["L", "F"]] if frontal else [["A", "F"], ["P", "F"]])
            modalities.add((image.Modality, image.SOPClassUID.name))
            if image.Modality == "DX":
                assert image.PresentationIntentType == "FOR PRESENTATION"
                assert image.ImageLaterality == "U"
                assert image.PresentationLUTShape == ("INVERSE" if view else "IDENTITY")
            day = datetime.datetime.strptime(image.StudyDate, "%Y%m%d").date()
            start = first_day.setdefault(plan.patient, day - datetime.timedelta(plan.day))
            assert (day - start).days == plan.day
            assert image.StudyInstanceUID == make_uid("study", plan.key)
            assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
            identifiers.add(image.SOPInstanceUID)
    assert len(identifiers) == sum(len(plan.projections) for plan in chosen)
    assert modalities == {
        ("CR", "Computed Radiography Image Storage"),
        ("DX", "Digital X-Ray Image Storage - For Presentation"),
    }


def test_the_settings_hash_sees_numbers_and_not_comments() -> None:
    source = '"""Doc."""\nX = {"a": 1.5}  # why\n\n\ndef f(x):\n    """Doc."""\n    return x + X["a"]\n'
    same = 'X = {"a":\n   1.5}\ndef f(x):\n    """Other."""\n    # because\n    return x + X["a"]\n'
    assert strip_source(source) == strip_source(same)
    for before, after in (("1.5", "1.6"), ('"a": 1', '"b": 1'), ("x + X", "x - X")):
        assert strip_source(source) != strip_source(source.replace(before, after))
    assert strip_source("if a:\n    b\nc\n") != strip_source("if a:\n    b\n    c\n")


def test_the_phantom_is_the_one_that_results_were_measured_on() -> None:
    assert hash_settings() == FROZEN, "the phantom changed: see FROZEN in freeze.py for what that means"
