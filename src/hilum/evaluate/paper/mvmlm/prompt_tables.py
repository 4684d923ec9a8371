"""The tables of what is asked by prompts: findings scored without labels (L 3.3), and found without boxes (L 6)."""

from __future__ import annotations

from collections.abc import Iterator

from hilum.evaluate.paper.index import HEAT_MAPS, ZERO_SHOT, Suite, name_task
from hilum.evaluate.paper.table import SuiteTable, find_estimate, format_percent
from hilum.evaluate.prompted.randomisation import MOST_ALIKE, judge_randomisation
from hilum.evaluate.result import Result
from hilum.evaluate.scoring.bootstrap import LEVEL

_SCORED = {"auroc": "AUROC", "average_precision": "AUPRC"}
_POINTED = {
    "pointing_hit": "hit",
    "pointing_chance": "chance",
    "pointing_above_chance": "hit - chance",
    "pointing_above_centre": "hit - breast's centre",
}
_EXACT = "tolerance=0 mm"


def tabulate_prompts(suite: Suite) -> list[SuiteTable]:
    """All tables of prompts that there are results for."""
    return [
        *_tabulate_scores(suite), *_tabulate_scored_differences(suite), *_tabulate_pointing(suite),
        *_tabulate_forgetting(suite), *_tabulate_pointed_differences(suite),
    ]  # fmt: skip


def _list_tasks(suite: Suite) -> list[str]:
    """Tasks with zero-shot scores, in the order they were asked."""
    end = name_task("", ZERO_SHOT)
    return list(dict.fromkeys(kind.removesuffix(end) for kind, _, _ in suite.methods if kind.endswith(end)))


def _list_targets(result: Result) -> list[str]:
    return list(dict.fromkeys(one.of for one in result.estimates))


def _tabulate_scores(suite: Suite) -> list[SuiteTable]:
    rows = []
    for task in _list_tasks(suite):
        for method in suite.names:
            if result := suite.methods.get((name_task(task, ZERO_SHOT), method, None)):
                for target in _list_targets(result):
                    found = [find_estimate(result, metric, target, "all") for metric in _SCORED]
                    title = f"{task}, {method}" if len(_list_targets(result)) == 1 else f"{task}: {target}, {method}"
                    size = f"{found[0].positives or 0:,} of {found[0].num:,}"
                    rows.append([title, size, *(format_percent(one) for one in found)])
    caption = (
        "In percent on all test rows: how much nearer an image is to prompts of presence than of absence, by cosine; "
        "of several views of a breast the mean. No label was read and nothing is chosen. "
        f"{LEVEL:.0%} intervals by patient."
    )
    return [SuiteTable("Zero-shot", ["", "test positives", *_SCORED.values()], rows, caption)] if rows else []


def _tabulate_scored_differences(suite: Suite) -> list[SuiteTable]:
    first, rows = suite.index["first"], []
    for task in _list_tasks(suite):
        for method in suite.names:
            if result := suite.differences.get((name_task(task, ZERO_SHOT), method, first)):
                for target in _list_targets(result):
                    found = [find_estimate(result, metric, target, "all") for metric in _SCORED]
                    rows.append([f"{task}: {target}, {method}", *(format_percent(one, sign=True) for one in found)])
    caption = (
        f"Each method minus {first} in percentage points, on the same rows and the same draws of patients; an interval "
        "that holds 0 settles nothing."
    )
    return [SuiteTable(f"Zero-shot: differences to {first}", ["", *_SCORED.values()], rows, caption)] if rows else []


def _list_maps(suite: Suite) -> Iterator[tuple[str, Result]]:
    for method in suite.names:
        if result := suite.methods.get((HEAT_MAPS, method, None)):
            yield method, result


def _list_pointed(result: Result) -> list[tuple[str, str]]:
    """Findings and tolerances that maps were scored for."""
    return [(one.of, one.slice) for one in result.estimates if one.metric == "pointing_hit"]


def _name_pointed(method: str, finding: str, slice: str) -> str:
    return f"{method}, {finding}" if slice == _EXACT else f"{method}, {finding}, {slice.partition('=')[2]} around"


def _tabulate_pointing(suite: Suite) -> list[SuiteTable]:
    """Hit rates beside those of a random point and of the breast's centre."""
    rows = []
    for method, result in _list_maps(suite):
        for finding, slice in _list_pointed(result):
            found = {name: find_estimate(result, name, finding, slice) for name in _POINTED}
            cells = [format_percent(one, sign="above" in name) for name, one in found.items()]
            rows.append([_name_pointed(method, finding, slice), f"{found['pointing_hit'].num:,}", *cells])
    caption = (
        "Pointing game: how often, in percent, the largest value of a finding's map in the breast lies in the finding "
        "(or, where pixels' size is known, so far around it), of views in which it is drawn. Chance is the finding's "
        f"share of the breast. No box was read in training. {LEVEL:.0%} intervals by patient."
    )
    return [SuiteTable("Heat maps", ["", "test views", *_POINTED.values()], rows, caption)] if rows else []


def _tabulate_forgetting(suite: Suite) -> list[SuiteTable]:
    """The weight-randomisation test: are maps others when nothing learned is left in the image encoder?"""
    rows = []
    for method, result in _list_maps(suite):
        slice = f"random={list(result.protocol['cascade'])[-1]}"
        for finding in dict.fromkeys(finding for finding, _ in _list_pointed(result)):
            alike = find_estimate(result, "map_rank_correlation", finding, slice)
            structure = find_estimate(result, "map_structure", finding, slice)
            passes, why = judge_randomisation(alike)
            verdict = "passed" if passes else "not passed" if alike.high is not None else why
            cells = [format_percent(one) for one in (alike, structure)]
            rows.append([f"{method}, {finding}", f"{alike.num:,}", *cells, verdict])
    caption = (
        "How alike, in percent, maps are to those of the same network with random weights in all of the image encoder, "
        "of some views: a map that shows what was learned is another then. The test is passed where the interval of "
        f"the rank correlation ends below {MOST_ALIKE:.0%} (of several runs, that of their mean)."
    )
    columns = ["", "test views", "rank correlation", "structural similarity", "test"]
    return [SuiteTable("Heat maps: test of random weights", columns, rows, caption)] if rows else []


def _tabulate_pointed_differences(suite: Suite) -> list[SuiteTable]:
    first, rows = suite.index["first"], []
    for method in suite.names:
        if result := suite.differences.get((HEAT_MAPS, method, first)):
            for finding, slice in _list_pointed(result):
                hit = find_estimate(result, "pointing_hit", finding, slice)
                rows.append([_name_pointed(method, finding, slice), format_percent(hit, sign=True)])
    caption = (
        f"Each method minus {first} in percentage points, on the same views and the same draws of patients; chance and "
        "the breast's centre are the same for all."
    )
    return [SuiteTable(f"Heat maps: differences to {first}", ["", "hit"], rows, caption)] if rows else []
