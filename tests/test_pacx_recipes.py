"""Every field of the presets of `mae` and `pacx`, and the part of the specification it is from (P: see DESIGN.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hilum.config import dump_config
from hilum.recipes import ENCODER_SIZES, MAE_DECODER_SIZES, Preset, build_recipe
from hilum.training.effects import check_effects
from test_recipes import NONE, PRESETS, TABLE, flatten

GREY = "P 1.1: grey three times; hilum: once, which computes the same functions"
PLAIN = "P 1.1: a plain masked autoencoder's encoder"

# Recipe mae, size base: paper, code, hilum, source. What is not here is a default that the specification is silent on,
# and as in recipe mvmae of preset hilum.
MAE: dict[str, tuple[Any, Any, Any, str]] = {
    "recipe": ("mae", "mae", "mae", "P 1.1"),
    "data.views_per_step": (512, 512, 256, "P 1.1: 256 on each of two devices; hilum: its own"),
    "data.multi_view_floor": (0.0, 0.0, 0.0, "P 1.1: single images"),
    "data.crop.min_aspect": (3 / 4, 3 / 4, 1.0, "P 1.1: random resized crop's default; hilum: squares"),
    "data.crop.max_aspect": (4 / 3, 4 / 3, 1.0, "P 1.1"),
    "data.evaluation_crop": ("squash", "squash", "auto", "P 1.1: squash-resize in validation"),
    "data.augment.flip_probability": (0.5, 0.5, 0.0, "P 1.1; hilum: left and right stay"),
    "data.augment.jitter_probability": (0.0, 0.0, 0.0, "P 1.1: none"),
    "encoder.channels": (3, 3, 1, GREY),
    "encoder.qk_norm": (False, False, False, PLAIN),
    "encoder.view_embedding": (False, False, False, PLAIN),
    "encoder.positions": ("fixed", "fixed", "fixed", PLAIN),
    "encoder.final_norm_eps": (1e-6, 1e-6, 1e-6, "P 1.1"),
    "mask.ratio": (0.90, 0.75, 0.75, "P 1.1, critical divergence; P 7"),
    "terms.reconstruction.decoder.kind": ("self", "self", "self", "P 1.1"),
    "terms.reconstruction.decoder.width": (512, 512, 512, "P 1.1"),
    "terms.reconstruction.decoder.depth": (8, 8, 8, "P 1.1"),
    "terms.reconstruction.decoder.heads": (16, 16, 16, "P 1.1"),
    "terms.reconstruction.decoder.shared_view_table": (False, False, False, "P 1.1: no views"),
    "terms.reconstruction.decoder.predict": (NONE, NONE, NONE, "P 1.1: all masked patches"),
    "terms.reconstruction.decoder.other_views": (NONE, NONE, NONE, "P 1.1"),
    "terms.reconstruction.normalize_patches": (False, False, True, "P 1.1: off; hilum: as its other recipes"),
    "optim.decay_tokens": (True, True, False, "P 1.1: by shape, tokens too; hilum: as its other recipes"),
    "optim.epochs": (400.0, 400.0, 800.0, "P 1.1; hilum: as its other recipes"),
    "optim.warmup": (0.025, 0.025, 0.05, "P 1.1: 10 of 400"),
    "optim.warmup_start": (0.1, 0.1, 0.0, "P 1.1: from a tenth"),
    "optim.per_epoch": (True, True, False, "P 1.1"),
    "optim.clip_norm": (None, None, 1.0, "P 1.1: none"),
}  # fmt: skip

# Recipe pacx, size base: paper, code, hilum, source
PACX: dict[str, tuple[Any, Any, Any, str]] = {
    "recipe": ("pacx", "pacx", "pacx", "P 2"),
    "data.views_per_step": (500, 500, 256, "P 2.5: the run whose name survives; hilum: its own"),
    "data.max_views": (1, 1, None, "P 4.1: one image a row; hilum: all views of a study"),
    "data.multi_view_floor": (0.0, 0.0, 0.0, "P 2"),
    "data.crop.min_scale": (0.75, 0.75, 0.75, "P 2.6"),
    "data.crop.min_aspect": (0.85, 0.85, 0.85, "P 2.6"),
    "data.crop.max_aspect": (1.15, 1.15, 1.15, "P 2.6"),
    "data.evaluation_crop": ("squash", "squash", "auto", "P 2.6: squash-resize in validation"),
    "data.augment.flip_probability": (0.0, 0.0, 0.0, "P 2.6: none here"),
    "data.augment.jitter_probability": (0.3, 0.3, 0.3, "P 2.6"),
    "data.augment.brightness": (0.2, 0.2, 0.2, "P 2.6"),
    "data.augment.contrast": (0.2, 0.2, 0.2, "P 2.6"),
    "data.augment.affine_probability": (0.6, 0.6, 0.6, "P 2.6"),
    "data.augment.rotation": (10.0, 10.0, 10.0, "P 2.6"),
    "data.augment.shift": (0.1, 0.1, 0.1, "P 2.6"),
    "data.augment.zoom": (0.1, 0.1, 0.1, "P 2.6"),
    "data.augment.blur_probability": (0.15, 0.15, 0.15, "P 2.6"),
    "data.augment.min_blur": (0.1, 0.1, 0.1, "P 2.6"),
    "data.augment.max_blur": (2.0, 2.0, 2.0, "P 2.6"),
    "data.augment.erase_probability": (0.25, 0.25, 0.25, "P 2.6"),
    "data.augment.min_erased": (0.02, 0.02, 0.02, "P 2.6"),
    "data.augment.max_erased": (0.1, 0.1, 0.1, "P 2.6"),
    **{name: row for name, row in MAE.items() if name.startswith("encoder.")},
    "encoder.block_norm_eps": (1e-6, 1e-5, 1e-6, "P 7: from the checkpoint; 1e-5 from stage 2 on in the code"),
    "encoder.final_norm_eps": (1e-6, 1e-5, 1e-6, "P 7"),
    "adapter": (NONE, NONE, NONE, "there is one"),
    "adapter.rank": (8, 8, 8, "P 2.1"),
    "adapter.alpha": (16.0, 16.0, 16.0, "P 2.1"),
    "adapter.dropout": (0.1, 0.1, 0.1, "P 2.1"),
    "adapter.targets": (["qkv", "fc1", "fc2"], ["qkv", "fc1", "fc2"], ["qkv", "fc1", "fc2"], "P 2.1"),
    "adapter.train_norms": ("all", "final", "all", "P 2.1; P 7: claimed, and what the code's name filter finds"),
    "adapter.any_norm_eps": (False, True, False, "P 7"),
    "teachers.scaling": ("raw", "raw", "whitened", "P 7"),
    "terms.contrast.kind": ("teacher_contrast", "teacher_contrast", "teacher_contrast", "P 2.3"),
    "terms.contrast.teachers": ([], [], [], "all that --teachers names"),
    "terms.contrast.feature": ("class", "class", "both", "P 7"),
    "terms.contrast.width": (256, 256, 256, "P 2.2"),
    "terms.contrast.dropout": (0.2, 0.2, 0.2, "P 2.2"),
    "terms.contrast.label_smoothing": (0.02, 0.02, 0.02, "P 2.3"),
    "terms.contrast.temperature": (0.07, 0.07, 0.07, "P 2.3"),
    "terms.contrast.temperatures": ("shared", "shared", "own", "P 7"),
    "terms.contrast.same_patient": ("negative", "negative", "masked", "P 7"),
    "terms.contrast.weight.value": (0.5, 0.5, 0.5, "P 2.3, command-line defaults"),
    "terms.contrast.reads": ("whole", "whole", "whole", "P 2.6: whole images"),
    "terms.contrast.weight.ramp": ("constant", "constant", "constant", "P 2.3"),
    "terms.contrast.weight.gradient_ratio": (None, None, None, "P 2.3"),
    "terms.regression.kind": ("teacher_regression", "teacher_regression", "teacher_regression", "P 2.3"),
    "terms.regression.teachers": ([], [], [], "all that --teachers names"),
    "terms.regression.feature": ("class", "class", "both", "P 7"),
    "terms.regression.dropout": (0.2, 0.2, 0.2, "P 2.2"),
    "terms.regression.reads": ("whole", "whole", "whole", "P 2.6: whole images"),
    "terms.regression.weight.value": (1.0, 1.0, 1.0, "P 2.3, command-line defaults"),
    "terms.regression.weight.ramp": ("constant", "constant", "constant", "P 2.3"),
    "terms.regression.weight.gradient_ratio": (None, None, None, "P 2.3"),
    "optim.lr": (1e-4, 1e-4, 1e-4, "P 2.5"),
    "optim.weight_decay": (0.05, 0.05, 0.05, "P 2.5"),
    "optim.decay_everything": (True, True, False, "P 2.5; P 7: the temperature does not decay"),
    "optim.betas": ([0.9, 0.999], [0.9, 0.999], [0.9, 0.999], "P 2.5"),
    "optim.epochs": (50.0, 50.0, 50.0, "P 2.5"),
    "optim.warmup": (0.1, 0.1, 0.1, "P 2.5: 5 of 50"),
    "optim.warmup_start": (0.1, 0.1, 0.1, "P 2.5 is silent: as stage 1"),
    "optim.floor": (0.01, 0.01, 0.01, "P 2.5"),
    "optim.per_epoch": (True, True, False, "P 2.5"),
    "optim.clip_norm": (1.0, 1.0, 1.0, "P 2.5"),
}  # fmt: skip


@pytest.mark.parametrize(("recipe", "own"), [("mae", MAE), ("pacx", PACX)])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_what_the_specification_says(recipe: str, own: dict, preset: Preset) -> None:
    column = PRESETS.index(preset)
    prefix = "terms.alignment" if recipe == "mae" else "terms."
    silent = {name: row[2] for name, row in TABLE.items() if not name.startswith(prefix)}
    expected = silent | {name: row[column] for name, row in own.items()} | {"preset": preset}
    found = flatten(json.loads(dump_config(build_recipe(recipe, preset, "base"))))
    found = {name: value for name, value in found.items() if not name.startswith("run.")}
    assert found == {name: value for name, value in expected.items() if value != NONE}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", ENCODER_SIZES)
def test_a_size_is_its_networks(preset: Preset, size) -> None:
    for recipe in ("mae", "pacx"):
        config = build_recipe(recipe, preset, size)
        check_effects(config)
        encoder = config.encoder
        assert (encoder.width, encoder.depth, encoder.heads) == ENCODER_SIZES[size]
    decoder = build_recipe("mae", preset, size).terms["reconstruction"].decoder
    assert (decoder.width, decoder.depth, decoder.heads) == MAE_DECODER_SIZES[size]
    # What stage 1 leaves is what stage 2 starts from.
    stage_one, stage_two = (build_recipe(recipe, preset, size).encoder for recipe in ("mae", "pacx"))
    differing = {name for name in vars(stage_one) if getattr(stage_one, name) != getattr(stage_two, name)}
    assert differing == ({"block_norm_eps", "final_norm_eps"} if preset == "code" else set())


@pytest.mark.parametrize("preset", PRESETS)
def test_beside_views_and_reports_teachers_have_their_terms_and_read_whole_views(preset: Preset) -> None:
    mixed, views, taught = (build_recipe(name, preset, "nano") for name in ("mvmae_v2t_pacx", "mvmae_v2t", "pacx"))
    assert mixed.terms == {**views.terms, **taught.terms}
    assert {mixed.terms[name].reads for name in taught.terms} == {"whole"}
    assert mixed.teachers == taught.teachers
