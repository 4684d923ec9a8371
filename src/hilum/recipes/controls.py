"""Arms beside `pacx` that tell what its gain is from (P 7.3, P 7.4). Others are flags of it: see the README."""

from __future__ import annotations

from dataclasses import replace

from hilum.config import Config, FeaturePreservation, ImageContrast, TeachersConfig

from .pacx import build_pacx
from .sizes import Preset, Size


def build_image_contrast(preset: Preset = "hilum", size: Size = "base") -> Config:
    """`pacx` without teachers: the same images and updates, and two looks at an image that find each other.

    A step holds as many images as one of `pacx`, each twice.
    """
    config = build_pacx(preset, size)
    is_own = preset == "hilum"
    contrast = ImageContrast(
        feature="both" if is_own else "class", same_patient="masked" if is_own else "negative",
        weight=config.terms["contrast"].weight,
    )  # fmt: skip
    data = replace(config.data, looks=2, views_per_step=2 * config.data.views_per_step)
    return replace(
        config, recipe="image_contrast", data=data, teachers=TeachersConfig(), terms={"image_contrast": contrast}
    )


def build_pacx_unfrozen(preset: Preset = "hilum", size: Size = "base") -> Config:
    """`pacx` that trains the whole encoder in place of low-rank updates."""
    return replace(build_pacx(preset, size), recipe="pacx_unfrozen", adapter=None)


def build_pacx_kept(preset: Preset = "hilum", size: Size = "base") -> Config:
    """`pacx` whose patch tokens are held where the masked autoencoder had them (P 7.3, no anatomical anchor)."""
    config = build_pacx(preset, size)
    return replace(config, recipe="pacx_kept", terms={**config.terms, "kept": FeaturePreservation()})
