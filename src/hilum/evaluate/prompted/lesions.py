"""Where findings are in the views of a cache: boxes and masks of the study table, as pixels of the cached image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from hilum.breasts import BREAST_FINDINGS, FINDING_KINDS
from hilum.cache import Cache
from hilum.errors import UserError
from hilum.imaging.affine import Affine, map_from_source, map_to_source
from hilum.imaging.rejection import RejectedImage
from hilum.masks import read_mask
from hilum.study import read_studies


@dataclass(frozen=True)
class Lesions:
    """All findings of one kind in one view."""

    view: int  # row of the cache
    kind: str
    boxes: Float[np.ndarray, "box 4"]  # of those without a mask: top, left, bottom, right, edges in source pixels
    masks: tuple[Path, ...]  # of the others: files of the source's size
    size: tuple[int, int]  # height and width of the source


def list_lesions(
    cache: Cache, kinds: tuple[str, ...], split: str = "test", leave_out: Sequence[str] = ()
) -> list[Lesions]:
    """Findings of these kinds with a box or a mask in the views of a split, by view, then by kind; but for those of
    archives to leave out.

    A finding's mask counts, or its box where it has no mask or the file is missing; without both it has no place.

    Raises:
        UserError: no kinds, or the study table says nothing of findings, or of none of these where they are.
    """
    if not kinds:
        raise UserError(f"--finding names none; expected some of {', '.join(FINDING_KINDS)}.")
    table = read_studies(cache.path / "studies.parquet")  # whose roots are then where the archive is
    if BREAST_FINDINGS not in table.columns:
        raise UserError(
            f"{cache.path}: its study table has no column {BREAST_FINDINGS}: nobody says where lesions are."
        )
    views = table.select("dataset", "study", "root", "views").explode("views").unnest("views").with_row_index("view")
    assert len(views) == len(cache.views), "the study table lists other views than the cache"
    found = table.select("dataset", "study", BREAST_FINDINGS).explode(BREAST_FINDINGS).unnest(BREAST_FINDINGS)
    keys = ["dataset", "study", "path"]
    placed = found.filter(pl.col("kind").is_in(kinds)).join(
        views.select(*keys, "view", "root", "height", "width"), on=keys, how="inner"
    )
    wanted = np.isin(cache.views["study"][placed["view"].to_numpy()], cache.rows(split, leave_out))
    lesions = []
    for (view, kind), part in placed.filter(pl.Series(wanted)).sort("view", "kind").group_by(
        "view", "kind", maintain_order=True
    ):  # fmt: skip
        root = Path(part["root"][0])
        has_mask = pl.Series([bool(one) and (root / one).is_file() for one in part["mask"]])
        masks = tuple(root / one for one in part.filter(has_mask)["mask"])
        boxes = part.filter(~has_mask).select("top", "left", "bottom", "right").drop_nulls().to_numpy()
        if len(boxes) or masks:
            size = (int(part["height"][0]), int(part["width"][0]))
            lesions.append(Lesions(int(view), str(kind), boxes.astype(np.float64), masks, size))
    if not lesions:
        raise UserError(
            f"{cache.path}: no {split} view has a box or a mask of {', '.join(kinds)}. Choose other findings, another "
            "--split, or an archive that draws where they are."
        )
    return lesions


def mark_lesions(cache: Cache, lesions: Lesions) -> Bool[np.ndarray, "height width"]:
    """Pixels of the cached image whose centre lies in one of the boxes or masks; of a lesion so small that none does,
    the pixel with its middle. All false where the cached image does not show it.

    Raises:
        UserError: a mask that cannot be read, or is of another size than its image.
    """
    record = cache.views[lesions.view]
    affine, shape = record["affine"], (int(record["height"]), int(record["width"]))
    marked = np.zeros(shape, bool)
    for box in lesions.boxes:
        marked |= mark_box(affine, shape, box)
    for path in lesions.masks:
        try:
            mask = read_mask(path, lesions.size)
        except (RejectedImage, OSError) as error:
            raise UserError(f"{path}: cannot be used as a mask ({error}). Repair it, or leave it out.") from error
        marked |= mark_mask(affine, shape, mask)
    return marked


def mark_box(affine: Affine, shape: tuple[int, int], box: Float[np.ndarray, "4"]) -> Bool[np.ndarray, "height width"]:
    """Pixels of a cached image of this shape whose centre lies in a box of the source."""
    points = _list_points(affine, shape) + 0.5  # as edges are counted
    inside = ((points >= box[:2]) & (points <= box[2:])).all(axis=-1)
    return inside if inside.any() else _mark_point(affine, shape, (box[:2] + box[2:]) / 2 - 0.5)


def mark_mask(
    affine: Affine, shape: tuple[int, int], mask: Bool[np.ndarray, "source_height source_width"]
) -> Bool[np.ndarray, "height width"]:
    """Pixels of a cached image of this shape whose centre lies on a true pixel of a mask of the source."""
    if not mask.any():
        return np.zeros(shape, bool)
    points = np.rint(_list_points(affine, shape)).astype(np.int64)
    inside = ((points >= 0) & (points < mask.shape)).all(axis=-1)
    rows, columns = np.where(inside, points[..., 0], 0), np.where(inside, points[..., 1], 0)
    marked = inside & mask[rows, columns]
    return marked if marked.any() else _mark_point(affine, shape, np.argwhere(mask).mean(axis=0))


@lru_cache(maxsize=4)
def _list_pixels(shape: tuple[int, int]) -> Float[np.ndarray, "pixel 2"]:
    return np.indices(shape).reshape(2, -1).T.astype(np.float64)


def _list_points(affine: Affine, shape: tuple[int, int]) -> Float[np.ndarray, "height width 2"]:
    """The point of the source that each pixel of the cached image shows."""
    return map_to_source(affine, _list_pixels(shape)).reshape(*shape, 2)


def _mark_point(
    affine: Affine, shape: tuple[int, int], point: Float[np.ndarray, "2"]
) -> Bool[np.ndarray, "height width"]:
    marked = np.zeros(shape, bool)
    row, column = np.rint(map_from_source(affine, point[None])[0]).astype(np.int64).tolist()
    if 0 <= row < shape[0] and 0 <= column < shape[1]:
        marked[row, column] = True
    return marked
