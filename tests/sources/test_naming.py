from __future__ import annotations

import stat
from pathlib import Path

import pytest

from hilum.errors import UserError
from hilum.identifiers import Naming
from toy_table import SALT, ingest, write_table


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
    assert any("1 study id with two patient ids" in note for note in summary.notes)


def test_studies_numbered_within_each_patient(tmp_path: Path) -> None:
    file = write_table(
        tmp_path, "patient | study | path\np1 | s1 | a.png\np1 | s2 | b.png\np2 | s1 | c.png\np2 | s2 | d.png"
    )
    with pytest.raises(UserError, match=r"2 study ids of several patients .* --study-ids-per-patient"):
        ingest(file)
    frame, _ = ingest(file, study_ids_per_patient=True)
    assert frame["study"].to_list() == ["p1/s1", "p1/s2", "p2/s1", "p2/s2"]
    assert frame["group"].to_list() == ["p1", "p1", "p2", "p2"]


def test_identifiers_are_hashed_with_a_salt_that_stays(tmp_path: Path) -> None:
    file = write_table(
        tmp_path,
        "patient | study | path | patient_group\nPat-77 | Stu-88 | a.png | Grp-99\nPat-78 | Stu-89 | b.png | Grp-99",
    )
    frame, summary = ingest(file, naming=Naming())
    salt = summary.out.parent / "hilum-salt.txt"
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    content = summary.out.read_bytes()
    assert not any(name in content for name in (b"Pat-7", b"Stu-8", b"Grp-9", salt.read_bytes().strip()))
    assert frame["patient"].str.contains("^[0-9a-f]{32}$").all()
    assert frame["group"].n_unique() == 1
    again, _ = ingest(file, naming=Naming())
    assert again.equals(frame)
    salt.unlink()
    other, _ = ingest(file, naming=Naming())
    assert not set(other["patient"]) & set(frame["patient"])
    assert not set(other["study"]) & set(frame["study"])
    salt.write_text("short\n")
    with pytest.raises(UserError, match="holds a salt of 5 characters"):
        ingest(file, naming=Naming())
    with pytest.raises(UserError, match="--salt has 3 characters"):
        ingest(file, naming=Naming(salt="abc"))


def test_patients_of_two_archives_differ_unless_they_share_an_id_space(tmp_path: Path) -> None:
    file = write_table(tmp_path, "patient | path\n1 | a.png")
    options = {"naming": Naming(salt=SALT)}
    one, two = (ingest(file, dataset=name, **options)[0]["patient"][0] for name in ("one", "two"))
    assert one != two
    shared = [
        ingest(file, dataset=name, naming=Naming(salt=SALT, id_space="hospital"))[0]["patient"][0]
        for name in ("one", "two")
    ]
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
    frame, summary = ingest(file, naming=Naming(keep_ids=True))
    assert frame["patient"].to_list() == ["nih:1", "chexpert:1", "nih:2", "chexpert:2"]
    assert frame["study"].to_list() == ["s1", "s1", "s2", "s3"]
    assert (summary.studies.num_patients, summary.studies.num_groups) == (4, 3)
    assert frame["group"][0] == frame["group"][2]
    assert frame["group"][3] != frame["group"][2]
    hashed = ingest(file, naming=Naming(salt=SALT))[1].studies
    assert (hashed.num_patients, hashed.num_groups) == (4, 3)
    shared, summary = ingest(file, naming=Naming(keep_ids=True, id_space="hospital"))
    assert shared["patient"].to_list() == ["hospital:1", "hospital:1", "hospital:2", "hospital:2"]
    assert summary.studies.num_groups == 1
    assert ingest(file)[0]["patient"].to_list() == ["1", "1", "2", "2"]


def test_settings_that_would_be_ignored_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--keep-ids keeps ids as they are, --salt hashes them"):
        ingest(tmp_path / "lost.csv", naming=Naming(keep_ids=True, salt=SALT))
    with pytest.raises(UserError, match="--salt has 1 characters"):
        ingest(tmp_path / "lost.csv", naming=Naming(salt="x"))
