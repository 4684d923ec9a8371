"""An archive's own labels as tasks of many targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.slices import list_slices
from hilum.evaluate.task import read_task
from hilum.study import read_studies, write_studies
from toy_archive import make_cache, write_archive

SAID = {"extra_vindr:ILD": ["1", "0", None, "0"], "extra_vindr:Nodule/Mass": ["0", None, None, "1"]}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return make_cache(
        tmp_path, [1, 2, 1, 1], split=["train", "train", "test", "test"], sex=["F", "M", "F", "M"], **SAID
    )


def test_a_group_is_a_task_of_its_labels_and_blank_is_unknown(cache: Cache) -> None:
    task = read_task(cache, "vindr")
    assert (task.name, task.unit, task.names) == ("vindr", "study", ("ILD", "Nodule/Mass"))
    assert np.array_equal(
        task.target, np.array([[1, 0], [0, np.nan], [np.nan] * 2, [0, 1]], np.float32), equal_nan=True
    )
    assert task.rows("train").tolist() == [0, 1]
    assert task.rows("test").tolist() == [3]


def test_one_label_of_a_group(cache: Cache) -> None:
    task = read_task(cache, "vindr:Nodule/Mass")
    assert task.names == ("Nodule/Mass",)
    assert task.rows().tolist() == [0, 3]


def test_what_is_no_task_is_named_with_what_is(cache: Cache) -> None:
    with pytest.raises(UserError, match=r"no task 'vindr:Mass'\. Labels of vindr: ILD, Nodule/Mass"):
        read_task(cache, "vindr:Mass")
    with pytest.raises(UserError, match=r"no task 'echo:slvh'\. Tasks: vindr, sex"):
        read_task(cache, "echo:slvh")
    with pytest.raises(UserError, match=r"no task 'echo'.*a group of labels or a text column: vindr, sex"):
        read_task(cache, "echo")


def test_labels_are_no_slices(cache: Cache) -> None:
    names = list_slices(cache, read_task(cache, "vindr"))
    assert not any("vindr" in name for name in names)


def test_a_group_nobody_states_is_refused(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [1, 1], **{"extra_echo:slvh": [None, None]})
    with pytest.raises(UserError, match="no study of this cache states a label of task 'echo'"):
        read_task(cache, "echo")


def test_a_label_column_holds_1_0_or_nothing(tmp_path: Path) -> None:
    frame = read_studies(write_archive(tmp_path, [1, 1], **{"extra_echo:slvh": ["1", "0"]}))
    with pytest.raises(UserError, match=r"a value other than 1, 0 and blank in extra_echo:slvh: 1 study \(toy/s001\)"):
        write_studies(frame.with_columns(frame["extra_echo:slvh"].replace("0", "no")), tmp_path / "t.parquet")
