"""PaCX-MAE: a plain masked autoencoder (stage 1), and its distillation from teachers of the same studies (stage 2).

The presets: `paper` as claimed, `code` as probably run, `hilum` with the fixes (P 7). Where the paper is silent,
`paper` follows `code`; every field and where it is from are listed in tests/test_pacx_recipes.py.
"""

from __future__ import annotations

from dataclasses import replace

from hilum.config import (
    AugmentConfig,
    Config,
    CropConfig,
    DataConfig,
    EncoderConfig,
    LowRankAdapter,
    MaskConfig,
    OptimConfig,
    Reconstruction,
    SelfDecoder,
    TeacherContrast,
    TeacherRegression,
    TeachersConfig,
    WeightConfig,
)

from .mvmae import build_mvmae_v2t
from .sizes import ENCODER_SIZES, MAE_DECODER_SIZES, Preset, Size

# P 1.1: no queries' norms, no view table, waves as positions. Ours needs no three copies of a grey image.
_PLAIN = EncoderConfig(qk_norm=False, view_embedding=False, positions="fixed")


def _build_encoder(preset: Preset, size: Size) -> EncoderConfig:
    width, depth, heads = ENCODER_SIZES[size]
    channels = 1 if preset == "hilum" else 3
    return replace(_PLAIN, width=width, depth=depth, heads=heads, channels=channels)


def build_mae(preset: Preset = "hilum", size: Size = "base") -> Config:
    """A plain masked autoencoder of single images: what PaCX-MAE starts from (P 1.1)."""
    encoder = _build_encoder(preset, size)
    # Said to be 0.90, and 0.75 in what ran: the released code stores the number and passes it nowhere (P 1.1).
    ratio = 0.90 if preset == "paper" else 0.75
    config = Config(
        recipe="mae",
        preset=preset,
        size=size,
        encoder=encoder,
        mask=MaskConfig(ratio=ratio),
        terms={"reconstruction": Reconstruction(decoder=SelfDecoder(*MAE_DECODER_SIZES[size]))},
    )
    still = AugmentConfig(jitter_probability=0.0)
    if preset == "hilum":
        # No flip, which destroys left and right; predicted patches are normalised, as in our other recipes.
        normalized = Reconstruction(decoder=SelfDecoder(*MAE_DECODER_SIZES[size]), normalize_patches=True)
        return replace(
            config, terms={"reconstruction": normalized}, data=DataConfig(multi_view_floor=0.0, augment=still)
        )
    return replace(
        config,
        data=DataConfig(
            views_per_step=512,  # 256 on each of two devices
            multi_view_floor=0.0,
            crop=CropConfig(min_aspect=3 / 4, max_aspect=4 / 3),
            evaluation_crop="squash",
            augment=replace(still, flip_probability=0.5),
        ),
        # 10 epochs of 400, from a tenth of the peak.
        optim=OptimConfig(
            epochs=400, warmup=0.025, warmup_start=0.1, per_epoch=True, clip_norm=None, decay_tokens=True
        ),
    )


def build_pacx(preset: Preset = "hilum", size: Size = "base") -> Config:
    """PaCX-MAE stage 2: a frozen encoder with low-rank updates learns what teachers know of the same studies (P 2).

    Starts from weights of `mae` (--init), and learns from whichever teachers --teachers names.
    """
    augment = AugmentConfig(
        jitter_probability=0.3, brightness=0.2, contrast=0.2,
        affine_probability=0.6, blur_probability=0.15, erase_probability=0.25,
    )  # fmt: skip
    crop = CropConfig(min_scale=0.75, min_aspect=0.85, max_aspect=1.15)
    config = Config(
        recipe="pacx",
        preset=preset,
        size=size,
        encoder=_build_encoder(preset, size),
        adapter=LowRankAdapter(train_norms="final" if preset == "code" else "all"),
        data=DataConfig(multi_view_floor=0.0, crop=crop, augment=augment),
        # 5 epochs of 50; the rate warm-up starts from is not stated.
        optim=OptimConfig(lr=1e-4, betas=(0.9, 0.999), epochs=50, warmup=0.1, warmup_start=0.1, floor=0.01),
        terms={
            "contrast": TeacherContrast(weight=WeightConfig(value=0.5)),
            "regression": TeacherRegression(),
        },
    )
    if preset == "hilum":
        return replace(
            config,
            teachers=TeachersConfig(scaling="whitened"),
            terms={
                "contrast": TeacherContrast(
                    feature="both", temperatures="own", same_patient="masked", weight=WeightConfig(value=0.5)
                ),
                "regression": TeacherRegression(feature="both"),
            },
        )
    config = replace(
        config,
        # A step of the run whose name survives (P 2.5); each of its studies is one image.
        data=replace(config.data, views_per_step=500, max_views=1, evaluation_crop="squash"),
        optim=replace(config.optim, decay_everything=True, per_epoch=True),
    )
    if preset == "paper":
        return config
    return replace(  # reads the autoencoder's norms with another epsilon (P 2.1)
        config,
        encoder=replace(config.encoder, block_norm_eps=1e-5, final_norm_eps=1e-5),
        adapter=LowRankAdapter(train_norms="final", any_norm_eps=True),
    )


def build_mvmae_v2t_pacx(preset: Preset = "hilum", size: Size = "base") -> Config:
    """Views, report and teachers in one pretraining: the terms of `mvmae_v2t` and of `pacx`, and no new one.

    The teachers' terms read one more pass, of whole views: of masked ones they teach nothing that reports do not
    (LOG.md). Each reads the masked pass by its `reads`, which costs no further one (a whole one costs ten of 90 %).
    """
    config, taught = build_mvmae_v2t(preset, size), build_pacx(preset, size)
    return replace(config, recipe="mvmae_v2t_pacx", teachers=taught.teachers, terms={**config.terms, **taught.terms})
