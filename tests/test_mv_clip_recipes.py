"""Every field of the presets of MV-MLM's recipes, and the part of the specification it is from (L: see DESIGN.md)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from hilum.config import (
    CrossDecoder,
    EncoderConfig,
    ImageTextContrast,
    MaskConfig,
    Reconstruction,
    TextContrast,
    ViewContrast,
    dump_config,
    parse_config,
)
from hilum.errors import UserError
from hilum.objective.objective import build_objective
from hilum.recipes import CONV_SIZES, RECIPES, build_recipe
from hilum.training.effects import check_effects
from test_recipes import TABLE, flatten

RECIPE_NAMES = ("custom_clip", "mv_clip", "mv_clip_tr", "mammo_clip")
AS_MAMMO_CLIP = "L 1.1: as Mammo-CLIP"

# Recipe mv_clip_tr, size base: paper, hilum, source.
MV_CLIP_TR: dict[str, tuple[Any, Any, str]] = {
    "recipe": ("mv_clip_tr", "mv_clip_tr", "L 1.1"),
    "data.views_per_step": (36, 144, "L 1.1: 18 breasts; hilum: 72, in chunks (L 1.5)"),
    "data.breasts": (True, True, "L 0: a sample is a breast, its CC and its MLO; L 4.2"),
    "data.one_per_patient": (False, True, "not stated, so masked; L 1.5, L 6 point 8: the sampler knows the patients"),
    "data.multi_view_floor": (0.0, 0.0, "studies have four views"),
    "data.crop.mode": ("squash", "squash", "L 4.8: preprocessing has shaped the image"),
    "data.augment.jitter_probability": (0.0, 0.8, AS_MAMMO_CLIP + ": none; hilum: its own"),
    "data.augment.brightness": (0.4, 0.2, "without effect in paper"),
    "data.augment.contrast": (0.4, 0.2, "without effect in paper"),
    "data.augment.affine_probability": (1.0, 0.5, AS_MAMMO_CLIP),
    "data.augment.rotation": (20.0, 10.0, AS_MAMMO_CLIP),
    "data.augment.shift": (0.1, 0.05, AS_MAMMO_CLIP),
    "data.augment.zoom": (0.2, 0.1, AS_MAMMO_CLIP),
    "encoder.kind": ("convolution", "convolution", "L 1.1"),
    "encoder.backbone": ("resnet34", "resnet34", "L 1.1"),
    "encoder.image_height": (1520, 1520, "L 1.1"),
    "encoder.image_width": (912, 912, "L 1.1"),
    "encoder.stride": (32, 32, "L 1.2"),
    "encoder.tokenizer": ("token_linear", "token_linear", "L 1.3, reading A"),
    "encoder.num_tokens": (256, 256, "L 1.1"),
    "encoder.other_sizes": ("refuse", "refuse", "L 1.3"),
    "encoder.width": (512, 512, "L 1.1"),
    "encoder.depth": (4, 4, "L 1.1"),
    "encoder.heads": (8, 8, "L 1.1"),
    "encoder.mlp_ratio": (4.0, 4.0, "L 1.1"),
    "encoder.dropout": (0.1, 0.1, "L 1.1"),
    "encoder.positions": (True, True, "L 1.1"),
    "encoder.pooling": ("max", "max", "L 1.1"),
    "encoder.projection": (512, 512, "L 1.1"),
    "encoder.statistics": ("batch", "batch", "L 1.1 is silent: as networks are trained"),
    "encoder.chunk": (None, 8, "L 1.5: gradient caching"),
    "encoder.channels_last": (True, True, "how, not what"),
    "text_encoder.kind": ("bert", "bert", "L 1.1"),
    "text_encoder.language_model.vocabulary_size": (28996, 28996, "L 1.1: BioClinicalBERT"),
    "text_encoder.language_model.width": (768, 768, "L 1.4"),
    "text_encoder.language_model.depth": (12, 12, "L 1.1: BioClinicalBERT"),
    "text_encoder.language_model.heads": (12, 12, "L 1.1: BioClinicalBERT"),
    "text_encoder.language_model.hidden": (3072, 3072, "L 1.1: BioClinicalBERT"),
    "text_encoder.language_model.positions": (512, 512, "L 1.1: BioClinicalBERT"),
    "text_encoder.tuned": (False, False, "L 1.1: frozen"),
    "text_encoder.stored": (True, True, "L 1.4"),
    "text_encoder.lower_case": (False, False, "L 1.4: its vocabulary is cased"),
    "text_encoder.length": (256, 256, "L 1.1"),
    "text_encoder.width": (512, 512, "L 1.1"),
    "text_encoder.depth": (4, 4, "L 1.1"),
    "text_encoder.heads": (8, 8, "L 1.1"),
    "text_encoder.mlp_ratio": (4.0, 4.0, "L 1.1"),
    "text_encoder.dropout": (0.1, 0.1, "L 1.1"),
    "text_encoder.pooling": ("max", "max", "L 1.1"),
    "text_encoder.projection": (512, 512, "L 1.1"),
    "text_encoder.texts": (None, None, "--texts"),
    "text_encoder.source": (None, None, "--language-model"),
    "terms.image_text.kind": ("image_text", "image_text", "L 1.5"),
    "terms.image_text.views": (["cc", "mlo"], ["cc", "mlo"], "L 1.5"),
    "terms.image_text.num_texts": (1, 1, "L 1.5"),
    "terms.image_text.target": ("onehot", "soft", "L 1.5: paper; descriptions repeat"),
    "terms.image_text.similarity_power": (4.0, 4.0, "hilum's own"),
    "terms.image_text.temperature": (0.07, 0.07, "L 1.1"),
    "terms.image_text.weight.value": (1.0, 1.0, "L 1.1"),
    "terms.image_text.weight.ramp": ("constant", "constant", "L 1.1"),
    "terms.image_text.weight.gradient_ratio": (None, None, "L 1.1"),
    "terms.views.kind": ("view_contrast", "view_contrast", "L 1.5"),
    "terms.views.views": (["cc", "mlo"], ["cc", "mlo"], "L 1.5"),
    "terms.views.single_view_weight": (1.0, 0.5, "L 1.5, single-view evidence"),
    "terms.views.shared": (1.0, 1.0, "L 1.5: an option"),
    "terms.views.temperature": (None, None, "L 1.1: one temperature"),
    "terms.views.weight.value": (1.0, 1.0, "L 1.1: lambda"),
    "terms.views.weight.ramp": ("constant", "constant", "L 1.1"),
    "terms.views.weight.gradient_ratio": (None, None, "L 1.1"),
    "optim.lr": (5e-5, 5e-5, AS_MAMMO_CLIP),
    "optim.weight_decay": (1e-4, 1e-4, AS_MAMMO_CLIP),
    "optim.betas": ([0.9, 0.999], [0.9, 0.999], AS_MAMMO_CLIP + ": AdamW's own"),
    "optim.epochs": (10.0, 10.0, AS_MAMMO_CLIP),
    "optim.warmup": (0.1, 0.1, AS_MAMMO_CLIP + ": 1 of 10"),
}  # fmt: skip


@pytest.mark.parametrize(("preset", "column"), [("paper", 0), ("hilum", 1)])
def test_presets_are_what_the_specification_says(preset, column: int) -> None:
    silent = {
        name: row[2]
        for name, row in TABLE.items()
        if not name.startswith(("terms.", "encoder.")) and name != "text_encoder"
    }
    expected = silent | {name: row[column] for name, row in MV_CLIP_TR.items()} | {"preset": preset}
    found = flatten(json.loads(dump_config(build_recipe("mv_clip_tr", preset, "base"))))
    assert {name: value for name, value in found.items() if not name.startswith("run.")} == expected


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
@pytest.mark.parametrize("preset", ["paper", "hilum"])
@pytest.mark.parametrize("size", CONV_SIZES)
def test_every_recipe_builds(recipe: str, preset, size) -> None:
    """And at the paper's size has 48 x 29 places, for both of its networks; two words change the network."""
    config = build_recipe(recipe, preset, size)
    check_effects(config)
    assert parse_config(dump_config(config)) == config
    if (preset, size) in (("paper", "nano"), ("hilum", "small")):
        with torch.device("meta"):
            objective = build_objective(config)
        assert list(objective.terms) == list(config.terms)
    assert recipe in RECIPES


