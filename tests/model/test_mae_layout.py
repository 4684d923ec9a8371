"""Our modules in the layout of public masked autoencoders (M 6.2, M 8-9): the same tensors, and what differs of them.

Ours have one grey channel where MAE has three, in what goes in and in what is predicted, and no position for the class
token in the encoder (M 6.2 adds it to the token); everything else is of the same number and shape.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from batches import make_batch
from hilum.config import EncoderConfig, SelfDecoder
from hilum.model.decoders import build_decoder
from hilum.model.encoder import Encoder
from hilum.model.masking import draw_masks, put_patches
from hilum.objective.objective import build_objective
from hilum.recipes import build_recipe

LAYOUT = EncoderConfig(qk_norm=False, view_embedding=False)
BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
PATCH = 16 * 16


def count_values(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def list_pairs(*layers: str) -> set[str]:
    return {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}


def test_the_encoder_has_maes_150_tensors() -> None:
    with torch.device("meta"):
        encoder = Encoder(LAYOUT)
    blocks = [f"blocks.{i}.{layer}" for i in range(12) for layer in BLOCK]
    names = {name for name, _ in encoder.named_parameters()}
    assert names == {"cls_token", "pos_embed"} | list_pairs("patch_embed.proj", "norm", *blocks)
    assert len(names) == 150
    two_more_channels, class_position = 2 * PATCH * 768, 768
    assert count_values(encoder) + two_more_channels + class_position == 85_798_656


def test_stage_one_of_pacx_mae_has_the_published_sizes() -> None:
    """P 12-1: three channels and waves as positions, the class token's row of zeros among them."""
    for preset in ("paper", "code"):
        config = build_recipe("mae", preset, "base")
        with torch.device("meta"):
            objective = build_objective(config)
        decoder = objective.terms["reconstruction"].decoder
        assert count_values(objective.encoder) == 85_798_656
        assert count_values(decoder) == 26_109_184
        assert [name for name, value in objective.named_parameters() if not value.requires_grad] == [
            "encoder.pos_embed", "terms.reconstruction.decoder.pos_embed",
        ]  # fmt: skip
    # One grey channel computes the same functions with so many weights fewer.
    with torch.device("meta"):
        grey = build_objective(build_recipe("mae", "hilum", "base"))
    assert count_values(grey.encoder) == 85_798_656 - 2 * PATCH * 768
    assert count_values(grey.terms["reconstruction"].decoder) == 26_109_184 - 2 * PATCH * (512 + 1)


@pytest.mark.parametrize(("preset", "kept"), [("paper", 19), ("code", 49), ("hilum", 49)])
def test_the_configured_mask_ratio_reaches_the_encoder(preset, kept: int) -> None:
    """P 12-3: the released code stores 0.90 and computes with 0.75. Tokens are counted where blocks see them."""
    config = build_recipe("mae", preset, "nano")
    torch.manual_seed(0)
    objective = build_objective(config)
    seen = []
    objective.encoder.blocks[0].register_forward_hook(lambda block, args, out: seen.append(args[0].shape[1] - 1))
    batch = make_batch([1, 1], size=224)
    encoder, mask = config.encoder, config.mask
    drawn = draw_masks(batch, num_patches=encoder.num_patches, ratio=mask.ratio, sharing=mask.sharing, seed=0)
    sums = objective(batch, drawn)["reconstruction"]
    assert seen == [kept]
    # P 12-4: the error is that of masked patches. With other pixels where patches are visible it is the same number.
    passes = objective.encode(batch, drawn)
    noise = torch.randn(2, kept, PATCH)
    other = replace(batch, pixels=put_patches(batch.pixels, drawn.visible, noise))
    torch.testing.assert_close(
        objective.measure(passes, drawn, other)["reconstruction"]["loss"].value, sums["loss"].value
    )
    other = replace(batch, pixels=put_patches(batch.pixels, drawn.masked, torch.randn(2, 196 - kept, PATCH)))
    changed = objective.measure(passes, drawn, other)["reconstruction"]["loss"].value
    assert not torch.isclose(changed, sums["loss"].value, rtol=1e-4)


def test_three_channels_of_the_same_grey_are_timms_vit_of_three_channels() -> None:
    torch.manual_seed(0)
    config = EncoderConfig(
        image_size=32, patch_size=8, width=24, depth=2, heads=3, qk_norm=False, view_embedding=False,
        channels=3, positions="fixed",
    )  # fmt: skip
    encoder = Encoder(config)
    vit = timm.models.VisionTransformer(
        img_size=32, patch_size=8, in_chans=3, num_classes=0, embed_dim=24, depth=2, num_heads=3, global_pool=""
    )
    vit.load_state_dict(encoder.state_dict())
    batch = make_batch([2, 1])
    with torch.no_grad():
        tokens = encoder.encode(batch.pixels, batch.view_kind).tokens
        torch.testing.assert_close(tokens, vit.forward_features(batch.pixels.expand(-1, 3, -1, -1)))
    assert torch.equal(encoder.pos_embed[0, 0], torch.zeros(24))
    decoder = build_decoder(SelfDecoder(width=16, depth=1, heads=2), config)
    assert decoder.head.out_features == 3 * 64


def test_with_its_decoder_there_are_254_tensors() -> None:
    with torch.device("meta"):
        encoder = Encoder(LAYOUT)
        decoder = build_decoder(SelfDecoder(width=512, depth=8, heads=16), LAYOUT)
    blocks = [f"blocks.{i}.{layer}" for i in range(8) for layer in BLOCK]
    names = {name for name, _ in decoder.named_parameters()}
    assert names == {"mask_token", "pos_embed"} | list_pairs("embed", "norm", "head", *blocks)
    assert len(names) + 150 == 254
    assert decoder.pos_embed.shape == (1, 197, 512)
    two_more_channels_in, class_position, two_more_channels_out = 2 * PATCH * 768, 768, 2 * PATCH * (512 + 1)
    ours = count_values(encoder) + count_values(decoder)
    assert ours + two_more_channels_in + class_position + two_more_channels_out == 111_907_840
