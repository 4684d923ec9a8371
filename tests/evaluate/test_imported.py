"""Imported weights are probed, fine-tuned, embedded and pretrained from like any; results say what nobody knows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from hilum.augment import prepare
from hilum.cache import Cache
from hilum.cli import main
from hilum.config import CropConfig, EncoderConfig
from hilum.errors import UserError
from hilum.evaluate.features import embed_cache
from hilum.evaluate.finetune.report import run_finetune
from hilum.evaluate.leaks import measure_overlap, note_imported
from hilum.evaluate.probe.report import run_probe_report
from hilum.evaluate.result import read_result
from hilum.loader import iterate_studies
from hilum.model.weights import describe_weights, load_encoder
from hilum.training.pretrain import pretrain
from tiny_runs import build_tiny
from toy_archive import make_cache

NOTE = "list no patients and no images: nobody can check whether they were pretrained on those it is tested on"


def build_vit(**settings) -> VisionTransformer:
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1, "num_classes": 0}
    return VisionTransformer(**sizes, **settings).eval()


def run_import(folder: Path, *words: str, name: str = "mae") -> int:
    """The command, on a file in the layout of masked autoencoders, into `folder / "public"`."""
    torch.save({"model": build_vit().state_dict(), "epoch": 3}, folder / "mae_vit.pth")
    out = folder / "public" / f"{name}.safetensors"
    return main(["weights", "import", str(folder / "mae_vit.pth"), "--layout", "mae", "--out", str(out), *words])


@pytest.fixture
def importing(tmp_path: Path) -> Callable[..., Path]:
    """What the command wrote."""

    def run(*words: str, name: str = "mae") -> Path:
        assert run_import(tmp_path, *words, name=name) == 0
        return tmp_path / "public" / f"{name}.safetensors"

    return run


def test_what_hilum_wrote_needs_no_import(importing, tmp_path, capsys) -> None:
    written = importing()
    assert main(["weights", "import", str(written), "--layout", "timm", "--out", str(tmp_path / "x.safetensors")]) == 2
    assert f"{written}: Hilum wrote it: nothing to import." in capsys.readouterr().err
    assert not (tmp_path / "x.safetensors").exists()


def test_the_command_says_what_matched_and_what_it_assumed(importing, capsys) -> None:
    path = importing("--licence", "CC-BY-NC 4.0")
    said = capsys.readouterr().out
    assert "Matched: 30 of 30 tensors. Missing: none. Unexpected: none." in said
    assert "trained on pixels normalised as 'imagenet': assumed" in said
    assert "heads: 1, assumed" in said
    assert "by image policy not stated, then (pixel - 0.4490) / 0.2260" in said
    assert main(["weights", "info", str(path)]) == 0
    described = capsys.readouterr().out
    assert described in said
    assert "imported from mae_vit.pth (layout mae" in described
    assert "licence CC-BY-NC 4.0), which does not list the patients" in described
    assert "licence not stated" in describe_weights(importing(name="other"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--normalization", "given"], "--normalization given needs --mean and --std"),
        (["--normalization", "chest", "--mean", "0.5", "--std", "0.2"], "have no effect beside --normalization chest"),
        (["--mean", "0.5"], "needs --mean and --std"),
        (["--heads", "7"], "mae_vit.pth, layout mae: --heads 7: tokens of 64 numbers"),
        (["--image-size", "30"], "--image-size 30 is not a multiple of the patch size"),
        (["--layout", "mvmae"], r"mae_vit.pth, layout mvmae: no tensor is named encoders.vision.\*"),
    ],
)
def test_bad_choices_write_nothing(words: list[str], message: str, tmp_path: Path, capsys) -> None:
    assert run_import(tmp_path, *words) == 2
    assert not (tmp_path / "public").exists()
    assert re.search(message, capsys.readouterr().err)


def test_a_file_that_is_no_encoder_of_hilum_is_not_written_over(tmp_path: Path, capsys) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "mae.safetensors").write_text("mine")
    assert run_import(tmp_path) == 2
    assert (tmp_path / "public" / "mae.safetensors").read_text() == "mine"
    assert "not a whole safetensors file" in capsys.readouterr().err


def test_features_are_those_of_the_published_model_on_the_same_pixels(shown_cache: Cache, importing) -> None:
    """From the cache's integers to class token and mean, through crop, fold and constants."""
    path = importing("--mean", "0.5", "0.4", "0.3", "--std", "0.2", "0.3", "0.25")
    found = embed_cache(shown_cache, path, precision="32-true", progress=False)
    batch = next(iterate_studies(shown_cache, shown_cache.rows(), views_per_batch=8, crop=CropConfig(mode="center")))
    grey = prepare(batch, size=32, mean=0.0, std=1.0).pixels
    rgb = (grey - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1)
    with torch.no_grad():
        expected = build_vit().forward_features(rgb)
    np.testing.assert_array_equal(found.view_row[: len(grey)], batch.view_row)
    np.testing.assert_allclose(found.class_token[: len(grey)], expected[:, 0], atol=1e-5)
    np.testing.assert_allclose(found.mean[: len(grey)], expected[:, 1:].mean(dim=1), atol=1e-5)


