"""Of what an archive leaves undecided no policy for blanks makes a target (M 1.4, M 7.1 row 9)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.errors import UserError
from hilum.evaluate.task import read_task
from hilum.labels import FINDINGS
from hilum.sources.padchest import state_findings
from hilum.study import UNDECIDED, read_studies, write_studies
from toy_archive import write_archive

NO_FINDING = FINDINGS.index("No Finding")


# Cells of PadChest's column "Labels", a study each.
CELLS = {
    "normal": "['normal']",
    "pneumonia": "['pneumonia', ' unchanged']",
    "exclude": "['exclude']",
    "suboptimal": "[' suboptimal study ', 'cardiomegaly']",
    "scoliosis": "['scoliosis']",
    "pacemaker": "['pacemaker', 'normal']",
    "empty": "['']",
    "unlabelled": None,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Studies with PadChest's labels, and three of an archive whose blanks mean "not mentioned"."""
    folder = tmp_path_factory.mktemp("undecided")
    columns = state_findings(pl.Series(list(CELLS.values())), folder).to_dict(as_series=False)
    tables = [
        write_archive(folder / "padchest", [1] * len(CELLS), dataset="padchest", **columns),
        write_archive(folder / "other", [1] * 3, dataset="other", **{name: [1, 0, None] for name in FINDINGS}),
    ]
    write_studies(pl.concat(map(read_studies, tables), how="diagonal"), folder / "both.parquet")
    build_cache(folder / "both.parquet", folder / "cache", workers=0, short_side=64, progress=False)
    return Cache.open(folder / "cache")


def find_row(cache: Cache, label: str) -> int:
    study = f"s{list(CELLS).index(label):03d}"
    (row,) = (
        cache.table().select(((pl.col("dataset") == "padchest") & (pl.col("study") == study)).arg_true()).to_series()
    )
    return row


@pytest.mark.parametrize("blank", ["zeros", "ignore"])
def test_unreadable_and_unlabelled_studies_have_no_target(cache: Cache, blank) -> None:
    task = read_task(cache, "findings", blank=blank)
    lost = [find_row(cache, label) for label in ("exclude", "suboptimal", "empty", "unlabelled")]
    assert np.isnan(task.target[lost]).all()
    assert not set(lost) & set(task.rows())


def test_scoliosis_is_neither_normal_nor_abnormal(cache: Cache) -> None:
    target = read_task(cache, "findings").target
    row = target[find_row(cache, "scoliosis")]
    assert np.isnan(row[NO_FINDING])
    assert (np.delete(row, NO_FINDING) == 0).all()  # whoever read it mentioned nothing else
    assert target[find_row(cache, "normal"), NO_FINDING] == 1
    assert target[find_row(cache, "pneumonia"), NO_FINDING] == 0
    assert np.isnan(read_task(cache, "No Finding").target[find_row(cache, "scoliosis")]).all()
    assert read_task(cache, "Edema").target[find_row(cache, "scoliosis")] == 0


def test_a_blank_of_other_archives_stays_what_the_policy_makes_of_it(cache: Cache) -> None:
    other = cache.table()["dataset"] == "other"
    states = np.array([[1.0], [0.0], [0.0]]).repeat(14, axis=1)
    np.testing.assert_array_equal(read_task(cache, "findings").target[other.to_numpy()], states)


def test_readers_of_results_are_told(cache: Cache) -> None:
    task = read_task(cache, "findings")
    # Four studies of 14 targets, and No Finding of a study with scoliosis and of one with a pacemaker.
    assert task.notes[-1].startswith("58 targets are unknown")
    assert read_task(cache, "findings", leave_out=("padchest",)).notes == (
        "14 of 28 negatives are blanks, findings that nobody mentioned (--blank ignore leaves them out).",
    )


def test_a_word_that_is_no_finding_is_refused(cache: Cache, tmp_path: Path) -> None:
    table = cache.table().with_columns(pl.lit("No Finding;Edma").alias(UNDECIDED))
    with pytest.raises(UserError, match="a word in extra_undecided that is no finding: 11 studies"):
        write_studies(table, tmp_path / "s.parquet")
