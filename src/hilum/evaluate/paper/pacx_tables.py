"""The tables of PaCX-MAE's evaluation (P 8), a user's own results first, the published numbers beside them if asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hilum.evaluate.distilled.alignment_probe import SLICES
from hilum.evaluate.result import Result
from hilum.evaluate.segmentation.scores import EVERY

from . import pacx_published as published
from .parts import name_part
from .published_file import read_published
from .table import NOT_EVALUATED, Footnotes, SuiteTable, find_estimate, format_estimate, format_percent

_PROBE = ("single", "probe", "masking", "exposure", "checkpoint")


@dataclass(frozen=True)
class PacxResults:
    """A user's results, as far as there are any; methods and data sets by the names that tables are to show."""

    probes: Mapping[tuple[str, str], Result] = field(default_factory=dict)  # (method, data set): all labels
    few_labels: Mapping[tuple[str, str, float], Result] = field(default_factory=dict)  # and share of the labels
    segmentations: Mapping[tuple[str, str], Result] = field(default_factory=dict)
    ablation: Mapping[tuple[str, str], Result] = field(default_factory=dict)  # (variant, data set)
    alignment: Mapping[tuple[str, str], Result] = field(default_factory=dict)  # (method, "ecg" or "labs")


def build_pacx_tables(results: PacxResults, *, paper: bool) -> list[SuiteTable]:
    """All tables that there are results for; with `paper` all of the paper's."""
    tables = [
        _tabulate_pairs(results.probes, "linear_probe", ("auroc", "f1"), ("AUROC", "F1"), paper),
        _tabulate_few_labels(results.few_labels, paper),
        _tabulate_ablation(results.ablation, paper),
        _tabulate_pairs(results.segmentations, "segmentation", ("iou", "dice"), ("IoU", "Dice"), paper),
        _tabulate_alignment(results.alignment, paper),
    ]
    return [table for table in tables if table.rows]


def _tabulate_pairs(
    results: Mapping[tuple[str, str], Result], name: str, metrics: Sequence[str], titles: Sequence[str], paper: bool
) -> SuiteTable:
    """Linear probes (AUROC, F1) or segmentation (IoU, Dice): two columns a data set."""
    notes = Footnotes(published.FOOTNOTES)
    datasets = _list_datasets((dataset for _, dataset in results), read_published("pacx")[name] if paper else ())
    columns = ["", *(f"{dataset} {title}" for dataset in datasets for title in titles)]
    rows = [
        [
            method,
            *(cell for dataset in datasets for cell in _format_pair(results.get((method, dataset)), metrics, dataset)),
        ]
        for method in _list_first(results)
    ]
    probes = name == "linear_probe"
    for arm, title in published.MODELS.items() if paper else ():
        general = _PROBE if probes else ("single", "batches", "masking", "exposure", "checkpoint")
        special = {"imagenet": ("imagenet",), "pacx": ("tuned", "labs", "teacher")}.get(arm, ())
        cells = [f"{title} (published){notes.mark(*general, *special)}"]
        for benchmark in datasets.values():
            pair = published.find_pair(name, benchmark, arm)
            marks = (benchmark,) if benchmark in published.FOOTNOTES else ()
            cells += ["-" if pair is None else f"{100 * value:.1f}{notes.mark(*marks)}" for value in pair or (0, 0)]
        rows.append(cells)
    shown = "Linear probe" if probes else "Segmentation"
    caption = (
        "Macro means in percent, on test, 95 % intervals by patient."
        if probes
        else "Means over test images in percent, 95 % intervals by patient; two empty masks agree, one alone has 0."
    )
    return SuiteTable(shown, columns, rows, caption, notes.explain())


def _tabulate_few_labels(results: Mapping[tuple[str, str, float], Result], paper: bool) -> SuiteTable:
    notes = Footnotes(published.FOOTNOTES)
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
    caption = "Macro AUROC in percent by share of the labelled training studies, on the whole test split."
    return SuiteTable("Few labels", columns, rows, caption, notes.explain())


def _tabulate_ablation(results: Mapping[tuple[str, str], Result], paper: bool) -> SuiteTable:
    notes = Footnotes(published.FOOTNOTES)
    told = read_published("pacx")["ablation"] if paper else {}
    datasets = _list_datasets((dataset for _, dataset in results), next(iter(told.values()), ()))
    columns = ["", *(f"{dataset} {title}" for dataset in datasets for title in ("AUROC", "F1"))]
    rows = [
        [
            variant,
            *(
                cell
                for dataset in datasets
                for cell in _format_pair(results.get((variant, dataset)), ("auroc", "f1"), dataset)
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
    caption = "What each teacher and each term of the loss adds: linear probes, macro means in percent, on test."
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
