"""Encoders of other kinds leave as what they are: convolutional ones, distilled ones, and heads that read tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hilum.cli import main
from hilum.config import ConvEncoderConfig, load_config
from hilum.errors import UserError
from hilum.evaluate.heads.attentive import AttentiveHead, AttentiveProbe
from hilum.evaluate.heads.kept import fold_probe
from hilum.evaluate.heads.logistic import Standardizer
from hilum.export.bundle import load_bundle
from hilum.export.preparation import prepare_image
from hilum.model.conv_encoder import ConvEncoder
from hilum.model.conv_weights import save_conv_encoder
from hilum.model.weights import load_encoder
from hilum.objective.objective import build_objective
from hilum.training.checkpoint import load_latest_checkpoint
from hilum.training.pretrain import pretrain
from tiny_runs import build_tiny, make_tiny_cache, write_tiny_teachers


def test_a_convolutional_encoder_leaves_as_vectors_where_that_is_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = ConvEncoder(ConvEncoderConfig(backbone="test_resnet", image_height=48, image_width=32, depth=0)).eval()
    about = {"mean": 0.4, "std": 0.2, "image_policy": "voi-1/short64/uint8", "crop": "squash"}
    save_conv_encoder(encoder, tmp_path / "weights.safetensors", about)
    words = ["export", str(tmp_path / "weights.safetensors"), "--embedding-only", "--out", str(tmp_path / "bundle")]
    assert main(words) == 0
    bundle = load_bundle(tmp_path / "bundle")
    grey = np.random.default_rng(0).random((64, 80), np.float32)
    answer = bundle([grey])
    pixels = torch.from_numpy(prepare_image(grey, bundle.about["preprocessing"]))[None, None]
    with torch.no_grad():
        expected = encoder.encode((pixels - 0.4) / 0.2).tokens.mean(dim=1)
    # Random weights make small numbers: what differs between images is what the difference is held to.
    assert (
        np.abs(answer.embedding - expected.numpy()).max()
        < 1e-3 * np.ptp(bundle([grey, grey[::-1]]).embedding, axis=0).max()
    )
    assert (answer.findings, answer.logit.shape, bundle.about["findings"]) == ((), (1, 0), [])
    assert bundle.about["timm"]["reason"] == "a ConvEncoder is no plain model of timm's"
    assert "says nothing of findings" in (bundle.path / "README.md").read_text()
    with pytest.raises(UserError, match="view_kind has no effect"):
        bundle([grey], ["frontal"])


def test_an_attentive_head_with_its_standardisation_folded_in_says_the_same() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    head = AttentiveHead(5, 16, torch.tensor([0.2, 0.5]))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(draw(*parameter.shape))
    standardize = Standardizer(draw(16).double() * 3, draw(16).double().exp())
    tokens = draw(7, 5, 16) * 2 + 1
    expected = head(((tokens - standardize.mean) / standardize.std).float())
    folded = fold_probe(AttentiveProbe(standardize, head, "mean_logit"))
    assert folded is not None
    plain = AttentiveHead(5, 16, torch.tensor([0.5, 0.5]))
    plain.load_state_dict({name.replace("head.", "linear."): value for name, value in folded.items()})
    torch.testing.assert_close(plain(tokens), expected, atol=1e-4, rtol=1e-4)


def test_a_distilled_run_leaves_as_a_plain_encoder(tmp_path: Path) -> None:
    """What its updates (LoRA) made of images before they were merged is what the bundle makes, and nothing of
    updates or teachers goes with it."""
    cache = make_tiny_cache(tmp_path / "tiny")
    start = pretrain(build_tiny("mae", epochs=1.0), cache.path, tmp_path / "mae")
    config = build_tiny("pacx", epochs=2.0)
    config = replace(config, optim=replace(config.optim, lr=0.03))
    tables = write_tiny_teachers(cache)
    run = pretrain(config, cache.path, tmp_path / "taught", init=start, teachers=tables)
    assert main(["export", str(run), "--embedding-only", "--out", str(tmp_path / "bundle")]) == 0
    bundle = load_bundle(tmp_path / "bundle")

    checkpoint = load_latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    objective = build_objective(load_config(run / "config.json"))
    objective.load_state_dict(checkpoint.weights)
    unmerged = objective.encoder.eval()
    updates = [value for name, value in unmerged.state_dict().items() if "lora_B" in name]
    assert updates
    assert all(value.any() for value in updates), "updates that have left zero"
    image = np.random.default_rng(0).random((64, 80), np.float32)
    shown = bundle.about["preprocessing"]
    pixels = torch.from_numpy(prepare_image(image, shown))[None, None]
    before, _ = load_encoder(start / "weights.safetensors")
    with torch.no_grad():
        pixels = (pixels - shown["mean"]) / shown["std"]
        kind = torch.zeros(1, dtype=torch.long)
        expected, untaught = (one.encode(pixels, kind).tokens[:, 1:].mean(dim=1) for one in (unmerged, before))
    said = bundle([image]).embedding
    np.testing.assert_allclose(said, expected, atol=1e-5, rtol=0)
    assert np.abs(said - untaught.numpy()).max() > 1e-3

    state = load_file(bundle.path / "timm.safetensors")
    assert state.keys() == before.state_dict().keys() - {"view_embed"}
    (model, text) = ((bundle.path / name).read_bytes() for name in ("model.onnx", "bundle.json"))
    names = {name.encode() for name in checkpoint.weights if not name.startswith("encoder.")}
    assert names
    for word in (b"lora", *names):
        assert word not in model
    assert not any(word in text for word in (b"ecg", b"labs", str(tmp_path).encode()))
