"""The tables of PaCX-MAE's evaluation (P 8), a user's own results first, the published numbers beside them if asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hilum.evaluate.distilled.alignment_probe import SLICES
from hilum.evaluate.heads.fit import Head
from hilum.evaluate.paper.parts import name_part
from hilum.evaluate.paper.published_yaml import read_published
from hilum.evaluate.paper.table import (
    NOT_EVALUATED,
    Footnotes,
    SuiteTable,
    find_estimate,
    format_estimate,
    format_percent,
)
from hilum.evaluate.result import Result
from hilum.evaluate.segmentation.scores import EVERY

from . import published

_PROBE = ("single", "probe", "masking", "exposure", "checkpoint")
_F1: dict[Head, tuple[str, str]] = {"linear": ("f1", "F1"), "released": ("f1_at_half", "F1 at 0.5")}  # in tables


@dataclass(frozen=True)
class PacxResults:
    """A user's results, as far as there are any; methods and data sets by the names that tables are to show."""

    probes: Mapping[tuple[str, str], Result] = field(default_factory=dict)  # (method, data set): all labels
    few_labels: Mapping[tuple[str, str, float], Result] = field(default_factory=dict)  # and share of the labels
    segmentations: Mapping[tuple[str, str], Result] = field(default_factory=dict)
    ablation: Mapping[tuple[str, str], Result] = field(default_factory=dict)  # (variant, data set)
    alignment: Mapping[tuple[str, str], Result] = field(default_factory=dict)  # (method, "ecg" or "labs")
    head: Head = "linear"  # of the probes


def build_pacx_tables(results: PacxResults, *, paper: bool) -> list[SuiteTable]:
    """All tables that there are results for; with `paper` all of the paper's."""
    told = ("single", "batches", "masking", "exposure", "checkpoint")
    segmentation = _Pair("segmentation", "Segmentation", ("iou", "dice"), ("IoU", "Dice"), _SEGMENTED, told)
    tables = [
        _tabulate_pairs(results.probes, _describe_probes(results), paper),
        _tabulate_few_labels(results, paper),
        _tabulate_ablation(results, paper),
        _tabulate_pairs(results.segmentations, segmentation, paper),
        _tabulate_alignment(results.alignment, paper),
    ]
    return [table for table in tables if table.rows]


@dataclass(frozen=True)
class _Pair:
    """A table of two numbers a data set: what is published as, and what stands in it."""

    name: str  # in the file of published numbers
    title: str
    metrics: tuple[str, str]
    columns: tuple[str, str]
    caption: str
    footnotes: tuple[str, ...]  # of every published row


_SEGMENTED = "Means over test images in percent, 95 % intervals by patient; two empty masks agree, one alone has 0."


def _describe_probes(results: PacxResults) -> _Pair:
    """AUROC and F1, at the threshold that validation chose or, of the released probe, at 0.5 as published."""
    metric, column = _F1[results.head]
    caption = f"Macro means in percent, on test, 95 % intervals by patient. {published.PROBES[results.head]}"
    caption += "" if metric == "f1" else " F1 at tuned thresholds is among the metrics."
    title = "Linear probe" if results.head == "linear" else "Linear probe as released"
    return _Pair("linear_probe", title, ("auroc", metric), ("AUROC", column), caption, _PROBE)


def _tabulate_pairs(results: Mapping[tuple[str, str], Result], pair: _Pair, paper: bool) -> SuiteTable:
    """Linear probes (AUROC, F1) or segmentation (IoU, Dice): two columns a data set."""
    notes, metrics = Footnotes(published.FOOTNOTES), pair.metrics
    datasets = _list_datasets((dataset for _, dataset in results), read_published("pacx")[pair.name] if paper else ())
    columns = ["", *(f"{dataset} {title}" for dataset in datasets for title in pair.columns)]
    rows = [
        [
            method,
            *(cell for dataset in datasets for cell in _format_pair(results.get((method, dataset)), metrics, dataset)),
        ]
        for method in _list_first(results)
    ]
    for arm, title in published.MODELS.items() if paper else ():
        special = {"imagenet": ("imagenet",), "pacx": ("tuned", "labs", "teacher")}.get(arm, ())
        cells = [f"{title} (published){notes.mark(*pair.footnotes, *special)}"]
        for benchmark in datasets.values():
            told = published.find_pair(pair.name, benchmark, arm)
            marks = (benchmark,) if benchmark in published.FOOTNOTES else ()
            cells += ["-" if told is None else f"{100 * value:.1f}{notes.mark(*marks)}" for value in told or (0, 0)]
        rows.append(cells)
    return SuiteTable(pair.title, columns, rows, pair.caption, notes.explain())


