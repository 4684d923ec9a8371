"""The synthetic checkpoints and their slow references by themselves: published counts, and timm's own model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import mae, mvmae, timm_files
from layouts.foreign_project import PACKAGE
from layouts.sizes import BASE, BASE_MAE, TINY, TINY_MAE, count_values
from timm.models.vision_transformer import VisionTransformer


def draw_image(channels: int, size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, size, size))


def test_base_sizes_have_the_published_counts() -> None:
    """M 8-9."""
    counted = {
        "encoder": mvmae.list_encoder_shapes(BASE),
        "decoder": mvmae.list_decoder_shapes(BASE),
        "text": mvmae.list_text_shapes(BASE),
        "mae encoder": mae.list_encoder_shapes(BASE_MAE),
        "mae": mae.list_encoder_shapes(BASE_MAE) | mae.list_decoder_shapes(BASE_MAE),
    }
    assert {name: count_values(shapes) for name, shapes in counted.items()} == {
        "encoder": 85_410_048,
        "decoder": 28_705_280,
        "text": 70_637_568,
        "mae encoder": 85_798_656,
        "mae": 111_907_840,
    }
    tensors = {name: len(shapes) for name, shapes in counted.items() if name != "text"}
    assert tensors == {"encoder": 199, "decoder": 71, "mae encoder": 150, "mae": 254}
    assert mae.list_crossmae_shapes(BASE_MAE, weighted=True)["wfm.linear.weight"] == (8, 13)


def test_timm_has_the_names_and_shapes_of_maes_encoder() -> None:
    with torch.device("meta"):
        model = VisionTransformer(num_classes=0)
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert found == mae.list_encoder_shapes(BASE_MAE)


@pytest.mark.parametrize("variant", timm_files.VARIANTS)
def test_the_slow_reference_is_timms_model(variant: str) -> None:
    model = timm_files.build_model(TINY_MAE, variant)
    channels = timm_files.VARIANTS[variant].get("in_chans", 3)
    image = draw_image(channels, TINY_MAE.image)
    class_token, patches = mae.encode_slowly(model.state_dict(), image, TINY_MAE.head_width)
    with torch.no_grad():
        wanted = model.double().forward_features(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(class_token, wanted[0], atol=1e-9)
    np.testing.assert_allclose(patches, wanted[1:], atol=1e-9)


@pytest.mark.parametrize("view_kind", [0, 1, 2])
def test_the_slow_mvmae_is_timms_model_with_its_own_positions(view_kind: int) -> None:
    """A timm model without a class position, whose table of positions holds the view's vector too."""
    state = mvmae.draw_mvmae(TINY)
    own = {
        name.removeprefix(mvmae.ENCODER): value.double()
        for name, value in state.items()
        if name.startswith(mvmae.ENCODER)
    }
    model = VisionTransformer(
        img_size=TINY.image, patch_size=TINY.patch, in_chans=1, num_classes=0, embed_dim=TINY.width, depth=TINY.depth,
        num_heads=TINY.width // TINY.head_width, qk_norm=True, no_embed_class=True,
        norm_layer=lambda width, **where: torch.nn.LayerNorm(width, eps=1e-6, **where),
    )  # fmt: skip
    model.norm.eps = 1e-5
    places = {"transformer.": "blocks.", "layer_norm.": "norm.", "patchify.": "patch_embed.proj."}
    renamed = {name: value for name, value in own.items() if name not in ("pos_embedding", "mod_embedding")}
    for there, here in places.items():
        renamed = {name.replace(there, here): value for name, value in renamed.items()}
    renamed["pos_embed"] = own["pos_embedding"].transpose(0, 1) + own["mod_embedding"][view_kind]
    model.double().load_state_dict(renamed)
    image = draw_image(1, TINY.image)
    class_token, patches = mvmae.encode_slowly(state, image, view_kind, TINY.head_width)
    with torch.no_grad():
        wanted = model.eval().forward_features(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(class_token, wanted[0], atol=1e-9)
    np.testing.assert_allclose(patches, wanted[1:], atol=1e-9)


def test_the_order_of_tokens_changes_none_of_them() -> None:
    """M 2.1: the released code permutes tokens at evaluation too; put back, they are the same."""
    state, image = mvmae.draw_mvmae(TINY), draw_image(1, TINY.image)
    order = np.random.default_rng(3).permutation(TINY.num_patches).tolist()
    plain = mvmae.encode_slowly(state, image, 1, TINY.head_width)
    permuted = mvmae.encode_slowly(state, image, 1, TINY.head_width, order=order)
    for one, other in zip(plain, permuted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_positions_and_views_are_seen_by_the_tolerance_of_the_tests() -> None:
    """What a wrong importer could leave out moves the class token by more than the 1e-5 that is asked of it."""
    state, image = mvmae.draw_mvmae(TINY), draw_image(1, TINY.image)
    class_token, _ = mvmae.encode_slowly(state, image, 0, TINY.head_width)
    changed = {
        "positions": {f"{mvmae.ENCODER}pos_embedding": state[f"{mvmae.ENCODER}pos_embedding"].flip(0)},
        "view": {f"{mvmae.ENCODER}mod_embedding": state[f"{mvmae.ENCODER}mod_embedding"].roll(1, 0)},
    }
    for change in changed.values():
        other, _ = mvmae.encode_slowly(state | change, image, 0, TINY.head_width)
        assert np.abs(other - class_token).max() > 1e-3
    random = mae.draw_mae(TINY_MAE)
    colour = draw_image(3, TINY_MAE.image)
    with_class_row, _ = mae.encode_slowly(random, colour, TINY_MAE.head_width)
    positions = random["pos_embed"].clone()
    positions[:, 0] = 0
    without, _ = mae.encode_slowly(random | {"pos_embed": positions}, colour, TINY_MAE.head_width)
    assert np.abs(with_class_row - without).max() > 1e-3


def test_hyper_parameters_hold_objects_whose_project_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    mvmae.write_lightning(path, mvmae.draw_mvmae(TINY))
    assert not [name for name in sys.modules if name.startswith(PACKAGE)]
    with pytest.raises(ModuleNotFoundError, match=PACKAGE):
        torch.load(path, weights_only=False)


def test_medical_mae_files_are_refused_by_weights_only_because_of_their_arguments(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-799.pth"
    mae.write_medical_mae(path, mae.draw_mae(TINY_MAE))
    with pytest.raises(Exception, match=r"argparse\.Namespace"):
        torch.load(path, weights_only=True)
