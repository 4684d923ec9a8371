"""Convolutional encoders in evaluation, and tasks of breasts: what is read of them, and whose views are whose."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from toy_exams import NUM

from hilum.augment import prepare
from hilum.cache import Cache
from hilum.checksums import hash_weights
from hilum.cli import main
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.evaluate.features import ViewFeatures, embed_cache
from hilum.evaluate.finetune.report import run_finetune
from hilum.evaluate.probe.efficiency import pick_labelled
from hilum.evaluate.probe.report import run_probe_report
from hilum.evaluate.probe.run import probe_encoder
from hilum.evaluate.rows import take_rows
from hilum.evaluate.slices import list_slices
from hilum.evaluate.subject import find_subject
from hilum.evaluate.task import read_task
from hilum.loader import iterate_studies
from hilum.model.conv_encoder import ConvEncoder, list_batch_norms
from hilum.recipes import build_recipe
from hilum.report.page import write_report
from toy_archive import make_cache


@pytest.fixture(scope="module")
def cache(exam_cache: Cache) -> Cache:
    return exam_cache


@pytest.fixture(scope="module")
def run(exam_run: Path) -> Path:
    return exam_run


@pytest.fixture(scope="module")
def features(cache: Cache, run: Path) -> ViewFeatures:
    return embed_cache(cache, run, precision="32-true", progress=False)


# --- tasks


def test_slices_by_density_are_of_the_breast_that_a_row_is_or_shows(cache: Cache) -> None:
    """Left breasts are a to d in turn, of right ones nobody says."""
    said = ["abcd"[study % 4] for study in range(NUM)]
    for name, expected in (
        ("breast:mass", [one for density in said for one in (density, None)]),
        ("image:mass", [one for density in said for one in (density, None) * 2]),
        ("sex", said),  # of studies
    ):
        slices = list_slices(cache, read_task(cache, name))
        found = [one for one in slices if one.startswith("density=")]
        assert found == [f"density={one}" for one in "abcd"]
        for one in found:
            assert slices[one].tolist() == [density == one[-1] for density in expected]
    assert not any(one.startswith("density=") for one in list_slices(cache, read_task(cache, "breast:density")))


def test_a_breast_is_a_study_and_a_side_and_what_nobody_says_is_unknown(cache: Cache) -> None:
    mass = read_task(cache, "breast:mass")
    assert (mass.unit, mass.names, len(mass.target)) == ("breast", ("mass",), 2 * NUM)
    assert mass.target[:, 0].tolist() == [float(row % 4 == 2) for row in range(2 * NUM)]  # left of odd studies
    assert mass.owner is not None
    assert mass.owner[:8].tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert mass.study[:4].tolist() == [0, 0, 1, 1]
    cancer = read_task(cache, "breast:malignancy").target[:, 0]
    np.testing.assert_array_equal(cancer[:4], [0, np.nan, 1, np.nan])
    birads = read_task(cache, "breast:birads").target[:8, 0]
    np.testing.assert_array_equal(birads, [0, 0, 1, 0, np.nan, 0, 1, 0])  # 1, 4, 0 (not known) and 5; right 2
    density = read_task(cache, "breast:density")
    assert density.names == ("density=a", "density=b", "density=c", "density=d")
    np.testing.assert_array_equal(density.target[:4], [[1, 0, 0, 0], [np.nan] * 4, [0, 1, 0, 0], [np.nan] * 4])


def test_an_image_has_a_finding_that_is_drawn_in_it(cache: Cache) -> None:
    task = read_task(cache, "image:mass")
    assert (task.unit, len(task.target)) == ("view", 4 * NUM)
    assert task.target[:, 0].tolist() == [float(row % 8 == 6) for row in range(4 * NUM)]  # the left MLO of odd studies


def test_tasks_that_are_none_are_named_with_those_that_are(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no task 'breast:heart'\. Tasks of breasts: .*breast:density.*image:mass"):
        read_task(cache, "breast:heart")
    with pytest.raises(UserError, match="no task 'image:density'"):
        read_task(cache, "image:density")
    with pytest.raises(UserError, match="its study table has no column breasts"):
        read_task(make_cache(tmp_path, [1, 1]), "breast:mass")


def test_rows_of_a_breast_are_the_features_of_its_views(cache: Cache, features: ViewFeatures) -> None:
    task = read_task(cache, "breast:mass")
    rows = take_rows(features, task, np.array([2, 1, 7]), "mean")
    assert rows.owner.tolist() == [0, 0, 1, 1, 2, 2]
    for view, row in zip(rows.features, [4, 6, 1, 3, 13, 15], strict=True):
        np.testing.assert_array_equal(view, features.mean[features.view_row == row][0])


def test_labelled_breasts_are_drawn_as_whole_patients_and_nested(cache: Cache) -> None:
    task = read_task(cache, "breast:mass")
    few, more = (set(rows.tolist()) for rows in pick_labelled(task, [6, 12], seed=1).values())
    assert few < more
    assert all({row ^ 1 for row in rows} == rows for rows in (few, more))  # left and right together


# --- convolutional encoders


def pool_quarters(tokens: torch.Tensor) -> torch.Tensor:
    """2 x 2 means of the 4 x 4 regions of 3 x 2 places: rows 0, 0-1, 1-2, 2 and columns 0, 0, 1, 1."""
    grid = tokens.unflatten(1, (3, 2))
    upper = (grid[:, 0] + grid[:, :2].mean(1)) / 2
    lower = (grid[:, 1:].mean(1) + grid[:, 2]) / 2
    return torch.cat([upper, lower], dim=1)


def test_features_are_mean_max_and_regions_without_a_class_token(cache: Cache, run: Path, features: ViewFeatures):
    assert features.representations == ("mean", "max", "2x2", "4x4")
    assert features.made_by["image_size"] == (96, 64)
    encoder = find_subject(run).load_for(cache)
    assert isinstance(encoder, ConvEncoder)
    (batch,) = iterate_studies(cache, np.array([3]), views_per_batch=9, crop=CropConfig(mode="squash"))
    pixels = prepare(batch, size=(96, 64), mean=cache.mean, std=cache.std).pixels
    with torch.no_grad():
        tokens = encoder.cpu().encode(pixels).tokens
    assert encoder.find_grid(tokens.shape[1]) == (3, 2)
    here = np.isin(features.view_row, batch.view_row)
    np.testing.assert_allclose(features.read("mean")[here], tokens.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features.read("max")[here], tokens.amax(1), rtol=1e-4, atol=1e-5)
    quarters = features.read("2x2")[here].reshape(4, 4, -1)
    np.testing.assert_allclose(quarters, pool_quarters(tokens), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="without 'class'; they offer mean, max"):
        features.read("class")


def test_tokens_that_are_no_places_have_no_regions(cache: Cache) -> None:
    config = build_recipe("mv_clip_tr", "hilum", "nano").encoder
    config = replace(config, backbone="test_byobnet", image_height=96, image_width=64, num_tokens=8, width=32, depth=1)
    encoder = ConvEncoder(config).eval()
    assert encoder.find_grid(8) is None
    found = embed_cache(cache, encoder, precision="32-true", grid=4, progress=False)
    assert found.representations == ("mean", "max")
    assert encoder.limit_views(256) == 256
    large = replace(config, image_height=1520, image_width=912)
    encoder.image_size = large.image_size
    assert encoder.limit_views(256) == 9


def test_a_linear_probe_moves_nothing_of_the_encoder(cache: Cache, run: Path) -> None:
    """No statistic of a batch normalisation, which a probe that only freezes parameters would move (L 3.2)."""
    encoder = find_subject(run).load_for(cache)
    assert isinstance(encoder, ConvEncoder)
    norms = list_batch_norms(encoder)
    assert norms
    before, whole = [norm.running_mean.clone() for norm in norms], hash_weights(encoder)
    found = embed_cache(cache, encoder, precision="32-true", batch_views=7, progress=False)
    probe_encoder(found, read_task(cache, "breast:mass"), name="run")
    assert hash_weights(encoder) == whole
    assert all(torch.equal(norm.running_mean, value) for norm, value in zip(norms, before, strict=True))
    encoder.train()  # that this could fail: one batch in training mode
    encoder.encode(torch.rand(4, 1, 96, 64))
    assert hash_weights(encoder) != whole


def test_the_probe_command_scores_breasts_and_their_ordered_classes(cache: Cache, run: Path, tmp_path: Path) -> None:
    """Five test exams, of one of which the left breast is not known; BI-RADS 3 is none's."""
    path = run_probe_report(
        cache.path, [run], tmp_path / "out", task="breast:birads3", counts=[6], num_seeds=1, min_positives=2,
        precision="32-true", progress=False,
    )  # fmt: skip
    summary = json.loads(path.read_bytes())
    first = json.loads((path.parent / summary["arms"][0]["path"]).read_bytes())
    assert (first["protocol"]["unit"], first["counts"]["test_rows"], first["counts"]["test_views"]) == ("breast", 9, 18)
    found = {(one["metric"], one["of"], one["slice"]): one for one in first["estimates"]}
    assert found["auroc", "macro", "all"]["value"] is not None
    assert found["probabilistic_f1", "macro", "all"]["value"] is not None
    for metric, least in (("quadratic_kappa", -1), ("balanced_accuracy", 0)):
        one = found[metric, "birads3", "all"]
        assert (one["num"], one["reason"]) == (9, None)
        assert least <= one["low"] <= one["high"] <= 1
    assert set(first["counts"]) >= {"train_patients", "test_patients"}
    write_report([path.parent], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "As screening asks" in page
    for words in ("quadratic-weighted kappa", "balanced accuracy", "probabilistic F1", "sensitivity at 90%"):
        assert words in page


def test_images_are_scored_one_by_one(cache: Cache, features: ViewFeatures) -> None:
    found = probe_encoder(features, read_task(cache, "image:mass"), name="run", representation="max")
    assert (found.counts["train_rows"], found.counts["test_rows"], found.counts["test_views"]) == (40, 20, 20)


def test_fine_tuning_trains_the_network_and_is_found_again(cache: Cache, run: Path, tmp_path: Path) -> None:
    path = run_finetune(
        cache.path, run, tmp_path / "tuned", task="sex", epochs=1, representation="max", views_per_step=20,
        precision="32-true", min_positives=1, progress=False,
    )  # fmt: skip
    assert json.loads(path.read_bytes())["protocol"]["representation"] == "max"
    before, after = (find_subject(place).load(0).state_dict() for place in (run, tmp_path / "tuned"))
    first = next(name for name in before if name.startswith("backbone") and name.endswith("weight"))
    assert not torch.equal(before[first], after[first])


def test_embed_writes_mean_and_max(cache: Cache, run: Path, tmp_path: Path, features: ViewFeatures) -> None:
    out = tmp_path / "vectors.parquet"
    assert main(["embed", str(run), "--data", str(cache.path), "--out", str(out), "--precision", "32-true"]) == 0
    table = pl.read_parquet(out)
    np.testing.assert_array_equal(table["max"].to_numpy(), features.largest)
    np.testing.assert_array_equal(table["mean"].to_numpy(), features.mean)
