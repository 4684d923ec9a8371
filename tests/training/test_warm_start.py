"""Runs that start from the weights of another."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hilum.cache import Cache
from hilum.config import Config, load_config
from hilum.errors import UserError
from hilum.evaluate.leaks import measure_overlap
from hilum.model.weights import load_encoder, save_encoder
from hilum.training.pretrain import pretrain
from tiny_runs import build_tiny, hash_weights, make_tiny_cache
from toy_archive import make_cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_tiny_cache(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def finished(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """The run that others start from, and its config."""
    config = build_tiny()
    return config, pretrain(config, cache.path, tmp_path_factory.mktemp("runs") / "finished")


def stand_still(config: Config) -> Config:
    """The config with steps so small that weights stay what they were."""
    return replace(config, optim=replace(config.optim, lr=1e-30, weight_decay=0.0, epochs=1.0))


def test_a_warm_start_begins_at_the_weights_and_remembers_whom_they_saw(
    cache: Cache, finished: tuple[Config, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    config, source = finished
    (tmp_path / "more").mkdir()
    other = make_cache(tmp_path / "more", [2] * 20, dataset="other", seed=3, split=["train"] * 16 + ["test"] * 4)
    out = pretrain(stand_still(config), other.path, tmp_path / "run", init=source)
    start, end = (load_file(folder / "weights.safetensors") for folder in (source, out))
    assert start.keys() == end.keys()
    # `other` has pixels of another mean and deviation: the patch embedding is what does the same to them.
    scale = other.std / cache.std
    folded = start["patch_embed.proj.weight"] * scale
    moved = start["patch_embed.proj.weight"].sum(dim=(1, 2, 3)) * (other.mean - cache.mean) / cache.std
    start |= {"patch_embed.proj.weight": folded, "patch_embed.proj.bias": start["patch_embed.proj.bias"] + moved}
    assert abs(scale - 1) > 1e-4
    for name, value in start.items():
        atol = 1e-6 if name.startswith("patch_embed") else 1e-20
        torch.testing.assert_close(end[name], value, rtol=0, atol=atol, msg=name)
    assert f"all {len(start)} tensors" in capfd.readouterr().err
    recorded = load_config(out / "config.json").initial_weights
    assert recorded is not None
    assert (recorded.file, recorded.sha256) == ("finished/weights.safetensors", hash_weights(source))
    # The test patients of `cache` are strangers to `other`, its training patients are not: only the start knows them.
    assert measure_overlap(cache, out, "train").num_patients == 9
    assert measure_overlap(other, out, "train").num_images == 32
    assert measure_overlap(other, out).num_images == 0
    again = pretrain(stand_still(config), other.path, tmp_path / "again", init=out)
    assert measure_overlap(cache, again, "train").num_patients == 9


def test_a_continued_run_keeps_its_start(cache: Cache, finished: tuple[Config, Path], tmp_path: Path):
    config, source = finished
    warm = stand_still(config)
    out = pretrain(warm, cache.path, tmp_path / "run", init=source)
    done = hash_weights(out)
    (out / "weights.safetensors").unlink()
    pretrain(warm, cache.path, out, resume=True)  # from the checkpoint, without a word about the start
    assert hash_weights(out) == done
    with pytest.raises(UserError, match=r"initial_weights.sha256: was .*, now "):
        pretrain(warm, cache.path, out, init=move_weights(source, tmp_path / "other"), resume=True)
    shutil.rmtree(out / "checkpoints")  # as if killed before the first of them
    (out / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"starts from finished/weights.safetensors .*--init PATH"):
        pretrain(warm, cache.path, out, resume=True)
    pretrain(warm, cache.path, out, init=source, resume=True)
    assert hash_weights(out) == done


def move_weights(run: Path, out: Path) -> Path:
    """A folder with other weights of the same run's architecture."""
    encoder, about = load_encoder(run / "weights.safetensors")
    with torch.no_grad():
        encoder.norm.bias += 1
    out.mkdir()
    save_encoder(encoder, out / "weights.safetensors", about)
    return out


def test_a_start_that_does_not_fit_is_refused(cache: Cache, finished: tuple[Config, Path], tmp_path: Path):
    config, source = finished
    deeper = replace(config, encoder=replace(config.encoder, depth=3))
    with pytest.raises(UserError, match=r"encoder.depth is 2 there and 3 here.*Add --encoder.depth 2"):
        pretrain(deeper, cache.path, tmp_path / "run", init=source / "weights.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(UserError, match=r"text.safetensors: not a whole safetensors file .*; expected an encoder's"):
        pretrain(config, cache.path, tmp_path / "run", init=tmp_path / "text.safetensors")
    (tmp_path / "ranges").mkdir()
    other = make_cache(tmp_path / "ranges", [2] * 8, split=["train"] * 8, policy="range-1")
    with pytest.raises(UserError, match=r"policy range-1, the encoder was trained on voi-1.*--policy voi-1"):
        pretrain(config, other.path, tmp_path / "run", init=source)
    pretrain(stand_still(config), cache.path, tmp_path / "run", init=source)  # nothing was begun: the folder is free
    with pytest.raises(UserError, match=r"pretraining.json is missing.*Copy it"):
        pretrain(config, cache.path, tmp_path / "strange", init=move_weights(source, tmp_path / "other"))
