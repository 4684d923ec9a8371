"""Recipes: plain functions from (preset, size) to a full config. A variant is a function of three lines.

Where a paper and its released code disagree there are two presets, `paper` as stated and `code` as released; `hilum` is
our own choice.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from hilum.config import Config
from hilum.errors import UserError

from .controls import build_image_contrast, build_pacx_kept, build_pacx_unfrozen
from .mv_clip import build_custom_clip, build_mammo_clip, build_mv_clip, build_mv_clip_tr
from .mvmae import build_independent, build_mvmae, build_mvmae_v2t
from .pacx import build_mae, build_mvmae_v2t_pacx, build_pacx
from .sizes import CONV_SIZES, ENCODER_SIZES, MAE_DECODER_SIZES, SELF_DECODER_SIZES, Preset, Size

__all__ = [
    "CONV_SIZES",
    "ENCODER_SIZES",
    "MAE_DECODER_SIZES",
    "RECIPES",
    "SELF_DECODER_SIZES",
    "Preset",
    "Size",
    "build_custom_clip",
    "build_image_contrast",
    "build_independent",
    "build_mae",
    "build_mammo_clip",
    "build_mv_clip",
    "build_mv_clip_tr",
    "build_mvmae",
    "build_mvmae_v2t",
    "build_mvmae_v2t_pacx",
    "build_pacx",
    "build_pacx_kept",
    "build_pacx_unfrozen",
    "build_recipe",
]

RECIPES: dict[str, Callable[[Preset, Size], Config]] = {
    "mvmae": build_mvmae,
    "mvmae_v2t": build_mvmae_v2t,
    "independent": build_independent,
    "mae": build_mae,
    "pacx": build_pacx,
    "pacx_kept": build_pacx_kept,
    "pacx_unfrozen": build_pacx_unfrozen,
    "image_contrast": build_image_contrast,
    "mvmae_v2t_pacx": build_mvmae_v2t_pacx,
    "custom_clip": build_custom_clip,
    "mv_clip": build_mv_clip,
    "mv_clip_tr": build_mv_clip_tr,
    "mammo_clip": build_mammo_clip,
}


def build_recipe(name: str, preset: Preset = "hilum", size: Size = "base") -> Config:
    """The full config of a recipe by name."""
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"There is no recipe '{name}'.{hint} Recipes: {', '.join(RECIPES)}, or a run's config.json.")
    return RECIPES[name](preset, size)