def _tabulate_few_labels(found: PacxResults, paper: bool) -> SuiteTable:
    notes, results = Footnotes(published.FOOTNOTES), found.few_labels
    told = read_published("pacx")["label_efficiency"] if paper else {}
    datasets = _list_datasets((dataset for _, dataset, _ in results), next(iter(told.values()), ()))
    shares = sorted({share for _, _, share in results} | set(told))
    columns = ["", *(f"{dataset} {100 * share:g}%" for dataset in datasets for share in shares)]
    rows = [
        [
            method,
            *(
                _format_macro(results.get((method, dataset, share)), "auroc", dataset)
                for dataset in datasets
                for share in shares
            ),
        ]
        for method in _list_first(results)
    ]
    for arm in ("mae", "pacx") if paper else ():
        values = [
            (share, published.find_few_labels(share, benchmark, arm))
            for benchmark in datasets.values()
            for share in shares
        ]
        cells = [
            "-" if value is None else f"{100 * value:.1f}{notes.mark('figure') if share < 1 else ''}"
            for share, value in values
        ]
        rows.append([f"{published.MODELS[arm]} (published){notes.mark('single', 'probe', 'subsets')}", *cells])
    caption = "Macro AUROC in percent by share of the labelled training studies, on the whole test split. "
    caption += published.PROBES[found.head]
    return SuiteTable("Few labels", columns, rows, caption, notes.explain())


def _tabulate_ablation(found: PacxResults, paper: bool) -> SuiteTable:
    notes, results = Footnotes(published.FOOTNOTES), found.ablation
    metric, title_of_f1 = _F1[found.head]
    told = read_published("pacx")["ablation"] if paper else {}
    datasets = _list_datasets((dataset for _, dataset in results), next(iter(told.values()), ()))
    columns = ["", *(f"{dataset} {title}" for dataset in datasets for title in ("AUROC", title_of_f1))]
    rows = [
        [
            variant,
            *(
                cell
                for dataset in datasets
                for cell in _format_pair(results.get((variant, dataset)), ("auroc", metric), dataset)
            ),
        ]
        for variant in _list_first(results)
    ]
    special = {"regression_only": "regression", "contrastive_only": "contrastive"}
    for variant, title in published.ABLATIONS.items() if paper else ():
        pairs = (published.find_ablation(variant, benchmark) for benchmark in datasets.values())
        cells = ["-" if pair is None else f"{100 * value:.1f}" for pair in pairs for value in pair or (0, 0)]
        marks = notes.mark(*_PROBE, *([special[variant]] if variant in special else []))
        rows.append([f"{title} (published){marks}", *cells])
    caption = "What each teacher and each term of the loss adds: linear probes, macro means in percent, on test. "
    caption += published.PROBES[found.head]
    return SuiteTable("Ablation", columns, rows, caption, notes.explain())


def _tabulate_alignment(results: Mapping[tuple[str, str], Result], paper: bool) -> SuiteTable:
    notes = Footnotes(published.FOOTNOTES)
    teachers = _list_teachers(results, paper)
    metrics = {"centred_cosine": "centred cosine", "r2": "R2", "cosine": "raw cosine"}
    columns = [
        "",
        *(f"{published.TEACHERS.get(teacher, teacher)}: {title}" for teacher in teachers for title in metrics.values()),
    ]
    rows = []
    for method in _list_first(results):
        for slice in SLICES.values():
            found = [(results.get((method, teacher)), teacher) for teacher in teachers]
            cells = [
                "-" if result is None else format_estimate(find_estimate(result, metric, teacher, slice), 1.0, 3)
                for result, teacher in found
                for metric in metrics
            ]
            rows.append([f"{method}, {slice}", *cells])
    for arm in ("mae", "pacx") if paper else ():
        cells = []
        for teacher in teachers:
            value = published.find_alignment(teacher, arm)
            cells += ["-" if value is None else f"{value:.3f}{notes.mark('centred')}", "-", "-"]
        marks = notes.mark("single", "alignment", "teacher", "labs")
        rows.append([f"{published.MODELS[arm]} (published), penalty 10{marks}", *cells])
    caption = (
        "Ridge regression from frozen image features to a teacher's vectors, on test. The headline is the centred "
        "cosine, with R2: a raw cosine is mostly what a constant answer has too."
    )
    return SuiteTable("Alignment", columns, rows, caption, notes.explain())


def _list_first(results: Iterable[tuple]) -> list[str]:
    """Methods or variants, in the order they were given."""
    return list(dict.fromkeys(key[0] for key in results))


def _list_datasets(own: Iterable[str], told: Iterable[str]) -> dict[str, str | None]:
    """Title of a column -> the published data set it is: the user's own first, then those only the paper has."""
    datasets = {name: published.match_benchmark(name) for name in own}
    return datasets | {name: name for name in told if name not in datasets.values()}


def _list_teachers(results: Mapping[tuple[str, str], Result], paper: bool) -> list[str]:
    return list(dict.fromkeys([*(teacher for _, teacher in results), *(published.TEACHERS if paper else ())]))


def _format_pair(result: Result | None, metrics: Sequence[str], dataset: str) -> list[str]:
    return [_format_macro(result, metric, dataset) for metric in metrics]


def _format_macro(result: Result | None, metric: str, dataset: str) -> str:
    """The macro mean on one archive, or on all rows where the result knows no archives."""
    if result is None:
        return "-"
    own = find_estimate(result, metric, "macro", name_part(dataset))
    return format_percent(find_estimate(result, metric, "macro", EVERY) if own.reason == NOT_EVALUATED else own)
