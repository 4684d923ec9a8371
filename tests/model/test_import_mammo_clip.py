"""Mammo-CLIP's image tower: by names of efficientnet-pytorch, against a network that has those names itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hilum.cli import main
from hilum.errors import UserError
from hilum.evaluate.subject import find_subject
from hilum.model.conv_weights import load_conv_encoder
from hilum.model.layouts.mammo_clip import read_mammo_clip

smp = pytest.importorskip("segmentation_models_pytorch")


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """EfficientNet-B2 as efficientnet-pytorch names it, of random weights and statistics."""
    torch.manual_seed(0)
    network = smp.encoders.get_encoder("efficientnet-b2", weights=None).eval()
    for name, value in network.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(std=0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return network


@pytest.fixture(scope="module")
def state(network: torch.nn.Module) -> dict[str, Tensor]:
    tower = {f"image_encoder.{name}": value for name, value in network.state_dict().items()}
    other = {
        "image_encoder._fc.weight": torch.zeros(1, 1408),
        "text_encoder.x": torch.zeros(2),
        "logit_scale": torch.ones(1),
    }
    return {**tower, **other}


class Settings:
    """An object of a project, as published checkpoints hold."""


def test_the_tower_is_the_same_function_of_a_grey_image(
    network: torch.nn.Module, state: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.save({"model": state, "config": Settings(), "epoch": 7}, tmp_path / "b2.tar")
    words = ["--layout", "mammo-clip", "--licence", "CC BY-NC-SA 4.0", "--out", str(tmp_path / "out.safetensors")]
    assert main(["weights", "import", str(tmp_path / "b2.tar"), *words]) == 0
    assert "Left out: image_encoder, logit_scale, text_encoder." in capsys.readouterr().out
    encoder, about = load_conv_encoder(tmp_path / "out.safetensors")
    assert (encoder.config.backbone, encoder.image_size) == ("tf_efficientnet_b2", (1520, 912))
    assert (about["mean"], about["std"]) == (0.3089279, 0.25053556)
    assert about["pretraining"]["imported_weights"][0]["licence"] == "CC BY-NC-SA 4.0"
    subject = find_subject(tmp_path / "out.safetensors")
    assert subject.image_policy is None
    assert subject.read_settings(encoder).shown.mode == "squash"
    # Rows and columns that 32 does not divide, so that paddings matter.
    grey = torch.randn(2, 1, 100, 76)
    with torch.no_grad():
        network_map = grey.expand(-1, 3, -1, -1)
        network_map = network._swish(network._bn0(network._conv_stem(network_map)))
        for block in network._blocks:
            network_map = block(network_map)
        network_map = network._swish(network._bn1(network._conv_head(network_map)))
        torch.testing.assert_close(encoder.make_map(grey), network_map, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(encoder.encode(grey).embedding, network_map.mean((2, 3)), atol=2e-4, rtol=1e-3)


def test_what_is_no_whole_tower_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="no EfficientNet of Mammo-CLIP in it: found logit_scale"):
        read_mammo_clip({"logit_scale": torch.ones(1)})
    lacking = {name: value for name, value in state.items() if "_blocks.5._se_reduce" not in name}
    with pytest.raises(UserError, match=r"2 tensors of its image tower are missing: blocks\.2\.0\.se\.conv_reduce"):
        read_mammo_clip(lacking)
    with pytest.raises(UserError, match=r"1 tensors of its image tower are unknown: _swin"):
        read_mammo_clip({**state, "image_encoder._swin.weight": torch.ones(1)})
    with pytest.raises(UserError, match="23 blocks and 10 channels; expected B2"):
        read_mammo_clip({**state, "image_encoder._conv_head.weight": torch.ones(10, 1)})


def test_the_larger_network_has_its_blocks_too() -> None:
    with torch.device("meta"):
        network = smp.encoders.get_encoder("efficientnet-b5", weights=None)
    found = read_mammo_clip({f"image_encoder.{name}": value for name, value in network.state_dict().items()})
    assert found.backbone == "tf_efficientnet_b5"
