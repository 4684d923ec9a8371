"""Every field of every preset, and the part of the specification it is from (M: see DESIGN.md)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hilum.config import Reconstruction, SelfDecoder, dump_config
from hilum.errors import UserError
from hilum.recipes import ENCODER_SIZES, SELF_DECODER_SIZES, Preset, build_recipe
from hilum.training.effects import check_effects

PRESETS: tuple[Preset, ...] = ("paper", "code", "hilum")
NONE = "absent"  # the preset's terms have no such field
SILENT = "paper is silent, so as the code (M 0)"

# recipe mvmae, size base: paper, code, hilum, source
TABLE: dict[str, tuple[Any, Any, Any, str]] = {
    "recipe": ("mvmae", "mvmae", "mvmae", "M summary 3"),
    "preset": ("paper", "code", "hilum", "M 0"),
    "size": ("base", "base", "base", "M 2.2"),
    "seed": (0, 0, 0, "M 3"),
    "initial_weights": (None, None, None, "M 7.3 I: --init"),
    # What a step sees.
    "data.leave_out": ([], [], [], "no archive is left out unless asked (M 4.2)"),
    "data.views_per_step": (88, 88, 256, "M 3: 64 studies of 1.384 views (M 1.3); hilum: its own"),
    "data.max_views": (None, 3, None, "M 0 unit"),
    "data.breasts": (False, False, False, "chests"),
    "data.one_per_patient": (False, False, False, "breasts alone have negatives of their own patient (L 1.5)"),
    "data.looks": (1, 1, 1, "M 1.3: every image once"),
    "data.multi_view_floor": (0.0, 0.0, 0.5, "M 7.3 A"),
    "data.max_oversampling": (4.0, 4.0, 4.0, "without effect where the floor is 0"),
    "data.finding_share": (0.0, 0.0, 0.0, "of breasts, off unless asked for (L 6 point 8)"),
    "data.crop.mode": ("random", "random", "random", "M 1.5 train"),
    "data.crop.min_scale": (0.5, 0.5, 0.5, f"M 1.5 train; {SILENT}"),
    "data.crop.max_scale": (1.0, 1.0, 1.0, f"M 1.5 train; {SILENT}"),
    "data.crop.min_aspect": (1.0, 1.0, 1.0, f"M 1.5 train: squares; {SILENT}"),
    "data.crop.max_aspect": (1.0, 1.0, 1.0, f"M 1.5 train: squares; {SILENT}"),
    "data.evaluation_crop": ("auto", "squash", "auto", "M 1.5: paper's images are central squares; code squashes"),
    "data.augment.flip_probability": (0.5, 0.5, 0.0, "M 1.5: the paper says flips; M 7.1 row 12"),
    "data.augment.vertical_flip_probability": (0.0, 0.0, 0.0, "L 1.8: an option"),
    "data.augment.flip_whole_study": (False, False, False, "M 1.5: every view by itself"),
    "data.augment.jitter_probability": (0.8, 0.8, 0.8, f"M 1.5 train; {SILENT}"),
    "data.augment.brightness": (0.4, 0.4, 0.4, f"M 1.5 train; {SILENT}"),
    "data.augment.contrast": (0.4, 0.4, 0.4, f"M 1.5 train; {SILENT}"),
    "data.augment.affine_probability": (0.0, 0.0, 0.0, f"M 1.5 train: none; {SILENT}"),
    "data.augment.rotation": (10.0, 10.0, 10.0, "default"),
    "data.augment.shift": (0.1, 0.1, 0.1, "default"),
    "data.augment.zoom": (0.1, 0.1, 0.1, "default"),
    "data.augment.shear": (0.0, 0.0, 0.0, "L 1.8: an option"),
    "data.augment.elastic_probability": (0.0, 0.0, 0.0, "L 1.8: an option"),
    "data.augment.elastic_alpha": (10.0, 10.0, 10.0, "default"),
    "data.augment.elastic_sigma": (15.0, 15.0, 15.0, "default"),
    "data.augment.blur_probability": (0.0, 0.0, 0.0, f"M 1.5 train: none; {SILENT}"),
    "data.augment.min_blur": (0.1, 0.1, 0.1, "default"),
    "data.augment.max_blur": (2.0, 2.0, 2.0, "default"),
    "data.augment.erase_probability": (0.0, 0.0, 0.0, f"M 1.5 train: none; {SILENT}"),
    "data.augment.min_erased": (0.02, 0.02, 0.02, "default"),
    "data.augment.max_erased": (0.1, 0.1, 0.1, "default"),
    "data.shuffle_reports": (False, False, False, "a control; without effect here"),
    "text_encoder": (None, None, None, "no text is compared with images"),
    # Teachers: recipe mvmae has none.
    "adapter": (None, None, None, "all of the encoder is trained"),
    "teachers.scaling": ("raw", "raw", "raw", "default"),
    "teachers.pairs": ("own", "own", "own", "default"),
    # Reports: recipe mvmae reads none.
    "text.sections": (["findings", "impression"], ["findings", "impression"], ["findings", "impression"], "default"),
    "text.fallback": (["report"], ["report"], ["report"], "default"),
    "text.leave_out": ([], [], [], "default"),
    "text.placeholder": (None, None, None, "default"),
    "text.vocabulary_size": (8000, 8000, 8000, "default"),
    "text.vocabulary": (None, None, None, "default"),
    "text.length": (128, 128, 128, "default"),
    "text.start": ("start", "start", "start", "default"),
    # Encoder and masks.
    "encoder.image_size": (224, 224, 224, "M 2.1"),
    "encoder.patch_size": (16, 16, 16, "M 2.1"),
    "encoder.channels": (1, 1, 1, "M 2.1"),
    "encoder.positions": ("learned", "learned", "learned", "M 2.1"),
    "encoder.width": (768, 768, 768, "M 2.2"),
    "encoder.depth": (12, 12, 12, "M 2.2"),
    "encoder.heads": (12, 12, 12, "M 2.2"),
    "encoder.mlp_ratio": (4.0, 4.0, 4.0, "M 2.1"),
    "encoder.qk_norm": (True, True, True, f"M 2.1; {SILENT}; M 0 encoder"),
    "encoder.view_embedding": (True, True, True, "M 0 encoder"),
    "encoder.num_view_kinds": (3, 3, 3, "M 0 encoder"),
    "encoder.block_norm_eps": (1e-6, 1e-6, 1e-6, "M 2.1; M 6.2"),
    "encoder.final_norm_eps": (1e-5, 1e-5, 1e-6, f"M 2.1; {SILENT}: no defect of M 7.1; hilum as MAE (M 6.2)"),
    "encoder.init": ("xavier", "released", "xavier", "M 2.1; a defect, M 7.1 row 19"),
    "mask.ratio": (0.90, 0.93, 0.90, "M 0 masking"),
    "mask.sharing": ("positions", "none", "none", "M 0 masking: eq. 1 needs shared positions"),
    # Reconstruction.
    "terms.reconstruction.kind": ("reconstruction", "reconstruction", "reconstruction", "M 2.4"),
    "terms.reconstruction.decoder.kind": ("self", "self", "cross", "M 2.2; M 7.3 C"),
    "terms.reconstruction.decoder.width": (768, 768, 512, "M 2.2; M 7.2"),
    "terms.reconstruction.decoder.depth": (4, 4, 8, "M 2.2; M 7.2"),
    "terms.reconstruction.decoder.heads": (12, 12, 16, "M 2.2; M 6.2"),
    "terms.reconstruction.decoder.mlp_ratio": (4.0, 4.0, 4.0, "M 2.2"),
    "terms.reconstruction.decoder.shared_view_table": (True, False, NONE, "M 0 encoder: eq. 3; M 2.2"),
    "terms.reconstruction.decoder.predict": (NONE, NONE, 0.25, "M 7.2; M 7.3 C"),
    "terms.reconstruction.decoder.other_views": (NONE, NONE, 0.0, "M 7.3 D: an option beside alignment"),
    "terms.reconstruction.normalize_patches": (False, False, True, "M 2.4; M 7.3 H"),
    "terms.reconstruction.average": ("study", "slot", "view", "M 0 L_Rec"),
    "terms.reconstruction.weight.value": (1.0, 1.0, 1.0, "M 2.5 total"),
    "terms.reconstruction.weight.ramp": ("constant", "constant", "constant", "M 2.5 total"),
    "terms.reconstruction.weight.gradient_ratio": (None, None, None, "M 7.3 A: what the ratio is taken to"),
    # Alignment.
    "terms.alignment.kind": ("token_alignment", "pooled_alignment", "contrast_alignment", "M 0 L_Align; M 7.3 A ii"),
    "terms.alignment.feature": (NONE, "all", "mean", "M 2.5; M 7.3 A i"),
    "terms.alignment.projector": (NONE, [], [512, 256], "M 2.5; M 7.3 A i"),
    "terms.alignment.metric": (NONE, "mse", NONE, "M 2.5"),
    "terms.alignment.average": (NONE, "slot", NONE, "M 2.5"),
    "terms.alignment.temperature": (NONE, NONE, 0.1, "M 7.3 A ii"),
    "terms.alignment.negatives": (NONE, NONE, "archive", "LOG.md, alignment; M 7.3 A ii"),
    "terms.alignment.weight.value": (1.0, 2.0, 1.0, "M 0 beta: the paper's target is not given; M 3; hilum: a start"),
    "terms.alignment.weight.ramp": ("cosine", "released_sigmoid", "constant", "M 0 beta: annealed from zero; M 2.5"),
    "terms.alignment.weight.gradient_ratio": (None, None, 0.3, "M 0 beta; M 7.3 A; LOG.md"),
    # Optimisation.
    "optim.matrices": ("adamw", "adamw", "adamw", "M 3"),
    "optim.lr": (3e-5, 3e-5, 1.5e-4, f"M 3: 1.2e-4 x 64 / 256; {SILENT}; hilum: MAE's base rate"),
    "optim.weight_decay": (0.05, 0.05, 0.05, "M 3"),
    "optim.decay_everything": (False, True, False, "M 3; a defect, M 7.1 row 19"),
    "optim.decay_tokens": (False, False, False, "M 3: by layers, or everything"),
    "optim.betas": ([0.9, 0.95], [0.9, 0.999], [0.9, 0.95], "M 3; a defect, M 7.1 row 19"),
    "optim.epochs": (500.0, 500.0, 800.0, f"M 3; {SILENT}; hilum: medical_mae"),
    "optim.steps": (None, None, None, "M 3"),
    "optim.warmup": (0.1, 0.1, 0.05, f"M 3: 50 of 500; {SILENT}; hilum: medical_mae, 40 of 800"),
    "optim.warmup_start": (0.5, 0.5, 0.0, f"M 3: linear from 0.5x; {SILENT}: no defect of M 7.1; hilum: MAE"),
    "optim.floor": (0.0, 0.0, 0.0, "M 3: to 0"),
    "optim.per_epoch": (False, True, False, "M 3; a defect, M 7.1 row 19"),
    "optim.clip_norm": (1.0, 1.0, 1.0, f"M 3; {SILENT}"),
    "optim.accumulate": (1, 1, 1, "changes what contrast and spread compare"),
}  # fmt: skip


# What recipe mvmae_v2t has otherwise, or besides: paper, code, hilum, source
REPORTS: dict[str, tuple[Any, Any, Any, str]] = {
    "recipe": ("mvmae_v2t", "mvmae_v2t", "mvmae_v2t", "M summary 3"),
    "text.sections": (["impression"], ["impression"], ["findings", "impression"], f"M 1.6; {SILENT}; hilum: its own"),
    "text.fallback": (["report"], [], ["report"], "M 1.6: only that field; ours: what else there is"),
    "text.placeholder": (None, "default", None, "M 1.6; a defect, M 2.6 bug 3"),
    "text.vocabulary_size": (30522, 30522, 8000, f"M 1.6; {SILENT}; hilum: its own"),
    "text.length": (300, 300, 128, f"M 1.6; {SILENT}; M 7.3 E"),
    "text.start": ("pad", "start", "start", "M 2.6 start: the paper's r_0 is padding; M 7.3 E"),
    "terms.reconstruction.weight.value": (1.0, 0.5, 1.0, "M 2.5 total; a defect, M 7.1 row 3"),
    "terms.reconstruction.decoder.other_views": (NONE, NONE, 0.5, "M 7.3 D; LOG.md, alignment"),
    "terms.alignment.kind": ("token_alignment", "pooled_alignment", NONE, "M 7.3 D in its place"),
    "terms.alignment.feature": (NONE, "all", NONE, ""),
    "terms.alignment.projector": (NONE, [], NONE, ""),
    "terms.alignment.temperature": (NONE, NONE, NONE, ""),
    "terms.alignment.negatives": (NONE, NONE, NONE, ""),
    "terms.alignment.weight.value": (1.0, 2.0, NONE, ""),
    "terms.alignment.weight.ramp": ("cosine", "released_sigmoid", NONE, ""),
    "terms.alignment.weight.gradient_ratio": (None, None, NONE, ""),
    "terms.captioning.kind": ("captioning", "captioning", "captioning", "M 2.6"),
    "terms.captioning.decoder.kind": ("released", "released", "report", "M 2.6; M 7.3 E"),
    "terms.captioning.decoder.width": (768, 768, 512, "M 2.6"),
    "terms.captioning.decoder.depth": (4, 4, 6, "M 2.6; hilum: CapPa's"),
    "terms.captioning.decoder.heads": (8, 8, 8, "M 2.6"),
    "terms.captioning.decoder.mlp_ratio": (1.0, 1.0, 4.0, "M 2.6"),
    "terms.captioning.decoder.dropout": (0.0, 0.1, NONE, "M 2.6; a defect, M 7.1 row 2"),
    "terms.captioning.decoder.text_positions": (True, False, NONE, "M 2.6; a defect, M 7.1 row 2"),
    "terms.captioning.decoder.swapped_positions": (False, True, NONE, "M 2.6 bug 1"),
    "terms.captioning.decoder.view_table": ("encoder", "reconstruction", NONE, "M 2.6 memory; the paper's eq. 3"),
    "terms.captioning.memory": ("view", "view", "study", "M 2.6 per view; M 7.3 E"),
    "terms.captioning.parallel": (0.0, 0.0, 0.75, "M 2.6: not mentioned, off; M 7.3 E"),
    "terms.captioning.average": ("text", "slot", "text", "M 2.6 loss; bugs 2 and 3"),
    "terms.captioning.weight.value": (1.0, 0.5, 1.0, "M 2.6 gamma; a defect, M 7.1 row 3"),
    "terms.captioning.weight.ramp": ("constant", "constant", "constant", "M 2.5 total"),
    "terms.captioning.weight.gradient_ratio": (None, None, None, "named weights, M 7.3 E"),
}


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


@pytest.mark.parametrize(("recipe", "table"), [("mvmae", TABLE), ("mvmae_v2t", TABLE | REPORTS)])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_what_the_specification_says(recipe: str, table: dict, preset: Preset) -> None:
    found = flatten(json.loads(dump_config(build_recipe(recipe, preset, "base"))))
    found = {name: value for name, value in found.items() if not name.startswith("run.")}  # how, not what
    column = PRESETS.index(preset)
    expected = {name: row[column] for name, row in table.items() if row[column] != NONE}
    assert found == expected


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", ENCODER_SIZES)
def test_a_size_is_its_networks_and_independent_has_no_alignment(preset: Preset, size) -> None:
    base, config = (build_recipe("mvmae", preset, one) for one in ("base", size))
    encoder = config.encoder
    assert (encoder.width, encoder.depth, encoder.heads) == ENCODER_SIZES[size]
    term = config.terms["reconstruction"]
    assert isinstance(term, Reconstruction)
    if isinstance(term.decoder, SelfDecoder):
        decoder = term.decoder
        assert (decoder.width, decoder.depth, decoder.heads, decoder.mlp_ratio) == SELF_DECODER_SIZES[size]
        assert decoder.shared_view_table == (preset == "paper" and size != "nano")
    same = {
        **config.terms, "reconstruction": replace(term, decoder=base.terms["reconstruction"].decoder)
    }  # fmt: skip
    assert replace(config, size="base", encoder=base.encoder, terms=same) == base
    alone = build_recipe("independent", preset, size)
    assert alone == replace(config, recipe="independent", terms={"reconstruction": term})
    check_effects(config)
    check_effects(alone)
    check_effects(build_recipe("mvmae_v2t", preset, size))


def test_a_shared_view_table_needs_a_table_of_the_decoders_width() -> None:
    config = build_recipe("mvmae", "paper", "tiny")
    with pytest.raises(UserError, match=r"shared_view_table has no effect without encoder\.view_embedding"):
        check_effects(replace(config, encoder=replace(config.encoder, view_embedding=False)))
    with pytest.raises(UserError, match=r"vectors, of 96 numbers, to tokens of 192: set .*decoder\.width=96"):
        check_effects(replace(config, encoder=replace(config.encoder, width=96)))
