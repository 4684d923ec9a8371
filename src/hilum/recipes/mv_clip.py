"""MV-MLM and its ablations: images of breasts (or chests) compared with texts, and two views with each other (L).

| recipe | name in the paper | losses | image tokens and transformer |
|---|---|---|---|
| custom_clip | Custom-CLIP | L_I,T | no: the mean of the network's map |
| mv_clip | MV-CLIP | L_I,T + L_I,I | no |
| mv_clip_tr | MV-CLIP+Tr = MV-MLM | L_I,T + L_I,I | yes, also over the text's states |
| mammo_clip | Mammo-CLIP's total, a baseline | four image-text pairs, L_I,I, half of text-text | no; BERT is trained |

Presets: `paper` as its summary states, where that is silent as Mammo-CLIP (L 1.1); `hilum` with what is known of the
data: descriptions that repeat, findings that one view shows, and batches larger than memory. There is no released code.
Every field and where it is from are listed in tests/test_mv_clip_recipes.py.
"""

from __future__ import annotations

from dataclasses import replace

from hilum.config import (
    AugmentConfig,
    Config,
    ConvEncoderConfig,
    CropConfig,
    DataConfig,
    ImageTextContrast,
    LanguageModelConfig,
    OptimConfig,
    TextContrast,
    TextEncoderConfig,
    ViewContrast,
    WeightConfig,
)
from hilum.errors import UserError

from .sizes import CONV_SIZES, Preset, Size

# Sizes that start from nothing: a small language model is trained with the rest, on a vocabulary of these texts.
_FROM_NOTHING = ("nano", "tiny")
_SMALL_MODEL = LanguageModelConfig(vocabulary_size=2000, width=128, depth=2, heads=4, hidden=256, positions=128)


def build_custom_clip(preset: Preset = "hilum", size: Size = "base") -> Config:
    """Custom-CLIP: each view with the text of its breast; the image's vector is the mean of the network's map."""
    return _build("custom_clip", preset, size, views=False, transformer=False)


def build_mv_clip(preset: Preset = "hilum", size: Size = "base") -> Config:
    """MV-CLIP: Custom-CLIP, and the two views of a breast with each other."""
    return _build("mv_clip", preset, size, views=True, transformer=False)


def build_mv_clip_tr(preset: Preset = "hilum", size: Size = "base") -> Config:
    """MV-CLIP+Tr, which is MV-MLM: MV-CLIP with 256 tokens and a transformer for either side."""
    return _build("mv_clip_tr", preset, size, views=True, transformer=True)


def build_mammo_clip(preset: Preset = "hilum", size: Size = "base") -> Config:
    """Mammo-CLIP's total as a baseline: mean of four image-text pairs + image-image + half of text-text (L 1.5)."""
    config = _build("mammo_clip", preset, size, views=True, transformer=False)
    images = config.terms["image_text"]
    assert isinstance(images, ImageTextContrast)
    assert config.text_encoder is not None
    terms = {
        "image_text": replace(images, num_texts=2),
        "views": config.terms["views"],
        "texts": TextContrast(weight=WeightConfig(value=0.5)),
    }
    texts = replace(config.text_encoder, tuned=True, stored=False, dropout=0.1)
    return replace(config, terms=terms, text_encoder=texts)


def _build(recipe: str, preset: Preset, size: Size, *, views: bool, transformer: bool) -> Config:
    if preset == "code":
        raise UserError(f"{recipe} has no preset `code`: no code of MV-MLM was released. Take `paper` or `hilum`.")
    is_paper, from_nothing = preset == "paper", size in _FROM_NOTHING
    images = ImageTextContrast(target="onehot" if is_paper else "soft")
    if from_nothing:
        # At 0.07, vectors that know nothing yet cost least where all are alike, and fall together first (LOG.md).
        images = replace(images, temperature=0.3)
    terms: dict[str, ImageTextContrast | ViewContrast] = {"image_text": images}
    if views:
        terms["views"] = ViewContrast(single_view_weight=1.0 if is_paper else 0.5)
    augment = (
        # Mammo-CLIP's, without what moves left and right, upper and lower (L 1.8), and without shear and elastic.
        AugmentConfig(jitter_probability=0.0, affine_probability=1.0, rotation=20.0, shift=0.1, zoom=0.2)
        if is_paper
        else AugmentConfig(brightness=0.2, contrast=0.2, affine_probability=0.5, shift=0.05)
    )
    return Config(
        recipe=recipe,
        preset=preset,
        size=size,
        encoder=_build_encoder(preset, size, transformer=transformer),
        text_encoder=_build_text_encoder(size, transformer=transformer),
        data=DataConfig(
            # 18 breasts (L 1.1), on one device; ours are 72, of which a chunk is computed at a time.
            views_per_step=36 if is_paper or from_nothing else 144,
            multi_view_floor=0.0,
            breasts=True,
            one_per_patient=not is_paper,
            crop=CropConfig(mode="squash"),  # the image policy has cut and shaped the image
            augment=augment,
        ),
        optim=OptimConfig(
            lr=1e-3 if from_nothing else 5e-5, weight_decay=1e-4, betas=(0.9, 0.999), epochs=10, warmup=0.1
        ),
        terms=dict(terms),
    )


def _build_encoder(preset: Preset, size: Size, *, transformer: bool) -> ConvEncoderConfig:
    backbone, height, width, num_tokens, token_width, heads = CONV_SIZES[size]
    encoder = ConvEncoderConfig(
        backbone=backbone, image_height=height, image_width=width, num_tokens=num_tokens, width=token_width,
        heads=heads, projection=token_width, chunk=None if preset == "paper" or size in _FROM_NOTHING else 8,
    )  # fmt: skip
    if transformer:
        return encoder
    return replace(
        encoder, tokenizer="none", num_tokens=ConvEncoderConfig().num_tokens, depth=0, dropout=0.0, positions=False,
        pooling="mean",
    )  # fmt: skip


def _build_text_encoder(size: Size, *, transformer: bool) -> TextEncoderConfig:
    *_, width, heads = CONV_SIZES[size]
    texts = TextEncoderConfig(width=width, heads=heads, projection=width)
    if size in _FROM_NOTHING:
        texts = replace(
            texts, language_model=_SMALL_MODEL, tuned=True, stored=False, lower_case=True, length=128, depth=1
        )  # fmt: skip
    return texts if transformer else replace(texts, depth=0, dropout=0.1 if texts.tuned else 0.0)
