"""Fine-tuning on breasts and on images: whose views are whose, frozen statistics, the same bits after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hilum.augment import prepare
from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.evaluate.finetune.classifier import StudyClassifier, score_rows
from hilum.evaluate.finetune.report import run_finetune
from hilum.evaluate.finetune.run import list_parts
from hilum.evaluate.finetune.settings import FinetuneSettings
from hilum.evaluate.finetune.state import Finetuning
from hilum.evaluate.grouping import NOBODY, group_views, keep_owners, list_owners, list_studies
from hilum.evaluate.result import read_result
from hilum.evaluate.scoring.scores import read_scores
from hilum.evaluate.subject import find_subject
from hilum.evaluate.supervised_training import train_supervised
from hilum.evaluate.task import read_task
from hilum.loader import StudyLoader, iterate_studies
from hilum.model.conv_encoder import ConvEncoder, list_batch_norms

SQUASH = CropConfig(mode="squash")
SETTINGS = FinetuneSettings(
    epochs=2, views_per_step=16, representation="max", crop=SQUASH, evaluation_crop=SQUASH, precision="32-true"
)


@pytest.fixture(scope="module")
def encoder(exam_cache: Cache, exam_run: Path) -> ConvEncoder:
    found = find_subject(exam_run).load(0)
    assert isinstance(found, ConvEncoder)
    return found


def build(cache: Cache, encoder: ConvEncoder, name: str = "breast:mass", **choices) -> Finetuning:
    task, settings = read_task(cache, name), replace(SETTINGS, **choices)
    return Finetuning(cache, encoder, task, settings, list_parts(task, settings), mean=cache.mean, std=cache.std)


# --- whose views are whose


def test_owners_stand_for_the_studies_of_a_batch(exam_cache: Cache) -> None:
    """Views are left CC, right CC, left MLO, right MLO: two breasts a study, whose views take turns."""
    (batch,) = iterate_studies(exam_cache, np.array([1, 4]), views_per_batch=9, crop=SQUASH)
    found = group_views(batch, list_owners(exam_cache, read_task(exam_cache, "breast:mass")))
    assert found.row.tolist() == [2, 3, 8, 9]
    assert found.study.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert found.patient.tolist() == [batch.patient[place].item() for place in (0, 0, 1, 1)]
    assert torch.equal(found.pixels, batch.pixels)
    single = group_views(batch, list_owners(exam_cache, read_task(exam_cache, "image:mass")))
    assert single.row.tolist() == batch.view_row.tolist()
    assert single.study.tolist() == list(range(8))


def test_views_of_nobody_are_left_out(exam_cache: Cache) -> None:
    (batch,) = iterate_studies(exam_cache, np.array([1, 4]), views_per_batch=9, crop=SQUASH)
    owner = keep_owners(list_owners(exam_cache, read_task(exam_cache, "breast:mass")), np.array([3, 8]))
    assert (owner != NOBODY).sum() == 4
    assert list_studies(exam_cache, owner).tolist() == [1, 4]
    found = group_views(batch, owner)
    assert (found.row.tolist(), found.study.tolist()) == ([3, 8], [0, 0, 1, 1])
    assert found.view_row.tolist() == [5, 7, 16, 18]
    assert torch.equal(found.pixels[2], batch.pixels[4])


def test_studies_that_own_their_views_are_the_same_batch(exam_cache: Cache) -> None:
    """Also where one is drawn twice, which is two of them."""
    loader = StudyLoader(exam_cache, np.array([3, 5]), views_per_step=12, seed=0, crop=SQUASH)
    packed = loader._packer.pack(np.array([1, 0, 1]), np.array([0, 0, 1]))
    found = group_views(packed, list_owners(exam_cache, read_task(exam_cache, "sex")))
    for name in ("row", "patient", "key", "draw", "study", "view_row", "pixels"):
        assert torch.equal(getattr(found, name), getattr(packed, name)), name


@pytest.mark.parametrize("name", ["breast:mass", "image:mass"])
def test_a_score_is_the_mean_of_its_views_logits(exam_cache: Cache, encoder: ConvEncoder, name: str) -> None:
    """Against every image seen by itself, in whatever order rows are asked for."""
    torch.manual_seed(0)
    classifier = StudyClassifier(encoder, 1, "max")
    task, rows = read_task(exam_cache, name), np.array([9, 2, 17])
    owner = list_owners(exam_cache, task)
    how = {"mean": exam_cache.mean, "std": exam_cache.std, "crop": SQUASH, "views_per_batch": 6}
    found = score_rows(classifier, exam_cache, rows, owner, **how)
    classifier.eval()
    for place, row in enumerate(rows):
        said = []
        for view in np.flatnonzero(owner == row):
            study = exam_cache.views["study"][[view]].astype(np.int64)
            (batch,) = iterate_studies(exam_cache, study, views_per_batch=9, crop=SQUASH)
            shown = prepare(batch, size=(96, 64), mean=exam_cache.mean, std=exam_cache.std)
            with torch.no_grad():
                said.append(classifier.score_views(shown)[batch.view_row == int(view)].item())
        assert len(said) == (2 if task.unit == "breast" else 1)
        assert found[place, 0] == pytest.approx(np.mean(said), abs=1e-5)


def test_patients_are_whole_and_in_one_split(exam_cache: Cache) -> None:
    task = read_task(exam_cache, "breast:mass")
    parts = list_parts(task, replace(SETTINGS, label_count=6))
    assert len(parts["train"]) == 6
    assert all({row ^ 1 for row in rows.tolist()} == set(rows.tolist()) for rows in parts.values())
    patients = [set(task.patient[rows].tolist()) for rows in parts.values()]
    assert not set.union(*(patients[i] & patients[j] for i, j in ((0, 1), (0, 2), (1, 2))))


# --- statistics


@pytest.mark.parametrize("frozen", [False, True])
def test_statistics_move_unless_they_are_frozen(exam_cache: Cache, encoder: ConvEncoder, frozen: bool) -> None:
    """Freezing parameters, or being told to train, would not keep them (L 3.2); scale and shift learn either way."""
    tuning = build(exam_cache, encoder, frozen_statistics=frozen)
    norms = list_batch_norms(tuning.classifier)
    before = [(norm.running_mean.clone(), norm.weight.detach().clone()) for norm in norms]
    tuning.take_step(next(tuning.iterate()))
    moved = [not torch.equal(norm.running_mean, mean) for norm, (mean, _) in zip(norms, before, strict=True)]
    assert moved == [not frozen] * len(norms)
    assert any(not torch.equal(norm.weight, weight) for norm, (_, weight) in zip(norms, before, strict=True))


def test_random_weights_have_no_statistics_to_freeze(exam_cache: Cache, exam_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="random weights have none to keep"):
        run_finetune(
            exam_cache.path, f"supervised:{exam_run}", tmp_path / "out", task="breast:mass", frozen_statistics=True,
            progress=False,
        )  # fmt: skip


# --- training


def test_a_stopped_fine_tuning_ends_with_the_same_bits(exam_cache: Cache, encoder: ConvEncoder, tmp_path: Path) -> None:
    def finish(tuning: Finetuning, folder: Path):
        return train_supervised(
            tuning, lambda: tuning.finish("run", "before"), title="", advice="", checkpoints=folder,
            checkpoint_minutes=60.0, progress=False,
        )  # fmt: skip

    whole = finish(build(exam_cache, encoder), tmp_path / "whole")
    stopped = build(exam_cache, encoder)
    for batch in stopped.iterate():
        stopped.take_step(batch)
        if stopped.is_validation_due():
            stopped.validate()
        if stopped.training.num_done == 4:  # in the midst of the second epoch
            break
    stopped.training.save(tmp_path / "parts")
    resumed = finish(build(exam_cache, encoder), tmp_path / "parts")
    assert resumed.num_train == whole.num_train == 20
    steps = stopped.loader.steps_per_epoch
    assert steps < stopped.training.num_done < 2 * steps
    np.testing.assert_array_equal(resumed.test.logit, whole.test.logit)
    for (name, one), other in zip(
        whole.classifier.state_dict().items(), resumed.classifier.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


@pytest.mark.parametrize(("name", "rows", "unit"), [("breast:mass", 10, "breast"), ("image:mass", 20, "view")])
def test_it_leaves_a_result_and_an_encoder(
    exam_cache: Cache, exam_run: Path, tmp_path: Path, name: str, rows: int, unit: str
) -> None:
    how = {"task": name, "epochs": 1, "representation": "max", "views_per_step": 20, "label_count": 6}
    how |= {"precision": "32-true", "min_positives": 2, "progress": False, "frozen_statistics": True}
    path = run_finetune(exam_cache.path, exam_run, tmp_path / "tuned", **how)
    result, scores = read_result(path), read_scores(path.parent / "scores.npz")
    assert (result.protocol["unit"], result.protocol["frozen_statistics"]) == (unit, True)
    assert (result.counts["test_rows"], len(scores.row), result.counts["test_patients"]) == (rows, rows, 5)
    assert result.counts["train_patients"] == {"breast": 3, "view": 2}[unit]  # whole patients
    assert scores.screened is not None
    assert result.find("auroc").value is not None
    about = find_subject(tmp_path / "tuned").about
    assert about["finetuning"]["task"] == name
    first, again = (json.loads((path.parent / "settings.json").read_bytes())["frozen_statistics"], path.stat().st_mtime)
    assert first is True
    run_finetune(exam_cache.path, exam_run, tmp_path / "tuned", **how)
    assert path.stat().st_mtime == again
    with pytest.raises(UserError, match="frozen_statistics: was True, now False"):
        run_finetune(exam_cache.path, exam_run, tmp_path / "tuned", **how | {"frozen_statistics": False})
