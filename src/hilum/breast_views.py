"""The breasts of a cache, and which image stands for each of their two views: by rule, then by seed (L 4.2).

Of 47,652 breast views of RSNA's archive 6,522 have several images. Those count that show the breast: it was found in
them, and its area is at least nine tenths of the largest (an exposure of a part of the breast does not stand for it).
Among these the seed chooses, anew each time a breast is drawn. The loader shows them where data.breasts says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from .cache import Cache
from .errors import UserError
from .imaging.affine import measure_spacing
from .keyed_random import make_keys
from .vocabulary import LATERALITIES, VIEW_KINDS

LEAST_AREA = 0.9  # of the largest image of the same view
NONE = -1  # in the place of a view that a breast does not have
_KINDS = ("cc", "mlo")


@dataclass(frozen=True)
class BreastViews:
    """Breasts with a CC or an MLO view, in the order of their studies, left before right.

    The images that may stand for a view lie together in `view`: of breast b and kind k (0: CC, 1: MLO) those from
    `first[b, k]`, `count[b, k]` of them.
    """

    study: Int64[np.ndarray, " breast"]  # row of the cache's studies
    laterality: Int64[np.ndarray, " breast"]  # index into LATERALITIES
    key: Int64[np.ndarray, " breast"]  # of its study, for random draws
    first: Int64[np.ndarray, "breast 2"]
    count: Int64[np.ndarray, "breast 2"]
    view: Int64[np.ndarray, " image"]  # row of the cache's views

    def choose(
        self, breast: Int64[np.ndarray, " draw"], draw: Int64[np.ndarray, " draw"], seed: int
    ) -> Int64[np.ndarray, "draw 2"]:
        """A CC and an MLO view of each breast drawn, NONE where it has none; `draw`: how often it was drawn before."""
        chosen = np.full((len(breast), 2), NONE, np.int64)
        for kind in range(2):
            count = self.count[breast, kind]
            keys = make_keys(f"breast view {_KINDS[kind]}", seed, self.key[breast], self.laterality[breast], draw)
            place = self.first[breast, kind] + (keys % np.maximum(count, 1).astype(np.uint64)).astype(np.int64)
            chosen[count > 0, kind] = self.view[place[count > 0]]
        return chosen


def list_breasts(
    cache: Cache, rows: Int64[np.ndarray, " study"], area: Float64[np.ndarray, " view"] | None = None
) -> BreastViews:
    """The breasts of the studies in `rows` of a cache of mammograms.

    Args:
        area: Of the breast in each view of the cache, see `measure_areas`, which is taken where it is not given.

    Raises:
        UserError: the cache was not made by a policy of mammograms, and no area is given.
    """
    views = cache.views
    kind = np.select([views["view_kind"] == VIEW_KINDS.index(name) for name in _KINDS], [0, 1], NONE)
    sides = [LATERALITIES.index(side) for side in ("left", "right")]
    wanted = np.flatnonzero((kind != NONE) & np.isin(views["laterality"], sides) & np.isin(views["study"], rows))
    # Cells, one for each study, side and kind, in order.
    place = np.stack([views["study"][wanted], views["laterality"][wanted], kind[wanted]], axis=1)
    cells, cell = np.unique(place, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    area = (measure_areas(cache) if area is None else area)[wanted]
    largest = np.zeros(len(cells))
    np.maximum.at(largest, cell, area)
    kept = area >= LEAST_AREA * largest[cell]  # all of them where the breast was found in none
    order = np.lexsort((wanted[kept], cell[kept]))
    count = np.bincount(cell[kept], minlength=len(cells))
    first = np.cumsum(count) - count
    breasts, breast = np.unique(cells[:, :2], axis=0, return_inverse=True)
    table = np.zeros((2, len(breasts), 2), np.int64)
    table[0, breast.reshape(-1), cells[:, 2]], table[1, breast.reshape(-1), cells[:, 2]] = first, count
    key = cache.studies["key"][breasts[:, 0]].view(np.int64)
    return BreastViews(breasts[:, 0], breasts[:, 1], key, *table, wanted[kept][order])


class BreastFindings(NamedTuple):
    """Which of some breasts have a finding, and how many have one of each kind."""

    has: Bool[np.ndarray, " breast"]
    kinds: dict[str, int]


def find_findings(cache: Cache, breasts: BreastViews) -> BreastFindings:
    """A breast has a finding where the cache's table says 1 of one of FINDING_KINDS, by a label or by a finding in it.

    Cancer, biopsies, recalls and assessments are no findings: they say what came of an exam, not what is seen in it.

    Raises:
        UserError: the table tells of no finding in any of the breasts.
    """
    from .breasts import FINDING_KINDS, tabulate_breasts  # and polars, which the steps of training do without

    table = cache.table()
    rows = table.select("dataset", "study").with_row_index("row")
    told = tabulate_breasts(table).join(rows, on=["dataset", "study"], how="left", maintain_order="left")
    row, side = (told[name].to_numpy() for name in ("row", "laterality"))
    named = row.astype(np.int64) * len(LATERALITIES) + np.array([LATERALITIES.index(one) for one in side], np.int64)
    wanted = breasts.study * len(LATERALITIES) + breasts.laterality
    has = {
        kind: np.isin(wanted, named[(told[kind] == 1).fill_null(value=False).to_numpy()])
        for kind in FINDING_KINDS
        if kind in told.columns
    }
    if not any(one.any() for one in has.values()):
        known = f"of {len(wanted):,} to learn from none has one" if has else "its study table tells of none"
        raise UserError(
            f"{cache.path}: data.finding_share asks for breasts with findings, and {known} (mass, calcification, ...; "
            "cancers and biopsies are no findings). Take a cache whose archive has findings, or set "
            "data.finding_share=0."
        )
    kinds = {kind: int(one.sum()) for kind, one in has.items() if one.any()}
    return BreastFindings(np.logical_or.reduce(list(has.values())), kinds)


def measure_areas(cache: Cache) -> Float64[np.ndarray, " view"]:
    """The breast's area in each view, in square millimetres, or in pixels of its source where no spacing is known."""
    spacing = cache.breasts["spacing_mm"].astype(np.float64)
    return cache.breasts["area"] * np.where(np.isnan(spacing).any(1), 1.0, spacing.prod(1))


def find_spacing(cache: Cache, view: int) -> tuple[float, float] | None:
    """Millimetres between rows and between columns of a cached image; None where nothing says it."""
    if not cache.is_of_mammograms:
        return None
    spacing = cache.breasts["spacing_mm"][view]
    if np.isnan(spacing).any():
        return None
    return measure_spacing(cache.views["affine"][view], (float(spacing[0]), float(spacing[1])))