@pytest.mark.parametrize("recipe", ["custom_clip", "mv_clip", "mv_clip_tr"])
@pytest.mark.parametrize(
    ("size", "backbone", "channels"), [("base", "resnet34", 512), ("large", "tf_efficientnet_b5", 2048)]
)
def test_the_papers_recipes_build_with_both_of_its_networks(recipe: str, size, backbone: str, channels: int) -> None:
    """Three recipes by two networks, by names alone; an image of the paper's size becomes a vector of each (L 9)."""
    config = build_recipe(recipe, "paper", size)
    assert config.encoder.backbone == backbone
    with torch.device("meta"):
        encoder = build_objective(config).encoder
        feature_map = encoder.make_map(torch.zeros(1, 1, *config.encoder.image_size))
        tokens = encoder.tokenize(feature_map).tokens
    assert feature_map.shape == (1, channels, 48, 29)
    assert tokens.shape == ((1, 256, 512) if recipe == "mv_clip_tr" else (1, 48 * 29, channels))


def test_sizes_that_start_from_nothing_begin_at_a_higher_temperature() -> None:
    """And read their own small language model through one block; the paper's sizes keep its figures (L 1.1)."""
    for size in CONV_SIZES:
        config = build_recipe("mv_clip_tr", "paper", size)
        begun = (config.terms["image_text"].temperature, config.text_encoder.depth, config.text_encoder.tuned)
        assert begun == ((0.3, 1, True) if size in ("nano", "tiny") else (0.07, 4, False))


