import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from rich.console import Console

from hilum.cache import Cache
from hilum.cli import main
from hilum.errors import UserError
from hilum.identifiers import Naming
from hilum.sources import assemble
from hilum.sources.assemble import IngestSummary
from hilum.sources.folder import ingest_folder
from hilum.study import read_studies
from toy_table import QUIET, READABLE, SALT


def write_dicom(path: Path, **fields) -> Path:
    """A tiny CR image of patient p1, study 1.1; further attributes by keyword."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    file.Modality, file.PatientID, file.StudyInstanceUID = "CR", "p1", "1.1"
    file.Rows = file.Columns = 4
    file.PhotometricInterpretation, file.SamplesPerPixel, file.PixelRepresentation = "MONOCHROME2", 1, 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 8, 8, 7
    file.PixelData = bytes(range(16))
    for keyword, value in fields.items():
        setattr(file, keyword, value)
    file.save_as(path, enforce_file_format=True)
    return path


def write_images(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(root / path)
    return root


def ingest(root: Path, **options) -> tuple[pl.DataFrame, IngestSummary]:
    """The study table with readable ids, and the summary."""
    options = {"naming": READABLE, "console": QUIET} | options
    summary = ingest_folder(root, root.parent / "out" / "studies.parquet", **options)
    return read_studies(summary.out), summary


def list_paths(frame: pl.DataFrame) -> dict[str, list[str]]:
    return {study: [view["path"] for view in views] for study, views in frame.select("study", "views").iter_rows()}


def test_dicom_is_grouped_by_its_headers(tmp_path: Path) -> None:
    root = tmp_path / "x"
    write_dicom(root / "one" / "1.dcm", ViewPosition="PA", PatientAge="054Y", PatientSex="F", Manufacturer="Maker")
    write_dicom(root / "two" / "IM0001", ViewPosition="LL", PatientAge="054Y", PatientSex="F", Manufacturer="Maker")
    write_dicom(root / "two" / "1.2.3", StudyInstanceUID="1.2", ImageLaterality="R")
    write_dicom(root / "z.dcm", StudyInstanceUID="1.3", PatientID="p2", Modality="DX", PatientSex="O")
    write_dicom(root / "pa.dcm", StudyInstanceUID="", PatientID="")
    frame, summary = ingest(root)
    frame = frame.sort("study")
    assert frame.select("study", "patient").rows() == [
        ("1.1", "p1"),
        ("1.2", "p1"),
        ("1.3", "p2"),
        ("file:pa.dcm", "study:file:pa.dcm"),
    ]
    assert [view["path"] for view in frame["views"][0]] == ["one/1.dcm", "two/IM0001"]
    assert [(view["kind"], view["position"]) for view in frame["views"][0]] == [("frontal", "PA"), ("lateral", "LL")]
    # A view nobody named stays unknown: names of files mean nothing where headers speak.
    assert [view["kind"] for view in frame["views"].explode()][2:] == ["unknown"] * 3
    assert frame["views"][1][0]["laterality"] == "right"
    assert frame.row(0, named=True).items() >= {"age": 54.0, "sex": "F", "extra_manufacturer": "Maker"}.items()
    assert frame["sex"].to_list() == ["F", None, None, None]
    assert frame["extra_modality"].to_list() == ["CR", "CR", "DX", "CR"]
    assert summary.num_rejected == 0


def test_days_are_counted_from_the_first_study_and_dates_stay_behind(tmp_path: Path) -> None:
    root = tmp_path / "x"
    for number, (day, time) in enumerate([("20190330", "1200"), ("20190328", "120000.00"), ("", ""), ("19991301", "")]):
        person = {"PatientName": "Doe^Jane", "PatientBirthDate": "19700101", "PatientAddress": "Elm Street"}
        write_dicom(root / f"{number}.dcm", StudyInstanceUID=f"1.{number}", StudyDate=day, StudyTime=time, **person)
    frame, summary = ingest(root)
    assert frame["day"].to_list() == [2.0, 0.0, None, None]
    content = summary.out.read_bytes()
    assert not any(word in content for word in (b"2019", b"1970", b"Doe", b"Elm"))


def test_what_is_no_projection_image_is_rejected_with_a_reason(tmp_path: Path) -> None:
    root = tmp_path / "files"
    write_images(root, "p/s/good.png")
    for name, fields in {
        "ct": {"Modality": "CT"},
        "blank": {"Modality": ""},
        "volume": {"NumberOfFrames": 4},
        "burned": {"BurnedInAnnotation": "YES"},
        "raw": {"PresentationIntentType": "FOR PROCESSING"},
    }.items():
        write_dicom(root / f"{name}.dcm", StudyInstanceUID=f"1.{name}", **fields)
    (root / "cut.dcm").write_bytes((root / "ct.dcm").read_bytes()[:150])
    (root / "fake.dcm").write_bytes(b"x" * 500)
    (root / "text.png").write_text("not an image")
    (root / "empty.jpg").touch()
    (root / "notes.md").write_text("aside")
    (root / ".hidden.png").write_text("aside")
    _, summary = ingest(root)
    rejected = dict(pl.read_parquet(summary.rejected_path).iter_rows())
    assert rejected["text.png"] == "named .png, but it is not a readable image: a text file"
    assert rejected["empty.jpg"] == "named .jpg, but it is not a readable image: the file is empty"
    assert rejected["cut.dcm"] == "the DICOM header does not describe any pixels; the file may be cut off"
    assert "  1: ct.dcm: modality CT; expected one of CR, DX, RG, MG (--modalities says which)" in summary.reasons
    assert {path: reason[:32] for path, reason in rejected.items()} == {
        "blank.dcm": "modality is blank; expected one ",
        "burned.dcm": "its header says text is burned i",
        "ct.dcm": "modality CT; expected one of CR,",
        "cut.dcm": rejected["cut.dcm"][:32],
        "empty.jpg": "named .jpg, but it is not a read",
        "fake.dcm": "named .dcm, but it has no DICOM ",
        "raw.dcm": "raw detector values (FOR PROCESS",
        "text.png": "named .png, but it is not a read",
        "volume.dcm": "4 frames; volumes and cine loops",
    }
    assert summary.num_rejected == 9
    assert any("other kinds, left aside: 1" in note for note in summary.notes)
    taken, _ = ingest(root, allow_burned_in=True, modalities=("CR", "DX", ""))
    assert {"burned.dcm", "blank.dcm"} <= {path for paths in list_paths(taken).values() for path in paths}


def test_folders_of_rasters_are_patients_and_studies(tmp_path: Path) -> None:
    root = write_images(
        tmp_path / "x",
        "p1/s1/view1_frontal.png",
        "p1/s1/chest_lateral.jpg",
        "p1/s2/ap.png",
        "p2/s1/pa_lat.png",
        "alone/only.png",
        "loose.png",
    )
    frame, summary = ingest(root)
    assert list_paths(frame) == {
        "file:loose.png": ["loose.png"],
        "alone": ["alone/only.png"],
        "p1/s1": ["p1/s1/chest_lateral.jpg", "p1/s1/view1_frontal.png"],
        "p1/s2": ["p1/s2/ap.png"],
        "p2/s1": ["p2/s1/pa_lat.png"],
    }
    assert dict(frame.select("study", "patient").iter_rows()) == {
        "file:loose.png": "study:file:loose.png",
        "alone": "alone",
        "p1/s1": "p1",
        "p1/s2": "p1",
        "p2/s1": "p2",
    }
    kinds = [view["kind"] for view in frame.sort("study")["views"].explode()]
    assert kinds == ["unknown", "unknown", "lateral", "frontal", "frontal", "unknown"]
    assert frame["dataset"].unique().to_list() == ["x"]
    said = " ".join(summary.notes)
    assert "1 raster images lie directly in the folder" in said
    assert "1 raster images lie one folder deep" in said
    assert "4 raster images lie in folders read as patient/study/image" in said


def test_layout_says_what_names_mean(tmp_path: Path) -> None:
    root = write_images(
        tmp_path / "x",
        "train/north/p1_e1_PA.png",
        "train/north/p1_e1_LL.png",
        "valid/south/p2_e1_PA.png",
        "other/south/p3_e1_PA.png",
        "train/odd.png",
    )
    frame, summary = ingest(root, layout="{split}/{site}/{patient}_{study}_{view}")
    assert list_paths(frame) == {
        "p1/e1": ["train/north/p1_e1_LL.png", "train/north/p1_e1_PA.png"],
        "p2/e1": ["valid/south/p2_e1_PA.png"],
    }
    assert frame["split"].to_list() == ["train", "val"]
    assert frame["extra_site"].to_list() == ["north", "south"]
    assert [view["kind"] for view in frame["views"].explode()] == ["lateral", "frontal", "frontal"]
    assert [view["position"] for view in frame["views"].explode()] == ["LL", "PA", "PA"]
    assert dict(pl.read_parquet(summary.rejected_path).iter_rows()) == {
        "other/south/p3_e1_PA.png": "its path names the split 'other'; expected train, val or test",
        "train/odd.png": "its path does not fit the layout",
    }
    each, _ = ingest(root, layout="{_}/{patient}")
    assert list(list_paths(each).values()) == [["train/odd.png"]]


@pytest.mark.parametrize("layout", ["", "patient/study", "{patient}/{patient}", "{patient}/{stu dy}", "{_}/{image}"])
def test_a_layout_that_says_nothing_is_refused(tmp_path: Path, layout: str) -> None:
    with pytest.raises(UserError, match=r"--layout .*: expected fields in braces"):
        ingest(write_images(tmp_path / "x", "a.png"), layout=layout)


@pytest.mark.parametrize(
    ("field", "meant"),
    [("studie", "study"), ("Study", "study"), ("pateint", "patient"), ("patient_id", "patient"), ("veiw", "view"),
     ("subject", "patient"), ("accession", "study"), ("subset", "split")],
)  # fmt: skip
def test_a_field_that_looks_like_another_is_refused_or_kept_when_called_extra(
    tmp_path: Path, field: str, meant: str
) -> None:
    root = write_images(tmp_path / "x", "p1/a/1.png", "p1/a/2.png")
    with pytest.raises(
        UserError, match=rf"did you mean {{{meant}}} by {{{field}}}\? If that is .* call it {{extra_{field}}}"
    ):
        ingest(root, layout=f"{{_}}/{{{field}}}/{{image}}")
    frame, _ = ingest(root, layout=f"{{_}}/{{extra_{field}}}/{{image}}")
    assert frame[f"extra_{field}"].to_list() == ["a", "a"]


def test_what_a_layout_does_not_say_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_images(tmp_path / "x", "north/p1/1.png", "north/p1/2.png")
    _, summary = ingest(root, layout="{site}/{patient}/{image}")
    assert "Fields of --layout kept as columns: extra_site." in summary.notes
    assert any("no {study}: every raster image is a study of its own" in note for note in summary.notes)
    assert not summary.warnings
    _, summary = ingest(root, layout="{site}/{study}/{image}", console=Console(stderr=True))
    assert any("names no {patient}" in warning for warning in summary.warnings)
    assert "names no {patient}" in capsys.readouterr().err


def test_a_folder_of_many_images_is_no_study(tmp_path: Path) -> None:
    root = write_images(tmp_path / "x", *(f"train/NORMAL/{number}.png" for number in range(17)))
    with pytest.raises(UserError, match="Folder 'train/NORMAL' holds 17 images, too many for one study"):
        ingest(root)
    frame, _ = ingest(root, layout="{split}/{class}/{patient}")
    assert len(frame) == 17


def test_texts_find_their_study(tmp_path: Path) -> None:
    root = write_images(tmp_path / "x", "p/s1/a.png", "p/s1/b.png", "p/s2/a.png", "p/s3/a.png", "loose.png")
    texts = {
        "p/s1/b.txt": "By image name.",
        "p/s1/more.txt": "By folder.",
        "p/s2.txt": "By the name of the folder.",
        "loose.txt": "Loose.",
        "p/stray.txt": "Of nobody.",
        "p/s3/README.txt": "No report.",
    }
    for path, text in texts.items():
        (root / path).write_text(text)
    frame, summary = ingest(root)
    found = {
        study: [section["text"] for section in sections] for study, sections in frame.select("study", "sections").rows()
    }
    assert found == {
        "file:loose.png": ["Loose."],
        "p/s1": ["By image name.\n\nBy folder."],
        "p/s2": ["By the name of the folder."],
        "p/s3": [],
    }
    assert any("left aside: 1." in note for note in summary.notes)


def test_what_cannot_be_read_is_rejected_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_images(tmp_path / "x", "one/a.png", "two/a.png")
    (root / "one" / "report.txt").symlink_to(tmp_path / "gone.txt")
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "two":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    frame, summary = ingest(root)
    assert list_paths(frame) == {"one": ["one/a.png"]}
    rejected = pl.read_parquet(summary.rejected_path)
    assert dict(rejected.select("path", "reason").iter_rows()) == {
        "one/report.txt": "cannot be read: No such file or directory",
        "two/": "the folder cannot be read: Permission denied",
    }


def test_copies_and_previews_are_left_out(tmp_path: Path) -> None:
    root = write_images(tmp_path / "x", "a/preview.png")
    source = write_dicom(root / "a" / "1.dcm")
    (root / "copy").mkdir()
    shutil.copy(source, root / "copy" / "1.dcm")
    frame, summary = ingest(root)
    assert list(list_paths(frame).values()) == [["a/1.dcm"]]
    assert sum("left out: 1." in note for note in summary.notes) == 2
    # The same object with other bytes may be the better one: both stay.
    content = (root / "copy" / "1.dcm").read_bytes()
    (root / "copy" / "1.dcm").write_bytes(content[:-1] + b"x")
    assert list(list_paths(ingest(root)[0]).values()) == [["a/1.dcm", "copy/1.dcm"]]


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "table.csv").write_text("a")
    with pytest.raises(UserError) as error:
        ingest(tmp_path / "x")
    assert f"There is no image in {tmp_path / 'x'}: looked in all its folders for .dcm, .dicom," in str(error.value)
    with pytest.raises(UserError, match="There is no folder"):
        ingest(tmp_path / "absent")


def test_a_folder_of_bad_files_is_an_error_that_names_the_first(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").write_text("text")
    with pytest.raises(
        UserError, match=r"could be used; 1 rejected \(a.png: named .png, but it is not a readable image"
    ):
        ingest(tmp_path / "x")
    assert len(pl.read_parquet(tmp_path / "out" / "rejected.parquet")) == 1


def test_links_that_lead_back_up_end(tmp_path: Path) -> None:
    root = write_images(tmp_path / "x", "p/s/a.png")
    (root / "p" / "loop").symlink_to(root, target_is_directory=True)
    assert len(ingest(root)[0]) == 1


@pytest.mark.soak
def test_processes_give_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "_FEW", 200)
    for number in range(200):
        write_dicom(tmp_path / "files" / f"{number}.dcm", StudyInstanceUID=f"1.{number}")
    write_images(tmp_path / "files", "p/s/pa.png")
    (tmp_path / "files" / "bad.dcm").write_bytes(b"x" * 500)
    alone, few = ingest(tmp_path / "files", workers=1)
    together, many = ingest(tmp_path / "files", workers=2)
    assert together.equals(alone)
    assert few.reasons == many.reasons


@pytest.mark.needs_real_data
def test_real_dicom_files(real_data: Path, tmp_path: Path) -> None:
    summary = ingest_folder(real_data / "dicom", tmp_path / "studies.parquet", console=QUIET, naming=Naming(salt=SALT))
    assert (summary.studies.num_studies, summary.studies.num_views, summary.num_rejected) == (9, 13, 5)
    assert summary.studies.kinds == {"frontal": 9, "unknown": 3, "mlo": 1}
    rejected = dict(pl.read_parquet(summary.rejected_path).iter_rows())
    assert rejected["ecg12_waveform.dcm"].startswith("holds no image (modality ECG")
    assert rejected["dbt_CC_j2k_3d.dcm"].startswith("4 frames")
    assert rejected["ct_multiwindow.dcm"].startswith("modality CT")


def test_what_ingest_was_told_to_take_the_cache_takes_when_told(tmp_path: Path) -> None:
    square = {"Rows": 64, "Columns": 64}
    for name, fields in {"plain": {}, "burned": {"BurnedInAnnotation": "YES"}, "other": {"Modality": "OT"}}.items():
        pixels = bytes((row * len(name) + column) % 251 for row in range(64) for column in range(64))
        write_dicom(tmp_path / "x" / f"{name}.dcm", StudyInstanceUID=f"1.{name}", PixelData=pixels, **square, **fields)
    table, out = str(tmp_path / "studies.parquet"), str(tmp_path / "cache")
    told = ["--allow-burned-in", "--modalities", "CR", "OT"]
    assert main(["ingest", "folder", str(tmp_path / "x"), "--out", table, "--workers", "1", *told]) == 0
    build = ["cache", table, "--out", out, "--short-side", "64", "--workers", "1"]
    assert main(build) == 3
    assert len(Cache.open(out).views) == 1
    reasons = pl.read_parquet(tmp_path / "cache" / "rejected.parquet").drop_nulls("path").sort("path")["reason"]
    assert "--allow-burned-in" in reasons[0]
    assert "--modalities" in reasons[1]
    assert main([*build, *told]) == 0
    assert len(Cache.open(out).views) == 3
