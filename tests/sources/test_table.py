import stat
import subprocess
import sys
import textwrap
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from rich.console import Console

from hilum.errors import UserError
from hilum.labels import FINDINGS
from hilum.sources.assemble import IngestSummary
from hilum.sources.cells import classify_position
from hilum.sources.columns import choose_columns
from hilum.sources.table import ingest_table
from hilum.study import STUDY_SCHEMA, read_studies

QUIET = Console(quiet=True)
SALT = "a salt for tests"


def write_table(folder: Path, text: str, images: tuple[str, ...] = ("a", "b", "c", "d"), name: str = "t.csv") -> Path:
    """A table of the given text (columns and rows, blanks around ',' and '|' free) beside tiny images a.png, ..."""
    for image in images:
        Image.new("L", (4, 4)).save(folder / f"{image}.png")
    lines = [",".join(cell.strip() for cell in line.split("|")) for line in text.strip().splitlines()]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def ingest(file: Path, **options) -> tuple[pl.DataFrame, IngestSummary]:
    """The study table with readable ids, and the summary."""
    options = {"keep_ids": True, "console": QUIET} | options
    if options["keep_ids"]:
        options = {"id_space": ""} | options
    summary = ingest_table(file, file.parent / "out" / "studies.parquet", **options)
    return read_studies(summary.out), summary


def test_one_row_per_image(tmp_path: Path) -> None:
    file = write_table(
        tmp_path,
        """patient_id | StudyUID | path  | ViewPosition | Pleural_Effusion | edema | age  | Sex  | impression | site
           p1         | s1       | a.png | PA           | 1                | -1.0  | 054Y | F    | Effusion.  | A
           p1         | s1       | b.png | LL           | 1                | -1.0  | 054Y | F    | Effusion.  | A
           p1         | s2       | c.png |              | 0                |       | 55   | f    |            | B
           p2         | s3       | d.png | APICAL       | nan              | 1     | 006M | male |            |""",
    )
    frame, summary = ingest(file)
    assert frame["study"].to_list() == ["s1", "s2", "s3"]
    assert [[view["kind"] for view in views] for views in frame["views"]] == [
        ["frontal", "lateral"],
        ["unknown"],
        ["unknown"],
    ]
    assert [view["position"] for view in frame["views"].explode()] == ["PA", "LL", "", "APICAL"]
    assert frame["Pleural Effusion"].to_list() == [1, 0, None]
    assert frame["Edema"].to_list() == [-1, None, 1]
    assert frame["age"].to_list() == [54, 55, 0.5]
    assert frame["sex"].to_list() == ["F", "F", "M"]
    assert frame["sections"].to_list() == [[{"section": "impression", "text": "Effusion."}], [], []]
    assert frame["extra_site"].to_list() == ["A", "B", None]
    assert frame["root"].unique().to_list() == [str(tmp_path)]
    assert frame["dataset"].unique().to_list() == ["t"]
    assert (summary.num_rejected, summary.studies.num_views) == (0, 4)


def test_one_row_per_study_with_lists(tmp_path: Path) -> None:
    file = write_table(
        tmp_path,
        """study | filenames     | view_positions
           s1    | a.png; b.png  | PA;LATERAL
           s2    | c.png         | AP SUPINE
           s3    | d.png;d.png   | PA""",
    )
    frame, summary = ingest(file)
    assert [[view["path"] for view in views] for views in frame["views"]] == [["a.png", "b.png"], ["c.png"], ["d.png"]]
    assert [view["kind"] for view in frame["views"].explode()] == ["frontal", "lateral", "frontal", "frontal"]
    assert any("counted once: 1" in note for note in summary.notes)


def test_lists_of_python_and_parquet(tmp_path: Path) -> None:
    write_table(tmp_path, "path")
    rows = {"filenames": ["['a.png', 'b.png']", "['c.png']"], "view_positions": ["['PA', 'LL']", "['AP']"]}
    pl.DataFrame(rows).write_csv(tmp_path / "python.csv")
    lists = {
        "filenames": [["a.png", "b.png"], ["c.png"]],
        "view_positions": [["PA", "LL"], ["AP"]],
        "Edema": [1.0, None],
    }
    pl.DataFrame(lists).write_parquet(tmp_path / "lists.parquet")
    for name in ("python.csv", "lists.parquet"):
        frame, _ = ingest(tmp_path / name)
        assert [[view["kind"] for view in views] for views in frame["views"]] == [["frontal", "lateral"], ["frontal"]]
    assert frame["Edema"].to_list() == [1, None]
    pl.DataFrame({"filenames": ["['a.png'"]}).write_csv(tmp_path / "python.csv")
    with pytest.raises(UserError, match="expected a list like"):
        ingest(tmp_path / "python.csv")


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