def test_what_tells_the_recipes_apart() -> None:
    custom, mv, tr, mammo = (build_recipe(name, "paper") for name in RECIPE_NAMES)
    assert list(custom.terms) == ["image_text"]
    assert list(mv.terms) == list(tr.terms) == ["image_text", "views"]
    assert replace(mv, recipe="custom_clip", terms=custom.terms) == custom
    assert (mv.encoder.tokenizer, mv.encoder.depth, mv.encoder.pooling, mv.text_encoder.depth) == ("none", 0, "mean", 0)
    assert replace(mv, recipe="mv_clip_tr", encoder=tr.encoder, text_encoder=tr.text_encoder) == tr
    # Mammo-CLIP's total: mean of four image-text terms + image-image + half of text-text (L 1.5).
    assert {name: term.weight.value for name, term in mammo.terms.items()} == {
        "image_text": 1.0, "views": 1.0, "texts": 0.5
    }  # fmt: skip
    assert mammo.terms["image_text"].num_texts == 2
    assert mammo.text_encoder.tuned
    assert build_recipe("mv_clip_tr", "paper", "large").encoder.backbone == "tf_efficientnet_b5"
    with pytest.raises(UserError, match="no preset `code`: no code of MV-MLM was released"):
        build_recipe("mv_clip", "code")


BASE = build_recipe("mv_clip_tr", "hilum", "base")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": EncoderConfig()}, r"terms.image_text needs encoder.kind=convolution"),
        ({"text_encoder": None}, r"terms.image_text compares images with texts that no text_encoder reads"),
        ({"terms": {"views": ViewContrast(temperature=0.1)}}, r"text_encoder has no effect without a term"),
        ({"terms": {**BASE.terms, "pixels": Reconstruction(decoder=CrossDecoder())}}, r"terms.pixels reads a vision"),
        ({"terms": {**BASE.terms, "more": ImageTextContrast()}}, r"terms.more: terms.image_text compares images with"),
        ({"terms": {**BASE.terms, "texts": TextContrast()}}, r"terms.texts compares two texts .*num_texts=2"),
        ({"terms": {"views": ViewContrast()}, "text_encoder": None}, r"terms.views.temperature: there is no contrast"),
        ({"terms": {"image_text": ImageTextContrast(similarity_power=2.0)}}, r"similarity_power has no effect with"),
        ({"terms": {"image_text": ImageTextContrast(views=("cc", "cc"))}}, r"names one kind twice"),
        ({"mask": MaskConfig(ratio=0.5)}, r"mask has no effect on a convolutional encoder"),
        ({"encoder": replace(BASE.encoder, projection=128)}, r"text_encoder.projection=512 is compared with"),
        ({"encoder": replace(BASE.encoder, heads=7)}, r"encoder.width=512 does not divide into encoder.heads=7"),
        ({"encoder": replace(BASE.encoder, tokenizer="all", num_tokens=8)}, r"encoder.num_tokens has no effect with"),
        ({"encoder": replace(BASE.encoder, depth=0)}, r"encoder.dropout has no effect while encoder.depth is 0"),
        ({"text_encoder": replace(BASE.text_encoder, tuned=True)}, r"set --text-encoder.no-stored"),
        ({"text_encoder": replace(BASE.text_encoder, length=600)}, r"more than the 512 positions"),
    ],
)
def test_settings_that_contradict_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_effects(replace(BASE, **changes))


@pytest.mark.parametrize("size", CONV_SIZES)
def test_tokens_that_are_places_need_no_word_on_their_number(size: Any) -> None:
    config = build_recipe("mv_clip_tr", "hilum", size)
    check_effects(replace(config, encoder=replace(config.encoder, tokenizer="all")))
    with pytest.raises(UserError, match=r"encoder.num_tokens has no effect with encoder.tokenizer=all"):
        check_effects(replace(config, encoder=replace(config.encoder, tokenizer="all", num_tokens=17)))
