"""ECGs and laboratory values beside a user's table: whose they are, in which units, and what cannot be meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.errors import UserError
from hilum.signals.read import read_record
from hilum.signals.table import list_ecgs
from hilum.sources.signal_files import EcgFiles, LabsFile
from signals.ecg_files import MIMIC_ORDER, make_leads, write_wfdb
from toy_table import ingest, write_table

STUDIES = """pid | exam | path  | made             | trace
             p1  | e1   | a.png | 2150-01-01 12:00 | {0}
             p1  | e2   | b.png | 2150-01-03 00:00 |
             p2  | e3   | c.png | 2150-02-02 00:00 | {1}
             p2  | e3   | d.png | 2150-02-02 00:00 |"""
COLUMNS = {"patient": "pid", "study": "exam", "ecg": "trace", "time": "made"}
LONG = """pid | test       | result | units  | taken
          p1  | Creatinine | 88.4   | umol/L | 2150-01-01 06:00
          p1  | Creatinine | 3.0    | mg/dL  | 2150-01-02 06:00
          p1  | natrium    | 139    |        | 2150-01-01 06:00
          p2  | Creatinine | 9.0    | mg/dL  | 2150-03-01 06:00
          p9  | Creatinine | 9.0    | mg/dL  | 2150-01-01 06:00"""


def read(folder: Path, first: str = "", second: str = "", **options):
    columns = dict(COLUMNS) if first or second else {name: COLUMNS[name] for name in ("patient", "study", "time")}
    return ingest(write_table(folder, STUDIES.format(first, second)), columns=columns, **options)


def list_values(frame: pl.DataFrame) -> dict[str, dict[str, float]]:
    return {
        study: {one["name"]: round(one["value"], 3) for one in labs}
        for study, labs in frame.select("study", "labs").iter_rows()
    }


def write(folder: Path, text: str, name: str = "labs.csv") -> Path:
    return write_table(folder, text, images=(), name=name)


def test_records_of_every_kind_by_a_column_of_paths(tmp_path: Path) -> None:
    write_wfdb(tmp_path, "one", make_leads())
    stack = np.stack([make_leads(rate=250, seed=seed).T for seed in (1, 2)])[:, None]
    np.save(tmp_path / "stack.npy", stack)
    leads = " ".join(MIMIC_ORDER)
    frame, summary = read(tmp_path, "one", "stack.npy#1", ecg=EcgFiles(rate=250.0, leads=leads))
    found = dict(frame.select("study", "signals").iter_rows())
    assert found == {
        "e1": [{"path": "one", "kind": "ecg"}], "e2": [], "e3": [{"path": "stack.npy#1", "kind": "ecg"}]
    }  # fmt: skip
    assert "2 of 3 studies have an ECG." in summary.notes
    header, row = (read_record(source) for source in list_ecgs(frame, tmp_path).sources)
    assert (header.rate, row.rate, row.channels) == (500.0, 250.0, MIMIC_ORDER)
    assert np.array_equal(row.samples, stack[1, 0].T)


def test_an_ecg_that_is_not_there_is_rejected_and_its_study_stays(tmp_path: Path) -> None:
    write_wfdb(tmp_path, "one", make_leads())
    frame, summary = read(tmp_path, "one.hea", "gone.hea")
    assert frame["signals"].list.len().to_list() == [1, 0, 0]
    rejected = pl.read_parquet(summary.rejected_path)
    assert rejected.rows() == [("gone.hea", "the ECG does not exist; its study stays, without it")]


@pytest.mark.parametrize(
    ("path", "ecg", "message"),
    [
        ("x.npy#0", EcgFiles(), r"x.npy#0: a .npy file does not say its sampling rate .*--ecg.rate"),
        ("x.csv", EcgFiles(), "x.csv: a .csv file does not say its sampling rate"),
        ("x.npy", EcgFiles(rate=500.0), "x.npy: a .npy file does not name its leads .*--ecg.leads"),
        ("x.hea", EcgFiles(rate=500.0), "--ecg.unit have no effect: no ECG is a .npy or .csv file"),
        ("x.csv", EcgFiles(rate=500.0, leads="I II"), "--ecg.leads has no effect: no ECG is a .npy file"),
        ("", EcgFiles(rate=500.0), "have no effect: t.csv has no column of ECGs"),
    ],
)
def test_what_files_do_not_say_is_asked_for(tmp_path: Path, path: str, ecg: EcgFiles, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, path, path, ecg=ecg)


def test_patients_measurements_go_to_studies_by_time(tmp_path: Path) -> None:
    labs = LabsFile(write(tmp_path, LONG), ("sodium=natrium",))
    frame, summary = read(tmp_path, labs=labs)
    assert list_values(frame) == {"e1": {"50912": 1.0, "50983": 139.0}, "e2": {"50912": 3.0}, "e3": {}}
    assert "2 of 3 studies have laboratory values." in summary.notes
    later = LabsFile(labs.file, labs.columns, before=0.0, after=18.0)
    assert list_values(read(tmp_path, labs=later)[0]) == {"e1": {"50912": 3.0}, "e2": {}, "e3": {}}


def test_wide_tables_and_a_vocabulary_of_ones_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("name,unit,itemid\nCRP,mg/L,\nCreatinine,mg/dL,50912\n")
    file = write(tmp_path, "Study ID | C-reactive | creatinine [umol/L]\ne1 | 5 | \ne3 | | 176.8\ne9 | 1 | 1\ne2 | |")
    frame, summary = read(tmp_path, labs=LabsFile(file, ("crp=C-reactive",), vocabulary=str(mine)))
    assert list_values(frame) == {"e1": {"CRP": 5.0}, "e2": {}, "e3": {"50912": 2.0}}
    assert "labs.csv: the values of 1 other studies are left out." in summary.notes


def test_a_row_for_each_time_goes_to_studies_as_measurements_do(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """pid | taken            | creatinine | sodium
           p1  | 2150-01-01 06:00 | 1.0        |
           p1  | 2150-01-01 08:00 | 5.0        | 139
           p1  | 2150-01-02 06:00 | 3.0        |
           p9  | 2150-01-01 06:00 | 9.0        |""",
    )
    labs = LabsFile(file, ("patient=pid",))
    assert list_values(read(tmp_path, labs=labs)[0]) == {
        "e1": {"50912": 1.0, "50983": 139.0}, "e2": {"50912": 3.0}, "e3": {}
    }  # fmt: skip
    later = LabsFile(labs.file, labs.columns, before=5.0, after=0.0)
    assert list_values(read(tmp_path, labs=later)[0])["e1"] == {"50912": 5.0, "50983": 139.0}
    hours = write(tmp_path, "study | hour | creatinine\ne1 | 3 | 2\ne1 | 1 | 1\ne3 | 1 | 7", "hours.csv")
    named = LabsFile(hours, ("time=hour",))
    assert list_values(read(tmp_path, labs=named)[0]) == {"e1": {"50912": 1.0}, "e2": {}, "e3": {"50912": 7.0}}


def test_measurements_that_name_studies_need_no_time(tmp_path: Path) -> None:
    file = write(tmp_path, "study | item | value\ne1 | 50912 | 1.5\ne3 | sodium | 140")
    assert list_values(read(tmp_path, labs=LabsFile(file))[0]) == {"e1": {"50912": 1.5}, "e2": {}, "e3": {"50983": 140}}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (LONG.replace("taken", "noted"), {}, "values name patients and not studies.*--labs.columns time=COLUMN"),
        ("who | creatinine\ne1 | 1", {}, "no column says whose values they are"),
        ("study | creatinine\nx1 | 1", {}, "none of its 1 rows with a value is of one of the 3 studies"),
        ("study | creatinine\ne1 | 1", {"columns": ("creatinin=x",)}, "'creatinin' is neither .* Did you mean"),
        ("study | creatinine\ne1 | 1", {"columns": ("study=exam",)}, "labs.csv has no column 'exam'"),
        ("study | creatinine\ne1 | 1", {"columns": ("study",)}, "expected meaning=column"),
        ("study | item | value\ne1 | 50912 | 1", {"before": 2.0}, "have no effect: values name their studies"),
        ("study | creatinine\ne1 | 1", {"before": 2.0}, "have no effect: values name their studies"),
        ("pid | creatinine\np1 | 1", {"columns": ("patient=pid",)}, "values name patients and not studies"),
    ],
)
def test_tables_of_values_that_cannot_be_meant(tmp_path: Path, text: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, labs=LabsFile(write(tmp_path, text), **options))


def test_settings_without_a_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"have no effect without --labs.file"):
        read(tmp_path, labs=LabsFile(before=1.0))
    with pytest.raises(UserError, match="study ids are not unique"):
        read(tmp_path, labs=LabsFile(write(tmp_path, LONG)), study_ids_per_patient=True)


def test_a_value_of_a_day_is_never_given_to_a_study_it_may_be_later_than(tmp_path: Path) -> None:
    """e1 was made at noon of the first day; what was measured on that day may have been measured after."""
    long = """pid | test       | result | units | taken
              p1  | Creatinine | 1.0    | mg/dL | 2150-01-01
              p1  | Sodium     | 139    |       | 2149-12-31
              p2  | Sodium     | 140    |       | 2150-02-02"""
    file = write(tmp_path, long)
    for after, creatinine in ((0.0, {}), (11.0, {}), (12.0, {"50912": 1.0}), (24.0, {"50912": 1.0})):
        frame, summary = read(tmp_path, labs=LabsFile(file=file, columns=("time=taken",), before=36.0, after=after))
        assert list_values(frame)["e1"] == {**creatinine, "50983": 139.0}, after
        assert any("3 of 3 measurements have a day and no hour" in note for note in summary.notes)