def test_dates_become_days_and_do_not_leave(tmp_path: Path) -> None:
    file = write_table(
        tmp_path,
        """patient | study | path  | StudyDate
           p1      | s1    | a.png | 2019-03-28 10:15:00
           p1      | s2    | b.png | 20190328
           p1      | s3    | c.png | 2018/03/28
           p2      | s4    | d.png |""",
    )
    frame, summary = ingest(file)
    assert frame["day"].to_list() == [365, 365, 0, None]
    content = summary.out.read_bytes()
    assert b"2019" not in content
    assert not any(str(date(2019, 3, 28).toordinal()) in str(row) for row in frame.rows())
    (tmp_path / "t.csv").write_text("path,date\na.png,28.03.2019\n")
    with pytest.raises(UserError, match=r"row 2: column 'date' \(date\) has something else, expected a date like"):
        ingest(file)


@pytest.mark.parametrize(
    ("header", "cell", "message"),
    [
        (
            "Edema",
            "2",
            "row 3: column 'Edema' (Edema) has '2', expected 1 (present), 0 (absent), -1 (uncertain) or blank",
        ),
        ("lung_opacity", "yes", "row 3: column 'lung_opacity' (Lung Opacity) has 'yes'"),
        ("Edema", "unknown", "has 'unknown', expected 1 (present)"),
        ("sex", "1", "has '1', expected F, M, female, male or blank (0 and 1 do not say which is which)"),
        ("age", "sixty", "has 'sixty', expected years, or an age like 054Y"),
        ("split", "holdout", "has 'holdout', expected train, val, test or blank"),
        ("day", "monday", "has 'monday', expected a number of days"),
        ("day", "inf", "has 'inf', expected a number of days"),
        ("kind", "PA", "has 'PA', expected frontal, lateral, cc, mlo, unknown"),
        ("laterality", "5", "has '5', expected left, right, both"),
        ("view", "PA;LL", "has 'PA;LL', expected one for the row, or one for each of its images"),
    ],
)
def test_a_cell_that_means_nothing_is_named_with_its_row(tmp_path: Path, header: str, cell: str, message: str) -> None:
    file = write_table(tmp_path, f"path | {header}\na.png |\nb.png | {cell}")
    with pytest.raises(UserError) as error:
        ingest(file)
    assert message in str(error.value)
    assert "1 such row." in str(error.value)
    ingest(file, columns={header: ""})


def test_images_of_one_study_must_agree(tmp_path: Path) -> None:
    file = write_table(tmp_path, "study | path | Edema\ns1 | a.png | 1\ns1 | b.png |\ns2 | c.png | 0")
    with pytest.raises(UserError, match=r"disagree on 'Edema': study s1 \(rows 2, 3\) has 1, blank; 1 such study"):
        ingest(file)
    file = write_table(tmp_path, "study | path | split\ns1 | a.png | train\ns1 | b.png | test")
    with pytest.raises(UserError, match="disagree on 'split'"):
        ingest(file)


def test_what_describes_may_disagree_and_is_then_blank(tmp_path: Path) -> None:
    file = write_table(
        tmp_path, "study | path | sex | age | report\ns1 | a.png | F | 300 | One.\ns1 | b.png | M | 54 | Two."
    )
    frame, summary = ingest(file)
    assert frame["sex"].to_list() == [None]
    assert frame["age"].to_list() == [54]
    assert frame["sections"][0].to_list() == [{"section": "report", "text": "One.\n\nTwo."}]
    assert any("disagree on sex" in note for note in summary.notes)
    assert any("1 ages outside" in note for note in summary.notes)


