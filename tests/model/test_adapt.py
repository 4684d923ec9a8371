"""Low-rank updates of a frozen encoder: published sizes, what is trained, and that merging changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from torch import nn

from batches import make_batch
from hilum.config import EncoderConfig, LowRankAdapter, TeacherTable
from hilum.model.adapt import add_adapter, count_trained, list_own_tensors, merge_adapter
from hilum.model.encoder import Encoder
from hilum.model.weights import load_encoder, save_encoder
from hilum.objective.objective import build_objective
from hilum.recipes import build_recipe

TINY = EncoderConfig(
    image_size=32, patch_size=8, width=24, depth=2, heads=3, qk_norm=False, view_embedding=False, channels=3,
    positions="fixed",
)  # fmt: skip
TABLES = {"ecg": TeacherTable("ecg.npz", "0", 1024), "labs": TeacherTable("labs.npz", "1", 256)}


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("train_norms", "trained"), [("none", 1_032_192), ("final", 1_032_192 + 1_536), ("all", 1_070_592)]
)
def test_trained_parameters_of_a_base_encoder(train_norms, trained: int) -> None:
    """P 12-2, of 25 LayerNorms at the most."""
    with torch.device("meta"):
        encoder = Encoder(build_recipe("pacx", "code", "base").encoder)
        assert count(encoder) == 85_798_656
        add_adapter(encoder, LowRankAdapter(train_norms=train_norms))
    assert count_trained(encoder) == trained
    assert count(encoder) == 85_798_656 + 1_032_192


def test_trained_parameters_of_stage_two() -> None:
    """P 12-1 and 12-2: five heads, one temperature and the encoder's share are 2,547,201."""
    config = build_recipe("pacx", "code", "base")
    config = replace(config, teachers=replace(config.teachers, tables=TABLES))
    with torch.device("meta"):
        objective = build_objective(config)
    contrast, regression = objective.terms["contrast"], objective.terms["regression"]
    assert count(contrast.student_head) == 197_376
    assert {name: count(head) for name, head in contrast.teacher_heads.items()} == {
        "from_ecg": 262_912, "from_labs": 66_304,
    }  # fmt: skip
    assert {name: count(head) for name, head in regression.heads.items()} == {"to_ecg": 789_504, "to_labs": 197_376}
    assert count_trained(objective) == 2_547_201
    assert contrast.log_scale.numel() == 1
    own = build_recipe("pacx", "hilum", "base")
    with torch.device("meta"):
        objective = build_objective(replace(own, teachers=replace(own.teachers, tables=TABLES)))
    assert objective.terms["contrast"].log_scale.numel() == 2
    assert count_trained(objective.encoder) == 1_070_592


def test_heads_begin_as_the_published_ones() -> None:
    config = build_recipe("pacx", "code", "small")
    torch.manual_seed(0)
    objective = build_objective(replace(config, teachers=replace(config.teachers, tables=TABLES)))
    dropout, linear, norm = objective.terms["regression"].heads["to_ecg"]
    assert (dropout.p, linear.in_features, linear.out_features) == (0.2, 384, 1024)
    assert linear.weight.detach().std().item() == pytest.approx(0.02, rel=0.02)
    assert linear.weight.detach().abs().max().item() <= 2.0
    assert linear.bias.detach().abs().max().item() == 0
    assert isinstance(norm, nn.LayerNorm)


def adapt(config: LowRankAdapter, moved: bool = True) -> tuple[Encoder, Encoder]:
    """An encoder, and the same with updates that have learned something, if `moved`."""
    torch.manual_seed(0)
    plain, adapted = Encoder(TINY), Encoder(TINY)
    adapted.load_state_dict(plain.state_dict())
    add_adapter(adapted, config)
    if moved:
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    return plain, adapted.eval()


