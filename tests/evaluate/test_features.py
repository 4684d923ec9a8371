"""An evaluation shows a run's studies as its settings say: the same crop, and no more views than it was given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shown import TINY

from hilum.augment import prepare
from hilum.cache import Cache
from hilum.config import Config, CropConfig, DataConfig, dump_config
from hilum.evaluate import features
from hilum.evaluate.features import embed_cache
from hilum.evaluate.finetune.classifier import StudyClassifier, score_rows
from hilum.evaluate.finetune.report import run_finetune
from hilum.evaluate.probe import report as probe_report
from hilum.evaluate.result import read_result
from hilum.evaluate.subject import read_data_settings
from hilum.evaluate.viewing import encode_views
from hilum.loader import iterate_studies
from hilum.model.encoder import Encoder
from hilum.model.weights import save_encoder
from hilum.recipes import build_recipe
from hilum.training.run_folder import describe_training_data
from toy_archive import make_cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Studies of up to five views, on images that are no squares."""
    folder = tmp_path_factory.mktemp("features")
    return make_cache(folder, [5, 2, 1, 4], sides=(64, 120), split=["train"] * 4)


def write_run(folder: Path, cache: Cache, data: DataConfig, *, seed: int = 0) -> Path:
    """A finished run as far as an evaluation reads it, trained on other patients."""
    folder.mkdir()
    torch.manual_seed(seed)
    about = {"mean": cache.mean, "std": cache.std, "image_policy": cache.policy}
    save_encoder(Encoder(TINY), folder / "weights.safetensors", about)
    elsewhere = {**describe_training_data(cache), "people": {}, "images": []}
    (folder / "pretraining.json").write_text(json.dumps(elsewhere))
    config: Config = replace(build_recipe("mvmae", "code", "nano"), data=data)
    (folder / "config.json").write_text(dump_config(config))
    return folder


def drop_key(run: Path, name: str) -> None:
    """The run's config.json as it was before a setting of `data` existed."""
    config = json.loads((run / "config.json").read_text())
    del config["data"][name]
    (run / "config.json").write_text(json.dumps(config))


CODE = build_recipe("mvmae", "code").data


def test_a_run_of_preset_code_is_evaluated_on_squashed_images_and_three_views(cache: Cache, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", cache, CODE)
    found = embed_cache(cache, run, precision="32-true", progress=False)
    assert np.bincount(found.study).tolist() == [3, 2, 1, 3]
    assert (found.made_by["crop"], found.made_by["max_views"]) == ("squash", 3)
    torch.manual_seed(0)
    encoder = Encoder(TINY).eval()
    crop = CropConfig(mode="squash")
    (batch,) = iterate_studies(cache, cache.rows(), views_per_batch=99, crop=crop, max_views=3)
    batch = prepare(batch, size=32, mean=cache.mean, std=cache.std)
    with torch.no_grad():
        expected = encoder.encode(batch.pixels, batch.view_kind).tokens
    assert np.array_equal(found.view_row, batch.view_row.numpy())
    np.testing.assert_allclose(found.class_token, expected[:, 0].numpy(), atol=1e-5, rtol=0)
    everything = embed_cache(cache, run, crop=CropConfig(mode="center"), max_views=9, progress=False)
    assert np.bincount(everything.study).tolist() == [5, 2, 1, 4]


@pytest.mark.parametrize(
    ("data", "shown", "max_views"),
    [
        (build_recipe("mvmae", "hilum").data, "center", None),
        (CODE, "center", 3),
        (DataConfig(crop=CropConfig(mode="squash")), "squash", None),
    ],
    ids=["hilum", "code", "squashed"],
)
def test_a_run_from_before_the_setting_is_read_with_its_default(
    data: DataConfig, shown: str, max_views: int | None, cache: Cache, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", cache, data)
    drop_key(run, "evaluation_crop")
    settings = read_data_settings(run)
    assert (settings.shown.mode, settings.max_views) == (shown, max_views)
    (run / "config.json").unlink()  # weights of an older Hilum without their folder
    settings = read_data_settings(run / "weights.safetensors")
    assert (settings.shown.mode, settings.max_views) == ("center", None)


def test_controls_see_what_the_run_sees(shown_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [write_run(tmp_path / "one", shown_cache, replace(CODE, max_views=1))]
    arms = []

    def keep(_, found, task, out, protocol, **settings) -> Path:
        arms.extend(found)
        return out

    monkeypatch.setattr(probe_report, "report_probes", keep)  # what comes after the features is tested elsewhere
    probe_report.run_probe_report(shown_cache.path, runs, tmp_path / "probe", progress=False)
    assert [arm.role for arm in arms] == ["encoder", "untrained", "pixels"]
    for arm in arms:
        assert (arm.features.made_by["crop"], arm.features.made_by["max_views"]) == ("squash", 1)
        assert len(arm.features.study) == len(shown_cache.studies)
    runs.append(write_run(tmp_path / "two", shown_cache, CODE, seed=1))
    arms.clear()  # of images and breasts every one counts, whatever either run is shown of a study
    probe_report.run_probe_report(shown_cache.path, runs, tmp_path / "probe", task="kind", progress=False)
    assert [len(arm.features.view_row) for arm in arms] == [len(shown_cache.views)] * 4


def test_fine_tuning_keeps_crop_and_cap_and_hands_them_on(shown_cache: Cache, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", shown_cache, replace(CODE, max_views=1))
    path = run_finetune(
        shown_cache.path, run, tmp_path / "tuned", task="Edema", epochs=1, min_positives=5, progress=False
    )
    protocol = read_result(path).protocol
    assert (protocol["crop"], protocol["evaluation_crop"], protocol["max_views"]) == ("random", "squash", 1)
    settings = read_data_settings(tmp_path / "tuned")
    assert (settings.shown.mode, settings.max_views) == ("squash", 1)


def test_a_cap_holds_in_the_scores_of_studies(cache: Cache) -> None:
    torch.manual_seed(0)
    classifier = StudyClassifier(Encoder(TINY), 2)
    how = {"owner": cache.views["study"].astype(np.int64), "mean": cache.mean, "std": cache.std}
    capped, again = (score_rows(classifier, cache, cache.rows(), max_views=3, **how) for _ in range(2))
    assert np.array_equal(capped, again)
    different = np.abs(capped - score_rows(classifier, cache, cache.rows(), **how)).max(axis=1) > 1e-6
    assert different.tolist() == [True, False, False, True]


def test_features_made_by_other_code_are_not_read(
    cache: Cache, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = embed_cache(cache, encoder, precision="32-true", progress=False)
    write = features.write_side_table
    written = []
    monkeypatch.setattr(features, "write_side_table", lambda *given: written.append(write(*given)))
    embed_cache(cache, encoder, precision="32-true", progress=False)
    assert not written
    monkeypatch.setattr(features, "hash_code", lambda patterns: "of tomorrow")
    assert embed_cache(cache, encoder, precision="32-true", progress=False).made_by != before.made_by
    assert len(written) == 1


@pytest.mark.parametrize("grid", [0, 2, 4])
def test_what_is_kept_of_a_batch_does_not_hold_its_tokens(grid: int, cache: Cache, encoder: Encoder) -> None:
    (batch,) = iterate_studies(cache, cache.rows(), views_per_batch=99, crop=CropConfig(mode="center"))
    batch = prepare(batch, size=32, mean=cache.mean, std=cache.std)
    for part in encode_views(encoder, batch, "32-true", grid):
        assert part.untyped_storage().nbytes() == part.numel() * 4