def test_missing_images_are_rejected_and_the_rest_goes_on(tmp_path: Path) -> None:
    file = write_table(tmp_path, "study | path\ns1 | a.png\ns1 | lost.png\ns2 | gone.png\ns3 |", images=("a",))
    frame, summary = ingest(file)
    assert frame["study"].to_list() == ["s1"]
    assert len(frame["views"][0]) == 1
    assert summary.num_rejected == 3
    assert pl.read_parquet(summary.rejected_path).rows() == [
        ("t.csv, row 5", "the row names no image"),
        ("lost.png", "the file does not exist"),
        ("gone.png", "the file does not exist"),
    ]
    with pytest.raises(UserError) as error:
        ingest(file, root=tmp_path / "elsewhere")
    assert "None of the 3 images that t.csv lists exist under" in str(error.value)
    assert "(a.png, lost.png, gone.png): give the folder the paths start from as --root" in str(error.value)


def test_studies_without_any_image_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"No image in .* could be used; 1 rejected \(t.csv, row 2: the row names no image"
    ):
        ingest(write_table(tmp_path, "study | path\ns1 |"))


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


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no table"):
        ingest(tmp_path / "absent.csv")
    for name, content in (("t.xlsx", b"PK"), ("t.parquet", b"no"), ("t.csv", b""), ("t.csv", b"a,b\n1,2,3\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            ingest(tmp_path / name)


def test_separators_and_encodings(tmp_path: Path) -> None:
    write_table(tmp_path, "path")
    for name, content in (
        ("tab.tsv", b"path\treport\na.png\tfine, clear; dry\n"),
        ("semicolon.csv", b"\xef\xbb\xbfpath;report\na.png;fine, clear\n"),
        ("latin.csv", "path,report\na.png,Thorax unauffällig\n".encode("latin-1")),
    ):
        (tmp_path / name).write_bytes(content)
        frame, _ = ingest(tmp_path / name)
        assert frame["views"][0][0]["path"] == "a.png"
    assert frame["sections"][0][0]["text"] == "Thorax unauffällig"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_unicode_text_of_spreadsheets_is_read(tmp_path: Path, encoding: str) -> None:
    write_table(tmp_path, "path")
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "t.csv").write_bytes(f"{mark}path\tage\treport\na.png\t61\tThorax unauffällig\n".encode(encoding))
    frame, _ = ingest(tmp_path / "t.csv")
    assert (frame["age"][0], frame["sections"][0][0]["text"]) == (61, "Thorax unauffällig")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"path,Edema,age,Edema\na.png,1,5,0\n", "t.csv has 2 columns of the name 'Edema': nobody can tell"),
        (b'"path","a, b","a, b"\na.png,1,5\n', "t.csv has 2 columns of the name 'a, b'"),
        (b"path,age\n", "t.csv: the table has no rows, only a header (Its columns: path, age)."),
        ("path\na.png\n".encode("utf-16-le"), "t.csv holds zero bytes: it is no text, or UTF-16 without its mark"),
        ("path\na.png\n".encode("utf-16")[:-1], "t.csv begins like UTF-16, but byte"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    write_table(tmp_path, "path")
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError) as error:
        ingest(tmp_path / "t.csv")
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


def test_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    write_table(tmp_path, "path")
    (tmp_path / "t.csv").write_text("path;patient;age;day;edema\na.png;1,5;60,5;-1,5;1,0\nb.png;1,5;7;2;-1,0\n")
    frame, _ = ingest(tmp_path / "t.csv")
    assert frame.select("patient", "age", "day", "Edema").rows() == [("1,5", 60.5, 0.0, 1), ("1,5", 7.0, 3.5, -1)]
    (tmp_path / "t.csv").write_text('path,day\na.png,"1,500"\n')  # there it may be one and a half thousand
    with pytest.raises(UserError, match="has '1,500', expected a number of days"):
        ingest(tmp_path / "t.csv")


def test_one_study_id_with_two_patients_is_one_study_and_one_person(tmp_path: Path) -> None:
    file = write_table(
        tmp_path, "patient | study | path\np1 | mixed | a.png\np2 | mixed | b.png\np2 | s2 | c.png\np3 | s3 | d.png"
    )
    frame, summary = ingest(file)
    assert frame.select("study", "patient", "group").rows() == [
        ("mixed", "p1", "p1"),
        ("s2", "p2", "p1"),
        ("s3", "p3", "p3"),
    ]
    assert any("1 study ids have two patient ids" in note for note in summary.notes)


