"""A user's copy of the published map gives the paper's targets, of first or last rows (M 1.4, M 8-3)."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from published import lay_out

from hilum.cli import main
from hilum.errors import UserError
from hilum.labels import FINDINGS, read_label_map
from hilum.sources import padchest
from hilum.sources.padchest_map import read_published_map
from hilum.study import read_studies
from sources.archives.ingested import find_study, get_states
from sources.archives.padchest import name_study, write_padchest

DECISIONS = read_label_map("padchest").decisions
# Written from M 1.4: keys with and without a leading space, rows twice, two of the 17 labels that stand first with No
# Finding and later with another, and labels that say nothing, or that the study is unreadable, as No Finding.
MAP = """,original,mapped
0,normal,No Finding
1,cardiomegaly,Cardiomegaly
2, pleural effusion,Pleural Effusion
3,pleural effusion,Pleural Effusion
4,pneumonia,Pneumonia
5,unchanged,No Finding
6,scoliosis,No Finding
7, scoliosis,No Finding
8,exclude,No Finding
9,aortic elongation,Enlarged Cardiomediastinum
10,dual chamber device,Support Devices
11,pacemaker,Support Devices
12, pacemaker,Support Devices
13,,No Finding
14,pulmonary edema,Edema
15,atelectasis,Atelectasis
16,pneumothorax,Pneumothorax
17,consolidation,Consolidation
18,kerley lines,No Finding
19, kerley lines,No Finding
20,kerley lines,Edema
21, kerley lines,Edema
22,hiatal hernia,No Finding
23,hiatal hernia,Lung Opacity
24,pneumonia,Pneumonia
"""


def write_map(folder: Path, text: str = MAP) -> Path:
    path = folder / "map.csv"
    path.write_text(text)
    return path


def test_of_a_label_with_two_findings_the_row_counts_that_is_asked_for(tmp_path: Path) -> None:
    path = write_map(tmp_path)
    labels = [["kerley lines"], [" hiatal hernia", "pneumonia "]]
    present = {}
    for conflict in ("first", "last"):
        states = read_published_map(path, conflict).map_rows(labels)
        present[conflict] = [{FINDINGS[i] for i in (row == 1).nonzero()[0]} for row in states]
        assert not (states == 0).any()  # nothing says that a finding is absent
    assert present == {
        "first": [{"No Finding"}, {"No Finding", "Pneumonia"}],
        "last": [{"Edema"}, {"Lung Opacity", "Pneumonia"}],
    }
    with pytest.raises(UserError, match=r"2 labels several findings \('hiatal hernia': No Finding, Lung Opacity\)"):
        read_published_map(path)
    with pytest.raises(UserError, match=r"'nodule' is none of the 17 labels that the map map\.csv decides"):
        read_published_map(path, "last").map_rows([["nodule"]])


def test_the_papers_targets_of_padchest(tmp_path: Path) -> None:
    """Every study has them: unreadable ones too, and No Finding stands beside other findings."""
    out = tmp_path / "s.parquet"
    flags = ["--label-map", str(write_map(tmp_path)), "--conflict", "first"]
    assert main(["ingest", "padchest", str(write_padchest(tmp_path / "download")), "--out", str(out), *flags]) == 0
    frame = read_studies(out)
    assert "extra_undecided" not in frame.columns
    studies = {number: find_study(frame, f"/{name_study(str(number))}_") for number in range(1, 12)}
    states = {number: get_states(study, FINDINGS) for number, study in studies.items()}
    assert states == {
        1: {"No Finding": 1},
        2: {"Cardiomegaly": 1, "Pleural Effusion": 1},
        3: {"Pneumonia": 1, "No Finding": 1},
        4: {"Enlarged Cardiomediastinum": 1, "Pleural Effusion": 1},
        5: {"Support Devices": 1},
        6: {"No Finding": 1},
        7: {"No Finding": 1},  # exclude
        8: {},  # no label
        9: {"No Finding": 1},
        10: {"No Finding": 1},  # an empty label, which the map has
        11: {"Edema": 1, "Atelectasis": 1, "Pneumothorax": 1, "Consolidation": 1, "No Finding": 1},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MAP.replace("Edema", "Oedema"), "has no column of findings: .* nearest is 'mapped', which has 'Oedema'"),
        (MAP.replace(",unchanged", ",unchangd"), "no column of labels of PadChest: .*'original', which has 'unchangd'"),
        (MAP + "25,normal", "rows with as many cells"),
        ("original,mapped", "expected a header and rows"),
    ],
)
def test_a_table_that_is_no_map_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_published_map(write_map(tmp_path, text), "last")


def test_a_map_that_is_not_there_and_a_choice_without_a_map_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.csv cannot be read"):
        read_published_map(tmp_path / "nowhere.csv", "last")
    with pytest.raises(UserError, match="name its file with --label-map"):
        padchest.read(tmp_path, conflict="last")


# Labels that make four columns of the specification's table, with as many rows of the map as it counts (2, 4, 4, 4);
# every other label stands here as No Finding, whose column is not the official one then.
GUESSED = {
    "Cardiomegaly": ("cardiomegaly",),
    "Consolidation": ("consolidation", "infiltrates"),
    "Edema": ("pulmonary edema", "kerley lines"),
    "Pneumonia": ("pneumonia", "atypical pneumonia"),
}


def test_four_columns_of_the_specification_come_from_the_complete_table(tmp_path: Path) -> None:
    meant = {label: finding for finding, labels in GUESSED.items() for label in labels}
    rows = [("", "No Finding"), ("kerley lines", "No Finding"), (" kerley lines", "No Finding")]
    rows += [(lead + label, meant.get(label, "No Finding")) for label in DECISIONS for lead in ("", " ")]
    file = write_map(tmp_path, "".join(f"{label},{finding}\n" for label, finding in [("label", "finding"), *rows]))
    (table,) = lay_out("padchest", tmp_path / "padchest").iterdir()
    studies = pl.read_csv(table, columns=["StudyID", "Labels"], infer_schema=False).unique("StudyID")
    labels = studies["Labels"].replace("nan", None)
    for conflict, edema in (("first", 1_286), ("last", 1_351)):
        states = padchest.state_findings(labels, table, read_published_map(file, conflict))
        assert [(states[finding] == 1).sum() for finding in GUESSED] == [9_798, 5_974, edema, 5_175]
        # The 79 studies without any label have no finding; 511 with an empty one have No Finding.
        assert states.filter(pl.all_horizontal(pl.all().is_null())).height == 79


@pytest.mark.parametrize(
    ("conflict", "row"),
    [
        ("first", [6118, 9798, 5974, 1286, 13239, 4151, 11720, 29010, 70672, 10556, 3868, 5175, 539, 15679]),
        ("last", [6118, 9798, 5974, 1351, 15699, 4151, 11784, 32673, 64566, 10556, 3868, 5175, 539, 15748]),
    ],
)
def test_the_official_map_gives_the_counts_of_the_specification(conflict, row: list[int], tmp_path: Path) -> None:
    """M 8-3: positives of 109,931 studies."""
    if not (file := os.environ.get("HILUM_PADCHEST_MAP")):
        pytest.skip("no official map of PadChest's labels: set HILUM_PADCHEST_MAP to its file")
    images = padchest.read(lay_out("padchest", tmp_path), label_map=Path(file), conflict=conflict).images
    studies = images.unique("study")
    assert len(studies) == 109_931
    assert [(studies[name] == 1).sum() for name in FINDINGS] == row
    if conflict == "last":
        others = pl.any_horizontal((pl.col(name) == 1).fill_null(False) for name in FINDINGS if name != "No Finding")
        assert studies.filter(pl.col("No Finding") == 1, others).height == 20_165
