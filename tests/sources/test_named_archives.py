"""What the readers of named archives decide and refuse, on tables of a few rows."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import polars as pl
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from hilum.cli import main
from hilum.errors import UserError
from hilum.identifiers import Naming
from hilum.labels import FINDINGS
from hilum.sources.archive import choose_paths, find_table, read_table, sample
from hilum.sources.catalogue import ARCHIVES
from hilum.sources.named import READERS, check_archive, ingest_archive
from hilum.study import read_studies
from toy_table import QUIET, SALT

LABELS = ",".join(FINDINGS)


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in lines)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def ingest(name: str, root: Path, naming: Naming = Naming(keep_ids=True), **settings) -> pl.DataFrame:
    summary, _ = ingest_archive(name, root, root / "out.parquet", naming=naming, console=QUIET, **settings)
    return read_studies(summary.out)


def write_mimic(root: Path) -> Path:
    """One subject with two studies, the later one first and without a label row, and one subject with one."""
    write(
        root / "mimic-cxr-2.0.0-metadata.csv.gz",
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime",
        "a1,10000032,50000002,CHEST,PA,1,1,21800626,120000.531",
        "a2,10000032,50000002,CHEST,LATERAL,1,1,21800626,120000.531",
        "a3,10000032,50000001,CHEST,,1,1,21800506,3000.0",
        "b1,10000764,50000003,CHEST,LL,1,1,21321015,90000",
    )
    write(
        root / "mimic-cxr-2.0.0-split.csv",
        "dicom_id,study_id,subject_id,split",
        "a1,50000002,10000032,train",
        "a2,50000002,10000032,train",
        "a3,50000001,10000032,train",
        "b1,50000003,10000764,validate",
    )
    header = f"subject_id,study_id,{LABELS}"
    write(root / "mimic-cxr-2.0.0-chexpert.csv", header, "10000032,50000001,1.0,0.0,-1.0" + "," * 11)
    write(root / "mimic-cxr-2.0.0-negbio.csv.gz", header, "10000032,50000001,,1.0,-1.0" + "," * 11)
    return root


def test_mimic_counts_days_from_the_first_study_and_names_only_what_the_table_names(tmp_path: Path) -> None:
    frame = ingest("mimic-cxr", write_mimic(tmp_path)).sort("study")
    assert frame["day"].to_list() == pytest.approx([0.0, 51 + 11.5 / 24, 0.0])
    assert frame["split"].to_list() == ["train", "train", "val"]
    assert [[view["kind"] for view in views] for views in frame["views"]] == [
        ["unknown"],
        ["frontal", "lateral"],
        ["lateral"],
    ]
    assert frame["views"][0][0]["path"] == "files/p10/p10000032/s50000001/a3.jpg"
    assert frame["patient"].to_list() == ["mimic-cxr:10000032"] * 2 + ["mimic-cxr:10000764"]


def test_mimic_reads_the_labeller_that_is_asked_for_and_leaves_blank_what_has_no_row(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    for labels, states in (("chexpert", [1, 0, -1]), ("negbio", [None, 1, -1]), ("none", [None] * 3)):
        frame = ingest("mimic-cxr", root, labels=labels).sort("study")
        assert [frame[name][0] for name in FINDINGS[:3]] == states
        assert frame[FINDINGS[0]][1] is None


def test_mimic_without_the_labels_asked_for_says_which_are_there(tmp_path: Path) -> None:
    (write_mimic(tmp_path) / "mimic-cxr-2.0.0-chexpert.csv").unlink()
    with pytest.raises(UserError, match=r"has no mimic-cxr-2.0.0-chexpert.csv.*--labels negbio reads those of negbio"):
        ingest("mimic-cxr", tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_mimic_reports_are_cut_into_sections(tmp_path: Path, packed: bool) -> None:
    root = write_mimic(tmp_path)
    name, text = "files/p10/p10000032/s50000002.txt", "FINAL REPORT\n FINDINGS: Clear.\n\n IMPRESSION: Normal."
    if packed:
        with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "w") as archive:
            archive.writestr(name, text)
    else:
        write(root / name, text)
    frame = ingest("mimic-cxr", root).sort("study")
    assert frame["sections"].to_list() == [
        [],
        [{"section": "findings", "text": "Clear."}, {"section": "impression", "text": "Normal."}],
        [],
    ]


def save_dicom(path: Path, **fields: str) -> None:
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["a"])
    for keyword, value in ({"Modality": "CR"} | fields).items():
        setattr(file, keyword, value)
    path.parent.mkdir(parents=True)
    file.save_as(path, enforce_file_format=True)


def test_mimic_as_dicom_reads_view_and_day_from_the_headers_that_are_there(tmp_path: Path) -> None:
    rows = [f"10000032,{study},{name},files/p10/p10000032/s{study}/{name}.dcm" for study, name in ((2, "a"), (1, "b"))]
    write(tmp_path / "cxr-record-list.csv.gz", "subject_id,study_id,dicom_id,path", *rows)
    absent = ingest("mimic-cxr", tmp_path)
    assert [views[0]["kind"] for views in absent["views"]] == ["unknown", "unknown"]
    path = tmp_path / "files" / "p10" / "p10000032" / "s2" / "a.dcm"
    save_dicom(path, ViewPosition="LL", StudyDate="21800506", StudyTime="120000", PatientSex="F")
    frame = ingest("mimic-cxr", tmp_path).sort("study")
    assert [views[0]["kind"] for views in frame["views"]] == ["unknown", "lateral"]
    assert frame["views"][1][0]["path"] == "files/p10/p10000032/s2/a.dcm"
    assert frame["day"].to_list() == [None, 0.0]
    assert frame["sex"].to_list() == [None, "F"]


def test_a_label_outside_the_four_states_is_named_with_its_row(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    header = f"subject_id,study_id,{LABELS}"
    write(root / "mimic-cxr-2.0.0-chexpert.csv", header, "10000032,50000001,1.0,2.0" + "," * 12)
    with pytest.raises(UserError, match=r"mimic-cxr-2.0.0-chexpert.csv, row 2: column 'Cardiomegaly'.*has '2.0'"):
        ingest("mimic-cxr", root)


def write_chexpert(root: Path, *rows: str) -> Path:
    write(root / "train.csv", f"Path,Sex,Age,Frontal/Lateral,AP/PA,{LABELS}", *rows)
    return root


def test_chexpert_takes_kinds_from_its_own_column_and_age_0_as_unknown(tmp_path: Path) -> None:
    blank = "," * 13
    study = "CheXpert-v1.0-small/train/patient00001/study1"
    write_chexpert(
        tmp_path,
        f"{study}/view1_frontal.jpg,Female,0,Frontal,LL,1.0{blank}",
        f"{study}/view2_lateral.jpg,Female,0,Lateral,,1.0{blank}",
    )
    frame = ingest("chexpert", tmp_path)
    assert [view["kind"] for view in frame["views"][0]] == ["frontal", "lateral"]
    assert [view["position"] for view in frame["views"][0]] == ["LL", ""]
    assert (frame["age"][0], frame["sex"][0], frame["split"][0]) == (None, "F", "train")
    assert ingest("chexpert", tmp_path, own_splits=True)["split"].to_list() == [None]


def test_chexpert_test_set_comes_as_images_or_as_studies_whose_images_the_disk_names(tmp_path: Path) -> None:
    root = write_chexpert(tmp_path, "train/patient00001/study1/view1_frontal.jpg,Male,50,Frontal,AP" + "," * 14)
    write(root / "test_labels.csv", f"Path,{LABELS}", "test/patient64741/study1/view1_frontal.jpg" + ",0" * 13 + ",1")
    test = ingest("chexpert", root).filter(pl.col("split") == "test")
    assert test.select("Atelectasis", "Support Devices", "age").row(0) == (0, 1, None)
    assert test["views"][0][0]["kind"] == "frontal"
    (root / "test_labels.csv").unlink()
    write(root / "groundtruth.csv", f"Study,{LABELS}", "CheXpert-v1.0/test/patient64741/study1" + ",0.0" * 14)
    with pytest.raises(UserError, match="names studies, not images, and none of its 1 studies has a folder"):
        ingest("chexpert", root)
    for name in ("view1_frontal.jpg", "view2_lateral.jpg"):
        write(root / "test" / "patient64741" / "study1" / name)
    test = ingest("chexpert", root).filter(pl.col("split") == "test")
    assert [view["kind"] for view in test["views"][0]] == ["frontal", "lateral"]


def test_chexperts_missing_folders_are_counted_and_the_check_does_not_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = "train/patient00001/study1/view1_frontal.jpg"
    root = write_chexpert(tmp_path, f"{train},Male,50,Frontal,AP" + "," * 14)
    studies = [f"test/patient6474{number}/study1" for number in range(3)]
    write(root / "valid.csv", f"Path,Sex,Age,Frontal/Lateral,AP/PA,{LABELS}", f"{train},Male,50,Frontal,AP" + "," * 14)
    write(root / "groundtruth.csv", f"Study,{LABELS}", *(f"CheXpert-v1.0/{study}" + ",0.0" * 14 for study in studies))
    write(root / train)
    for there, code in ((1, 3), (2, 3), (3, 0)):
        write(root / studies[there - 1] / "view1_frontal.jpg")
        assert main(["sources", "chexpert", "--check", str(root)]) == code
        said = capsys.readouterr().out
        lacking = f"- {3 - there} of 3 studies of groundtruth.csv have no folder of images: left out."
        assert (lacking in said) == (code == 3)
        assert f"{2 + there} images" in said


def test_one_person_has_one_name_in_chexpert_and_chexpert_plus(tmp_path: Path) -> None:
    one = write_chexpert(tmp_path / "one", "train/patient00001/study1/view1_frontal.jpg,Male,50,Frontal,AP" + "," * 14)
    write(
        tmp_path / "two" / "df_chexpert_plus_240401.csv",
        "path_to_image,frontal_lateral,ap_pa,deid_patient_id,section_findings,section_impression,report,age,sex,split",
        "train/patient00001/study1/view1_frontal.jpg,Frontal,AP,patient00001,,Normal.,all of it,50,Male,train",
        "train/patient00001/study2/view1_frontal.jpg,Frontal,AP,patient00001,,,all of it,50,Male,train",
    )
    said = {"path_to_image": "train/patient00001/study1/view1_frontal.jpg", **dict.fromkeys(FINDINGS)}
    write(tmp_path / "two" / "impression_fixed.json", json.dumps(said | {"Edema": -1.0}))
    first = ingest("chexpert", one, Naming(salt=SALT))
    second = ingest("chexpert-plus", tmp_path / "two", Naming(salt=SALT))
    assert set(first["patient"]) == set(second["patient"])
    assert second["Edema"].to_list() == [-1, None]
    assert [[part["section"] for part in parts] for parts in second["sections"]] == [["impression"], ["report"]]


def test_chexpert_plus_refuses_a_state_that_is_none(tmp_path: Path) -> None:
    write(
        tmp_path / "df_chexpert_plus_240401.csv",
        "path_to_image,frontal_lateral,ap_pa,deid_patient_id,age,sex,split",
        "train/patient00001/study1/view1_frontal.jpg,Frontal,AP,patient00001,50,Male,train",
    )
    said = {"path_to_image": "train/patient00001/study1/view1_frontal.jpg", **dict.fromkeys(FINDINGS, 3)}
    write(tmp_path / "findings_fixed.json", json.dumps(said))
    with pytest.raises(UserError, match=r"findings_fixed.json, line 1: 'Atelectasis' has 3"):
        ingest("chexpert-plus", tmp_path)


def write_chestxray14(root: Path, labels: str = "Emphysema|Infiltration", test: str = "00000002_000.png") -> Path:
    write(
        root / "Data_Entry_2017.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],",
        f"00000001_000.png,{labels},0,1,411,M,PA,2682,2749,0.143,0.143,",
        "00000002_000.png,No Finding,0,2,058Y,F,AP,2500,2048,0.168,0.168,",
    )
    write(root / "train_val_list.txt", "00000001_000.png")
    write(root / "test_list.txt", test)
    return root


def test_chestxray14_states_eleven_findings_and_leaves_validation_to_the_cache(tmp_path: Path) -> None:
    frame = ingest("chestxray14", write_chestxray14(tmp_path)).sort("study")
    assert frame["Lung Opacity"].to_list() == [1, 0]
    assert frame["No Finding"].to_list() == [0, 1]
    assert frame["Fracture"].to_list() == [None, None]
    assert frame["split"].to_list() == [None, "test"]
    assert frame["age"].to_list() == [None, 58.0]
    assert frame["extra_follow_up"].to_list() == ["0", "0"]


def test_chestxray14_keeps_its_own_fourteen_labels_as_a_task(tmp_path: Path) -> None:
    """P 3.7: what published numbers are means of; three of them say nothing of our findings."""
    frame = ingest("chestxray14", write_chestxray14(tmp_path, "Emphysema| Infiltration")).sort("study")
    labels = {name.partition(":")[2]: frame[name].to_list() for name in frame.columns if name.startswith("extra_nih:")}
    assert set(labels) == {
        "Hernia", "Pneumothorax", "Nodule", "Edema", "Effusion", "Pleural_Thickening", "Cardiomegaly", "Mass",
        "Fibrosis", "Consolidation", "Pneumonia", "Infiltration", "Emphysema", "Atelectasis",
    }  # fmt: skip
    assert {name for name, said in labels.items() if said == ["1", "0"]} == {"Emphysema", "Infiltration"}
    assert all(said == ["0", "0"] for name, said in labels.items() if name not in ("Emphysema", "Infiltration"))


def test_chestxray14_finds_images_in_the_folders_of_its_twelve_downloads(tmp_path: Path) -> None:
    root = write_chestxray14(tmp_path)
    write(root / "images_002" / "images" / "00000002_000.png")
    paths = [view["path"] for views in ingest("chestxray14", root).sort("study")["views"] for view in views]
    assert paths == ["images/00000001_000.png", "images_002/images/00000002_000.png"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"labels": "Infiltrate"}, r"row 2: column 'Finding Labels' has 'Infiltrate', expected labels of Atelectasis"),
        ({"test": "00000001_000.png"}, r"train_val_list.txt and test_list.txt share 1 image "),
        ({"test": "<html>"}, r"test_list.txt has '<html>', expected one image name"),
    ],
)
def test_chestxray14_refuses_what_was_not_published(tmp_path: Path, broken: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ingest("chestxray14", write_chestxray14(tmp_path, **broken))


def test_open_i_rejects_single_files_and_reads_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "ecgen-radiology"
    image = '<parentImage id="CXR1_1_IM-0001-3001"/><MeSH><major>Opacity/lung</major><major>Hernia</major></MeSH>'
    text = '<AbstractText Label="FINDINGS">Clear\n lungs.</AbstractText><AbstractText Label="IMPRESSION"/>'
    write(folder / "1.xml", f'<eCitation><uId id="CXR1"/>{text}{image}</eCitation>')
    write(folder / "2.xml", '<eCitation><uId id="CXR2"/></eCitation>')
    write(folder / "3.xml", "<eCitation><uId")
    summary, _ = ingest_archive("open-i", tmp_path, tmp_path / "s.parquet", naming=Naming(salt=SALT), console=QUIET)
    frame = read_studies(summary.out)
    assert frame["sections"].to_list() == [[{"section": "findings", "text": "Clear lungs."}]]
    assert frame["extra_mesh"].to_list() == ["Opacity/lung;Hernia"]
    assert [view["path"] for view in frame["views"][0]] == ["NLMCXR_png/CXR1_1_IM-0001-3001.png"]
    rejected = dict(pl.read_parquet(summary.rejected_path).iter_rows())
    assert rejected["ecgen-radiology/2.xml"] == "the report names no image"
    assert "not well-formed" in rejected["ecgen-radiology/3.xml"]
    # A bare "Hernia" is no heading of the collection: what is beside it may not be all there is.
    assert frame.select(FINDINGS).row(0) == (None,) * 14
    assert frame["extra_undecided"].to_list() == [";".join(FINDINGS)]
    assert any("'Hernia'" in warning for warning in summary.warnings)


def test_tables_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,x%d\n" % (row, row * row) for row in range(5_000)))
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "row.csv").write_text("a,b,c\n1,2,3\n4,5")
    (tmp_path / "empty.csv").write_text("a,b\n")
    (tmp_path / "blank.csv").write_text("a,b\n1,2\n,3\n")
    for name, message in (
        ("cut.csv.gz", "cannot be read to its end"),
        ("row.csv", "its last row has 2 of 3 cells"),
        ("empty.csv", "has no rows"),
        ("blank.csv", "row 3: column 'a' is blank"),
    ):
        with pytest.raises(UserError, match=message):
            read_table(tmp_path / name, ["a", "b"], filled=["a"])


def test_tables_saved_anew_in_another_encoding_are_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "late.csv").write_bytes(b"a,b\n" + b"1,2\n" * 20_000 + "ö,2\n".encode("latin-1"))
    (tmp_path / "wide.csv").write_text("a,b\nö,2\n", encoding="utf-16")
    for name in ("late.csv", "wide.csv"):
        with pytest.raises(UserError, match=r"is not UTF-8 .*another program saved it anew"):
            read_table(tmp_path / name, ["a", "b"])
    (tmp_path / "nothing.csv").touch()
    with pytest.raises(UserError, match="has no header line, or nothing at all"):
        read_table(tmp_path / "nothing.csv", ["a", "b"])


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "StudyId,b", "1,2")
    with pytest.raises(UserError, match=r"has no column 'StudyID'. Did you mean 'StudyId'\? Its columns: StudyId, b"):
        read_table(tmp_path / "t.csv", ["StudyID"])


def test_a_table_is_found_one_folder_below_and_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no train.csv .*Found an empty folder"):
        find_table(tmp_path, "train.csv", needed="it lists the studies")
    assert find_table(tmp_path, "train.csv") is None
    one = write(tmp_path / "CheXpert-v1.0-small" / "train.csv", "a")
    assert find_table(tmp_path, "train.csv") == one
    write(tmp_path / "CheXpert-v1.0-small" / "train.csv.gz", "a")
    assert find_table(tmp_path, "train.csv") == one  # the same table, packed
    write(tmp_path / "CheXpert-v1.0" / "train.csv", "a")
    with pytest.raises(UserError, match=r"several tables train.csv: .*CheXpert-v1.0-small/train.csv"):
        find_table(tmp_path, "train.csv")


def test_paths_follow_the_disk_and_the_published_layout_without_one(tmp_path: Path) -> None:
    layouts = [pl.Series("path", ["0/a.png", "1/b.png"]), pl.Series("path", ["a.png", "b.png"])]
    assert choose_paths(tmp_path, layouts).to_list() == ["0/a.png", "1/b.png"]
    write(tmp_path / "b.png")
    assert choose_paths(tmp_path, layouts).to_list() == ["a.png", "b.png"]
    assert sample([str(number) for number in range(1000)], 4) == ["0", "250", "500", "750"]


def test_check_counts_what_is_there_and_the_exit_code_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_chestxray14(tmp_path)
    assert main(["sources", "chestxray14", "--check", str(root)]) == 3
    assert "0 of 2 looked for exist" in capsys.readouterr().out
    for name in ("00000001_000.png", "00000002_000.png"):
        write(root / "images" / name)
    assert main(["ingest", "chestxray14", str(root), "--check"]) == 0
    assert "listed: 2 images, 2 studies, 2 patients" in capsys.readouterr().out
    (root / "test_list.txt").unlink()
    assert main(["sources", "chestxray14", "--check", str(root)]) == 3
    assert "missing  test_list.txt: images for the test" in capsys.readouterr().out
    assert not check_archive("padchest", root, console=QUIET)


def test_every_archive_is_in_the_catalogue_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(ARCHIVES) == list(READERS)
    assert main(["sources"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ARCHIVES)
    assert main(["sources", "padchest"]) == 0
    assert "bimcv" in capsys.readouterr().out
    assert main(["sources", "padchst"]) == 2
    assert "Did you mean 'padchest'" in capsys.readouterr().err
    assert main(["sources", "--check", "."]) == 2


def test_ingest_says_which_cache_settings_keep_the_official_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_chestxray14(tmp_path)
    assert main(["ingest", "chestxray14", str(root), "--out", str(tmp_path / "studies.parquet")]) == 0
    assert "--fractions 0.9 0.1 0" in capsys.readouterr().out
    assert main(["ingest", "chestxray14", str(root)]) == 2
    assert "--out is missing" in capsys.readouterr().err