def test_studies_numbered_within_each_patient(tmp_path: Path) -> None:
    file = write_table(
        tmp_path, "patient | study | path\np1 | s1 | a.png\np1 | s2 | b.png\np2 | s1 | c.png\np2 | s2 | d.png"
    )
    with pytest.raises(UserError, match=r"2 study ids belong to several patients .* --study-ids-per-patient"):
        ingest(file)
    frame, _ = ingest(file, study_ids_per_patient=True)
    assert frame["study"].to_list() == ["p1/s1", "p1/s2", "p2/s1", "p2/s2"]
    assert frame["group"].to_list() == ["p1", "p1", "p2", "p2"]


def test_identifiers_are_hashed_with_a_salt_that_stays(tmp_path: Path) -> None:
    file = write_table(
        tmp_path,
        "patient | study | path | patient_group\nPat-77 | Stu-88 | a.png | Grp-99\nPat-78 | Stu-89 | b.png | Grp-99",
    )
    frame, summary = ingest(file, keep_ids=False)
    salt = summary.out.parent / "hilum-salt.txt"
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    content = summary.out.read_bytes()
    assert not any(name in content for name in (b"Pat-7", b"Stu-8", b"Grp-9", salt.read_bytes().strip()))
    assert frame["patient"].str.contains("^[0-9a-f]{32}$").all()
    assert frame["group"].n_unique() == 1
    again, _ = ingest(file, keep_ids=False)
    assert again.equals(frame)
    salt.unlink()
    other, _ = ingest(file, keep_ids=False)
    assert not set(other["patient"]) & set(frame["patient"])
    assert not set(other["study"]) & set(frame["study"])
    salt.write_text("short\n")
    with pytest.raises(UserError, match="holds a salt of 5 characters"):
        ingest(file, keep_ids=False)
    with pytest.raises(UserError, match="--salt has 3 characters"):
        ingest(file, keep_ids=False, salt="abc")


def test_patients_of_two_archives_differ_unless_they_share_an_id_space(tmp_path: Path) -> None:
    file = write_table(tmp_path, "patient | path\n1 | a.png")
    options = {"keep_ids": False, "salt": SALT}
    one, two = (ingest(file, dataset=name, **options)[0]["patient"][0] for name in ("one", "two"))
    assert one != two
    shared = [ingest(file, dataset=name, id_space="hospital", **options)[0]["patient"][0] for name in ("one", "two")]
    assert shared[0] == shared[1]
    assert not (tmp_path / "out" / "hilum-salt.txt").exists()


def test_kept_ids_of_two_archives_differ_unless_they_share_an_id_space(tmp_path: Path) -> None:
    file = write_table(
        tmp_path,
        """dataset  | patient | study | path  | patient_group
           nih      | 1       | s1    | a.png | g
           chexpert | 1       | s1    | b.png |
           nih      | 2       | s2    | c.png | g
           chexpert | 2       | s3    | d.png | g""",
    )
    frame, summary = ingest(file, id_space=None)
    assert frame["patient"].to_list() == ["nih:1", "chexpert:1", "nih:2", "chexpert:2"]
    assert frame["study"].to_list() == ["s1", "s1", "s2", "s3"]
    assert (summary.studies.num_patients, summary.studies.num_groups) == (4, 3)
    assert frame["group"][0] == frame["group"][2]
    assert frame["group"][3] != frame["group"][2]
    hashed = ingest(file, keep_ids=False, salt=SALT)[1].studies
    assert (hashed.num_patients, hashed.num_groups) == (4, 3)
    shared, summary = ingest(file, id_space="hospital")
    assert shared["patient"].to_list() == ["hospital:1", "hospital:1", "hospital:2", "hospital:2"]
    assert summary.studies.num_groups == 1
    assert ingest(file, id_space="")[0]["patient"].to_list() == ["1", "1", "2", "2"]


def test_settings_that_would_be_ignored_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--keep-ids keeps ids as they are, --salt hashes them"):
        ingest(tmp_path / "lost.csv", salt=SALT)
    with pytest.raises(UserError, match="--salt has 1 characters"):
        ingest(tmp_path / "lost.csv", keep_ids=False, salt="x")