def test_a_probe_says_that_it_could_not_look_for_leaks(shown_cache: Cache, importing) -> None:
    paths = [importing(), importing("--licence", "MIT", name="again")]
    kwargs = {"num_seeds": 1, "min_positives": 5, "precision": "32-true", "progress": False, "counts": [60]}
    path = run_probe_report(shown_cache.path, paths, task="Edema", representation="class", **kwargs)
    assert path.parent == paths[0].parent / "mae-probe-Edema-representation-class"
    arms = {arm["name"]: arm["result"]["notes"] for arm in json.loads(path.read_text())["arms"]}
    for name in ("mae", "again"):
        assert any(NOTE in note and "mae_vit.pth (sha256 " in note for note in arms[name])
    assert not any(NOTE in note for note in arms["pixels 32x32"])


def test_overlap_with_imported_weights_is_a_lower_bound(shown_cache: Cache, importing) -> None:
    overlap = measure_overlap(shown_cache, importing(), None)
    assert str(overlap).startswith(f"at least 0 of {overlap.of_patients} patients and 0 of ")
    assert NOTE in note_imported(overlap)[0]


def test_a_fine_tuned_encoder_remembers_where_it_is_from(shown_cache: Cache, importing, capsys) -> None:
    path = run_finetune(shown_cache.path, importing("--licence", "MIT"), task="Edema", epochs=1, min_positives=5)
    assert path.parent.name == "mae-finetune-Edema"
    result = read_result(path)
    assert result.encoder == "mae"
    assert any(NOTE in note for note in result.notes)
    assert "layout mae" in describe_weights(path.parent)
    assert "licence MIT" in describe_weights(path.parent)
    about = load_encoder(path.parent / "weights.safetensors")[1]
    assert (about["image_policy"], about["mean"]) == (shown_cache.policy, pytest.approx(0.449))
    overlap = measure_overlap(shown_cache, path.parent, "train")
    assert overlap.num_patients == overlap.of_patients, "fine-tuning saw them"
    assert overlap.imported


def test_vectors_of_any_policy_and_kind_of_view_are_written(importing, tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [1, 2], policy="range-1")
    out = tmp_path / "vectors.parquet"
    assert main(["embed", str(importing()), "--data", str(cache.path), "--out", str(out)]) == 0
    assert pl.read_parquet(out)["class_token"].dtype == pl.Array(pl.Float32, 64)


def test_pretraining_starts_from_imported_weights_and_passes_their_name_on(importing, tmp_path: Path, capfd) -> None:
    cache = make_cache(tmp_path, [2] * 12, split=["train"] * 10 + ["test"] * 2)
    config = build_tiny("mvmae", epochs=1.0)
    with pytest.raises(
        UserError, match=r"Add --encoder.width 64 --encoder.heads 1 --encoder.no-qk-norm to the command"
    ):
        pretrain(config, cache.path, tmp_path / "run", init=importing())
    encoder = EncoderConfig(image_size=32, patch_size=8, width=64, depth=2, heads=1, qk_norm=False)
    run = pretrain(replace(config, encoder=encoder), cache.path, tmp_path / "run", init=importing())
    assert "all 30 tensors of it matched, none missing" in (said := capfd.readouterr().err)
    assert "view_embed, which the file does not have, starts at zero" in said
    described = describe_weights(run)
    assert "imported from mae_vit.pth" in described
    assert "started from public/mae.safetensors" in described
    overlap = measure_overlap(cache, run)
    assert (overlap.num_patients, overlap.num_images) == (0, 0)
    assert overlap.imported
