"""Pretraining that leaves an archive of its cache out: nothing is learned of it, and the record says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.errors import UserError
from hilum.evaluate.leaks import measure_overlap
from hilum.loader import StudyLoader
from hilum.study import read_studies, write_studies
from hilum.training.pretrain import pretrain
from hilum.training.run import Run
from tiny_runs import build_tiny
from toy_archive import write_archive


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("archives")
    tables = [
        write_archive(folder / name, [2, 1] * 12, dataset=name, seed=seed) for seed, name in enumerate(("ours", "nih"))
    ]
    write_studies(pl.concat([read_studies(table) for table in tables], how="diagonal"), folder / "both.parquet")
    build_cache(folder / "both.parquet", folder / "cache", workers=0, short_side=64, progress=False)
    return Cache.open(folder / "cache")


def test_nothing_of_it_is_learned_and_the_record_says_so(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build_tiny()
    config = replace(config, data=replace(config.data, leave_out=("nih",)), optim=replace(config.optim, steps=2))
    shown: set[int] = set()
    take_step = Run.take_step

    def watch(run: Run, data, asked_to_stop: int) -> None:
        shown.update(dataset for batch in data.micro_batches for dataset in batch.dataset.tolist())
        take_step(run, data, asked_to_stop)

    monkeypatch.setattr(Run, "take_step", watch)
    out = pretrain(config, cache.path, tmp_path / "run")
    assert shown == {cache.datasets.index("ours")}
    assert measure_overlap(cache, out, "train", ["ours"]).num_images == 0
    assert measure_overlap(cache, out, "train", ["nih"]).num_images > 0


def test_an_archive_that_is_not_there_is_refused(cache: Cache, tmp_path: Path) -> None:
    config = build_tiny()
    config = replace(config, data=replace(config.data, leave_out=("NIH",)))
    with pytest.raises(UserError, match="no archive 'NIH' to leave out; it holds nih, ours"):
        pretrain(config, cache.path, tmp_path / "run")


def test_leaving_everything_out_leaves_nothing_to_learn_from(cache: Cache, tmp_path: Path) -> None:
    config = build_tiny()
    config = replace(config, data=replace(config.data, leave_out=("nih", "ours")))
    with pytest.raises(UserError, match=r"all \d+ training studies are of archives left out .*nih, ours"):
        pretrain(config, cache.path, tmp_path / "run")


def test_a_cache_of_test_studies_only_teaches_nothing(tmp_path: Path) -> None:
    studies = read_studies(write_archive(tmp_path / "archive", [1] * 4))
    write_studies(studies.with_columns(pl.lit("test").alias("split")), tmp_path / "test.parquet")
    build_cache(tmp_path / "test.parquet", tmp_path / "cache", workers=0, short_side=64, progress=False)
    with pytest.raises(UserError, match="no study is in the training split"):
        pretrain(build_tiny(), tmp_path / "cache", tmp_path / "run")


def test_rows_leave_out_by_split(cache: Cache) -> None:
    kept = cache.rows("train", ["nih"])
    assert set(cache.studies["dataset"][kept].tolist()) == {cache.datasets.index("ours")}
    assert len(cache.rows("train")) == len(kept) + len(cache.rows("train", ["ours"]))
    loader = StudyLoader(cache, kept, views_per_step=8, seed=0)
    assert loader.steps_per_epoch > 0
