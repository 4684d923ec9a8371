"""Segmentation from an encoder's patch tokens: a decoder trained on a frozen encoder, or both together (P 3.5).

The epoch with the best mean Dice on validation is kept.
"""

from __future__ import annotations

from pathlib import Path

import torch

from hilum.cache import Cache
from hilum.checksums import hash_weights
from hilum.errors import UserError
from hilum.evaluate.subject import check_cache
from hilum.evaluate.supervised_training import train_supervised
from hilum.model.image_encoder import ImageEncoder

from .masks import MaskTable
from .settings import SegmentationSettings
from .state import Segmented, Segmenting


def segment_encoder(
    cache: Cache,
    encoder: ImageEncoder,
    masks: MaskTable,
    settings: SegmentationSettings,
    *,
    name: str,
    mean: float,
    std: float,
    checkpoints: Path | None = None,
    checkpoint_minutes: float = 10.0,
    progress: bool = True,
) -> Segmented:
    """Train a decoder on the training views that have masks, choose the epoch on validation, and draw the test views.

    Args:
        masks: laid on squares of the encoder's image size; its crop is what is shown of each image.
        name: what the encoder is called in tables.
        mean, std: normalisation the encoder was trained with; 0 and 1 for a public one, which normalises by itself.
        checkpoints, checkpoint_minutes: see `train_supervised`.

    Raises:
        UserError: a split without masks, patients in two splits, masks of another size, a loss that is not finite, not
            enough memory, or an encoder that `build_decoder` refuses.
        SystemExit: stopped by a signal, after saving a checkpoint; the code is 128 + the signal's number.
    """
    check_masks(masks, encoder)
    check_cache(cache, encoder)
    with torch.random.fork_rng():
        segmenting = Segmenting(cache, encoder, masks, settings, mean=mean, std=std, progress=progress)
        return train_supervised(
            segmenting,
            lambda: segmenting.finish(name, hash_weights(encoder)),
            title=f"segment {name}",
            advice=f"of {settings.views_per_step} views: take fewer views a step, or keep fewer tokens in memory",
            checkpoints=checkpoints,
            checkpoint_minutes=checkpoint_minutes,
            progress=progress,
        )


def check_masks(masks: MaskTable, encoder: ImageEncoder) -> None:
    """Refuse masks that cannot be learned, chosen by and judged, or that do not lie on what the encoder reads.

    Raises:
        UserError: another size, a split without a known mask of a structure, or patients in two splits.
    """
    if masks.size != encoder.side:
        raise UserError(
            f"The masks are of {masks.size} px, the encoder reads {encoder.side} px. Lay them on its squares "
            "(`build_masks`)."
        )
    names = {"train": "training", "val": "validation", "test": "test"}
    for split, title in names.items():
        known = masks.known[masks.rows(split)].any(axis=0)
        for structure, is_known in zip(masks.structures, known, strict=True):
            if not is_known:
                raise UserError(f"There is no {title} view with a known mask of {structure}: each split needs some.")
    train, val, test = (set(masks.patient[masks.rows(split)].tolist()) for split in names)
    if shared := (train & val) | (train & test) | (val & test):
        raise UserError(f"{len(shared)} patients have masks in two splits. Split by patient.")
