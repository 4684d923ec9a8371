from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from rich.console import Console

from hilum.errors import UserError
from hilum.labels import FINDINGS
from hilum.sources.cells import classify_position
from hilum.sources.columns import choose_columns
from toy_table import ingest, write_table


def test_given_columns_win_and_can_be_switched_off(tmp_path: Path) -> None:
    file = write_table(
        tmp_path,
        """who | exam | where | view | offset | note  | Edema | ward
           p1  | e1   | a.png | PA   | -3     | Clear | 1     | 5
           p1  | e2   | b.png | PA   | -10    | Clear | 1     | 5""",
    )
    columns = {
        "patient": "who",
        "study": "exam",
        "image": "where",
        "view": "",
        "day": "-offset",
        "Report": "note",
        "edema": "",
        "extra_ward": "ward",
    }
    frame, _ = ingest(file, columns=columns, dataset="mine")
    assert frame["patient"].to_list() == ["p1", "p1"]
    assert frame["day"].to_list() == [0, 7]
    assert frame["views"].explode().struct.field("position").to_list() == ["", ""]
    assert frame["Edema"].to_list() == [None, None]
    assert frame["sections"][0][0] == {"section": "report", "text": "Clear"}
    assert frame["extra_ward"].to_list() == ["5", "5"]
    assert frame["dataset"].to_list() == ["mine", "mine"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"patient": "PatientId"},
            "t.csv has no column 'PatientId' for patient. Did you mean 'patient_id'? Its columns:",
        ),
        (
            {"pateint": "patient_id"},
            "--columns cannot set 'pateint'. Did you mean 'patient'? It sets dataset, patient,",
        ),
        ({"image": ""}, "t.csv has no column of image paths: name it with --columns image=COLUMN. Looked for path,"),
    ],
)
def test_wrong_columns_are_named_with_the_closest(tmp_path: Path, columns: dict, message: str) -> None:
    file = write_table(tmp_path, "patient_id | path\np1 | a.png")
    with pytest.raises(UserError) as error:
        ingest(file, columns=columns)
    assert message in str(error.value)


def test_usual_names_are_recognised() -> None:
    names = [
        "Image Index",
        "Patient ID",
        "Patient Age",
        "Patient Gender",
        "View Position",
        "Finding Labels",
        "Follow-up #",
    ]
    chosen = {target: column.name for target, column in choose_columns(names, {}, "nih.csv").items()}
    assert chosen == {
        "patient": "Patient ID",
        "image": "Image Index",
        "view": "View Position",
        "age": "Patient Age",
        "sex": "Patient Gender",
    }
    names = ["dataset", "filenames", "views", "view_positions", "n_views", *FINDINGS, "findings", "impression"]
    chosen = {target: column.name for target, column in choose_columns(names, {}, "mvmae.csv").items()}
    assert (chosen["image"], chosen["view"]) == ("filenames", "view_positions")
    assert {chosen[finding] for finding in FINDINGS} == set(FINDINGS)
    assert chosen["section_findings"] == "findings"


@pytest.mark.parametrize("name", ["MRN", "Medical Record Number", "case_id", "Subject", "SubjectID", "PatientID"])
def test_whoever_the_patient_is_called(tmp_path: Path, name: str) -> None:
    frame, summary = ingest(write_table(tmp_path, f"{name} | path | edema\n7 | a.png | 1\n7 | b.png | 0"))
    assert frame["patient"].to_list() == ["7", "7"]
    assert not summary.warnings


