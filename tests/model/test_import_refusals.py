"""Files of any layout that do not fit are refused by name, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch._utils
from layouts import mvmae
from layouts.written import (
    FILES,
    Written,
    expect_refusal,
    one_each,
    run_import,
)

# What is taken out of a file, and what the refusal may call it: the file's name for it or Hilum's. The command is what
# is tried here; that every tensor is missed is in test_import_layouts.py.
ABSENT = {
    "with text": [
        *((f"{mvmae.ENCODER}transformer.{part}", (part,)) for part in ("0.norm1.bias", "1.attn.q_norm.weight")),
        (f"{mvmae.ENCODER}cls_token", ("cls_token",)),
        (f"{mvmae.ENCODER}pos_embedding", ("pos_embed",)),
        (f"{mvmae.ENCODER}mod_embedding", ("mod_embedding", "view_embed")),
        (f"{mvmae.ENCODER}patchify.bias", ("patchify.bias", "patch_embed.proj.bias")),
        (f"{mvmae.ENCODER}layer_norm.weight", ("norm.weight",)),
    ],
    **{
        name: [
            ("blocks.1.attn.proj.weight", ("1.attn.proj.weight",)),
            *((part, (part,)) for part in ("pos_embed", "patch_embed.proj.weight")),
        ]
        for name in ("medical_mae", "crossmae weighted", "timm plain")
    },
}


@pytest.mark.parametrize(
    ("name", "tensor", "called"), [(name, *pair) for name, pairs in ABSENT.items() for pair in pairs]
)
def test_a_missing_tensor_is_named(
    name: str, tensor: str, called: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    state = FILES[name].draw()
    del state[tensor]
    path, _ = FILES[name].put(tmp_path, state)
    expect_refusal(path, FILES[name].layout, capsys, called)


@one_each
def test_a_missing_block_is_no_shallower_model(written: Written, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Depth is read off the tensors: a gap among the blocks is not a depth."""
    block = written.prefix + ("transformer.0." if written.layout == "mvmae" else "blocks.0.")
    state = {name: value for name, value in written.draw().items() if not name.startswith(block)}
    path, _ = written.put(tmp_path, state)
    expect_refusal(path, written.layout, capsys, "0.attn.qkv.weight")


@pytest.mark.parametrize("extra", ["surprise.weight", "blocks.0.ls1.weight", "reg_token"])
@one_each
def test_an_unknown_tensor_is_named(
    written: Written, extra: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A tensor that nobody knows may be a part of the function, as registers are."""
    name = written.prefix + (extra.replace("blocks", "transformer") if written.layout == "mvmae" else extra)
    path, _ = written.put(tmp_path, written.draw() | {name: torch.ones(4)})
    expect_refusal(path, written.layout, capsys, extra.removeprefix("blocks."))


# Shapes that no model of the layout has, by file and tensor, and what the refusal must say of them.
MISSHAPEN: dict[tuple[str, str], tuple[tuple[int, ...], str | tuple[str, ...]]] = {
    ("with text", f"{mvmae.ENCODER}transformer.1.attn.proj.weight"): ((48, 47), "1.attn.proj.weight"),
    ("with text", f"{mvmae.ENCODER}transformer.0.attn.k_norm.weight"): ((12,), "0.attn.k_norm.weight"),
    ("with text", f"{mvmae.ENCODER}pos_embedding"): ((15, 1, 48), "15 positions"),  # no square
    ("with text", f"{mvmae.ENCODER}mod_embedding"): ((25, 48), ("mod_embedding", "view_kinds")),  # policy `all`, M 1.1
    ("medical_mae", "blocks.1.attn.qkv.bias"): ((128,), "1.attn.qkv.bias"),
    ("medical_mae", "pos_embed"): ((1, 18, 128), "18 positions"),
    ("medical_mae", "patch_embed.proj.weight"): ((128, 2, 8, 8), "2 channels"),
    ("medical_mae", "cls_token"): ((1, 1, 64), "cls_token"),
    ("crossmae weighted", "blocks.0.mlp.fc2.weight"): ((128, 500), "0.mlp.fc2.weight"),
    ("timm plain", "patch_embed.proj.weight"): ((128, 3, 8, 6), "8x6"),
    ("timm plain", "norm.weight"): ((2, 64), "norm.weight"),
}


@pytest.mark.parametrize(("name", "tensor"), MISSHAPEN)
def test_a_tensor_of_another_shape_is_named(
    name: str, tensor: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shape, called = MISSHAPEN[name, tensor]
    path, _ = FILES[name].put(tmp_path, FILES[name].draw() | {tensor: torch.zeros(shape)})
    expect_refusal(path, FILES[name].layout, capsys, called)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        *(("with text", layout) for layout in ("mae", "crossmae", "timm")),
        *((name, "mvmae") for name in ("medical_mae", "crossmae weighted", "timm plain")),
        ("crossmae weighted", "mae"),
        ("crossmae weighted", "timm"),
    ],
)
def test_a_file_of_another_layout_is_refused(
    name: str, layout: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Where names tell them apart: bare encoders of MAE, of CrossMAE with its norm and of timm have the same."""
    path, _ = FILES[name].put(tmp_path)
    expect_refusal(path, layout, capsys)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@one_each
def test_a_truncated_file_is_refused(
    written: Written, share: float, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, _ = written.put(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    expect_refusal(path, written.layout, capsys)


@pytest.mark.parametrize("layout", ["mvmae", "mae", "crossmae", "timm"])
def test_files_that_are_no_weights_are_refused(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "text.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    expect_refusal(tmp_path / "text.pth", layout, capsys)
    expect_refusal(tmp_path / "absent.pth", layout, capsys)
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    expect_refusal(tmp_path / "tensor.pth", layout, capsys)
    torch.save({"model": {"cls_token": "not a tensor"}, "state_dict": [1, 2]}, tmp_path / "odd.pth")
    expect_refusal(tmp_path / "odd.pth", layout, capsys)
    (tmp_path / "folder.pth").mkdir()
    expect_refusal(tmp_path / "folder.pth", layout, capsys)


@one_each
def test_an_existing_output_survives_a_refusal(written: Written, tmp_path: Path) -> None:
    path, _ = written.put(tmp_path)
    out = tmp_path / "out.safetensors"
    assert run_import(path, written.layout, out) == 0
    before = out.read_bytes()
    path.write_bytes(path.read_bytes()[:1000])
    assert run_import(path, written.layout, out) == 2
    assert out.read_bytes() == before
