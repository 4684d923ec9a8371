"""Published layouts against timm's own forward pass with the same weights, and what a state dict must hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from timm_vits import build_vit, show_grey
from torch import Tensor

from hilum.errors import UserError
from hilum.model.encoder import Encoder
from hilum.model.layouts import LAYOUTS
from hilum.model.layouts.assemble import NORMALIZATIONS, Imported, merge_class_position

IMAGENET = NORMALIZATIONS["imagenet"]


def assert_same_tokens(found: Imported, model: VisionTransformer, size: int = 32) -> None:
    """Class token and patch tokens, for grey images, to 1e-5."""
    encoder = Encoder(found.config)
    encoder.load_state_dict(found.tensors)
    pixels = torch.rand(3, 1, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.forward_features(show_grey(pixels, found.source_mean, found.source_std))
        tokens = encoder.eval().encode((pixels - found.mean) / found.std, torch.zeros(3, dtype=torch.int64)).tokens
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.1


def to_mvmae(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names -> those of M 6.1, with a table of view kinds that adds nothing."""
    names = {"patch_embed.proj.": "patchify.", "blocks.": "transformer.", "norm.": "layer_norm."}
    renamed = {"mod_embedding": torch.zeros(3, 128)}
    for name, value in state.items():
        start = next((start for start in names if name.startswith(start)), None)
        renamed[names[start] + name.removeprefix(start) if start else name.replace("pos_embed", "pos_embedding")] = (
            value
        )
    renamed["pos_embedding"] = renamed["pos_embedding"].transpose(0, 1)
    return {f"encoders.vision.{name}": value for name, value in renamed.items()}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"no_embed_class": True},
        {"qk_norm": True},
        {"in_chans": 1},
        {"embed_dim": 96, "num_heads": 3},
        {"mlp_ratio": 2.0, "depth": 3},
    ],
    ids=str,
)
def test_timm_weights_give_timms_tokens(settings: dict[str, Any]) -> None:
    model = build_vit(**settings)
    heads = 3 if "embed_dim" in settings and "qk_norm" not in settings else None
    found = LAYOUTS["timm"](model.state_dict(), heads=heads)
    assert_same_tokens(found, model)
    assert found.source_mean == (NORMALIZATIONS["chest"] if "in_chans" in settings else IMAGENET)[0]
    assert found.config.qk_norm is ("qk_norm" in settings)
    assert not found.config.view_embedding
    assert any(note.startswith("heads: ") for note in found.notes) is (heads is None and "qk_norm" not in settings)


@pytest.mark.parametrize("layout", ["mae", "crossmae"])
def test_mae_layouts_are_timms_names_beside_a_decoder(layout: str) -> None:
    model = build_vit()
    decoder = {name: torch.zeros(2) for name in ("mask_token", "decoder_pos_embed", "decoder_blocks.0.norm1.weight")}
    more = {"wfm.linear.weight": torch.zeros(2), "dec_norms.0.weight": torch.zeros(2)} if layout == "crossmae" else {}
    found = LAYOUTS[layout]({**model.state_dict(), **decoder, **more}, normalization=NORMALIZATIONS["chest"])
    assert_same_tokens(found, model)
    assert found.left_out == (*decoder, *more)
    assert len(found.matched) == len(found.tensors) == len(model.state_dict())


def test_mvmae_names_lead_to_the_same_tokens_and_its_last_norm_has_its_own_epsilon() -> None:
    model = build_vit(in_chans=1, qk_norm=True, no_embed_class=True)
    model.norm.eps = 1e-5
    state = to_mvmae(model.state_dict()) | {
        "decoders.vision.mask_token": torch.zeros(1),
        "text_decoder.x": torch.ones(1),
    }
    found = LAYOUTS["mvmae"](state)
    assert_same_tokens(found, model)
    assert (found.mean, found.std, found.config.final_norm_eps) == (0.5056, 0.252, 1e-5)
    assert found.config.view_embedding
    assert found.config.num_view_kinds == 3
    assert found.matched["blocks.1.attn.q_norm.weight"] == "encoders.vision.transformer.1.attn.q_norm.weight"
    as_classifier = {name.replace("encoders.vision.", "oe_vis_encoder."): value for name, value in state.items()}
    as_classifier["clf_head.weight"] = torch.zeros(14, 128)
    again = LAYOUTS["mvmae"](as_classifier)
    assert all(torch.equal(again.tensors[name], value) for name, value in found.tensors.items())


def test_positions_are_resized_as_timm_resizes_them() -> None:
    model = build_vit()
    found = LAYOUTS["timm"](model.state_dict(), image_size=48)
    model.set_input_size(img_size=48)
    assert found.config.image_size == 48
    assert_same_tokens(found, model, 48)
    with pytest.raises(UserError, match="--image-size 50 is not a multiple of the patch size, 8 px"):
        LAYOUTS["timm"](model.state_dict(), image_size=50)


