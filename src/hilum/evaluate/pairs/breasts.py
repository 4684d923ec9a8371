"""The breasts of the test split, one text of each, and the vectors of their views."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from hilum.breast_views import BreastViews, list_breasts
from hilum.cache import Cache
from hilum.evaluate.scoring.cosines import normalize_rows
from hilum.text.descriptions import TextRows, hash_text


@dataclass(frozen=True)
class BreastTexts:
    """One text of each breast that has any.

    Two breasts have identical descriptions where their statements (facts) are the same, or their texts are, word for
    word: no encoder could tell these apart. Facts are of the archive's record, of which a text may say a part.
    """

    breast: Int64[np.ndarray, " row"]  # place among the breasts, ascending
    text: Int64[np.ndarray, " row"]  # place among the distinct texts
    facts: Int64[np.ndarray, " row"]  # equal numbers: the same facts, or, without any, the same text
    distinct: tuple[str, ...]


def list_test_breasts(cache: Cache, leave_out: Sequence[str] = ()) -> BreastViews:
    """Breasts of test studies with a CC or an MLO view, and the images of each.

    Of several images of a view all count that show the whole breast (`breast_views.py`); in a cache that no policy of
    mammograms made nobody knows which do, and all count.
    """
    area = None if cache.is_of_mammograms else np.zeros(len(cache.views))
    return list_breasts(cache, cache.rows("test", leave_out), area)


def choose_texts(rows: TextRows, breasts: BreastViews) -> BreastTexts:
    """One text of each breast: of several variants that of the least hash, which prefers no style and never changes.

    A text of a whole study is one of both its breasts. Breasts without a text are left out.
    """
    there: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, name in enumerate(zip(rows.study.tolist(), rows.laterality.tolist(), strict=True)):
        there[name].append(row)
    breast, chosen = [], []
    for place, (study, side) in enumerate(zip(breasts.study.tolist(), breasts.laterality.tolist(), strict=True)):
        if variants := [*there.get((study, side), ()), *there.get((study, 0), ())]:
            breast.append(place)
            chosen.append(min(variants, key=lambda row: (hash_text(rows.text[row]), rows.text[row])))
    facts = [tuple(sorted(set(rows.facts[row]))) or rows.text[row] for row in chosen]
    distinct = sorted({rows.text[row] for row in chosen})
    return BreastTexts(
        np.array(breast, np.int64), _number([rows.text[row] for row in chosen]), _number(facts), tuple(distinct)
    )


def _number(names: Sequence[Hashable]) -> Int64[np.ndarray, " row"]:
    """Equal numbers for equal names, in the order of the names as they are sorted."""
    place = {name: number for number, name in enumerate(sorted(set(names), key=lambda one: (str(type(one)), one)))}
    return np.array([place[name] for name in names], np.int64)


def average_views(
    vectors: Float[np.ndarray, "view dim"], view: Int64[np.ndarray, " view"], breasts: BreastViews
) -> Float64[np.ndarray, "breast 2 dim"]:
    r"""A unit vector of each breast's CC and MLO view: the mean over the view's images of their unit vectors, of length
    1; zeros where there is none.

    .. math:: z_{bk} = \bar u_{bk} / \lVert \bar u_{bk} \rVert, \qquad
        \bar u_{bk} = \frac{1}{n_{bk}} \sum_{i \in (b, k)} v_i / \lVert v_i \rVert

    Args:
        vectors: of images, not of unit length.
        view: row of each of them in the cache; all of the breasts' images are among them.
    """
    order = np.argsort(view)
    place = order[np.searchsorted(view[order], breasts.view)]
    assert np.array_equal(view[place], breasts.view), "every image of a breast has a vector"
    owner = np.repeat(np.arange(breasts.count.size), breasts.count.ravel())
    total = np.zeros((breasts.count.size, vectors.shape[1]))
    np.add.at(total, owner, normalize_rows(vectors)[place])
    return normalize_rows(total).reshape(*breasts.count.shape, -1)
