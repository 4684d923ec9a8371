"""What is compared: distillations of one masked autoencoder, the terms and teachers by themselves, and controls.

Every arm begins with the same `mae` of its seed (but for those that say otherwise) and takes as many steps over the
same images, so that what differs is what it learns from. `paper` and `code` are these presets' terms, teachers' scaling
and norms with the optimiser and the crop of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from evidence.alignment_arms import VIEWS
from evidence.alignment_arms import configure as configure_views
from evidence.distillation_caches import TEACHERS
from hilum.config import Config, EncoderConfig, TeacherContrast, TeacherRegression
from hilum.recipes import Preset, build_recipe

STEPS, LR = 2000, 1e-3
# What images tell of teachers of validation stops rising here (LOG.md).
DISTILL_STEPS = 500
MAE, MAE_90 = "mae", "mae, masked 90 %"
ABROAD = ("harbour", "stanne")  # institutions that one distillation does not see


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
    assert isinstance(shaped.encoder, EncoderConfig), "arms of chests are transformers"
    return replace(
        config,
        encoder=replace(config.encoder, image_size=shaped.encoder.image_size, patch_size=shaped.encoder.patch_size),
        mask=replace(config.mask, ratio=ratio),
        data=replace(config.data, views_per_step=VIEWS, crop=shaped.data.crop),
        optim=shaped.optim,
        run=shaped.run,
    )


def distill(recipe: str = "pacx", preset: Preset = "hilum") -> Config:
    """A recipe's terms, teachers' scaling and norms; the rest is the same for all."""
    ours, config = build_recipe("pacx", "hilum", "nano"), build_recipe(recipe, preset, "nano")
    shaped = pretrain_plainly(0.75)
    return replace(
        config,
        encoder=shaped.encoder,
        adapter=None if config.adapter is None else replace(config.adapter, any_norm_eps=False),
        data=replace(
            ours.data,
            views_per_step=VIEWS * config.data.looks,
            max_views=config.data.max_views,
            looks=config.data.looks,
        ),
        optim=replace(ours.optim, steps=DISTILL_STEPS, lr=LR, decay_everything=config.optim.decay_everything),
        run=shaped.run,
    )


def list_arms() -> dict[str, Arm]:
    """All arms by name; the first is what all others are compared with."""
    arms = [
        Arm(MAE, "starts", pretrain_plainly(0.75), start=None, teachers=()),
        Arm(MAE_90, "mask ratio", pretrain_plainly(0.90), start=None, teachers=()),
        *_list_methods(),
        *_list_controls(),
        *_list_tunings(),
        *_list_mixtures(),
    ]
    named = {arm.name: arm for arm in arms}
    assert len(named) == len(arms), "arms have different names"
    return named


def keep_term(config: Config, name: str) -> Config:
    """One term of a config alone."""
    return replace(config, terms={name: config.terms[name]})


def _list_methods() -> list[Arm]:
    """The presets, and their teachers and terms one by one."""
    ours = distill()
    reading = ours.terms["regression"]
    assert isinstance(reading, TeacherRegression)
    pointing = {**ours.terms, "regression": replace(reading, feature="patches")}
    spread = replace(ours.teachers, scaling="standardised")
    return [
        Arm("pacx", "presets", ours),
        Arm("pacx, paper", "presets", distill("pacx", "paper")),
        Arm("pacx, code", "presets", distill("pacx", "code")),
        Arm("pacx, standardised", "presets", replace(ours, teachers=spread)),
        Arm("ECG only", "teachers", ours, teachers=("ecg",)),
        Arm("labs only", "teachers", ours, teachers=("labs",)),
        Arm("contrast only", "terms", keep_term(ours, "contrast")),
        Arm("regression only", "terms", keep_term(ours, "regression")),
        Arm("regression only, paper", "terms", keep_term(distill("pacx", "paper"), "regression")),
        Arm("regression from patches", "places", replace(ours, terms=pointing)),
        Arm("pacx on mae 90", "mask ratio", ours, start=MAE_90),
        Arm("pacx of one institution", "transfer", replace(ours, data=replace(ours.data, leave_out=ABROAD))),
    ]


def _list_controls() -> list[Arm]:
    """What would also gain if it were not the physiology: wrong pairs, noise, the same images alone (P 7.4)."""
    ours, plain = distill(), pretrain_plainly(0.75)
    again = replace(plain, optim=replace(plain.optim, steps=DISTILL_STEPS, lr=plain.optim.lr / 3))
    noise = replace(ours.teachers, pairs="random", scaling="raw")
    return [
        Arm("shuffled pairs", "controls", replace(ours, teachers=replace(ours.teachers, pairs="shuffled"))),
        Arm("random teachers", "controls", replace(ours, teachers=noise)),
        Arm("continued mae", "controls", again, teachers=()),
        Arm("images alone", "controls", distill("image_contrast"), teachers=()),
    ]


def _list_tunings() -> list[Arm]:
    """What of the encoder is trained, and what holds it where it was. Frozen is `mae` itself."""
    ours = distill()
    assert ours.adapter is not None
    whole, kept = distill("pacx_unfrozen"), distill("pacx_kept")
    norms = {name: replace(ours, adapter=replace(ours.adapter, train_norms=name)) for name in ("none", "final")}
    both = replace(whole, terms=kept.terms)
    return [
        Arm("LoRA", "tuning", norms["none"]),
        Arm("LoRA, final norm", "tuning", norms["final"]),
        Arm("whole encoder", "tuning", replace(whole, optim=replace(whole.optim, lr=LR / 3))),
        Arm("pacx, patches held", "tuning", kept),
        Arm("whole encoder, patches held", "tuning", replace(both, optim=replace(both.optim, lr=LR / 3))),
    ]


def _list_mixtures() -> list[Arm]:
    """The three methods together, from random weights: views and reports, and teachers beside them, which read what
    masks leave or, by one more pass, whole views."""
    plain, whole = configure_views("mvmae_v2t", steps=STEPS), configure_views("mvmae_v2t_pacx", steps=STEPS)
    masked = {
        name: replace(term, reads="visible") if isinstance(term, TeacherContrast | TeacherRegression) else term
        for name, term in whole.terms.items()
    }
    return [
        Arm("mvmae_v2t", "mixtures", plain, start=None, teachers=()),
        Arm("mvmae_v2t with teachers", "mixtures", replace(whole, terms=masked), start=None),
        Arm("mvmae_v2t with teachers, whole views", "mixtures", whole, start=None),
    ]
