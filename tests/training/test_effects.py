"""Settings that contradict each other or change nothing are refused, in words that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hilum.config import (
    AugmentConfig,
    Captioning,
    Config,
    ContrastAlignment,
    CropConfig,
    CrossDecoder,
    DataConfig,
    FeaturePreservation,
    ImageContrast,
    LowRankAdapter,
    MaskConfig,
    PooledAlignment,
    Reconstruction,
    ReleasedReportDecoder,
    ReportDecoder,
    TeacherTable,
    WeightConfig,
)
from hilum.errors import UserError
from hilum.recipes import build_recipe
from hilum.training.effects import check_effects

HILUM, PAPER, CODE = (build_recipe("mvmae", preset, "tiny") for preset in ("hilum", "paper", "code"))


def change(config: Config, part: str, **values: Any) -> Config:
    return replace(config, **{part: replace(getattr(config, part), **values)})


def change_term(config: Config, name: str, **values: Any) -> Config:
    return replace(config, terms={**config.terms, name: replace(config.terms[name], **values)})


REPORTS, PAPER_REPORTS, CODE_REPORTS = (
    build_recipe("mvmae_v2t", preset, "tiny") for preset in ("hilum", "paper", "code")
)

PACX = build_recipe("pacx", "hilum", "tiny")
IMAGES = build_recipe("image_contrast", "hilum", "tiny")
BREASTS = build_recipe("mv_clip_tr", "hilum", "tiny")
TABLES = {"ecg": TeacherTable("e.npz", "0", 8), "labs": TeacherTable("l.npz", "1", 4)}
TAUGHT = change(PACX, "teachers", tables=TABLES)

REFUSED: dict[str, tuple[Config, str]] = {
    "cosine by slots": (
        change_term(CODE, "alignment", metric="cosine"),
        r"terms\.alignment\.metric=cosine has no effect with average=slot.*set terms\.alignment\.metric=mse, or",
    ),
    "nothing masked": (
        change(HILUM, "mask", ratio=0.0),
        r"terms\.reconstruction predicts masked patches, and mask\.ratio=0\.0 masks none of 196: raise it",
    ),
    "hardly anything masked": (change(HILUM, "mask", ratio=1e-9), "masks none of 196"),
    "everything masked": (change(HILUM, "mask", ratio=0.999), "leaves none of the 196 patches visible: lower it"),
    "pairs of one view": (
        change(HILUM, "data", max_views=1),
        r"terms\.alignment compares the views of one study, and data\.max_views=1.*raise it to 2.*`independent`",
    ),
    "token pairs of one view": (change(PAPER, "data", max_views=1), r"data\.max_views=1 never shows two"),
    "contrast of one view": (
        replace(HILUM, data=DataConfig(max_views=1), terms={"contrast": ContrastAlignment()}),
        r"terms\.contrast compares the views of one study",
    ),
    "a share of nothing": (
        change_term(HILUM, "reconstruction", weight=WeightConfig(value=0.0)),
        r"share of the pull of terms\.reconstruction, whose weight\.value is 0: raise that, or set terms\.alignment",
    ),
    "decay of nothing": (
        change(HILUM, "optim", decay_everything=True, weight_decay=0.0),
        r"optim\.decay_everything has no effect while optim\.weight_decay is 0",
    ),
    "decay of tokens twice": (
        change(HILUM, "optim", decay_everything=True, decay_tokens=True),
        r"optim\.decay_tokens has no effect beside optim\.decay_everything",
    ),
    "a mean that grows": (change(HILUM, "optim", betas=(1.5, 2.0)), r"optim\.betas=\(1\.5, 2\.0\).*below 1"),
    "a mean without end": (change(HILUM, "optim", betas=(0.9, 1.0)), r"optim\.betas.*below 1"),
    "a mean of negatives": (change(HILUM, "optim", betas=(-0.1, 0.9)), r"optim\.betas.*at least 0"),
    "heads of a fraction": (
        change(HILUM, "encoder", width=200),
        r"encoder\.width=200 does not divide into encoder\.heads=3: choose",
    ),
    "waves of a fraction": (
        change(HILUM, "encoder", width=198),
        r"encoder\.width=198 is not a multiple of 4.*choose 200, or encoder\.init=released",
    ),
    "decoder heads of a fraction": (
        change_term(HILUM, "reconstruction", decoder=CrossDecoder(width=100, heads=16)),
        r"terms\.reconstruction\.decoder\.width=100 does not divide into terms\.reconstruction\.decoder\.heads=16",
    ),
    "reports that nothing reads": (
        change(HILUM, "data", shuffle_reports=True),
        r"data\.shuffle_reports has no effect without a term that learns from reports.*`mvmae_v2t`",
    ),
    "text that nothing reads": (
        change(HILUM, "text", length=64),
        r"text has no effect without a term that learns from reports",
    ),
    "two that learn from reports": (
        replace(REPORTS, terms={**REPORTS.terms, "again": Captioning()}),
        r"terms\.again: terms\.captioning learns from reports already",
    ),
    "nothing to read": (change(REPORTS, "text", sections=(), fallback=()), r"text\.sections names nothing"),
    "words of a fraction": (
        change_term(REPORTS, "captioning", decoder=ReportDecoder(100, 2, 8)),
        r"terms\.captioning\.decoder\.width=100 does not divide into terms\.captioning\.decoder\.heads=8",
    ),
    "a text nobody wrote": (
        change(PAPER_REPORTS, "text", placeholder="default"),
        r"text\.placeholder is the released code's.*leave it out",
    ),
    "slots of a study's memory": (
        change_term(CODE_REPORTS, "captioning", memory="study"),
        r"set terms\.captioning\.memory=view and",
    ),
    "slots at once": (change_term(CODE_REPORTS, "captioning", parallel=0.5), r"terms\.captioning\.parallel=0\."),
    "report slots of more views": (
        change(CODE_REPORTS, "data", max_views=None),
        r"average=slot divides by.*three slots",
    ),
    "views that are read at once": (
        change_term(REPORTS, "captioning", average="view"),
        r"average=view has no effect with .*memory=study",
    ),
    "a layer that is not there": (
        change_term(PAPER_REPORTS, "captioning", decoder=ReleasedReportDecoder(width=96)),
        r"decoder\.width=96: the released decoder has no layer between.*set 192",
    ),
    "a table that is not there": (
        change_term(PAPER_REPORTS, "captioning", decoder=ReleasedReportDecoder(192, view_table="reconstruction")),
        r"view_table=reconstruction: that has no table.*Set terms\.captioning\.decoder\.view_table=own",
    ),
    "masks that nobody looks through": (
        change(PACX, "mask", ratio=0.5),
        r"mask has no effect: no term of this objective reads masked views",
    ),
    "teachers that nobody hears": (
        change(HILUM, "teachers", scaling="whitened"),
        r"teachers has no effect without a term that learns from them.*`pacx`",
    ),
    "a table that nobody reads": (change(HILUM, "teachers", tables=TABLES), r"--teachers has no effect without a term"),
    "a teacher that nobody gave": (
        change_term(TAUGHT, "contrast", teachers=("ekg",)),
        r"terms\.contrast\.teachers names 'ekg', and --teachers gives ecg, labs\. Did you mean ecg\?",
    ),
    "a teacher named twice": (
        change_term(PACX, "contrast", teachers=("ecg", "ecg")),
        r"terms\.contrast\.teachers=.* names one twice",
    ),
    "a teacher of no term": (
        change_term(change_term(TAUGHT, "contrast", teachers=("ecg",)), "regression", teachers=("ecg",)),
        r"--teachers labs=\.\.\. has no effect: terms\.contrast, terms\.regression name other teachers",
    ),
    "noise on a scale": (
        change(PACX, "teachers", pairs="random"),
        r"teachers\.scaling=whitened has no effect on the noise of teachers\.pairs=random",
    ),
    "an adapter of nothing": (
        replace(PACX, adapter=LowRankAdapter(targets=(), train_norms="none")),
        r"adapter\.targets names no layer and adapter\.train_norms is none",
    ),
    "the rank of nothing": (
        replace(PACX, adapter=LowRankAdapter(targets=(), rank=4)),
        r"adapter\.rank, alpha and dropout have no effect while adapter\.targets names no layer",
    ),
    "one look to compare": (
        change(IMAGES, "data", looks=1),
        r"terms\.image_contrast compares two looks at an image, and data\.looks=1 shows one: set data\.looks=2",
    ),
    "two looks and nobody who compares": (
        change(PACX, "data", looks=2),
        r"data\.looks has no effect without a term that compares two looks",
    ),
    "images of a study that is shown as one": (
        replace(change(IMAGES, "data", max_views=1, looks=1), terms={"seen": ImageContrast(pairs="study")}),
        r"terms\.seen compares the views of one study, and data\.max_views=1",
    ),
    "two looks in three slots": (
        replace(change(CODE, "data", looks=2), terms={**CODE.terms, "looks": ImageContrast()}),
        r"average=slot divides by the released code's three slots a study: set data\.looks=1",
    ),
    "every place of a masked view": (
        change_term(TAUGHT, "regression", feature="patches", reads="visible"),
        r"terms\.regression\.feature=patches reads every place.*set terms\.regression\.reads=whole",
    ),
    "a layer named twice": (replace(PACX, adapter=LowRankAdapter(targets=("qkv", "qkv"))), r"adapter\.targets=.*twice"),
    "nothing but keeping": (
        replace(HILUM, terms={"kept": FeaturePreservation()}, mask=MaskConfig()),
        r"terms\.kept keeps features as they are, and no other term changes them",
    ),
    "fixed noise": (
        change(CODE, "encoder", positions="fixed"),
        r"encoder\.positions=fixed would keep the noise .*encoder\.init=xavier",
    ),
    "an aspect of squashed images": (
        change(HILUM, "data", crop=CropConfig(mode="squash", max_aspect=1.2)),
        r"min_aspect and max_aspect have no effect with data\.crop\.mode=squash",
    ),
    "an aspect below the least": (
        change(HILUM, "data", crop=CropConfig(min_aspect=1.2)),
        r"data\.crop\.min_aspect is larger than data\.crop\.max_aspect",
    ),
    "a blur of nothing": (
        change(HILUM, "data", augment=AugmentConfig(max_blur=1.0)),
        r"data\.augment\.min_blur and max_blur have no effect while data\.augment\.blur_probability is 0",
    ),
    "a turn of nothing": (
        change(HILUM, "data", augment=AugmentConfig(zoom=0.0)),
        r"data\.augment\.rotation, shift, zoom and shear have no effect while data\.augment\.affine_probability is 0",
    ),
    "a shear of nothing": (change(HILUM, "data", augment=AugmentConfig(shear=20.0)), "zoom and shear have no effect"),
    "a field that bends nothing": (
        change(HILUM, "data", augment=AugmentConfig(elastic_sigma=5.0)),
        r"elastic_alpha and elastic_sigma have no effect while data\.augment\.elastic_probability is 0",
    ),
    "flips together that are none": (
        change(HILUM, "data", augment=AugmentConfig(flip_whole_study=True)),
        r"flip_whole_study has no effect while data\.augment\.flip_probability and vertical_flip_probability are 0",
    ),
    "upper and lower of a text": (
        change(BREASTS, "data", augment=AugmentConfig(vertical_flip_probability=0.5)),
        r"vertical_flip_probability turns views upside down, and terms\.image_text learns from texts",
    ),
    "upper and lower of a report": (
        change(REPORTS, "data", augment=AugmentConfig(vertical_flip_probability=0.5)),
        r"vertical_flip_probability turns views upside down, and terms\.captioning learns from texts",
    ),
    "left and right of a study's text": (
        change(BREASTS, "data", breasts=False, one_per_patient=False, augment=AugmentConfig(flip_probability=0.5)),
        r"flip_probability exchanges left and right, and terms\.image_text .*set data\.breasts=true",
    ),
    "nothing erased": (
        change(HILUM, "data", augment=AugmentConfig(min_erased=0.05)),
        r"min_erased and max_erased have no effect while data\.augment\.erase_probability is 0",
    ),
    "decoder waves of a fraction": (
        change_term(HILUM, "reconstruction", decoder=CrossDecoder(width=30, heads=3)),
        r"terms\.reconstruction\.decoder\.width=30 is not a multiple of 4.*choose 32",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_without_effect_are_refused_with_what_to_do(name: str) -> None:
    config, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        check_effects(config)


ALLOWED: dict[str, Callable[[], Config]] = {
    "one view, and no pairs": lambda: change(build_recipe("independent", "hilum", "tiny"), "data", max_views=1),
    "no mask, and nothing to predict": lambda: replace(
        change(HILUM, "mask", ratio=0.0), terms={"alignment": PooledAlignment()}
    ),
    "teachers, opened and not yet": lambda: TAUGHT,
    "teachers of masked views": lambda: replace(
        change_term(change_term(TAUGHT, "contrast", reads="visible"), "regression", reads="visible"),
        mask=MaskConfig(ratio=0.5),
    ),
    "a flip of breasts from left to right": lambda: change(
        BREASTS, "data", augment=AugmentConfig(flip_probability=0.5)
    ),
    "upside down, together, and no texts": lambda: change(
        HILUM, "data", augment=AugmentConfig(vertical_flip_probability=0.5, flip_whole_study=True)
    ),
    "norms alone": lambda: replace(PACX, adapter=LowRankAdapter(targets=(), train_norms="all")),
    "masked and whole views together": lambda: replace(TAUGHT, terms={**HILUM.terms, **TAUGHT.terms}),
    "any width where positions are drawn": lambda: change(CODE, "encoder", width=198),
    "no reconstruction pull, and a weight by hand": lambda: replace(
        HILUM,
        terms={"reconstruction": Reconstruction(weight=WeightConfig(value=0.0)), "alignment": PooledAlignment()},
    ),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_settings_with_an_effect_are_not(name: str) -> None:
    check_effects(ALLOWED[name]())