def test_updates_start_at_nothing_and_touch_the_chosen_layers_only() -> None:
    batch = make_batch([2])
    plain, adapted = adapt(LowRankAdapter(), moved=False)
    with torch.no_grad():
        tokens = [encoder.encode(batch.pixels, batch.view_kind).tokens for encoder in (plain, adapted)]
    assert torch.equal(*tokens)
    updated = {name.rsplit(".lora_", 1)[0] for name, _ in adapted.named_parameters() if "lora_" in name}
    layers = ("attn.qkv", "mlp.fc1", "mlp.fc2")
    assert updated == {f"blocks.{block}.{layer}" for block in (0, 1) for layer in layers}
    trained = {name for name, value in adapted.named_parameters() if value.requires_grad and "lora_" not in name}
    assert trained == {"norm.weight", "norm.bias"}
    _, more = adapt(LowRankAdapter(targets=("proj",), train_norms="none"), moved=False)
    assert {name.split(".lora_")[0] for name, value in more.named_parameters() if value.requires_grad} == {
        "blocks.0.attn.proj", "blocks.1.attn.proj",  # and not patch_embed.proj
    }  # fmt: skip


def test_a_step_moves_updates_and_norms_and_nothing_else() -> None:
    plain, adapted = adapt(LowRankAdapter(train_norms="all"), moved=False)
    batch = make_batch([2])
    optimizer = torch.optim.SGD([value for value in adapted.parameters() if value.requires_grad], lr=1.0)
    for _ in range(2):  # the first moves one half of an update, which is 0 until then, the second both
        adapted.encode(batch.pixels, batch.view_kind).tokens.sin().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    before = plain.state_dict()
    after = {name.replace(".base_layer", ""): value for name, value in adapted.state_dict().items()}
    assert set(before) == {name.replace(".base_layer", "") for name in list_own_tensors(adapted)}
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed == {name for name in before if "norm" in name}
    assert all(bool(value.abs().sum() > 0) for name, value in after.items() if "lora_B" in name)


def test_merged_computes_what_unmerged_does_and_is_a_plain_encoder(tmp_path: Path) -> None:
    """P 12-5."""
    plain, adapted = adapt(LowRankAdapter(train_norms="all"))
    merged, batch = merge_adapter(adapted), make_batch([2, 1])
    with torch.no_grad():
        before, unmerged, together = (
            encoder.encode(batch.pixels, batch.view_kind).tokens for encoder in (plain, adapted, merged)
        )
    torch.testing.assert_close(together, unmerged, atol=1e-5, rtol=0)
    assert float((before - unmerged).abs().max()) > 0.1  # there was something to merge
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert type(merged.blocks[0].attn.qkv) is nn.Linear
    assert merge_adapter(merged) is merged
    # Unmerged is as it was: a run goes on with it.
    with torch.no_grad():
        assert torch.equal(adapted.encode(batch.pixels, batch.view_kind).tokens, unmerged)
    save_encoder(merged, tmp_path / "w.safetensors", {"mean": 0.5, "std": 0.25})
    loaded, _ = load_encoder(tmp_path / "w.safetensors")
    vit = timm.models.VisionTransformer(
        img_size=32, patch_size=8, num_classes=0, embed_dim=24, depth=2, num_heads=3, global_pool=""
    )
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        vit.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        header = json.loads(file.metadata()["hilum"])
    assert set(header) == {"format", "encoder", "mean", "std", "sha256"}
    with torch.no_grad():
        shown = vit.forward_features(batch.pixels.expand(-1, 3, -1, -1))
        torch.testing.assert_close(shown, loaded.encode(batch.pixels, batch.view_kind).tokens, atol=1e-5, rtol=1e-4)


def test_epsilons_of_norms_are_those_of_the_settings() -> None:
    """P 12-5: 1e-6 throughout, but for the released code's second stage."""
    for recipe, preset, expected in (
        ("mae", "paper", {1e-6}), ("mae", "code", {1e-6}), ("pacx", "paper", {1e-6}), ("pacx", "code", {1e-5}),
        ("pacx", "hilum", {1e-6}),
    ):  # fmt: skip
        with torch.device("meta"):
            encoder = Encoder(build_recipe(recipe, preset, "tiny").encoder)
        assert {module.eps for module in encoder.modules() if isinstance(module, nn.LayerNorm)} == expected
