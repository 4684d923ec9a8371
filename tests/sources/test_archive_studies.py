"""What the studies of each archive become, study by study, from the specification and the published tables."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from hilum.cli import main
from hilum.labels import DISEASES, FINDINGS
from hilum.study import read_studies
from sources.archives.chestxray14 import write_chestxray14
from sources.archives.chexpert import write_chexpert
from sources.archives.chexpert_plus import write_chexpert_plus
from sources.archives.ingested import find_study, get_kinds, get_states, get_text, ingest, join_sections
from sources.archives.mimic_cxr import write_mimic_cxr
from sources.archives.openi import write_openi
from sources.archives.padchest import name_study, write_padchest


def test_mimic_views_and_splits(tmp_path: Path) -> None:
    frame = ingest("mimic-cxr", write_mimic_cxr(tmp_path / "download"), tmp_path / "s.parquet")
    kinds = {number: get_kinds(find_study(frame, f"s6000000{number}/")) for number in (1, 4, 5, 6, 7)}
    assert kinds == {
        1: [("LATERAL", "lateral"), ("PA", "frontal")],
        4: [("AP", "frontal"), ("LL", "lateral"), ("PA", "frontal")],
        5: [("", "unknown")],
        6: [("AP AXIAL", "frontal"), ("LAO", "unknown"), ("SWIMMERS", "unknown"), ("XTABLE LATERAL", "lateral")],
        7: [("PA RLD", "frontal")],
    }
    splits = [find_study(frame, f"s6000000{number}/")["split"] for number in range(1, 9)]
    assert splits == ["train", "train", "train", "val", "test", "test", None, "train"]


def test_mimic_days_since_the_first_study_of_the_subject(tmp_path: Path) -> None:
    frame = ingest("mimic-cxr", write_mimic_cxr(tmp_path / "download"), tmp_path / "s.parquet")
    studies = [find_study(frame, f"s600000{number:02d}/") for number in range(1, 17)]
    # Within a subject all times of day are equal, so the days are whole; 2144 is a leap year, New Year lies in 5 and 6.
    assert [study["day"] for study in studies] == [0, 51, 365, 0, 0, 1, 0, 1, 0, 1, 2, 3, 0, 1, 2, 3]
    patients = [study["patient"] for study in studies]
    assert [patients.index(patient) for patient in patients] == [0, 0, 0, 3, 4, 4, 6, 6, 8, 8, 8, 8, 12, 12, 12, 12]


def test_mimic_states_are_those_of_the_chexpert_labeler(tmp_path: Path) -> None:
    frame = ingest("mimic-cxr", write_mimic_cxr(tmp_path / "download"), tmp_path / "s.parquet")
    states = [get_states(find_study(frame, f"s600000{number:02d}/"), FINDINGS) for number in range(1, 17)]
    assert states[:8] == [
        {"Edema": 1, "Pleural Effusion": 1, "Pneumonia": -1, "Pneumothorax": 0},
        {"No Finding": 1},
        {"Fracture": 0},
        {"Lung Opacity": -1, "Support Devices": 1},
        {"Atelectasis": -1, "Cardiomegaly": 0},
        {"Lung Lesion": 1},
        {},
        {"Consolidation": 1},
    ]
    assert states[8:] == [{}] * 8  # no row of labels: not mentioned, never negative


@pytest.mark.parametrize("place", [".", "mimic-cxr-reports"])
def test_mimic_reports(place: str, tmp_path: Path) -> None:
    folder = write_mimic_cxr(tmp_path / "download", reports=place)
    frame = ingest("mimic-cxr", folder, tmp_path / "s.parquet")
    studies = {number: find_study(frame, f"s600000{number:02d}/") for number in range(1, 17)}
    assert get_text(studies[1], "findings") == (
        "The heart is mildly enlarged. There is a small left pleural effusion: no pneumothorax."
    )
    assert get_text(studies[1], "impression") == "1. Small left pleural effusion. 2. Mild edema."
    assert get_text(studies[2], "findings") is None
    assert get_text(studies[2], "impression") == "No acute cardiopulmonary process."
    assert get_text(studies[4], "findings") == "The right line ends in the upper vena cava. Lung volumes are low."
    assert get_text(studies[4], "impression") is None
    # Headings nobody foresaw, or none: what was dictated is kept.
    kept = [
        (3, "No displaced rib fracture."),
        (5, "Lungs are clear."),
        (6, "Nodule in the right upper lobe."),
        (6, "Follow up with CT."),
    ]
    assert [(number, text) for number, text in kept if text not in join_sections(studies[number])] == []
    for number in (7, *range(8, 17)):  # an empty report, and none
        assert get_text(studies[number], "findings") is None
        assert get_text(studies[number], "impression") is None
    assert [studies[number]["sections"] for number in range(8, 17)] == [[]] * 9


def test_mimic_without_reports(tmp_path: Path) -> None:
    folder = write_mimic_cxr(tmp_path / "download")
    for report in folder.rglob("s*.txt"):
        report.unlink()
    frame = ingest("mimic-cxr", folder, tmp_path / "s.parquet")
    assert frame["sections"].to_list() == [[]] * 16


@pytest.mark.parametrize("name", ["CheXpert-v1.0-small", "CheXpert-v1.0"])
def test_chexpert(name: str, tmp_path: Path) -> None:
    frame = ingest("chexpert", write_chexpert(tmp_path, name=name), tmp_path / "s.parquet")
    found = {
        part: find_study(frame, f"{part}/")
        for part in (
            "patient90001/study1",
            "patient90001/study2",
            "patient90002/study1",
            "patient90003/study1",
            "patient90003/study2",
            "patient90004/study1",
            "patient90005/study1",
            "patient90006/study1",
            "patient91001/study1",
            "patient91002/study1",
        )
    }
    studies = list(found.values())
    assert [[view["kind"] for view in study["views"]] for study in studies] == [
        ["frontal"],
        ["frontal", "lateral"],
        ["frontal", "frontal", "lateral"],
        ["lateral"],
        ["frontal"],  # LL in AP/PA of an image named frontal
        ["frontal"],
        ["frontal"],
        ["frontal"],
        ["frontal"],
        ["frontal", "lateral"],
    ]
    positions = [study["views"][0]["position"] for study in studies]
    assert [*positions[:3], *positions[4:]] == ["AP", "PA", "AP", "LL", "AP", "PA", "AP", "AP", "PA"]
    assert [study["split"] for study in studies] == ["train"] * 8 + ["val"] * 2
    assert [study["sex"] for study in studies] == ["F", "F", "M", "M", "M", "F", None, "M", "M", "F"]
    ages = [study["age"] for study in studies]
    assert ages[:5] + ages[6:] == [68, 69, 55, 90, 90, 34, 41, 73, 70]
    assert ages[5] in (0, None)
    patients = [study["patient"] for study in studies]
    assert [patients.index(patient) for patient in patients] == [0, 0, 2, 3, 3, 5, 6, 7, 8, 9]


def test_chexpert_states(tmp_path: Path) -> None:
    frame = ingest("chexpert", write_chexpert(tmp_path), tmp_path / "s.parquet")
    parts = ("90001/study1", "90001/study2", "90002/study1", "90003/study2", "90006/study1")
    assert [get_states(find_study(frame, f"patient{part}/"), FINDINGS) for part in parts] == [
        {"No Finding": 1, "Pneumothorax": 0, "Support Devices": 1},
        {"Cardiomegaly": 1, "Lung Opacity": 1, "Support Devices": 1},
        {"Edema": -1, "Fracture": 1, "Pneumonia": -1, "Pneumothorax": 0},
        {"Atelectasis": -1, "Pleural Effusion": 1},
        {},
    ]
    read_by_radiologists = get_states(find_study(frame, "patient91001/"), FINDINGS)
    assert len(read_by_radiologists) == 14
    assert {finding for finding, state in read_by_radiologists.items() if state == 1} == {
        "Cardiomegaly",
        "Edema",
        "Lung Opacity",
    }
    assert set(read_by_radiologists.values()) == {0, 1}


def test_chexpert_plus(tmp_path: Path) -> None:
    frame = ingest("chexpert-plus", write_chexpert_plus(tmp_path / "download"), tmp_path / "s.parquet")
    parts = ("11/study1", "11/study2", "12/study1", "13/study1", "13/study3", "14/study1")
    studies = [find_study(frame, f"patient900{part}/") for part in parts] + [find_study(frame, "patient91011/")]
    assert [sorted(view["kind"] for view in study["views"]) for study in studies] == [
        ["frontal", "lateral"],
        ["frontal"],
        ["frontal", "frontal", "lateral"],
        ["frontal"],
        ["frontal"],
        ["frontal"],
        ["frontal", "lateral"],
    ]
    assert [study["split"] for study in studies] == ["train"] * 6 + ["val"]
    assert [study["age"] for study in studies] == [45, 45, None, 62, 61, 89, 30]
    assert [study["sex"] for study in studies] == ["F", "F", None, "M", "M", "M", "F"]
    assert [get_text(study, "findings") for study in studies] == [
        'Frontal and lateral views, with a "small" left effusion.',
        None,
        None,
        None,
        "Rib fracture.",
        None,
        None,
    ]
    assert [get_text(study, "impression") for study in studies] == [
        "1. SMALL LEFT PLEURAL EFFUSION. 2. NO PNEUMOTHORAX.",
        "1. EFFUSION HAS RESOLVED.",
        "1. LINES AND TUBES IN PLACE.",
        "1. STABLE.",
        "AS ABOVE.",
        None,
        "1. NORMAL CHEST.",
    ]
    states = [get_states(study, FINDINGS) for study in studies]
    assert states[:5] + states[6:] == [
        {"Pleural Effusion": 1, "Pneumothorax": 0},
        {"Pleural Effusion": 0},
        {"Edema": -1, "Support Devices": 1},
        {},
        {"Fracture": 1},
        {"No Finding": 1},
    ]


def test_padchest_views_patients_and_days(tmp_path: Path) -> None:
    frame = ingest("padchest", write_padchest(tmp_path / "download"), tmp_path / "s.parquet")
    studies = {number: find_study(frame, f"/{name_study(str(number))}_") for number in range(1, 12)}
    kinds = {number: sorted(view["kind"] for view in study["views"]) for number, study in studies.items()}
    assert kinds == {
        1: ["frontal", "lateral"],
        2: ["frontal"],  # AP_horizontal
        3: ["frontal", "lateral", "unknown", "unknown"],  # COSTAL
        4: ["frontal"] * 3,
        5: ["frontal"],
        6: ["frontal"],
        7: ["unknown"],  # EXCLUDE
        8: ["unknown"],  # UNK
        9: ["frontal"],
        10: ["frontal"],
        11: ["frontal", "frontal"],
    }
    # One study id with two patients: all that either has is one person's.
    assert len({studies[number]["group"] for number in (4, 5, 6)}) == 1
    assert studies[5]["patient"] != studies[6]["patient"]
    assert studies[4]["patient"] in (studies[5]["patient"], studies[6]["patient"])
    assert len({study["group"] for study in studies.values()}) == 7
    assert [studies[number]["day"] for number in (1, 2, 3, 7, 8, 9)] == [0, 365, 0, 0, 1, 0]
    assert {study["split"] for study in studies.values()} == {None}


def test_padchest_ages_sexes_and_reports(tmp_path: Path) -> None:
    frame = ingest("padchest", write_padchest(tmp_path / "download"), tmp_path / "s.parquet")
    studies = {number: find_study(frame, f"/{name_study(str(number))}_") for number in range(1, 12)}
    # Only the year of birth is known: in 2014 somebody born in 1930 is 83 or 84.
    years = {1: 84, 2: 85, 3: 59, 4: 89, 7: 42, 9: 3, 11: 29}
    assert {number: studies[number]["age"] for number in years} == pytest.approx(years, abs=1)
    assert studies[10]["age"] is None
    assert [studies[number]["sex"] for number in (1, 3, 10, 11)] == ["F", "M", None, None]
    assert join_sections(studies[1]) == "torax sin alter signific ."
    assert join_sections(studies[9]) == "sin cambi respect previ ."
    assert [studies[number]["sections"] for number in (8, 10)] == [[], []]  # "nan" in two spellings


def test_padchest_findings(tmp_path: Path) -> None:
    frame = ingest("padchest", write_padchest(tmp_path / "download"), tmp_path / "s.parquet")
    studies = {number: find_study(frame, f"/{name_study(str(number))}_") for number in range(1, 12)}
    present = {number: {finding for finding in FINDINGS if study[finding] == 1} for number, study in studies.items()}
    assert present[1] == {"No Finding"}
    assert present[6] == {"No Finding"}
    assert {"Cardiomegaly", "Pleural Effusion"} <= present[2]  # one of the two begins with a blank
    assert "Pneumonia" in present[3]
    assert "Support Devices" in present[5]
    assert {"Edema", "Atelectasis", "Pneumothorax", "Consolidation"} <= present[11]
    for number in (2, 3, 4, 5, 11):
        assert "No Finding" not in present[number], "No Finding beside a finding"
    for number in (7, 8, 9, 10):
        assert present[number] == set(), "'exclude', nan, 'scoliosis' and '' say no finding"
    assert [get_states(studies[number], FINDINGS) for number in (7, 8, 9, 10)] == [{}, {}, {}, {}]
    # Of an unreadable or unlabelled study nothing is known; scoliosis and a pacemaker leave open what is normal.
    unknown = {number: study["extra_undecided"] for number, study in studies.items()}
    assert unknown == {
        **dict.fromkeys((1, 2, 3, 4, 6, 11)),
        **dict.fromkeys((5, 9), "No Finding"),
        **dict.fromkeys((7, 8, 10), ";".join(FINDINGS)),
    }


def test_padchest_keeps_who_read_a_study(tmp_path: Path) -> None:
    frame = ingest("padchest", write_padchest(tmp_path / "download"), tmp_path / "s.parquet")
    studies = {number: find_study(frame, f"/{name_study(str(number))}_") for number in range(1, 12)}
    physician = (1, 3, 5, 11)
    extras = [column for column in frame.columns if column.startswith("extra_")]
    telling = [
        column
        for column in extras
        if len({studies[number][column] for number in physician}) == 1
        and studies[1][column] is not None
        and all(studies[number][column] != studies[1][column] for number in studies if number not in physician)
    ]
    assert telling, f"none of {extras} tells physicians' readings from the network's"


@pytest.mark.parametrize("release", [2017, 2020])
def test_chestxray14(release: int, tmp_path: Path) -> None:
    folder = write_chestxray14(tmp_path / "download", release=release)
    frame = ingest("chestxray14", folder, tmp_path / "s.parquet")
    images = ("11_000", "11_001", "11_002", "12_000", "13_000", "13_003", "14_000", "14_001", "15_000")
    studies = [find_study(frame, f"000900{image}.png") for image in images]
    assert [get_kinds(study) for study in studies] == [
        [(position, "frontal")] for position in ("PA", "PA", "AP", "AP", "PA", "PA", "AP", "PA", "PA")
    ]
    assert [study["split"] == "test" for study in studies] == [False] * 6 + [True] * 3
    assert {study["split"] for study in studies[:6]} <= {"train", "val", None}
    assert len({study["split"] for study in studies[:3]}) == 1  # one patient
    assert [study["age"] for study in studies] == [58, 58, 59, 81, None if release == 2017 else 41, 62, 7, 8, 30]
    assert [study["sex"] for study in studies] == ["M", "M", "M", "F", "M", "M", "F", "F", "F"]
    assert [study["sections"] for study in studies] == [[]] * 9
    patients = [study["patient"] for study in studies]
    assert [patients.index(patient) for patient in patients] == [0, 0, 0, 3, 4, 4, 6, 6, 8]


def test_chestxray14_lists_that_share_a_patient_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_chestxray14(tmp_path / "download"), tmp_path / "s.parquet"
    moved = "00090011_002.png\n"  # 00090011_000.png and _001.png stay where they are
    for name, change in (
        ("train_val_list.txt", lambda text: text.replace(moved, "")),
        ("test_list.txt", moved.__add__),
    ):
        (folder / name).write_text(change((folder / name).read_text()))
    assert main(["ingest", "chestxray14", str(folder), "--out", str(out)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "train_val_list.txt and test_list.txt share 1 patient: 00090011_000.png of the former and" in told
    assert "00090011_002.png of the latter" in told
    assert not out.exists()
    assert main(["ingest", "chestxray14", str(folder), "--out", str(out), "--own-splits"]) == 0


def test_chestxray14_findings(tmp_path: Path) -> None:
    frame = ingest("chestxray14", write_chestxray14(tmp_path / "download"), tmp_path / "s.parquet")
    images = ("11_000", "11_002", "12_000", "13_003", "14_000", "15_000")
    present = [
        {finding for finding in FINDINGS if find_study(frame, f"000900{image}.png")[finding] == 1} for image in images
    ]
    assert present[0] == {"Cardiomegaly"}
    assert present[1] - {"Lung Opacity"} == {"Pleural Effusion"}
    assert present[2] == {"No Finding"}
    assert present[3] - {"Lung Opacity"} == {"Lung Lesion", "Pleural Other"}
    assert present[4] - {"Lung Opacity"} == {"Atelectasis", "Consolidation", "Pneumonia"}
    assert present[5] - {"Lung Opacity"} == {"Edema", "Pneumothorax"}
    with_a_finding = [find_study(frame, f"000900{image}.png") for image in ("11_001", "13_000")]
    assert [study["No Finding"] == 1 for study in with_a_finding] == [False, False]  # emphysema, hernia
    # Three it cannot say: unknown in every study, never negative. The other eleven it can.
    unsayable = {finding for finding in FINDINGS if frame[finding].null_count() == len(frame)}
    assert unsayable == {"Enlarged Cardiomediastinum", "Fracture", "Support Devices"}
    assert (frame.select(FINDINGS) == -1).sum().row(0) == (0,) * 14


def test_openi(tmp_path: Path) -> None:
    folder = write_openi(tmp_path / "download")
    (folder / "ecgen-radiology" / "9006.xml").unlink()  # the report without images
    frame = ingest("open-i", folder, tmp_path / "s.parquet")
    studies = {number: find_study(frame, f"CXR{number}_") for number in (9001, 9002, 9003, 9004, 9005, 9007)}
    texts = {number: (get_text(study, "findings"), get_text(study, "impression")) for number, study in studies.items()}
    opacity, pneumonia = texts.pop(9005)
    assert texts == {
        9001: ("The lungs are clear. Heart size is normal.", "Normal chest."),
        9002: (None, "Borderline cardiomegaly."),
        9003: ("Small right pleural effusion.", None),
        9004: (None, None),
        9007: ("Heart < 50 % of the chest & unchanged.", "Stable."),
    }
    assert opacity is not None  # whatever became of XXXX
    assert "opacity in the" in opacity
    assert pneumonia is not None
    assert "pneumonia." in pneumonia
    assert [len(study["views"]) for study in studies.values()] == [2, 2, 1, 1, 1, 2]
    assert len(set(frame["patient"])) == len(set(frame["study"])) == 6


def test_openi_findings_are_those_of_its_headings(tmp_path: Path) -> None:
    out = tmp_path / "out" / "s.parquet"
    assert main(["ingest", "open-i", str(write_openi(tmp_path / "download")), "--out", str(out)]) == 3
    frame = read_studies(out)
    studies = {number: find_study(frame, f"CXR{number}_") for number in (9001, 9002, 9003, 9004, 9005, 9007)}
    states = {number: get_states(study, FINDINGS) for number, study in studies.items()}
    assert states[9001] == states[9007] == {name: int(name == "No Finding") for name in (*DISEASES, "No Finding")}
    assert states[9002] == states[9004] == {}  # a borderline heart is not enlarged; nobody indexed the other
    assert states[9003] == {"Pleural Effusion": 1, "No Finding": 0}
    assert states[9005] == {"Lung Opacity": 1, "No Finding": 0}
    unknown = [study["extra_undecided"] for study in studies.values()]
    assert unknown == [None, "No Finding", None, ";".join(FINDINGS), None, None]


def test_an_openi_report_without_images_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / "s.parquet"
    assert main(["ingest", "open-i", str(write_openi(tmp_path / "download")), "--out", str(out)]) in (0, 3)
    rejected = [str(pl.read_parquet(path).to_dicts()) for path in out.parent.glob("*rejected*.parquet")]
    told = "".join([*capfd.readouterr(), *rejected])
    assert "9006" in told or "without image" in told or "no image" in told
