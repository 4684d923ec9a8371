"""From what the evaluations of distilled encoders found to their `result.json`."""

from __future__ import annotations

from hilum.cache import Cache
from hilum.evaluate.result import Estimate, Hashes, Result, hash_code
from hilum.evaluate.scoring.bootstrap import LEVEL, NUM_RESAMPLES
from hilum.evaluate.segmentation.scores import estimate_masks
from hilum.evaluate.segmentation.state import Segmented

from .alignment_probe import AlignmentProbe


def record_segmentation(
    result: Segmented, cache: Cache, *, num_resamples: int = NUM_RESAMPLES, notes: tuple[str, ...] = ()
) -> Result:
    """All metrics of the test views' masks by the epoch that validation chose."""
    protocol = {
        "kind": "segmentation",
        **result.settings,
        "structures": list(result.structures),
        "threshold": 0.5,
        "empty_masks": "two agree (overlap 1, distance 0); one alone: overlap 0, distance the image's diagonal",
        "best_epoch": result.best_epoch,
        "history": result.history,
        "unit": "view",
    }
    return Result(
        encoder=result.encoder,
        task=f"segmentation of {', '.join(result.structures)}",
        protocol=protocol,
        seed=result.seed,
        estimates=estimate_masks(result.test, num_resamples=num_resamples),
        hashes=Hashes(data=cache.digest, split=result.masks, weights=result.weights_before, code=hash_code()),
        counts=result.counts,
        level=LEVEL,
        num_resamples=num_resamples,
        notes=notes,
    )


def record_alignment(
    probe: AlignmentProbe,
    estimates: list[Estimate],
    *,
    encoder: str,
    hashes: Hashes,
    num_resamples: int = NUM_RESAMPLES,
    notes: tuple[str, ...] = (),
) -> Result:
    """What an encoder tells of a teacher's vectors.

    Args:
        estimates: those of `estimate_alignment`, made with as many resamples.
        encoder: what it is called in tables.
        hashes: of what features and pairs were made from.
    """
    return Result(
        encoder=encoder,
        task=f"alignment with {probe.teacher}",
        protocol={**probe.protocol, "unit": "study"},
        seed=probe.seed,
        estimates=estimates,
        hashes=hashes,
        counts=probe.counts,
        level=LEVEL,
        num_resamples=num_resamples,
        notes=(*probe.notes, *notes),
    )
