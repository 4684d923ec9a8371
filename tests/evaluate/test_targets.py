"""Labels are looked at before any image: what cannot be scored says why, and blanks are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilum.errors import UserError
from hilum.evaluate.targets import check_folds, check_splits, warn_of_no_score
from hilum.evaluate.task import read_findings_task, read_task
from toy_archive import make_cache

SPLITS = ["train"] * 6 + ["val"] * 2 + ["test"] * 2


def test_a_cache_without_labels_says_how_they_come_in(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [2, 1, 1], sex=["F", "F", "M"])
    message = r"no finding with a known state.*`hilum ingest table`.*--task: sex, kind\."
    with pytest.raises(UserError, match=message):
        read_task(cache, "findings")
    with pytest.raises(UserError, match="no study that states Edema"):
        read_task(cache, "Edema")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory):
    labels = {
        "Edema": [1, 1, 0, None, -1, None, 1, 0, 1, 0],
        "No Finding": [None, None, 1, 1, None, 1, None, 1, None, 1],
        "Fracture": [1] * 10,
    }
    return make_cache(tmp_path_factory.mktemp("labels"), [1] * 10, split=SPLITS, **labels)


def test_blanks_are_counted_where_they_are_negatives(cache) -> None:
    task = read_findings_task(cache, ("Edema", "No Finding"))
    assert (task.target[:, 0] == 0).sum() == 6
    (note,) = task.notes
    assert "7 of 11 negatives are blanks" in note
    assert "No Finding: no study states its absence, all negatives are blanks" in note
    assert read_findings_task(cache, ("Edema",)).notes[0].startswith("2 of 6 negatives")


def test_a_finding_whose_absence_nobody_states_is_named_where_blanks_are_left_out(cache) -> None:
    task = read_findings_task(cache, ("Edema", "No Finding"), blank="ignore")
    assert np.isnan(task.target).sum(axis=0).tolist() == [2, 5]
    (note,) = task.notes
    assert note.startswith("No Finding: no study states its absence")
    assert read_findings_task(cache, ("Edema",), blank="ignore").notes == ()


def test_a_single_class_is_said_by_name(cache) -> None:
    task = read_findings_task(cache, ("Fracture",))
    with pytest.raises(UserError, match="single class: Fracture is present in all 10 studies"):
        check_folds(task, 5)
    with pytest.raises(UserError, match="single class: Fracture is present in all 10 studies"):
        check_splits(task, "Larger!")
    with pytest.raises(UserError, match="--findings-complete"):
        check_folds(replace(task, name="breast:mass"), 5)
    absent = task.target.copy()
    absent[task.rows("test")] = 0.0
    with pytest.raises(UserError, match=r"training split .*: Fracture is present in all 6 studies\. Larger!"):
        check_splits(replace(task, target=absent), "Larger!")
    edema = read_findings_task(cache, ("Edema",))
    check_splits(edema, "")
    check_folds(edema, 5)
    with pytest.raises(UserError, match="needs at least 6"):
        check_folds(edema, 6)
    with pytest.raises(UserError, match=r"There is no validation study .* Larger!"):
        check_splits(replace(edema, split=np.where(edema.split == 1, 0, edema.split)), "Larger!")
    with pytest.raises(UserError, match="No study has a known target of task Edema"):
        check_folds(replace(edema, target=np.full_like(edema.target, np.nan)), 5)


def test_targets_with_too_few_positives_are_said_before_anything_is_computed(
    cache, capfd: pytest.CaptureFixture[str]
) -> None:
    task = read_findings_task(cache, ("Edema", "No Finding"))
    warn_of_no_score(task, 1)
    assert capfd.readouterr().err == ""
    warn_of_no_score(task, 2)
    said = capfd.readouterr().err
    assert "no macro mean, only single targets: Edema has 1 positive of 2, 2 needed, and so it is with 1 other." in said
    assert "--crossval" in said
    warn_of_no_score(task, 4, crossval=True)  # Edema: 4 of 10
    assert capfd.readouterr().err == ""
    warn_of_no_score(task, 6, crossval=True)
    assert capfd.readouterr().err.endswith("and so it is with 1 other.\n")
