"""`hilum pretrain` of MV-MLM's recipes: every recipe trains, continues to the same bits, and learns by heart."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilum.cache import Cache
from hilum.config import AugmentConfig, Config, ImageTextContrast, RunConfig
from hilum.errors import UserError
from hilum.model.conv_weights import load_conv_encoder
from hilum.model.text_weights import load_text_encoder
from hilum.model.weights import read_header
from hilum.recipes import build_recipe
from hilum.training.checkpoint import load_latest_checkpoint
from hilum.training.pretrain import pretrain
from tiny_runs import drop_timings, read_metrics
from toy_language_model import write_language_model
from toy_mammograms import NUM_KINDS, make_breasts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cache, Path]:
    """Twelve breasts to learn from, of as many kinds, and four to validate on."""
    kinds = [(2 * study % NUM_KINDS, (2 * study + 1) % NUM_KINDS) for study in range(NUM_KINDS // 2 + 2)]
    return make_breasts(tmp_path_factory.mktemp("breasts"), kinds, num_validation=2)


def build(recipe: str, *, steps: int, views: int = 12, **changes) -> Config:
    config = build_recipe(recipe, "hilum", "nano")
    model = replace(config.text_encoder.language_model, width=32, depth=1, heads=2, hidden=64)
    encoder = replace(
        config.encoder, backbone="test_byobnet", image_height=96, image_width=64, projection=32, **changes
    )
    if encoder.depth:
        encoder = replace(encoder, width=32, num_tokens=8, depth=1)
    texts = replace(config.text_encoder, language_model=model, width=32, projection=32, length=24)
    return replace(
        config,
        encoder=encoder,
        text_encoder=replace(texts, depth=min(1, texts.depth)),
        data=replace(config.data, views_per_step=views, augment=AugmentConfig(jitter_probability=0.0)),
        optim=replace(config.optim, steps=steps),
        run=RunConfig(precision="32-true", log_every=2, meter_every=4, checkpoint_every=2),
    )


@pytest.mark.parametrize("recipe", ["custom_clip", "mv_clip", "mammo_clip"])
def test_every_recipe_trains(made: tuple[Cache, Path], tmp_path: Path, recipe: str) -> None:
    cache, texts = made
    pretrain(build(recipe, steps=2), cache.path, tmp_path / "run", texts=texts)
    last = read_metrics(tmp_path / "run")[-1]
    assert {"image_text/scale", "image_text/identical_negatives", "image_text/image_to_text_accuracy"} <= last.keys()
    assert {"features/uniformity", "val/image_text", "val/features/uniformity"} <= last.keys()
    assert 0 <= last["val/image_text/text_to_image_recall_1"] <= last["val/image_text/text_to_image_recall_5"] == 1
    assert ("views/ratio" in last) == (recipe != "custom_clip")
    encoder, about = load_conv_encoder(tmp_path / "run" / "weights.safetensors")
    with pytest.raises(UserError, match=f"a convolutional encoder of recipe {recipe}; expected a vision transformer"):
        read_header(tmp_path / "run" / "weights.safetensors")
    assert (about["recipe"], about["crop"], about["mean"]) == (recipe, "squash", cache.mean)
    text_encoder, tokenizer, header = load_text_encoder(tmp_path / "run")
    assert text_encoder.config.lower_case
    assert tokenizer.get_vocab_size() >= 256
    assert header["scale"] == pytest.approx(1 / 0.3, rel=0.05), "at which sizes that start from nothing begin"
    assert encoder.config.backbone == "test_byobnet"


def test_a_continued_run_ends_with_the_same_bits(made: tuple[Cache, Path], tmp_path: Path) -> None:
    """Dropout, batch statistics, the draw of texts and gradient caching among them."""
    cache, texts = made
    config = build("mv_clip_tr", steps=4, chunk=4)
    pretrain(config, cache.path, tmp_path / "whole", texts=texts)
    pretrain(config, cache.path, tmp_path / "parts", texts=texts)
    for name in ("weights.safetensors", "text_encoder.safetensors"):
        (tmp_path / "parts" / name).unlink()
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "step-00000004")
    pretrain(config, cache.path, tmp_path / "parts", texts=texts, resume=True)
    for name in ("weights.safetensors", "text_encoder.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    whole, parts = (drop_timings(read_metrics(tmp_path / name)) for name in ("whole", "parts"))
    assert parts == whole
    checkpoint = load_latest_checkpoint(tmp_path / "whole" / "checkpoints")
    assert checkpoint.step == 4


def test_a_frozen_language_model_is_read_once(made: tuple[Cache, Path], tmp_path: Path) -> None:
    cache, texts = made
    config = build("mv_clip_tr", steps=2)
    frozen = replace(config.text_encoder, tuned=False, stored=True, lower_case=False)
    config = replace(config, text_encoder=frozen)
    with pytest.raises(UserError, match="--language-model FOLDER"):
        pretrain(config, cache.path, tmp_path / "run", texts=texts)
    bert = write_language_model(tmp_path / "bert")
    pretrain(config, cache.path, tmp_path / "run", texts=texts, language_model=bert)
    checkpoint = load_latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert not any("language_model" in name for name in checkpoint.weights)
    assert len(list((cache.path / "side").glob("text-states-*.npy"))) == 1
    about = json.loads((tmp_path / "run" / "config.json").read_bytes())["text_encoder"]
    assert about["source"]["name"] == "bert"
    assert about["lower_case"] is False
    assert load_text_encoder(tmp_path / "run", bert)[0].language_model is not None


def test_it_learns_twelve_breasts_by_heart(made: tuple[Cache, Path], tmp_path: Path) -> None:
    """Each view finds the text of its breast and each text its views, in more than 95 of 100 (L 1.6)."""
    cache, texts = made
    config = build("mv_clip_tr", steps=40, views=24, dropout=0.0)
    config = replace(
        config,
        terms={**config.terms, "image_text": ImageTextContrast()},
        optim=replace(config.optim, lr=3e-3),
        run=replace(config.run, checkpoint_every=100, meter_every=100),
    )
    pretrain(config, cache.path, tmp_path / "run", texts=texts)
    lines = read_metrics(tmp_path / "run")
    assert lines[0]["image_text/loss"] == pytest.approx(np.log(12), abs=0.5)
    assert lines[0]["image_text/identical_negatives"] == 0
    assert lines[-1]["image_text/image_to_text_accuracy"] > 0.95
    assert lines[-1]["image_text/text_to_image_accuracy"] > 0.95
