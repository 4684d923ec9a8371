"""Masks of a cache's views: what is segmented, on the squares that encoders read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Int64
from PIL import Image

from hilum.cache import Cache
from hilum.checksums import hash_parts
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.vocabulary import SPLITS

from .squares import square_masks

Drawn = Mapping[str, Bool[np.ndarray, "_ _"] | None]  # structure -> mask of the whole image; None: nobody drew it


@dataclass(frozen=True)
class MaskTable:
    """Masks of some views, row for row."""

    structures: tuple[str, ...]
    view_row: Int64[np.ndarray, " view"]  # rows of the images in the cache, ascending
    mask: Bool[np.ndarray, "view structure size size"]  # on the square that `crop` cuts of the image
    known: Bool[np.ndarray, "view structure"]  # False: nobody drew it, and it counts nowhere
    patient: Int64[np.ndarray, " view"]
    split: Int64[np.ndarray, " view"]  # index into SPLITS; -1: none
    crop: CropConfig

    @property
    def size(self) -> int:
        """Side of the squares, in pixels."""
        return self.mask.shape[-1]

    def rows(self, split: str) -> Int64[np.ndarray, " view"]:
        """Rows of this table in a split."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def hash(self) -> str:
        """Digest of masks, structures, views and splits."""
        return hash_parts(
            [list(self.structures), self.view_row, np.packbits(self.mask), self.known, self.split, self.crop.mode]
        )


def build_masks(
    cache: Cache,
    drawn: Iterable[tuple[int, Drawn]],
    structures: Sequence[str],
    *,
    size: int,
    crop: CropConfig,
) -> MaskTable:
    """Lay masks of whole images on squares.

    Args:
        drawn: view row -> masks by structure, each of any resolution; rows in any order, each once. A structure that is
            not named is not known.
        size, crop: of the encoder that is to segment them.

    Raises:
        UserError: no masks, a view twice, or a mask whose sides are not in the proportion of its image's.
    """
    rows: dict[int, tuple[np.ndarray, list[bool]]] = {}
    for view, found in drawn:
        if view in rows:
            raise UserError(f"View {view} of {cache.path} has masks twice. Give each view once.")
        given = [found.get(name) for name in structures]
        for name, mask in zip(structures, given, strict=True):
            if mask is not None:
                _check_shape(cache, view, name, mask)
        squares = square_masks((np.zeros((1, 1), bool) if one is None else one for one in given), size=size, crop=crop)
        rows[view] = squares, [mask is not None for mask in given]
    if not rows:
        raise UserError(f"{cache.path}: no view has a mask of {', '.join(structures)}. Nothing can be segmented.")
    order = sorted(rows)
    study = cache.views["study"][order]
    return MaskTable(
        structures=tuple(structures),
        view_row=np.array(order, np.int64),
        mask=np.stack([rows[view][0] for view in order]),
        known=np.array([rows[view][1] for view in order]),
        patient=cache.studies["patient"][study],
        split=cache.studies["split"][study].astype(np.int64),
        crop=crop,
    )


def read_phantom_masks(archive: Path, cache: Cache, structures: Sequence[str]) -> Iterator[tuple[int, Drawn]]:
    """The true masks of a phantom archive written with masks, for the views of its cache.

    Structures are those of `phantom.masks`. A finding that an image does not show has an empty mask: the phantom knows.

    Raises:
        UserError: an archive without masks, of another cache, or a structure that the phantom does not tell.
    """
    if not (archive / "lesions.csv").is_file():
        raise UserError(f"{archive}: no masks are here. Write the phantom with `hilum phantom --masks`.")
    from hilum.phantom.masks import EXTENDED  # compiles the phantom, which nothing else here needs

    views = cache.table().select("views").explode("views").unnest("views")
    for view, path in enumerate(views["path"]):
        place = PurePosixPath(path)
        listed = archive / "masks" / place.parent.name / f"{place.stem}.json"
        if not listed.is_file():
            raise UserError(f"{listed}: there are no masks of {path}. Is this the archive that the cache was made of?")
        names = json.loads(listed.read_text("utf-8"))
        if unknown := [name for name in structures if name not in names and name not in EXTENDED]:
            raise UserError(
                f"{listed}: there is no mask of '{unknown[0]}'. Choose from {', '.join((*names, *EXTENDED))}."
            )
        nowhere = np.zeros((int(cache.views["height"][view]), int(cache.views["width"][view])), bool)
        yield (
            view,
            {name: _read_png(listed.parent / names[name]) if name in names else nowhere for name in structures},
        )


def _read_png(path: Path) -> Bool[np.ndarray, "height width"]:
    with Image.open(path) as image:
        return np.asarray(image) > 0


def _check_shape(cache: Cache, view: int, name: str, mask: np.ndarray) -> None:
    height, width = int(cache.views["height"][view]), int(cache.views["width"][view])
    # Half a pixel of either side is rounding.
    if abs(mask.shape[0] * width - mask.shape[1] * height) > max(*mask.shape, height, width):
        raise UserError(
            f"The mask of {name} of view {view} has {mask.shape[0]} x {mask.shape[1]} pixels, its image "
            f"{height} x {width}: other proportions. A mask must cover the whole image."
        )