def test_a_table_without_patients_or_findings_is_said_loudly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_table(tmp_path, "study | path | mrnn | Oedma | Enlarged_Cardiom | notes\ns1 | a.png | 7 | 1 | 0 | x")
    _, summary = ingest(file, console=Console(stderr=True, width=200))
    assert [warning.split(":")[0] for warning in summary.warnings] == [
        "There is no patient column",
        "No column is one of the 14 findings",
    ]
    assert "every study counts as a patient of its own" in summary.warnings[0]
    said = capsys.readouterr().err
    assert "if it means patient: --columns patient=mrnn" in said
    assert "if it means Edema: --columns Edema=Oedma" in said
    assert "if it means Enlarged Cardiomediastinum: --columns 'Enlarged Cardiomediastinum=Enlarged_Cardiom'" in said
    assert "notes" in said
    assert "=notes" not in said
    given = {"patient": "mrnn", "Edema": "Oedma", "Enlarged Cardiomediastinum": "Enlarged_Cardiom"}
    frame, summary = ingest(file, columns=given)
    assert frame.select("patient", "Edema", "Enlarged Cardiomediastinum").rows() == [("7", 1, 0)]
    assert not summary.warnings


def test_other_names_of_the_findings_are_recognised() -> None:
    names = ["path", "Oedema", "Effusion", "pleural_effusion", "Lung opacities", "Support Device", "Pulmonary Oedema"]
    chosen = {target: column.name for target, column in choose_columns(names, {}, "t.csv").items()}
    assert chosen == {
        "image": "path",
        "Edema": "Oedema",
        "Pleural Effusion": "pleural_effusion",
        "Lung Opacity": "Lung opacities",
        "Support Devices": "Support Device",
    }


def test_headers_and_names_give_the_views_that_the_table_does_not(tmp_path: Path) -> None:
    file = write_table(tmp_path, "study | images\ns1 | x.dcm;p_lateral.png\ns2 | a.png", images=("a", "p_lateral"))
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = "1.2"
    header.Modality, header.ViewPosition, header.ImageLaterality = "CR", "AP", "L"
    header.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    frame, summary = ingest(file)
    views = [(view["kind"], view["position"], view["laterality"]) for view in frame["views"].explode()]
    assert views == [("frontal", "AP", "left"), ("lateral", "", "unknown"), ("unknown", "", "unknown")]
    assert any("There is no view column" in note for note in summary.notes)
    # A table that has a column for it knows its views: names of files are not asked.
    file.write_text("study,images,view\ns1,x.dcm;p_lateral.png,\ns2,a.png,LL\n")
    frame, _ = ingest(file)
    assert [view["kind"] for view in frame["views"].explode()] == ["frontal", "unknown", "lateral"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("lateral", ["L", "l", "LAT", "Lat.", "LL", "RL", "lateral view", "LATERAL", "left lateral", "L-Lateral"]),
        ("frontal", ["PA", "pa view", "Frontal view", "AP_SUPINE", "F", "postero-anterior", "P.A.", "Chest PA"]),
        ("unknown", ["", "R", "PA/LAT", "PA LATERAL", "lateral decubitus", "COSTAL", "LLD", "apical", "view"]),
        ("cc", ["CC", "cc view"]),
        ("mlo", ["MLO"]),
    ],
)  # fmt: skip
def test_the_usual_words_for_views_are_understood(kind: str, words: list[str]) -> None:
    assert {word: classify_position(word) for word in words} == dict.fromkeys(words, kind)


def test_words_for_views_that_are_not_known_are_counted(tmp_path: Path) -> None:
    file = write_table(
        tmp_path, "path | view\na.png | L\nb.png | COSTAL\nc.png | costal\nd.png | COSTAL\ne.png | nan", tuple("abcde")
    )
    frame, summary = ingest(file)
    assert [view["kind"] for view in frame["views"].explode()] == ["lateral", *["unknown"] * 4]
    said = " ".join(summary.notes)
    assert "no word for frontal, lateral, cc or mlo: 2 'COSTAL', 1 'costal'. Where one of them is" in said
    assert "as nothing names them: 1." in said


def test_the_phantom_s_columns_are_recognised() -> None:
    names = [
        "study",
        "patient",
        "day",
        "age",
        "sex",
        "institution",
        "views",
        "positions",
        "report",
        "findings",
        *FINDINGS,
    ]
    chosen = {target: column.name for target, column in choose_columns(names, {}, "studies.csv").items()}
    assert (chosen["image"], chosen["view"], chosen["extra_institution"]) == ("views", "positions", "institution")
    assert "kind" not in chosen
