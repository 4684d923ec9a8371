"""Files of MAE and CrossMAE: what the imported encoder computes of one channel (M 6.2), its names and its norm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch._utils
from layouts import mae
from layouts.sizes import TINY_MAE
from layouts.written import (
    COLOUR,
    FILES,
    draw_pixels,
    encode,
    expect_colour,
    expect_equal,
    expect_refusal,
    import_encoder,
)

from hilum.cli import main
from hilum.model.weights import load_encoder


@pytest.mark.parametrize("name", COLOUR)
def test_colour_files_compute_the_same_from_one_channel(name: str, tmp_path: Path) -> None:
    expect_colour(COLOUR[name], tmp_path)


@pytest.mark.parametrize(("choice", "statistics"), [("imagenet", mae.IMAGENET), ("chest", mae.NIH)])
def test_the_files_normalisation_can_be_chosen(choice: str, statistics: tuple, tmp_path: Path) -> None:
    """M 6.2: medical_mae used both; the grey fold is exact for either."""
    path, state = COLOUR["medical_mae"].put(tmp_path)
    out = tmp_path / "out.safetensors"
    assert main(["weights", "import", str(path), "--layout", "mae", "--normalization", choice, "--out", str(out)]) == 0
    encoder, header = load_encoder(out)
    grey = draw_pixels(TINY_MAE)
    found = encode(encoder, (grey[None] - header["mean"]) / header["std"])
    expect_equal(found, mae.encode_slowly(state, mae.normalise_channels(grey, statistics), TINY_MAE.head_width))


@pytest.mark.parametrize("name", ["medical_mae", "crossmae weighted", "timm plain"])
def test_files_without_a_view_table_treat_all_views_alike(name: str, tmp_path: Path) -> None:
    path, _ = FILES[name].put(tmp_path)
    encoder, _ = import_encoder(path, FILES[name].layout)
    pixels = draw_pixels(TINY_MAE)[None]
    frontal, _ = encode(encoder, pixels, 0)
    lateral, _ = encode(encoder, pixels, 1)
    assert np.array_equal(frontal, lateral)


@pytest.mark.parametrize("name", COLOUR)
def test_every_block_of_mae_arrives_bit_for_bit_under_its_name(name: str, tmp_path: Path) -> None:
    path, state = COLOUR[name].put(tmp_path)
    encoder, _ = import_encoder(path, COLOUR[name].layout)
    found = encoder.state_dict()
    kept = {key: value for key, value in state.items() if key.startswith(("blocks.", "norm."))}
    assert all(torch.equal(found[key], value) for key, value in kept.items())
    assert torch.equal(found["pos_embed"], state["pos_embed"][:, 1:])
    assert torch.equal(found["cls_token"], state["cls_token"] + state["pos_embed"][:, :1])
    made = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"}
    assert set(found) - set(kept) <= made


def test_half_a_norm_is_no_norm_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """CrossMAE's weighted files have no norm of the encoder; one without its bias is damaged."""
    for written in (COLOUR["crossmae with norm"], COLOUR["mae full"]):
        state = written.draw()
        del state["norm.bias"]
        path, _ = written.put(tmp_path, state)
        expect_refusal(path, written.layout, capsys, "norm.bias")


def test_maes_norm_is_never_optional(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    state = {name: value for name, value in mae.draw_mae(TINY_MAE).items() if not name.startswith("norm.")}
    path, _ = COLOUR["mae encoder"].put(tmp_path, state)
    expect_refusal(path, "mae", capsys, "norm.weight")


def test_the_information_on_an_imported_file_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, _ = COLOUR["medical_mae"].put(tmp_path)
    out = tmp_path / "out.safetensors"
    command = ["weights", "import", str(path), "--layout", "mae", "--licence", "CC-BY-NC 4.0", "--out", str(out)]
    assert main(command) == 0
    capsys.readouterr()
    assert main(["weights", "info", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "CC-BY-NC 4.0" in printed
    assert str(TINY_MAE.width) in printed
