"""The tables of risk of cancer in the years after an exam (L 3.4, 3.5), the published numbers beside if asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hilum.evaluate.paper.index import RISK, RISK_WITH_TABLE, Suite
from hilum.evaluate.paper.published_yaml import read_published
from hilum.evaluate.paper.table import Footnotes, SuiteTable, find_estimate, format_estimate
from hilum.evaluate.result import Result
from hilum.evaluate.risk.estimates import AUC_YEARS, name_c_index, name_years
from hilum.evaluate.risk.follow_up import NUM_YEARS, WINDOWS
from hilum.evaluate.scoring.bootstrap import LEVEL

from . import published

_INDICES = ("harrell", "uno")
# Metric and what it is of, and its title.
_SHOWN = {
    **{(f"c_index_{name}", "risk"): name_c_index(name, "before") for name in _INDICES},
    **{("auc_ipcw", name_years(year)): f"AUC, {name_years(year)}" for year in AUC_YEARS},
}
_ALL = "all"


def tabulate_risk(suite: Suite) -> list[SuiteTable]:
    """A user's own risks, without early cancers, and compared; the published ones below, or alone."""
    if not list(_list_risks(suite)):
        return _tabulate_published() if suite.index["paper"] else []
    return [_tabulate_own(suite), _tabulate_windows(suite), *_tabulate_differences(suite)]


def _list_risks(suite: Suite) -> Iterator[tuple[str, Result]]:
    """Titles and results: of each method alone and with the table, of the table last."""
    table = suite.index.get("risk_table")
    for method in (*suite.names, *([table] if table else [])):
        for kind, title in ((RISK, method), (RISK_WITH_TABLE, f"{method}, with {table}")):
            if result := suite.methods.get((kind, method, None)):
                yield title, result


def _format(result: Result, slice: str, *, sign: bool = False) -> list[str]:
    return [format_estimate(find_estimate(result, *of, slice), 1.0, 3, sign) for of in _SHOWN]


def _list_years() -> list[int]:
    """Years of which somebody published an AUC."""
    return sorted({year for one in read_published("mvmlm")["risk"].values() for year in one.get("auc", {})})


def _tabulate_own(suite: Suite) -> SuiteTable:
    notes, paper = Footnotes(published.FOOTNOTES), suite.index["paper"]
    more = [year for year in _list_years() if year not in AUC_YEARS] if paper else []
    rows = []
    for title, result in _list_risks(suite):
        size = f"{result.counts['test_studies']:,}\n{result.counts['test_cancers']:,} cancers"
        rows.append([title, size, *_format(result, _ALL), *["-"] * (len(more) + paper)])
    for model, (title, marks) in published.RISK_MODELS.items() if paper else ():
        one = read_published("mvmlm")["risk"][model]
        areas = [one.get("auc", {}).get(year, "-") for year in (*AUC_YEARS, *more)]
        own, others = areas[: len(AUC_YEARS)], areas[len(AUC_YEARS) :]
        cells = [*["-"] * len(_INDICES), *own, *others, one.get("c_index", "-")]
        rows.append([f"{title} (published){notes.mark(*marks)}", one["data"], *cells])
    caption = (
        f"Cancer within {NUM_YEARS} years after an exam, by additive hazards on frozen features, learned on training "
        "and chosen on validation exams. Harrell's C-index counts all pairs alike, Uno's weighs them for censoring, as "
        f"AUC does (cumulative, dynamic). {LEVEL:.0%} intervals by woman. Antolini's and Mirai's C-indices, errors of "
        "absolute risk and recall are in the results of the cells."
    )
    columns = ["", "test exams", *_SHOWN.values(), *(f"AUC, {year} years" for year in more)]
    columns += ["C-index, published"] * paper
    return SuiteTable("Risk of cancer", columns, rows, caption, notes.explain())


def _tabulate_windows(suite: Suite) -> SuiteTable:
    rows = []
    for title, result in _list_risks(suite):
        for window in WINDOWS:
            found = find_estimate(result, *next(iter(_SHOWN)), f"cancer=after {window}")
            cells = _format(result, f"cancer=after {window}")
            rows.append([f"{title}, after {window}", f"{found.num:,}\n{found.positives or 0:,} cancers", *cells])
    caption = (
        "The same without exams whose cancer came so soon that it may have been there to be seen: what is left is less "
        "of detection and more of risk."
    )
    return SuiteTable("Risk without early cancers", ["", "test exams", *_SHOWN.values()], rows, caption)


def _tabulate_differences(suite: Suite) -> list[SuiteTable]:
    first, table = suite.index["first"], suite.index.get("risk_table")
    rows = []
    for (kind, one, other), result in suite.differences.items():
        if kind not in (RISK, RISK_WITH_TABLE):
            continue
        sides = [one, other]
        if kind == RISK_WITH_TABLE:
            sides = [f"{one}, with {table}", table if other == table else f"{other}, with {table}"]
        rows.append([" minus ".join(map(str, sides)), *_format(result, _ALL, sign=True)])
    caption = (
        "On the same exams and the same draws of women; an interval that holds 0 settles nothing. What features add to "
        f"{table} is in the rows that end so." if table
        else "On the same exams and the same draws of women; an interval that holds 0 settles nothing."
    )  # fmt: skip
    return [SuiteTable(f"Risk: differences to {first}", ["", *_SHOWN.values()], rows, caption)] if rows else []


def _tabulate_published() -> list[SuiteTable]:
    """Published C-indices and AUC of risk, of a suite that has none of its own."""
    notes, found = Footnotes(published.FOOTNOTES), read_published("mvmlm")["risk"]
    years: Sequence[int] = _list_years()
    rows = []
    for model, (title, marks) in published.RISK_MODELS.items():
        one = found[model]
        cells = [one.get("c_index", "-"), *(one.get("auc", {}).get(year, "-") for year in years)]
        rows.append([f"{title} (published){notes.mark(*marks)}", one["data"], *cells])
    caption = (
        "Cancer in the years after an exam. Where follow-up is known, `--protocols risk` puts your own beside them."
    )
    columns = ["", "test exams", "C-index", *(f"AUC, {year} years" for year in years)]
    return [SuiteTable("Risk of cancer, published", columns, rows, caption, notes.explain())]
