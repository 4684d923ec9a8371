"""The tables of what is asked of pairs of test breasts without labels: texts found, views matched (L 3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hilum.evaluate.pairs import matching, retrieval
from hilum.evaluate.paper.index import MATCHING, RETRIEVAL, Suite
from hilum.evaluate.paper.table import SuiteTable, find_estimate, format_estimate, format_percent
from hilum.evaluate.result import Estimate, Result
from hilum.evaluate.scoring.bootstrap import LEVEL
from hilum.evaluate.scoring.ranking import TOPS

_WAYS = {RETRIEVAL: (retrieval.OF, retrieval.WAYS), MATCHING: (matching.OF, matching.WAYS)}
_TITLES = {RETRIEVAL: "Retrieval of texts", MATCHING: "Matching of views"}
_SIDES = {"ipsilateral_auc": "AUC within a woman", "ipsilateral_auc_pooled": "AUC over all women"}
_RECALLS = {f"recall_at_{top}": f"R@{top}" for top in TOPS}
_INTERVAL = (
    f"{LEVEL:.0%} intervals are of draws of women: whether each breast found its own is counted anew, among the same "
    "candidates. Chance: all candidates in random order."
)
_CAPTIONS = {
    RETRIEVAL: (
        "Share of test breasts, in percent, whose own text (or one of the same facts or words, which count as hits) is "
        "among the first, by cosine, of the texts of all test breasts, one a breast; and back. The rank is that of the "
        "first right one, its median. A breast's vector is the sum of those of its CC and its MLO view."
    ),
    MATCHING: (
        "Share of test breasts with both views, in percent, whose own other view is among the first, by cosine, of "
        "those of all such breasts; the woman's other breast is one of them, the same breast at another exam is not."
    ),
}


def tabulate_pairs(suite: Suite) -> list[SuiteTable]:
    """All tables of pairs that there are results for."""
    tables = [*_tabulate_ranks(suite, RETRIEVAL), *_tabulate_ranks(suite, MATCHING), *_tabulate_sides(suite)]
    return [*tables, *_tabulate_differences(suite)]


def _list_results(suite: Suite, kind: str) -> Iterator[tuple[str, Result]]:
    for method in suite.names:
        if result := suite.methods.get((kind, method, None)):
            yield method, result


def _tabulate_ranks(suite: Suite, kind: str) -> list[SuiteTable]:
    """R@k and median rank, each beside chance, a row for each method and direction."""
    of, ways = _WAYS[kind]
    rows = []
    for method, result in _list_results(suite, kind):
        for way in ways:
            counts = [f"{result.counts[name]:,}" for name in ("test_breasts", "candidates")]
            found = [format_percent(find_estimate(result, name, of, way)) for name in _RECALLS]
            chance = [_name_value(find_estimate(result, f"chance_at_{top}", of, way), 100.0) for top in TOPS]
            ranks = [format_estimate(find_estimate(result, "median_rank", of, way), 1.0, 0)]
            ranks.append(_name_value(find_estimate(result, "chance_median_rank", of, way), 1.0, 0))
            rows.append([f"{method}, {way}", *counts, *found, *chance, *ranks])
    columns = ["", "breasts", "candidates", *_RECALLS.values(), *(f"chance@{top}" for top in TOPS)]
    columns += ["median rank", "by chance"]
    caption = f"{_CAPTIONS[kind]} {_INTERVAL}"
    return [SuiteTable(_TITLES[kind], columns, rows, caption)] if rows else []


def _tabulate_sides(suite: Suite) -> list[SuiteTable]:
    """Whether a view is nearer to the other view of the same breast than to that of the other breast."""
    of, ways = _WAYS[MATCHING]
    rows = []
    for method, result in _list_results(suite, MATCHING):
        for way in ways:
            found = [format_percent(find_estimate(result, name, of, way)) for name in _SIDES]
            rows.append([f"{method}, {way}", f"{result.counts['breasts_beside_another']:,}", *found, "50.0"])
    caption = (
        "How often, in percent, a view is nearer to the other view of its own breast than to that of the other breast "
        "of the same exam; over all women: than to those of any woman's other breast, so that a cosine has to mean the "
        f"same for all. {LEVEL:.0%} intervals by patient."
    )
    columns = ["", "breasts", *_SIDES.values(), "chance"]
    return [SuiteTable("Own or other breast", columns, rows, caption)] if rows else []


def _tabulate_differences(suite: Suite) -> list[SuiteTable]:
    """Every method minus the first one, on the same breasts and draws of women."""
    first, rows = suite.index["first"], []
    for kind, (of, ways) in _WAYS.items():
        for method in (one for one in suite.names if one != first):
            result = suite.differences.get((kind, method, first))
            rows += [] if result is None else [_compare(f"{method}, {way}", result, of, way) for way in ways]
    caption = (
        f"Each method minus {first}, on the same breasts and the same draws of women: percentage points, and ranks (a "
        "lower one is better). An interval that holds 0 settles nothing; p are not computed."
    )
    columns = ["", *_RECALLS.values(), "median rank", *_SIDES.values()]
    return [SuiteTable(f"Pairs of breasts: differences to {first}", columns, rows, caption)] if rows else []


def _compare(title: str, result: Result, of: str, way: str) -> list[str]:
    def show(names: Sequence[str], scale: float, digits: int) -> list[str]:
        return [format_estimate(find_estimate(result, name, of, way), scale, digits, sign=True) for name in names]

    return [title, *show([*_RECALLS], 100.0, 1), *show(["median_rank"], 1.0, 0), *show([*_SIDES], 100.0, 1)]


def _name_value(estimate: Estimate, scale: float, digits: int = 1) -> str:
    """A number without its interval: chance is known."""
    return "-" if estimate.value is None else f"{scale * estimate.value:.{digits}f}"
