"""Two archives in one cache, one of which cannot say all findings (M 8-6)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.cli import main
from hilum.commands.evaluate import check_task
from hilum.errors import UserError
from hilum.evaluate.console import name_results
from hilum.evaluate.fusion import masked_cross_entropy
from hilum.evaluate.leaks import measure_overlap
from hilum.evaluate.probe.label_subsets import pick_labelled
from hilum.evaluate.slices import list_slices
from hilum.evaluate.task import read_task
from hilum.labels import FINDINGS
from hilum.study import read_studies, write_studies
from hilum.training.run_folder import describe_training_data
from toy_archive import write_archive

UNSAYABLE = ("Enlarged Cardiomediastinum", "Fracture", "Support Devices")  # in ChestX-ray14


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Four studies that state eleven findings as ChestX-ray14 does, then four that state all."""
    folder = tmp_path_factory.mktemp("archives")
    states = [1, 0, -1, None]
    nih = write_archive(
        folder / "nih", [1] * 4, dataset="nih", **{name: states for name in FINDINGS if name not in UNSAYABLE}
    )
    other = write_archive(folder / "chexpert", [2] * 4, dataset="chexpert", seed=1, **dict.fromkeys(FINDINGS, states))
    write_studies(pl.concat([read_studies(nih), read_studies(other)], how="diagonal"), folder / "both.parquet")
    build_cache(folder / "both.parquet", folder / "cache", workers=0, short_side=64, progress=False)
    return Cache.open(folder / "cache")


def test_what_an_archive_cannot_say_is_unknown_and_has_no_loss(cache: Cache) -> None:
    target = read_task(cache, "findings").target
    of_nih = np.array(cache.datasets)[cache.studies["dataset"]] == "nih"
    assert of_nih.sum() == 4
    unsayable = np.isin(FINDINGS, UNSAYABLE)
    assert np.isnan(target[np.ix_(of_nih, unsayable)]).all()
    for rows, columns in ((of_nih, ~unsayable), (~of_nih, np.full(14, True))):
        np.testing.assert_array_equal(target[np.ix_(rows, columns)], np.tile([[1], [0], [0], [0]], columns.sum()))
    logit = torch.full((len(target), 14), 0.5, requires_grad=True)
    masked_cross_entropy(logit, torch.from_numpy(target)).backward()
    assert logit.grad is not None
    masked = torch.from_numpy(of_nih[:, None] & unsayable)
    assert (logit.grad[masked] == 0).all()
    assert (logit.grad[~masked] != 0).all()


def test_an_archive_can_be_left_out(cache: Cache) -> None:
    """As the paper leaves ChestX-ray14 out of what it fine-tunes and tests."""
    whole, without = read_task(cache, "findings"), read_task(cache, "findings", leave_out=("nih",))
    of_nih = np.array(cache.datasets)[cache.studies["dataset"]] == "nih"
    assert not of_nih[without.rows()].any()
    np.testing.assert_array_equal(without.target[~of_nih], whole.target[~of_nih])
    assert without.policy["leave_out"] == ["nih"]
    kind = read_task(cache, "kind", leave_out=("nih",))
    assert not of_nih[kind.study[kind.rows()]].any()
    with pytest.raises(UserError, match="no archive 'NIH' to leave out; it holds chexpert, nih"):
        read_task(cache, "findings", leave_out=("NIH",))


def test_leaving_every_archive_out_is_refused_in_words(
    cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["finetune", "supervised:nano", "--data", str(cache.path), "--out", str(tmp_path / "out")]
    assert main([*words, "--leave-out", "nih", "chexpert"]) == 2
    assert "No study has a known target of task findings" in capsys.readouterr().err
    assert main([*words, "--leave-out", "nih", "chexpert", "--task", "kind"]) == 2
    assert "kind has 0 different values in the archives that are not left out" in capsys.readouterr().err


def test_a_cache_of_test_studies_is_told_what_it_lacks_and_can_be_cross_validated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another hospital's studies, kept for the test: nothing to draw labels from."""
    table = write_archive(tmp_path / "one", [1] * 8, split=["test"] * 8, Edema=[1, 0] * 4)
    build_cache(table, tmp_path / "cache", workers=0, short_side=64, progress=False)
    words = ["--data", str(tmp_path / "cache")]
    assert main(["finetune", "supervised:nano", *words, "--out", str(tmp_path / "out")]) == 2
    assert "There is no training study with a known target of task findings" in capsys.readouterr().err
    task = read_task(Cache.open(tmp_path / "cache"), "findings")
    assert pick_labelled(task, (), 0) == {}
    check_task(tmp_path / "cache", "findings", "zeros", "zeros", ())  # `hilum probe --crossval` goes on


def test_classes_are_those_of_the_archives_that_take_part(tmp_path: Path) -> None:
    """A word that only the archive left out uses is no class, and no reason for one target a class."""
    tables = [
        write_archive(tmp_path / "one", [1] * 4, dataset="one", extra_site=["a", "b", "a", "b"]),
        write_archive(tmp_path / "two", [1] * 4, dataset="two", seed=1, extra_site=["c", "d", "c", "d"]),
    ]
    write_studies(pl.concat([read_studies(table) for table in tables], how="diagonal"), tmp_path / "both.parquet")
    build_cache(tmp_path / "both.parquet", tmp_path / "cache", workers=0, short_side=64, progress=False)
    both = Cache.open(tmp_path / "cache")
    assert len(read_task(both, "extra_site").names) == 4
    assert read_task(both, "extra_site", leave_out=("two",)).names == ("extra_site=b",)


def test_slices_are_of_the_archives_that_take_part(cache: Cache) -> None:
    """One archive is not worth a slice of its own, though the cache holds two."""
    assert {"dataset=nih", "dataset=chexpert"} <= set(list_slices(cache, read_task(cache, "findings")))
    left = list_slices(cache, read_task(cache, "findings", leave_out=("nih",)))
    assert not any(name.startswith("dataset=") for name in left)


def test_an_archive_left_out_is_no_leak(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "pretraining.json").write_text(json.dumps(describe_training_data(cache, leave_out=("chexpert",))))
    assert measure_overlap(cache, tmp_path, "train").num_images > 0
    assert measure_overlap(cache, tmp_path, "train", ("nih",)).num_images == 0


@pytest.mark.parametrize(
    ("kind", "task", "leave_out", "choices", "folder"),
    [
        ("probe", "findings", (), {"representation": "auto"}, "probe"),
        ("probe", "findings", (), {"representation": "auto", "crossval": True}, "probe-crossval"),
        ("probe", "Lung Opacity", (), {"representation": "4x4"}, "probe-Lung-Opacity-representation-4x4"),
        ("finetune", "findings", ("nih",), {"representation": "mean"}, "finetune-leave-out-nih"),
        ("finetune", "kind", (), {"representation": "class"}, "finetune-kind-representation-class"),
    ],
)
def test_no_evaluation_takes_the_folder_of_another(cache: Cache, kind, task, leave_out, choices, folder) -> None:
    assert name_results(kind, read_task(cache, task, leave_out=leave_out), **choices) == folder
    ignoring = name_results(kind, read_task(cache, task, blank="ignore", leave_out=leave_out), **choices)
    assert (ignoring == folder) is (task == "kind")
