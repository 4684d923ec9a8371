"""What is compared: distillations of one masked autoencoder, the terms and teachers by themselves, and controls.

Every arm begins with the same `mae` of its seed (but for those that say otherwise) and takes as many steps over the same
images, so that what differs is what it learns from. `paper` and `code` are these presets' terms, teachers' scaling and
norms with the optimiser and the crop of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from evidence.alignment_arms import VIEWS
from evidence.alignment_arms import configure as configure_views
from evidence.distillation_caches import TEACHERS
from hilum.config import Config, FeaturePreservation, LowRankAdapter, TeacherRegression, Term, WeightConfig
from hilum.recipes import Preset, build_recipe

STEPS, DISTILL_STEPS, LR = 2000, 1000, 1e-3
MAE, MAE_90 = "mae", "mae, masked 90 %"
# Distilled at northfield, probed at harbour.
ABROAD, OTHERS = "harbour", ("harbour", "stanne")


@dataclass(frozen=True)
class Arm:
    """A training to compare, and the question it belongs to."""

    name: str
    question: str
    config: Config
    start: str | None = MAE  # arm whose encoder it begins with
    teachers: tuple[str, ...] = TEACHERS


def pretrain_plainly(ratio: float) -> Config:
    """The masked autoencoder that distillations begin with, in the size that learns in minutes."""
    config, shaped = build_recipe("mae", "hilum", "nano"), configure_views("independent", steps=STEPS)
    return replace(
        config,
        encoder=replace(config.encoder, image_size=shaped.encoder.image_size, patch_size=shaped.encoder.patch_size),
        mask=replace(config.mask, ratio=ratio),
        data=replace(config.data, views_per_step=VIEWS, crop=shaped.data.crop),
        optim=shaped.optim,
        run=shaped.run,
    )


def distill(preset: Preset = "hilum") -> Config:
    """A preset's terms, teachers' scaling and norms; the rest is the same for all."""
    ours, config = build_recipe("pacx", "hilum", "nano"), build_recipe("pacx", preset, "nano")
    assert config.adapter is not None
    shaped = pretrain_plainly(0.75)
    return replace(
        config,
        encoder=shaped.encoder,
        adapter=replace(config.adapter, any_norm_eps=False),
        data=replace(ours.data, views_per_step=VIEWS, max_views=config.data.max_views),
        optim=replace(ours.optim, steps=DISTILL_STEPS, lr=LR, decay_everything=config.optim.decay_everything),
        run=shaped.run,
    )


def list_arms() -> dict[str, Arm]:
    """All arms by name."""
    arms = [
        Arm(MAE, "starts", pretrain_plainly(0.75), start=None, teachers=()),
        Arm(MAE_90, "starts", pretrain_plainly(0.90), start=None, teachers=()),
        *_list_methods(),
        *_list_controls(),
        *_list_tunings(),
        *_list_mixtures(),
    ]
    named = {arm.name: arm for arm in arms}
    assert len(named) == len(arms), "arms have different names"
    return named


def keep_terms(config: Config, *names: str, **more: Term) -> Config:
    """Only these terms of a config, and more."""
    return replace(config, terms={**{name: config.terms[name] for name in names}, **more})


def _list_methods() -> list[Arm]:
    """The presets, and their teachers and terms one by one."""
    ours = distill()
    reading = ours.terms["regression"]
    assert isinstance(reading, TeacherRegression)
    pointing = {**ours.terms, "regression": replace(reading, feature="patches")}
    return [
        Arm("pacx", "presets", ours),
        Arm("pacx paper", "presets", distill("paper")),
        Arm("pacx code", "presets", distill("code")),
        Arm("ECG only", "teachers", ours, teachers=("ecg",)),
        Arm("labs only", "teachers", ours, teachers=("labs",)),
        Arm("contrast only", "terms", keep_terms(ours, "contrast")),
        Arm("regression only", "terms", keep_terms(ours, "regression")),
        Arm("regression only, raw vectors", "terms", keep_terms(distill("paper"), "regression")),
        Arm("regression from patches", "terms", replace(ours, terms=pointing)),
        Arm("pacx on mae, masked 90 %", "starts", ours, start=MAE_90),
        Arm("pacx, one institution", "transfer", replace(ours, data=replace(ours.data, leave_out=OTHERS))),
    ]


def _list_controls() -> list[Arm]:
    """What would also gain if it were not the physiology: wrong pairs, noise, more of the same images (P 7.4)."""
    ours = distill()
    plain = pretrain_plainly(0.75)
    again = replace(plain, optim=replace(plain.optim, steps=DISTILL_STEPS, lr=plain.optim.lr / 3))
    return [
        Arm("shuffled pairs", "controls", replace(ours, teachers=replace(ours.teachers, pairs="shuffled"))),
        Arm("random teachers", "controls", replace(ours, teachers=replace(ours.teachers, pairs="random"))),
        Arm("continued mae", "controls", again, teachers=()),
    ]


def _list_tunings() -> list[Arm]:
    """What of the encoder is trained, and what holds it where it was."""
    ours = distill()
    assert ours.adapter is not None
    kept = FeaturePreservation(weight=WeightConfig(value=1.0))
    whole = replace(ours, adapter=None, optim=replace(ours.optim, lr=LR / 3))
    return [
        Arm("LoRA, no norms", "tuning", replace(ours, adapter=replace(ours.adapter, train_norms="none"))),
        Arm("LoRA, final norm", "tuning", replace(ours, adapter=replace(ours.adapter, train_norms="final"))),
        Arm("full fine-tuning", "tuning", whole),
        Arm("pacx, preserved", "tuning", replace(ours, terms={**ours.terms, "preservation": kept})),
        Arm("full fine-tuning, preserved", "tuning", replace(whole, terms={**whole.terms, "preservation": kept})),
    ]


def _list_mixtures() -> list[Arm]:
    """The three methods together: views, reports and teachers in one objective, from random weights."""
    return []
