"""Public encoders and the untrained baseline go through the same probe, fine-tuning and embedding as a run's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from shown import write_shown_archive

from hilum.augment import prepare
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.evaluate.embedding_table import write_embeddings
from hilum.evaluate.features import embed_cache
from hilum.evaluate.finetune.classifier import StudyClassifier, score_rows
from hilum.evaluate.finetune.report import run_finetune
from hilum.evaluate.finetune.run import finetune_encoder
from hilum.evaluate.finetune.settings import FinetuneSettings
from hilum.evaluate.leaks import measure_overlap
from hilum.evaluate.probe.report import run_probe_report
from hilum.evaluate.result import read_result
from hilum.evaluate.subject import find_subject
from hilum.evaluate.task import read_findings_task
from hilum.loader import iterate_studies
from hilum.study import build_studies, write_studies

VIT, CNN = "timm:test_vit=random", "timm:test_resnet=random"
QUIET = {"precision": "32-true", "progress": False}


@pytest.fixture(scope="module")
def large_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Kept at up to 168 px, which timm's smallest networks want."""
    folder = tmp_path_factory.mktemp("large")
    table = write_shown_archive(folder / "archive", 60)
    shares = {"train": 0.4, "val": 0.3, "test": 0.3}
    build_cache(table, folder / "cache", workers=0, short_side=168, progress=False, split_fractions=shares)
    return Cache.open(folder / "cache")


