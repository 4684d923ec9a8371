"""MVMAE's files: what the imported encoder computes (M 6, M 8-12), and the names it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch._utils
from layouts import mvmae
from layouts.sizes import TINY, Sizes
from layouts.written import (
    MVMAE,
    draw_pixels,
    encode,
    expect_equal,
    import_encoder,
)
from safetensors import safe_open


@pytest.mark.parametrize(("name", "view_kind"), [("with text", 1), ("with text", 2), *((name, 0) for name in MVMAE)])
def test_mvmae_files_compute_what_the_specification_says(name: str, view_kind: int, tmp_path: Path) -> None:
    path, state = MVMAE[name].put(tmp_path)
    encoder, header = import_encoder(path, "mvmae")
    pixels = (draw_pixels(TINY)[None] - mvmae.MEAN) / mvmae.STD
    wanted = mvmae.encode_slowly(state, pixels, view_kind, TINY.head_width, MVMAE[name].prefix)
    expect_equal(encode(encoder, pixels, view_kind), wanted)
    assert (header["mean"], header["std"]) == (mvmae.MEAN, mvmae.STD)
    # 1e-6 and 1e-5 differ by less than the tolerance above where tokens are large.
    assert encoder.config.final_norm_eps == mvmae.FINAL_EPS
    assert (encoder.config.qk_norm, encoder.config.view_embedding, encoder.config.heads) == (True, True, 3)


def rename_mvmae(name: str) -> str:
    for there, here in {
        "transformer.": "blocks.",
        "layer_norm.": "norm.",
        "patchify.": "patch_embed.proj.",
        "pos_embedding": "pos_embed",
        "mod_embedding": "view_embed",
    }.items():
        name = name.replace(there, here)
    return name


def test_every_tensor_of_mvmae_arrives_bit_for_bit_under_its_name(tmp_path: Path) -> None:
    path, state = MVMAE["with text"].put(tmp_path)
    encoder, _ = import_encoder(path, "mvmae")
    wanted = {
        rename_mvmae(name.removeprefix(mvmae.ENCODER)): value
        for name, value in state.items()
        if name.startswith(mvmae.ENCODER)
    }
    wanted["pos_embed"] = wanted["pos_embed"].transpose(0, 1)
    with safe_open(tmp_path / "imported.safetensors", framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    assert found.keys() == wanted.keys() == encoder.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_the_size_is_read_off_the_tensors(tmp_path: Path) -> None:
    """M 2.2, MVMAE's "tiny"; the file holds one zero for each tensor, the output all of them."""
    tiny = Sizes(192, 12, 64)
    shapes = mvmae.list_encoder_shapes(tiny).items()
    state = {f"{mvmae.ENCODER}{name}": torch.zeros(1).expand(shape) for name, shape in shapes}
    torch.save({"state_dict": state}, tmp_path / "tiny.ckpt")
    config = import_encoder(tmp_path / "tiny.ckpt", "mvmae")[0].config
    assert (config.width, config.depth, config.heads, config.patch_size, config.image_size) == (192, 12, 3, 16, 224)
    assert (config.mlp_ratio, config.num_view_kinds) == (4.0, 3)
