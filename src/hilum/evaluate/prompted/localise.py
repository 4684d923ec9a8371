"""Where the maps of a run's prompts are largest, and whether lesions are there: scored on boxes and masks that no
training read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from hilum.breast_views import find_spacing
from hilum.cache import Cache
from hilum.evaluate.projection import show_views
from hilum.imaging.affine import map_to_source
from hilum.imaging.mammography.frame import find_breast_pixels
from hilum.model.conv_encoder import ConvEncoder

from .heat import Prompted, map_prompts, place_on_cache, spread_map
from .lesions import Lesions, mark_lesions
from .place_centres import find_place_centres
from .pointing import find_maxima, score_centre, score_chance, score_hit, widen
from .towers import Towers

PlaceMap = Float[np.ndarray, "row column"]


@dataclass(frozen=True)
class Located:
    """A map over a cached image, beside the lesions in it."""

    lesions: Lesions
    heat: Float[np.ndarray, "height width"]
    marked: Bool[np.ndarray, "height width"]  # the lesions
    breast: Bool[np.ndarray, "height width"]
    spacing_mm: tuple[float, float] | None  # of the cached pixels; None: nobody says

    def find_peak(self, cache: Cache) -> Float[np.ndarray, "2"]:
        """The map's (first) maximum in the breast: row and column in pixel centres of the source."""
        pixel = np.argwhere(find_maxima(self.heat, self.breast))[:1].astype(np.float64)
        return map_to_source(cache.views["affine"][self.lesions.view], pixel)[0]

    def score(self, tolerance_mm: float) -> dict[str, float] | None:
        """Hit, chance and the breast's centre; None where a tolerance is asked for and no spacing is known."""
        if tolerance_mm and self.spacing_mm is None:
            return None
        lesion = widen(self.marked, tolerance_mm, self.spacing_mm or (1.0, 1.0))
        return {
            "hit": score_hit(self.heat, lesion, self.breast),
            "chance": score_chance(lesion, self.breast),
            "centre": score_centre(lesion, self.breast),
        }


def map_lesions(
    towers: Towers, lesions: Sequence[Lesions], encoder: ConvEncoder, *, batch_views: int, title: str | None
) -> Iterator[tuple[Lesions, PlaceMap]]:
    """The map over the network's places of every entry, by views, each by the prompts of its kind."""
    by_view: dict[int, list[Lesions]] = {}
    for one in lesions:
        by_view.setdefault(one.view, []).append(one)
    asked = {kind: Prompted(*towers.prompts[kind], towers.scale) for kind in dict.fromkeys(one.kind for one in lesions)}
    studies = np.unique(towers.viewing.cache.views["study"][list(by_view)])
    for batch in show_views(towers.viewing, studies, batch_views, title):
        row = batch.view_row.cpu().numpy()
        kept = np.flatnonzero(np.isin(row, list(by_view)))
        if not len(kept):
            continue
        maps = map_prompts(encoder, batch.pixels[kept.tolist()], asked, mixed=towers.viewing.is_mixed)
        for place, view in enumerate(row[kept].tolist()):
            for one in by_view[view]:
                yield one, maps[one.kind][place]


def place_map(towers: Towers, view: int, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Centres of a map's rows and columns on the cached image of a view."""
    config, viewing = towers.image.config, towers.viewing
    centres = find_place_centres(config, grid)
    return place_on_cache(viewing.cache, view, viewing.crop, config.image_size, centres)


def locate(towers: Towers, lesions: Lesions, places: PlaceMap) -> Located:
    """A map of places over the cached image of its view, with the lesions and the breast there."""
    cache = towers.viewing.cache
    image = cache.image(lesions.view)
    rows, columns = place_map(towers, lesions.view, places.shape)
    return Located(
        lesions,
        spread_map(places, rows, columns, image.shape),
        mark_lesions(cache, lesions),
        find_breast_pixels(image),
        find_spacing(cache, lesions.view),
    )


def find_inner_places(towers: Towers, view: int, grid: tuple[int, int]) -> Bool[np.ndarray, "row column"]:
    """Places of a map whose centre is in the breast; all of them where hardly any is."""
    breast = find_breast_pixels(towers.viewing.cache.image(view))
    rows, columns = (
        np.clip(np.rint(centres), 0, side - 1).astype(int)
        for centres, side in zip(place_map(towers, view, grid), breast.shape, strict=True)
    )
    inside = breast[np.ix_(rows, columns)]
    return inside if inside.sum() > 3 else np.ones(grid, bool)


def choose_views(cache: Cache, lesions: Sequence[Lesions], num: int, purpose: str) -> list[Lesions]:
    """At most `num` entries, drawn by their studies and places and never by what was found of them."""
    from hilum.keyed_random import make_keys

    views = np.array([one.view for one in lesions])
    study = cache.views["study"][views]
    key, place = cache.studies["key"][study].view(np.int64), views - cache.studies["first_view"][study]
    order = np.argsort(make_keys(purpose, key, place, _count_within(views)), kind="stable")
    return [lesions[one] for one in sorted(order[:num].tolist())]


def _count_within(views: np.ndarray) -> np.ndarray:
    """0, 1, ... among neighbours that are equal."""
    return np.arange(len(views)) - np.searchsorted(views, views)
