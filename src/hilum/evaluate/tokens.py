"""Patch tokens of every view, for heads that attend to them: kept as 16-bit numbers, where they are not too many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.cache.side_table import read_side_table, write_side_table

from .result import FEATURE_CODE, hash_code

# 2 GiB as 16-bit numbers: 7,000 views of a ViT-B/16 at 224 px, or 170,000 with 64 tokens of 96 numbers.
MAX_TOKEN_NUMBERS = 2**30
PIXEL_PATCHES = 4  # the pixels control is cut into so many patches a side


def read_or_make_tokens(
    cache: Cache,
    batches: Iterable[StudyBatch],
    encode: Callable[[StudyBatch], Float[Tensor, "view token dim"]],
    made_by: dict[str, Any],
    title: str | None,
) -> Float16[np.ndarray, "view token dim"]:
    """The patch tokens of all views, from the cache's side table, or made and stored there.

    Args:
        batches: of prepared views, drawn only where nothing is stored.
        encode: gives the patch tokens of a batch.
        made_by: what the tokens depend on beside the cache.
        title: of the progress bar; None shows none.
    """
    made_by = {name: value for name, value in made_by.items() if name != "grid"} | {"code": hash_code(FEATURE_CODE)}
    stored = read_side_table(cache, "tokens", made_by)
    if stored is None:
        parts: list[np.ndarray] = []
        with Progress(console=Console(stderr=True), disable=title is None) as bar, torch.inference_mode():
            task = bar.add_task(f"{title}, tokens", total=None)
            for batch in batches:
                parts.append(encode(batch).half().cpu().numpy())
                bar.advance(task, batch.num_views)
        stored = {"tokens": np.concatenate(parts)}
        write_side_table(cache, "tokens", stored, made_by)
    return stored["tokens"]


def note_regions(names: Sequence[str]) -> str:
    """What a reader must know of encoders whose tokens were too many."""
    return f"Too many to be stored: the patch tokens of {', '.join(names)}; means of regions stand for them."


def cut_pixels(pixels: Float32[np.ndarray, "view pixel"]) -> Float32[np.ndarray, "view patch dim"]:
    """Square images cut into 4 x 4 patches, row by row: what the attentive head reads of the pixels control.

    Example: 32 x 32 pixels are 16 patches of 8 x 8 = 64 pixels.
    """
    side, edge = PIXEL_PATCHES, int(pixels.shape[1] ** 0.5) // PIXEL_PATCHES
    cut = pixels.reshape(-1, side, edge, side, edge).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(cut).reshape(len(pixels), side**2, edge**2)
