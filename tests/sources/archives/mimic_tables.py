"""Tables of MIMIC-IV, MIMIC-IV-ECG, MIMIC-CXR-JPG and MedMod's extraction, a few rows each. No row is real.

Times are of the 22nd century as MIMIC's are. hosp, mimic-iv-ecg and mimic-cxr-jpg are folders of one folder, as links
to the downloads would be.
"""

from __future__ import annotations

from pathlib import Path

from hilum.labels import FINDINGS
from sources.archives.csv_files import parse_rows, write_csv
from sources.archives.pixels import write_image

# Of 70000001 the first image in the window is lateral, and the next comes without a row of findings. 70000003 has its
# only image exactly 24 hours after admission, 70000004 no ECG, 70000005 one that is too late.
_ADMISSIONS = """
    subject_id | hadm_id  | admittime           | dischtime           | race
    19000001   | 70000001 | 2180-05-06 10:00:00 | 2180-05-12 10:00:00 | OTHER
    19000001   | 70000002 | 2180-08-01 00:00:00 | 2180-08-09 10:00:00 | OTHER
    19000002   | 70000003 | 2190-01-01 12:00:00 | 2190-01-09 10:00:00 | OTHER
    19000003   | 70000004 | 2191-01-01 12:00:00 | 2191-01-09 10:00:00 | OTHER
    19000004   | 70000005 | 2192-01-01 12:00:00 | 2192-01-09 10:00:00 | OTHER
    19000005   | 70000006 | 2193-01-01 12:00:00 | 2193-01-09 10:00:00 | OTHER
"""
_IMAGES = """
    dicom_id | subject_id | study_id | ViewPosition | StudyDate | StudyTime
    d1early  | 19000001   | 80000001 | AP           | 21800507  | 95959.5
    d1side   | 19000001   | 80000002 | LATERAL      | 21800507  | 120000.0
    d1front  | 19000001   | 80000002 | PA           | 21800507  | 120001.0
    d1later  | 19000001   | 80000003 | AP           | 21800508  | 120000.0
    d2       | 19000001   | 80000004 | AP           | 21800803  | 240.25
    d3       | 19000002   | 80000005 | AP           | 21900102  | 120000.0
    d4       | 19000003   | 80000006 | AP           | 21910102  | 180000.0
    d5       | 19000004   | 80000007 | AP           | 21920102  | 180000.0
    d6       | 19000005   | 80000008 | AP           | 21930104  | 120000.0
"""
_ECGS = """
    subject_id | study_id | file_name | ecg_time            | path
    19000001   | 40000002 | 40000002  | 2180-05-06 12:00:00 | files/p1900/p19000001/s40000002/40000002
    19000001   | 40000001 | 40000001  | 2180-05-05 10:00:00 | files/p1900/p19000001/s40000001/40000001
    19000001   | 40000003 | 40000003  | 2180-08-02 00:00:00 | files/p1900/p19000001/s40000003/40000003
    19000002   | 40000004 | 40000004  | 2190-01-01 13:00:00 | files/p1900/p19000002/s40000004/40000004
    19000004   | 40000005 | 40000005  | 2192-01-03 13:00:00 | files/p1900/p19000004/s40000005/40000005
    19000005   | 40000006 | 40000006  | 2193-01-01 13:00:00 | files/p1900/p19000005/s40000006/40000006
"""
# Values before admission have no admission; 51491 is none of the 50; a blank value is none; of the two potassiums at
# one second the one with the smaller number counts, which the table has last.
_VALUES = """
    labevent_id | subject_id | hadm_id  | itemid | charttime           | valuenum | valueuom | comments
    9           | 19000001   |          | 50971  | 2180-05-06 08:00:00 | 4.4      | mEq/L    | a, b
    7           | 19000001   |          | 50971  | 2180-05-06 08:00:00 | 4.1      | mEq/L    |
    8           | 19000001   | 70000001 | 50971  | 2180-05-06 07:00:00 |          | mEq/L    | ___
    3           | 19000001   | 70000001 | 50912  | 2180-05-07 10:00:00 | 1.2      | mg/dL    |
    4           | 19000001   | 70000001 | 50813  | 2180-05-07 10:00:01 | 2.2      | mmol/L   |
    10          | 19000001   | 70000002 | 51301  | 2180-08-01 06:00:00 | 11       | K/uL     |
    11          | 19000002   | 70000003 | 51301  | 2190-01-01 13:00:00 | 12       | K/uL     |
    12          | 19000003   | 70000004 | 51301  | 2191-01-01 13:00:00 | 13       | K/uL     |
    13          | 19000001   | 70000001 | 51491  | 2180-05-06 09:00:00 | 14       | units    |
    14          | 19000005   | 70000006 | 50983  | 2193-01-01 13:00:00 | 140      |          |
"""
CHOSEN = {  # admission -> its image
    "70000001": "mimic-cxr-jpg/files/p19/p19000001/s80000002/d1front.jpg",
    "70000002": "mimic-cxr-jpg/files/p19/p19000001/s80000004/d2.jpg",
    "70000006": "mimic-cxr-jpg/files/p19/p19000005/s80000008/d6.jpg",
}
# The order of all_stays.csv is not that of stay_id. 39000001 has two images, of which 39000004, within the same
# admission's time, gets the second; 39000003 has none; 39000005 is of a patient of Symile's training.
_STAYS = """
    subject  | hadm_id  | stay_id  | year | intime   | outtime  | admittime | dischtime | age | gender | inunit | died
    19000005 | 70000006 | 39000005 | 2193 | 01-02 12 | 01-05 12 | 01-01 12  | 01-09 10  | 40  | F      | 0      | 0
    19000001 | 70000001 | 39000004 | 2180 | 05-07 11 | 05-09 10 | 05-07 11  | 05-09 10  | 61  | M      | 0      | 1
    19000003 | 70000004 | 39000003 | 2191 | 03-01 12 | 03-02 12 | 03-01 12  | 03-02 12  | 50  | F      | 0      | 0
    19000002 | 70000003 | 39000002 | 2190 | 01-01 12 | 01-03 12 | 01-02 12  | 01-02 13  | 91  | F      |        | 0
    19000001 | 70000001 | 39000001 | 2180 | 05-07 09 | 05-07 12 | 05-07 10  | 05-12 10  | 61  | M      | 1      | 1
"""
PHENOTYPES = [
    "Acute and unspecified renal failure",
    "Congestive heart failure; nonhypertensive",
    "Septicemia (except in labor)",
    *(f"Phenotype {number}" for number in range(4, 26)),
]
# Stay -> phenotypes (by place) it has.
HAS = {"39000001": [0], "39000002": [1], "39000003": [2], "39000004": [0, 1], "39000005": [2, 24]}
GIVEN = {
    "39000001": "mimic-cxr-jpg/files/p19/p19000001/s80000001/d1early.jpg",
    "39000004": "mimic-cxr-jpg/files/p19/p19000001/s80000002/d1side.jpg",
    "39000002": "mimic-cxr-jpg/files/p19/p19000002/s80000005/d3.jpg",
    "39000005": "mimic-cxr-jpg/files/p19/p19000005/s80000008/d6.jpg",
}