def test_class_position_is_added_to_the_class_token() -> None:
    token, rows = torch.tensor([[[1.0, 2.0]]]), torch.arange(10.0).view(1, 5, 2)
    merged, patches = merge_class_position(token, rows)
    assert merged.tolist() == [[[1.0, 3.0]]]
    assert patches.tolist() == [[[2.0, 3.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0]]]
    assert merge_class_position(token, rows[:, :4])[0] is token
    with pytest.raises(UserError, match="3 positions are no square grid"):
        merge_class_position(token, rows[:, :3])


@pytest.mark.parametrize(
    ("layout", "sign"), [("crossmae", "wfm.linear.weight"), ("mae", "fc_norm.weight"), ("timm", "fc_norm.weight")]
)
def test_a_file_without_last_norm_gets_a_plain_one_and_says_so(layout: str, sign: str) -> None:
    model = build_vit()
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("norm.")}
    found = LAYOUTS[layout]({**state, sign: torch.zeros(128)})
    torch.nn.init.ones_(model.norm.weight)
    torch.nn.init.zeros_(model.norm.bias)
    assert_same_tokens(found, model)
    assert any("no last LayerNorm" in note for note in found.notes)
    assert "norm.weight" not in found.matched
    with pytest.raises(UserError, match=r"missing \(norm.weight, norm.bias\)"):
        LAYOUTS[layout](state)  # nothing explains why it is not there


@pytest.mark.parametrize("layout", ["timm", "mae", "crossmae", "mvmae"])
def test_each_missing_tensor_is_named_and_so_is_each_strange_one(layout: str) -> None:
    settings: dict[str, Any] = {"in_chans": 1, "qk_norm": True, "no_embed_class": True} if layout == "mvmae" else {}
    state = build_vit(**settings).state_dict()
    state = to_mvmae(state) if layout == "mvmae" else state
    for name in state:
        rest = {other: value for other, value in state.items() if other != name}
        with pytest.raises(UserError, match=rf"missing \(([^)]*, )?{name}[,)]|: {name}|^{name}, .* is missing"):
            LAYOUTS[layout](rest)
    prefix = "encoders.vision." if layout == "mvmae" else ""
    for strange in (f"{prefix}reg_token", "another.weight", f"{prefix}blocks.0.attn.gate", f"{prefix}transformer.1.x"):
        with pytest.raises(UserError, match=f"unexpected .*{strange}"):
            LAYOUTS[layout]({**state, strange: torch.zeros(2)})


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"blocks.1.mlp.fc2.weight": torch.zeros(128, 64)}, {}, "blocks.1.mlp.fc2.weight is 128x64; expected 128x512"),
        ({"norm.bias": torch.full((128,), float("nan"))}, {}, "norm.bias holds numbers that are not finite"),
        ({"pos_embed": torch.zeros(1, 19, 128)}, {}, "19 positions are no square grid"),
        ({"pos_embed": torch.zeros(17, 128)}, {}, "its positions are 17x128"),
        ({"patch_embed.proj.weight": torch.zeros(128, 2, 8, 8)}, {}, "reads 2 channels: say --mean and --std"),
        ({"patch_embed.proj.weight": torch.zeros(128, 3, 8, 4)}, {}, "its patches are 8x4 px"),
        ({}, {"heads": 3}, "--heads 3: tokens of 128 numbers do not divide"),
        ({}, {"normalization": ((0.5, 0.5), (0.2, 0.2))}, "by 2 means and 2 deviations, and its .* reads 3 channel"),
        ({}, {"normalization": ((0.5,), (0.0,))}, "deviations above 0"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Tensor], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LAYOUTS["mae"]({**build_vit().state_dict(), **change}, **settings)


def test_heads_follow_from_the_norm_of_queries_or_the_usual_sizes() -> None:
    normed = build_vit(qk_norm=True, num_heads=8).state_dict()
    assert LAYOUTS["timm"](normed).config.heads == 8
    with pytest.raises(UserError, match="make 8 heads, and --heads says 2"):
        LAYOUTS["timm"](normed, heads=2)
    huge = build_vit(embed_dim=1280, num_heads=16, depth=1).state_dict()
    assert LAYOUTS["mae"](huge).config.heads == 16
    with pytest.raises(UserError, match="do not divide into heads of 64: say --heads"):
        LAYOUTS["mae"](build_vit(embed_dim=96).state_dict())


def test_vit_b_in_maes_layout_has_its_150_tensors() -> None:
    """M 6.2, M 8-9: 85,798,656 values there, of which two channels and the class token's position go."""
    with torch.device("meta"):
        model = VisionTransformer(num_classes=0, weight_init="skip")
    state = {name: torch.zeros(value.shape) for name, value in model.state_dict().items()}
    assert len(state) == 150
    assert sum(value.numel() for value in state.values()) == 85_798_656
    found = LAYOUTS["mae"](state)
    assert (found.config.width, found.config.depth, found.config.heads, found.config.image_size) == (768, 12, 12, 224)
    assert len(found.matched) == 150
    assert sum(value.numel() for value in found.tensors.values()) == 85_798_656 - 2 * 256 * 768 - 768