def test_a_script_that_its_workers_import_is_told_so(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import sys
            from pathlib import Path
            from hilum.sources import assemble, folder
            assemble._FEW = 2
            folder.ingest_folder(Path(sys.argv[1]), Path(sys.argv[2]), workers=2)
        """)
    )
    (tmp_path / "x").mkdir()
    write_table(tmp_path / "x", "path")
    done = subprocess.run(
        [sys.executable, program, tmp_path / "x", tmp_path / "out.parquet"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.stderr.strip().splitlines()[-1] == (
        f"hilum.errors.UserError: {program}: calls an ingest while it is imported, and every worker process imports "
        'it. Put the call under `if __name__ == "__main__":`.'
    )
    assert done.stderr.count("Traceback") == 1


def test_report_files_are_opened(tmp_path: Path) -> None:
    file = write_table(tmp_path, "path | report\na.png | r.txt\nb.png | lost.txt\nc.png | Plain words.")
    (tmp_path / "r.txt").write_bytes("Thorax unauffällig".encode("latin-1"))
    frame, summary = ingest(file)
    texts = [section["text"] for sections in frame["sections"] for section in sections]
    assert texts == ["Thorax unauffällig", "Plain words."]
    assert any("1 report files do not exist" in note for note in summary.notes)


def test_several_tables_in_one_folder_keep_their_own_rejections(tmp_path: Path) -> None:
    file = write_table(tmp_path, "path\na.png\nlost.png")
    first = ingest_table(file, tmp_path / "nih.parquet", console=QUIET, salt=SALT)
    second = ingest_table(file, tmp_path / "studies.parquet", console=QUIET, salt=SALT)
    assert [summary.rejected_path.name for summary in (first, second)] == ["nih-rejected.parquet", "rejected.parquet"]


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


@pytest.mark.needs_real_data
def test_real_multiview_archive(real_data: Path, tmp_path: Path) -> None:
    summary = ingest_table(
        real_data / "cxr_multiview" / "manifest.csv", tmp_path / "s.parquet", console=QUIET, salt=SALT
    )
    studies = summary.studies
    assert (studies.num_studies, studies.num_patients, studies.num_groups, studies.num_views) == (326, 195, 193, 390)
    assert studies.views_per_study == {1: 268, 2: 54, 3: 3, 5: 1}
    assert studies.kinds == {"frontal": 344, "lateral": 46}
    assert studies.labels["Pneumonia"] == {1: 255, 0: 12, None: 59}
    assert studies.labels["Edema"] == {None: 326}
    assert summary.num_rejected == 0
    frame = read_studies(summary.out)
    assert set(STUDY_SCHEMA) == set(frame.columns)
    kinds = frame.select(pl.col("views").list.eval(pl.element().struct.field("kind")).list.unique().list.len())
    assert (kinds["views"] == 2).sum() == 46
    # The two pairs of patient ids are found without the archive's own column too: they list the same files.
    without = ingest_table(
        real_data / "cxr_multiview" / "manifest.csv",
        tmp_path / "t.parquet",
        columns={"group": ""},
        console=QUIET,
        salt=SALT,
    )
    assert without.studies.num_groups == 193


@pytest.mark.needs_real_data
def test_real_single_view_archives(real_data: Path, tmp_path: Path) -> None:
    nih = ingest_table(real_data / "nih" / "manifest.csv", tmp_path / "n.parquet", console=QUIET, salt=SALT).studies
    assert (nih.num_studies, nih.num_patients, nih.num_views, nih.kinds) == (829, 651, 829, {"frontal": 829})
    assert nih.labels["Pneumonia"] == {1: 264, 0: 565}
    assert [name for name, states in nih.labels.items() if states == {None: 829}] == [
        "Enlarged Cardiomediastinum",
        "Fracture",
        "Support Devices",
    ]
    # Hannover names no studies, and the day of an image only as days back to the admission.
    summary = ingest_table(
        real_data / "hannover_cxr_labs" / "manifest.csv",
        tmp_path / "h.parquet",
        columns={"day": "-admission_offset"},
        console=QUIET,
        salt=SALT,
    )
    hannover = summary.studies
    assert (hannover.num_studies, hannover.num_patients, hannover.num_views) == (243, 71, 243)
    days = read_studies(summary.out).group_by("patient").agg(pl.col("day").min())["day"]
    assert days.to_list() == [0.0] * 71