def write_triples(root: Path) -> Path:
    """The tables from which an X-ray, an ECG and values of three admissions are taken, and those X-rays."""
    for path, text in (
        ("hosp/admissions.csv.gz", _ADMISSIONS),
        ("hosp/labevents.csv.gz", _VALUES),
        ("mimic-iv-ecg/record_list.csv", _ECGS),
    ):
        header, *rows = parse_rows(text)
        write_csv(root / path, header, rows)
    _write_images(root, list(CHOSEN.values()))
    return root


def write_medmod(root: Path, *, keyed: bool = False) -> Path:
    """Five stays of four patients, four with an X-ray; `keyed` lets the labels name their stay."""
    header = ["subject_id", "hadm_id", "stay_id", "intime", "outtime", "admittime", "dischtime", "age", "gender"]
    rows = []
    for *ids, year, begin, end, admitted, left, age, gender, inunit, died in parse_rows(_STAYS)[1:]:
        times = [f"{year}-{time}:00:00" for time in (begin, end, admitted, left)]
        rows.append([*ids, *times, age, gender, inunit, died, died, "3"])
    header += ["mortality_inunit", "mortality", "mortality_inhospital", "los"]
    write_csv(root / "root" / "all_stays.csv", header, rows)
    labels = [[stay, *(str(int(place in HAS[stay])) for place in range(25))] for stay in sorted(HAS)]
    write_csv(
        root / "root" / "phenotype_labels.csv",
        ["stay_id", *PHENOTYPES] if keyed else PHENOTYPES,
        labels if keyed else [row[1:] for row in labels],
    )
    _write_images(root, list(GIVEN.values()))
    return root


def write_symile_train(root: Path) -> Path:
    """Symile's table of training, which holds another admission of one patient."""
    write_csv(root / "train.csv", ["subject_id", "hadm_id"], [["19000005", "70000099"], ["10000001", "70000098"]])
    return root


def _write_images(root: Path, written: list[str]) -> None:
    header, *rows = parse_rows(_IMAGES)
    home = root / "mimic-cxr-jpg"
    write_csv(home / "mimic-cxr-2.0.0-metadata.csv.gz", header, rows)
    states = [
        ["19000001", "80000002", "1.0", "0.0", "-1.0", *[""] * 11],
        ["19000005", "80000008", "", "1.0", *[""] * 12],
    ]
    write_csv(home / "mimic-cxr-2.0.0-chexpert.csv.gz", ["subject_id", "study_id", *FINDINGS], states)
    for path in written:
        write_image(root / path)