def test_features_are_the_towers_own(large_cache: Cache) -> None:
    found = embed_cache(large_cache, VIT, **QUIET)
    tower = find_subject(VIT).load(0)
    (batch,) = iterate_studies(
        large_cache, large_cache.rows(), views_per_batch=999, crop=CropConfig(mode="center"), max_views=None
    )
    batch = prepare(batch, size=168, mean=0.0, std=1.0, interpolation="bicubic")
    with torch.no_grad():
        tokens = tower.encode(batch.pixels[:5], batch.view_kind[:5]).tokens
    np.testing.assert_allclose(found.class_token[:5], tokens[:, 0].numpy(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(found.mean[:5], tokens[:, 1:].mean(dim=1).numpy(), atol=1e-5, rtol=0)
    assert found.made_by["tower"]["weights"] == "random"
    assert found.made_by["tower"]["preprocessing"]["mean"] == (0.5, 0.5, 0.5)


def test_a_cache_of_smaller_images_is_refused(shown_cache: Cache) -> None:
    with pytest.raises(UserError, match=r"168 px wanted, but .* 64 px\. Build one with `--short-side 168`\.$"):
        embed_cache(shown_cache, VIT, **QUIET)


def cache_dark(folder: Path, *splits: str) -> Cache:
    """Studies of one image each; the second, white at a margin that is cropped, has grey values 0 and 1 of 255."""
    images = np.random.default_rng(0).integers(0, 256, (len(splits), 256, 400))
    images[1] = np.indices((256, 400)).sum(axis=0) % 2
    images[1, :, :20] = 255
    rows = []
    for number, (image, split) in enumerate(zip(images, splits, strict=True)):
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
        view = {"path": f"{number}.png", "kind": "frontal", "position": "", "laterality": "unknown"}
        about = {"dataset": "toy", "study": f"s{number}", "patient": f"p{number}", "split": split, "Edema": number % 2}
        rows.append({**about, "root": str(folder), "views": [view]})
    write_studies(build_studies(rows), folder / "studies.parquet")
    build_cache(folder / "studies.parquet", folder / "cache", workers=0, progress=False)
    return Cache.open(folder / "cache")


def test_images_that_are_refused_are_named(tmp_path: Path) -> None:
    cache = cache_dark(tmp_path, "train", "train", "train")
    with pytest.raises(UserError, match=r"toy/s1 \(1\.png\): timm:test_vit .* leave its study out of the study table"):
        embed_cache(cache, VIT, batch_views=1, **QUIET)
    classifier = StudyClassifier(find_subject(VIT).load(0), 1)
    how = {"mean": 0.0, "std": 1.0, "views_per_batch": 1}
    with pytest.raises(UserError, match=r"toy/s1 \(1\.png\): timm:test_vit reads grey pixels from 0 to 1; found 0"):
        score_rows(classifier, cache, cache.rows(), cache.views["study"].astype(np.int64), **how)


@pytest.mark.parametrize("splits", [("train", "train", "val", "test"), ("train", "val", "train", "test")])
def test_fine_tuning_names_what_is_refused_in_training_and_in_validation(tmp_path: Path, splits: list[str]) -> None:
    cache = cache_dark(tmp_path, *splits)
    settings = FinetuneSettings(epochs=1, views_per_step=1, crop=CropConfig(mode="center"), precision="32-true")
    about = {"name": "vit", "mean": 0.0, "std": 1.0, "progress": False}
    with pytest.raises(UserError, match=r"toy/s1 \(1\.png\): timm:test_vit reads grey pixels from 0 to 1; found 0"):
        finetune_encoder(cache, find_subject(VIT).load(0), read_findings_task(cache, ["Edema"]), settings, **about)


def test_probes_compare_a_transformer_with_a_network_without_class_token(large_cache: Cache, tmp_path: Path) -> None:
    how = {"task": "Edema", "min_positives": 3, "num_seeds": 1, "counts": [20], **QUIET}
    path = run_probe_report(large_cache.path, [VIT, CNN], tmp_path / "probe", **how)
    summary = json.loads(path.read_text())
    assert [(arm["name"], arm["role"]) for arm in summary["arms"][:3]] == [
        ("timm:test_vit (random weights)", "encoder"),
        ("timm:test_resnet (random weights)", "encoder"),
        ("untrained", "untrained"),
    ]
    for arm in summary["arms"][:2]:
        result = read_result(path.parent / arm["path"])
        assert "Random weights: nothing was learned." in result.notes
        assert any("no class token: class, both" in note for note in result.notes)
        assert result.protocol["representation"] not in ("class", "both")
        assert result.protocol["features"]["tower"]["licence"] == "apache-2.0"
    with pytest.raises(UserError, match="has no run folder to put results in: add --out FOLDER"):
        run_probe_report(large_cache.path, [VIT], **how)


def test_what_a_public_encoder_has_seen_is_said_to_be_unknown(large_cache: Cache, tmp_path: Path) -> None:
    published = timm.create_model("test_vit").state_dict()
    (tmp_path / "published").mkdir()
    save_file(published, tmp_path / "published" / "model.safetensors")
    tower = f"timm:test_vit={tmp_path / 'published'}"
    how = {"task": "Edema", "representation": "mean", "crossval": True, "num_repeats": 1, "min_positives": 3, **QUIET}
    path = run_probe_report(large_cache.path, [tower], tmp_path / "probe", **how)
    notes = json.loads(path.read_text())["arms"][0]["result"]["notes"]
    assert any("timm:test_vit was pretrained on is not on record here" in note for note in notes)
    assert any("licence of the published weights: apache-2.0; computed by timm" in note for note in notes)
    assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize(("name", "drop_path"), [(VIT, 0.1), (CNN, 0.0)])
def test_fine_tuning_trains_it_and_writes_what_can_be_evaluated_again(
    name: str, drop_path: float, large_cache: Cache, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    path = run_finetune(large_cache.path, name, out, task="Edema", epochs=1, min_positives=3, **QUIET)
    result = read_result(path)
    assert result.protocol["drop_path"] == drop_path
    assert result.protocol["tower"]["name"] == name.partition("=")[0]
    assert result.protocol["lr"] == 3e-4, "random weights are trained from scratch"
    assert result.find("auroc").value is not None
    subject = find_subject(out)
    before, after = find_subject(name).load(0).state_dict(), subject.load(0).state_dict()
    assert any(not torch.equal(value, after[key]) for key, value in before.items())
    assert measure_overlap(large_cache, out, "train").num_patients > 0
    assert subject.check_pretraining(large_cache) == ("Fine-tuned from random weights.",)
    by_name = find_subject(f"{name.partition('=')[0]}={out / 'weights.safetensors'}")
    assert by_name.path == out / "weights.safetensors", (
        "what fine-tuning saw is looked at whichever way its weights are named"
    )
    vectors = tmp_path / "vectors.parquet"
    write_embeddings(out, large_cache.path, vectors, representations=("mean",), precision="32-true")
    assert len(pl.read_parquet(vectors)) == len(large_cache.views)


def test_a_class_token_that_is_not_there_cannot_be_read(large_cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no class token, which 'class' reads"):
        run_finetune(
            large_cache.path, CNN, tmp_path / "x", task="Edema", representation="class", min_positives=3, **QUIET
        )


def test_the_supervised_baseline_is_hilums_encoder_before_training(large_cache: Cache, tmp_path: Path) -> None:
    subject = find_subject("supervised:nano")
    first, again, other = (subject.load(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["patch_embed.proj.weight"], other["patch_embed.proj.weight"])
    with pytest.raises(UserError, match=r"supervised:huge: there is no such size, nor such a run\. Sizes: nano, tiny"):
        find_subject("supervised:huge")
    with pytest.raises(UserError, match="add --out FOLDER"):
        run_finetune(large_cache.path, "supervised:nano", task="Edema", **QUIET)
    with pytest.raises(UserError, match="images of 224 px wanted"):
        run_finetune(large_cache.path, "supervised:nano", tmp_path / "x", task="Edema", min_positives=3, **QUIET)


def test_supervised_starts_from_random_weights_by_a_schedule_of_its_own(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("supervised")
    table = write_shown_archive(folder / "archive", 40)
    shares = {"train": 0.34, "val": 0.33, "test": 0.33}
    build_cache(table, folder / "cache", workers=0, short_side=224, progress=False, split_fractions=shares)
    cache = Cache.open(folder / "cache")
    path = run_finetune(
        cache.path, "supervised:nano", folder / "out", task="sex", epochs=1, seed=3, min_positives=1, **QUIET
    )
    result = read_result(path)
    assert result.encoder == "supervised nano"
    assert (result.protocol["epochs"], result.protocol["lr"], result.protocol["layer_decay"]) == (1, 3e-4, 1.0)
    assert "Random first weights: nothing was learned before the labels." in result.notes
    subject = find_subject(folder / "out")
    assert (subject.mean, subject.std) == (cache.mean, cache.std)
    assert np.isfinite(embed_cache(cache, folder / "out", **QUIET).mean).all()
    alike = find_subject(f"supervised:{folder / 'out'}")
    assert alike.name == "supervised as out"
    assert alike.load(0).config == subject.load(0).config
    assert torch.equal(
        alike.load(3).state_dict()["patch_embed.proj.weight"],
        find_subject("supervised:nano").load(3).state_dict()["patch_embed.proj.weight"],
    )
