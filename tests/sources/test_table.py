from __future__ import annotations

import subprocess
import sys
import textwrap
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from hilum.errors import UserError
from hilum.identifiers import Naming
from hilum.sources.table import ingest_table
from toy_table import QUIET, SALT, ingest, write_table


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
        ("lung_opacity", "maybe", "row 3: column 'lung_opacity' (Lung Opacity) has 'maybe'"),
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
    file = write_table(tmp_path, "study | path | Edema\ns1 | a.png;b.png | 1\ns1 | c.png;d.png | 0")
    with pytest.raises(UserError, match=r"study s1 \(rows 2, 3\) has 1, 0"):  # each row once, however many images
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
    assert any("1 age outside" in note for note in summary.notes)


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
    assert "Not one image that t.csv lists (3) exists under" in str(error.value)
    assert "(a.png, lost.png, gone.png): give the folder the paths start from as --root" in str(error.value)


def test_studies_without_any_image_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"No image in .* could be used; 1 rejected \(t.csv, row 2: the row names no image"
    ):
        ingest(write_table(tmp_path, "study | path\ns1 |"))


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file; expected a table"):
        ingest(tmp_path / "absent.csv")
    for name, content in (("t.xlsx", b"PK"), ("t.parquet", b"no"), ("t.csv", b""), ("t.csv", b"a,b\n1,2,3\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            ingest(tmp_path / name)


def test_a_row_with_more_cells_than_the_header_is_named(tmp_path: Path) -> None:
    """A line break within quotes is within a row."""
    (tmp_path / "t.csv").write_text('path,report\na.png,"two\nlines, quoted"\nb.png,fine\nc.png,clear, dry\n')
    with pytest.raises(UserError, match=r"^t\.csv, row 4: 3 cells, the header has 2\. Put cells that hold ',' in"):
        ingest(tmp_path / "t.csv")


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


def test_what_is_no_utf8_is_read_as_windows_writes_it_and_said(tmp_path: Path) -> None:
    """Quotes and dashes of Word are no letters of Latin-1: they were control characters in every report."""
    file, text = write_table(tmp_path, "path"), "\u201egr\u00f6\u00dfer\u201c \u2013 links"
    file.write_bytes(f"path,report\na.png,{text}\n".encode("cp1252"))
    frame, summary = ingest(file)
    assert frame["sections"][0][0]["text"] == text
    assert any("t.csv is not UTF-8 (byte 18) and was read as Windows-1252" in note for note in summary.notes)
    (tmp_path / "r.txt").write_bytes(text.encode("cp1252"))
    file.write_text("path,report\na.png,r.txt\n")
    frame, summary = ingest(file)
    assert frame["sections"][0][0]["text"] == text
    assert not any("UTF-8" in note for note in summary.notes)


def test_findings_may_be_answers(tmp_path: Path) -> None:
    """As people write them, and as pandas and Parquet keep a column of truth values."""
    file = write_table(tmp_path, "path | Edema\na.png | yes\nb.png | No\nc.png | TRUE\nd.png | False")
    assert ingest(file)[0]["Edema"].to_list() == [1, 0, 1, 0]
    pl.DataFrame({"path": ["a.png", "b.png", "c.png"], "Edema": [True, False, None]}).write_parquet(
        tmp_path / "t.parquet"
    )
    assert ingest(tmp_path / "t.parquet")[0]["Edema"].to_list() == [1, 0, None]


def test_paths_of_windows_are_read(tmp_path: Path) -> None:
    (tmp_path / "p1" / "s1").mkdir(parents=True)
    write_table(tmp_path / "p1" / "s1", "path")
    (tmp_path / "p1" / "s1" / "odd\\name.png").write_bytes((tmp_path / "p1/s1/a.png").read_bytes())
    file = write_table(tmp_path, "path\np1\\s1\\a.png\np1/s1/odd\\name.png\np1\\s1\\lost.png")
    frame, summary = ingest(file)
    assert [view["path"] for view in frame["views"].explode()] == ["p1/s1/a.png", "p1/s1/odd\\name.png"]
    assert any("2 paths with \\ as Windows writes them" in note for note in summary.notes)
    assert summary.num_rejected == 1
    (tmp_path / "p1" / "r.txt").write_text("Plain words.")
    file.write_text("path,report\np1\\s1\\a.png,p1\\r.txt\n")
    assert ingest(file)[0]["sections"][0][0]["text"] == "Plain words."
    (tmp_path / "t.csv").write_text("path\nC:\\data\\a.png\n")
    with pytest.raises(UserError, match=r"they name a drive of Windows \(C:\). Cut them off at the folder you give"):
        ingest(file)


def test_blank_rows_below_the_last_are_no_studies(tmp_path: Path) -> None:
    file = write_table(tmp_path, "path | age\na.png | 61\n |\nb.png | 62\n |\n |")
    frame, summary = ingest(file)
    assert frame["age"].to_list() == [61, 62]
    assert any("2 blank rows at the end of the table left out" in note for note in summary.notes)
    assert summary.num_rejected == 1  # the one between, by its row
    rejected = pl.read_parquet(summary.rejected_path)
    assert "t.csv, row 3" in str(rejected.rows())


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
    assert any("1 report file cannot be read" in note for note in summary.notes)


def test_several_tables_in_one_folder_keep_their_own_rejections(tmp_path: Path) -> None:
    file = write_table(tmp_path, "path\na.png\nlost.png")
    first = ingest_table(file, tmp_path / "nih.parquet", console=QUIET, naming=Naming(salt=SALT))
    second = ingest_table(file, tmp_path / "studies.parquet", console=QUIET, naming=Naming(salt=SALT))
    assert [summary.rejected_path.name for summary in (first, second)] == ["nih-rejected.parquet", "rejected.parquet"]


def test_no_finding_beside_a_disease_is_said(tmp_path: Path) -> None:
    """A device is no disease; states stay as they are; one study of two images counts once."""
    file = write_table(
        tmp_path,
        """study | path  | No Finding | Edema | Pneumonia | Support Devices
           s1    | a.png | 1          | 1     | 1         |
           s1    | b.png | 1          | 1     | 1         |
           s2    | c.png | 1          | 0     |           | 1
           s3    | d.png | 1          | -1    | 1         |""",
    )
    frame, summary = ingest(file)
    assert frame["No Finding"].to_list() == [1, 1, 1]
    assert frame["Edema"].to_list() == [1, 0, -1]
    (said,) = [note for note in summary.notes if "No Finding" in note]
    assert said.startswith("2 studies with No Finding present and a disease too (row 2 Edema, row 5 Pneumonia): ")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    assert any(note.startswith("1 study with No Finding present") for note in ingest(file)[1].notes)
    file.write_text("path,No Finding,Edema\na.png,1,0\nb.png,0,1\n")
    assert not any("No Finding" in note for note in ingest(file)[1].notes)
