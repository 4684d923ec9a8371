"""Where masks come from: a cache whose study table names them, or a phantom's archive that was written with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hilum.cache import Cache
from hilum.checksums import hash_parts
from hilum.errors import UserError
from hilum.evaluate.segmentation.masks import Drawn, read_phantom_masks
from hilum.masks import read_masks
from hilum.study import MASK

from .distillation import MaskSource

OWN = "mask"  # what the one structure is called that a study table names
PHANTOM = ("heart", "lungs", "bone")


def find_masks(cache: Cache, archive: Path | None, structures: Sequence[str] = ()) -> MaskSource | None:
    """The masks of a phantom's archive, where one is given, or of the cache; None where it has none.

    Args:
        archive: of `hilum phantom --masks`, of which the cache was made.
        structures: which of its masks; heart, lungs and bones where not given.

    Raises:
        UserError: structures of a cache, which has one; an archive without masks, or without those.
    """
    if archive is not None:
        names = tuple(structures or PHANTOM)
        next(read_phantom_masks(archive, cache, names), None)  # what is not there is said before anything is computed
        digest = hash_parts([cache.digest, "phantom", list(names)])
        return MaskSource(names, lambda: read_phantom_masks(archive, cache, names), digest)
    if structures:
        raise UserError(
            "--structures has no effect without --masks ARCHIVE: the masks of a cache are of one structure."
        )
    table = cache.table()
    if MASK not in table.columns or table[MASK].null_count() == len(table):
        return None
    return MaskSource((OWN,), lambda: _draw_own(cache), hash_parts([cache.digest, "own"]))


def _draw_own(cache: Cache) -> Iterator[tuple[int, Drawn]]:
    masks = read_masks(cache)
    for view in masks.view.tolist():
        yield view, {OWN: masks.read(cache, view)}
