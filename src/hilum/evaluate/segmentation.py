"""Segmentation from an encoder's patch tokens: a decoder trained on a frozen encoder, or both together (P 3.5).

The epoch with the best mean Dice on validation is kept.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.launch import StopRequest
from hilum.memory import tells_exhaustion
from hilum.model.image_encoder import ImageEncoder
from hilum.progress import RunProgress

from .features import hash_weights
from .masks import MaskTable
from .segmentation_settings import SegmentationSettings
from .segmentation_state import Segmented, Segmenting
from .subject import check_cache


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
        checkpoints: folder in which checkpoints are kept, and from whose newest the training continues. The caller
            sees to it that it is of the same settings, and is its only writer.
        checkpoint_minutes: time between checkpoints; one is written at a stop signal as well.

    Raises:
        UserError: a split without masks, patients in two splits, masks of another size, a loss that is not finite, not
            enough memory, or an encoder that `build_decoder` refuses.
        SystemExit: stopped by a signal, after saving a checkpoint; the code is 128 + the signal's number.
    """
    check_masks(masks, encoder)
    check_cache(cache, encoder)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        segmenting = Segmenting(cache, encoder, masks, settings, mean=mean, std=std, progress=progress)
        stop = StopRequest()
        if checkpoints is not None:
            segmenting.load(checkpoints)
            stack.enter_context(stop.listen())
        title = f"segment {name}"
        bar = stack.enter_context(RunProgress(title, segmenting.num_steps, segmenting.num_done, silent=not progress))
        if segmenting.num_done:
            bar.say(f"Continued at step {segmenting.num_done} of {segmenting.num_steps}")
        saved_at = time.monotonic()
        with _explain_exhaustion(settings):
            for rows in segmenting.iterate():
                if stop.signal_number:
                    break
                bar.advance(loss=segmenting.take_step(rows), views=float(len(rows)), waited=0.0)
                if segmenting.is_validation_due():
                    bar.say(segmenting.validate())
                if checkpoints is not None and time.monotonic() - saved_at > 60 * checkpoint_minutes:
                    segmenting.save(checkpoints)
                    saved_at = time.monotonic()
        if stop.signal_number:
            assert checkpoints is not None, "signals are listened to only where checkpoints are kept"
            segmenting.save(checkpoints)
            done = f"step {segmenting.num_done} of {segmenting.num_steps}"
            bar.say(f"Stopped at {done} and saved. The same command continues there.")
            raise SystemExit(128 + stop.signal_number)
        return segmenting.finish(name, hash_weights(encoder))


def check_masks(masks: MaskTable, encoder: ImageEncoder) -> None:
    """Refuse masks that cannot be learned, chosen by and judged, or that do not lie on what the encoder reads.

    Raises:
        UserError: another size, a split without a known mask of a structure, or patients in two splits.
    """
    if masks.size != encoder.image_size:
        raise UserError(
            f"The masks are of {masks.size} px, the encoder reads {encoder.image_size} px. Lay them on its squares "
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


@contextmanager
def _explain_exhaustion(settings: SegmentationSettings) -> Generator[None, None, None]:
    """Turn "out of memory" into what to change.

    Raises:
        UserError: memory ran out within the block.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not tells_exhaustion(error):
            raise
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"Out of memory in a step of {settings.views_per_step} views: take fewer views a step, or keep fewer "
            f"tokens in memory. ({told})"
        ) from error
