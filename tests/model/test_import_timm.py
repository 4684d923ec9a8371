"""Files of timm: what the imported encoder computes, of colour and of grey, and what it cannot hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch._utils
from layouts import mae, timm_files
from layouts.sizes import TINY_MAE
from layouts.written import (
    GREY,
    TIMM,
    draw_pixels,
    draw_timm,
    encode,
    expect_colour,
    expect_equal,
    expect_refusal,
    import_encoder,
    run_import,
)

from hilum.model.weights import load_encoder


@pytest.mark.parametrize("name", [name for name in TIMM if name not in GREY])
def test_colour_files_compute_the_same_from_one_channel(name: str, tmp_path: Path) -> None:
    expect_colour(TIMM[name], tmp_path)


@pytest.mark.parametrize("name", GREY)
def test_grey_files_of_timm_compute_what_timm_does(name: str, tmp_path: Path) -> None:
    """One channel in the file: whatever normalisation the header says, the encoder gets what it was given."""
    path, state = TIMM[name].put(tmp_path)
    encoder, _ = import_encoder(path, "timm")
    pixels = draw_pixels(TINY_MAE)[None] * 2 - 1
    expect_equal(encode(encoder, pixels), mae.encode_slowly(state, pixels, TINY_MAE.head_width))


def test_safetensors_and_torch_files_of_timm_are_the_same(tmp_path: Path) -> None:
    state = draw_timm("plain")()
    found = []
    for suffix in ("safetensors", "pth", "bin"):
        timm_files.write_timm(tmp_path / f"weights.{suffix}", state)
        assert run_import(tmp_path / f"weights.{suffix}", "timm", tmp_path / "out.safetensors") == 0
        found.append(load_encoder(tmp_path / "out.safetensors")[0].state_dict())
    for other in found[1:]:
        assert all(torch.equal(other[name], value) for name, value in found[0].items())


@pytest.mark.parametrize("variant", timm_files.UNHELD)
def test_models_of_timm_that_the_encoder_cannot_hold_are_refused(
    variant: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    settings, tensor = timm_files.UNHELD[variant]
    state = timm_files.build_model(TINY_MAE, **settings).state_dict()
    timm_files.write_timm(tmp_path / "weights.pth", state)
    expect_refusal(tmp_path / "weights.pth", "timm", capsys, tensor)
