"""Means and differences that are taken from stored resamples are those that the scores themselves give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilum.evaluate.paper.parts import estimate_parts
from hilum.evaluate.probe.efficiency import stack_repeats
from hilum.evaluate.result import Estimate, Hashes, Result, read_result
from hilum.evaluate.scored import holds_scores, write_scored, write_scored_difference, write_scored_mean
from hilum.evaluate.scoring.estimates import estimate_difference, estimate_scores
from hilum.evaluate.scoring.intervals import Resampled
from hilum.evaluate.scoring.scores import Scores, read_scores
from hilum.evaluate.slices import estimate_slices

METRICS = ("auroc", "average_precision", "f1", "brier_error", "calibration_error")
RULES = {"min_positives": 10, "num_resamples": 60}


def make_scores(noise: float, seed: int, repeats: int = 1) -> Scores:
    """120 rows of 70 patients: a finding known of all, one known of some, one that is too rare to be averaged."""
    truth, generator = np.random.default_rng(0), np.random.default_rng(seed)
    target = (truth.random((120, 3)) < [0.4, 0.3, 0.03]).astype(np.float32)
    target[truth.random(120) < 0.3, 1] = np.nan
    logit = np.nan_to_num(target, nan=0.5) + generator.normal(0, noise, (repeats, 120, 3)) - 0.5
    return Scores(
        ("Edema", "Fracture", "Nodule"), target, logit.round(1), (logit > 0).astype(np.float64),
        truth.integers(70, size=120), np.arange(120),
    )  # fmt: skip


def write(folder: Path, scores: Scores, **protocol: object) -> Path:
    hashes = Hashes(data="a", split="b", weights=folder.name, code="d")
    estimates = [*estimate_scores(scores, METRICS, **RULES)]
    about = {"representation": "mean", "min_positives": 10, **protocol}
    write_scored(folder, Result(folder.name, "findings", about, 0, estimates, hashes, {}, 0.95, 60), scores)
    return folder


def assert_same(estimates: list[Estimate], wanted: list[Resampled]) -> None:
    assert [(one.metric, one.of) for one in estimates] == [(one.metric, one.of) for one in wanted]
    for one, other in zip(estimates, wanted, strict=True):
        assert (one.value is None) == (other.value is None)
        assert (one.num, one.positives, one.reason is None) == (other.num, other.positives, other.reason is None)
        for name in ("value", "low", "high"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-12), (one, other)


def test_a_difference_is_that_of_the_scores(tmp_path: Path) -> None:
    sharp, blurred = make_scores(0.5, 1), make_scores(1.5, 2, repeats=3)
    folders = [write(tmp_path / name, one) for name, one in (("sharp", sharp), ("blurred", blurred))]
    write_scored_difference(tmp_path / "gap", *folders, METRICS[:3])
    result = read_result(tmp_path / "gap" / "result.json")
    assert_same(result.estimates, estimate_difference(sharp, blurred, METRICS[:3], **RULES))
    assert (result.encoder, result.hashes.weights) == ("sharp - blurred", "sharp blurred")
    assert result.protocol["delong"]["Edema"]["difference"] == pytest.approx(result.find("auroc", "Edema").value)
    assert not holds_scores(tmp_path / "gap")  # nothing was said of rows


def test_a_mean_is_that_of_all_repeats(tmp_path: Path) -> None:
    parts = [make_scores(0.7, seed, repeats=2) for seed in (1, 2)]
    draws = [{"all": [0.7, 0.8]}, {"all": [0.9, 0.6]}]
    folders = [
        write(tmp_path / str(seed), one, macro_auroc_of_repeats=drawn, seconds=seed)
        for seed, (one, drawn) in enumerate(zip(parts, draws, strict=True))
    ]
    write_scored_mean(tmp_path / "mean", "ours", folders)
    # A calibration error is moved by its own bias in each run, so its interval is near to that of all repeats at once.
    joined = estimate_scores(stack_repeats(parts), METRICS, **RULES)
    found = read_result(tmp_path / "mean" / "result.json")
    for one, other in zip(found.estimates[-4:], joined[-4:], strict=True):
        assert one.value == pytest.approx(other.value)
        assert (one.low or 0) == pytest.approx(other.low or 0, abs=0.02)
    assert_same(found.estimates[:-4], joined[:-4])
    assert found.protocol["runs"] == ["0", "1"]
    assert found.protocol["macro_auroc_of_repeats"] == {"all": [0.7, 0.8, 0.9, 0.6]}
    assert found.protocol["representations"] == ["mean", "mean"]
    assert "seconds" not in found.protocol
    values = found.protocol["values_of_runs"]["auroc | macro | all"]
    assert found.find("auroc").value == pytest.approx(np.mean(values))
    assert len(read_scores(tmp_path / "mean" / "scores.npz").logit) == 4


def test_other_rows_are_not_subtracted(tmp_path: Path) -> None:
    scores = make_scores(0.5, 1)
    moved = replace(scores, patient=scores.patient[::-1].copy())
    folders = [write(tmp_path / name, one) for name, one in (("one", scores), ("other", moved))]
    with pytest.raises(AssertionError, match="different rows"):
        write_scored_difference(tmp_path / "gap", *folders)


def test_archives_and_slices_are_resampled_independently() -> None:
    """Two archives of the same rows: as one sample drawn twice, their mean would be no surer than either of them."""
    one = make_scores(0.7, 1)
    both = replace(
        one, target=np.tile(one.target, (2, 1)), logit=np.tile(one.logit, (1, 2, 1)),
        decision=np.tile(one.decision, (1, 2, 1)), patient=np.concatenate([one.patient, one.patient + 1000]),
        row=np.arange(240),
    )  # fmt: skip
    archives = {"dataset=a": np.arange(240) < 120, "dataset=b": np.arange(240) >= 120}
    for estimates in (
        estimate_parts(both, {name.removeprefix("dataset="): kept for name, kept in archives.items()}, None, **RULES),
        estimate_slices(both, archives, **RULES, seed=0),
    ):
        macro = {e.slice: e for e in estimates if (e.metric, e.of) == ("auroc", "macro")}
        first, second, mean = macro["dataset=a"], macro["dataset=b"], macro["mean over datasets"]
        assert first.value == second.value == mean.value
        assert abs(np.corrcoef(first.resamples, second.resamples)[0, 1]) < 0.5
        assert mean.high - mean.low < 0.9 * (first.high - first.low)
