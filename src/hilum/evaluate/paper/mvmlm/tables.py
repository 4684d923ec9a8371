"""The tables of MV-MLM's evaluation (L 3): a user's own results by task, the published numbers beside if asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hilum.evaluate.paper.index import FINETUNE, FOLDS, PROBE, Suite, name_count, take_task
from hilum.evaluate.paper.own_tables import describe_draws, explain_too_few, tabulate_seen, tabulate_slices
from hilum.evaluate.paper.parts import POOLED
from hilum.evaluate.paper.table import (
    NOT_EVALUATED,
    Footnotes,
    SuiteTable,
    find_estimate,
    format_estimate,
    format_percent,
)
from hilum.evaluate.result import Estimate, Result
from hilum.evaluate.scoring.auroc_error import hanley_mcneil_error
from hilum.evaluate.scoring.bootstrap import LEVEL
from hilum.evaluate.scoring.estimates import OF_CLASSES
from hilum.evaluate.scoring.metrics import SPECIFICITY
from hilum.evaluate.slices import LEAST_ROWS
from hilum.evaluate.task import UNITS

from . import published
from .folds import FOLD_SLICE
from .pair_tables import tabulate_pairs
from .prompt_tables import tabulate_prompts
from .risk_tables import tabulate_risk

_METRICS = {
    "auroc": "AUROC",
    "average_precision": "AUPRC",
    "sensitivity_at_specificity": f"sensitivity at {SPECIFICITY:.0%} specificity",
    "specificity_reached": "specificity reached",
    "probabilistic_f1": "probabilistic F1",
    "quadratic_kappa": "quadratic-weighted kappa x 100",
    "balanced_accuracy": "balanced accuracy",
    "brier_error": "Brier error",
}
_COMPARED = ("auroc", "average_precision", "sensitivity_at_specificity", "quadratic_kappa", "balanced_accuracy")
_SHORT = {PROBE: "probe", FINETUNE: "fine-tuned", FOLDS: "by folds"}
_NORMAL = 1.96


def build_mvmlm_tables(suite: Suite) -> list[SuiteTable]:
    """All tables that there are results for, those of all tasks first."""
    tasks = {name: take_task(suite, name) for name in suite.index["tasks"]}
    tables = [tabulate_data(suite)] if tasks else []
    for kind in (PROBE, FINETUNE):
        tables += tabulate_tasks(suite, tasks, kind)
    for kind in (PROBE, FINETUNE):
        tables += tabulate_shares(suite, tasks, kind)
    tables += tabulate_folds(suite, tasks)
    for kind in (PROBE, FINETUNE):
        tables += tabulate_sites(suite, tasks, kind)
    for name, task in tasks.items():
        for kind in (PROBE, FINETUNE):
            tables += tabulate_metrics(task, name, kind)
        tables += tabulate_differences(task, name)
        for kind in (PROBE, FINETUNE):
            tables += tabulate_slices(task, kind, name)
    tables += tabulate_pairs(suite)
    tables += tabulate_prompts(suite)
    tables += tabulate_risk(suite)
    if PROBE in {kind for task in tasks.values() for kind, _, _ in task.methods}:
        tables += tabulate_seen(next(iter(tasks.values())), PROBE)
    return tables


def tabulate_data(suite: Suite) -> SuiteTable:
    """Rows and positives of every split, and which unpaired gaps the test rows cannot tell (Hanley and McNeil 1982)."""
    rows = []
    for name, task in suite.index["tasks"].items():
        counts = [sum(one[split] for one in task["studies"].values()) for split in ("train", "val", "test")]
        for target in task["targets"]:
            found = [task["positives"][split][target] for split in ("train", "val", "test")]
            cells = [f"{found[i]:,} of {counts[i]:,}" for i in range(3)]
            rows.append([f"{name}: {target}" if len(task["targets"]) > 1 else name, UNITS[task["unit"]], *cells])
            rows[-1].append(_describe_noise(found[2], counts[2]))
    caption = (
        "Positives of rows with a known target in each split, and the gap between two AUROCs around 0.80 that these "
        "test rows tell from noise, were the two not compared on the same patients."
    )
    return SuiteTable("Tasks", ["", "unit", "training", "validation", "test", "unpaired gaps below"], rows, caption)


def _describe_noise(positives: int, num: int) -> str:
    if not 0 < positives < num:
        return "-"
    return f"{_NORMAL * 2**0.5 * hanley_mcneil_error(0.8, positives, num - positives):.3f}"


def tabulate_tasks(suite: Suite, tasks: Mapping[str, Suite], kind: str) -> list[SuiteTable]:
    """AUROC with all labels: a column a task, the published numbers below."""
    shown = {
        name: task for name, task in tasks.items() if any((of, count) == (kind, None) for of, _, count in task.methods)
    }
    if not shown:
        return []
    notes = Footnotes(published.FOOTNOTES)
    rows = []
    for method in suite.names:
        results = [task.methods.get((kind, method, None)) for task in shown.values()]
        if any(results):
            rows.append([method, *("-" if one is None else describe_draws(one, POOLED) for one in results)])
    rows += _list_published(shown, kind, notes) if suite.index["paper"] else []
    caption = (
        f"AUROC in percent on test (of several targets the macro mean), all labels, {LEVEL:.0%} intervals by patient, "
        "then the spread over fine-tunings or networks. Unpaired differences between rows settle nothing. "
        f"{explain_too_few(suite)}"
    )
    return [SuiteTable(f"All tasks, {suite.title(kind)}", ["", *shown], rows, caption, notes.explain())]


def _list_published(tasks: Mapping[str, Any], kind: str, notes: Footnotes) -> list[list[str]]:
    rows = []
    for model, title in published.MODELS.items():
        found = [published.find_ablation(kind, model, task) for task in tasks]
        if any(one is not None for one in found):
            cells = ["-" if one is None else f"{100 * one[0]:.1f}{notes.mark(*one[1])}" for one in found]
            rows.append([f"{title} (published){notes.mark('single')}", *cells])
    values = [published.find_headline(task) for task in tasks]
    if kind == PROBE and any(value is not None for value in values):
        cells = ["-" if value is None else f"{100 * value:.1f}" for value in values]
        rows.append([f"{published.HEADLINE} (published){notes.mark('single', 'headline')}", *cells])
    return rows


def tabulate_shares(suite: Suite, tasks: Mapping[str, Suite], kind: str) -> list[SuiteTable]:
    """AUROC by share of the labels: a row for each task and method."""
    shares = sorted({share for task in tasks.values() for share in task.index["shares"].values()})
    rows = []
    for name, task in tasks.items():
        counts = {share: int(count) for count, share in task.index["shares"].items()}
        for method in suite.names:
            asked = [counts.get(share, -1) for share in shares]
            results = [task.methods.get((kind, method, count)) for count in (*asked, None)]
            if any(results[:-1]):
                cells = ["-" if one is None else describe_draws(one, POOLED) for one in results]
                rows.append([f"{name}, {method}", *cells])
    columns = ["", *(f"{100 * share:g}%" for share in shares), "100%"]
    caption = (
        "AUROC in percent on all test rows by share of the labelled training rows: whole patients, nested, positives "
        "in proportion; intervals by patient, then the spread over draws."
    )
    return [SuiteTable(f"Few labels, {suite.title(kind)}", columns, rows, caption)] if rows else []


def tabulate_folds(suite: Suite, tasks: Mapping[str, Suite]) -> list[SuiteTable]:
    """Probes by the folds of the study table, pooled and fold by fold."""
    found = [
        (name, method, task.methods[FOLDS, method, None])
        for name, task in tasks.items()
        for method in suite.names
        if (FOLDS, method, None) in task.methods
    ]
    if not found:
        return []
    folds = list(
        dict.fromkeys(
            entry.slice for _, _, one in found for entry in one.estimates if entry.slice.startswith(FOLD_SLICE)
        )
    )
    rows = [
        [
            f"{name}, {method}",
            *(format_percent(find_estimate(one, "auroc", "macro", part)) for part in (POOLED, *folds)),
        ]
        for name, method, one in found
    ]
    caption = (
        "AUROC in percent of linear probes; each fold is tested on once, the next one chooses, the others are learned "
        "from. Pooled scores are of several classifiers."
    )
    columns = ["", "pooled", *(part.replace("=", " ") for part in folds)]
    return [SuiteTable("By folds", columns, rows, caption)]


def tabulate_sites(suite: Suite, tasks: Mapping[str, Suite], kind: str) -> list[SuiteTable]:
    """AUROC by site, with the rows (and of one target the positives) that every split has of it (L 4.2)."""
    rows = []
    for name, task in tasks.items():
        results = [task.methods.get((kind, method, None)) for method in suite.names]
        for site, counts in task.index.get("sites", {}).items() if any(results) else ():
            sizes = [_describe_size(counts[split], task.index["targets"]) for split in ("train", "val", "test")]
            found = [
                "-" if one is None else format_percent(find_estimate(one, "auroc", "macro", site)) for one in results
            ]
            rows.append([f"{name}, {site.replace('=', ' ')}", *sizes, f"{counts['test']['patients']:,}", *found])
    caption = (
        "AUROC in percent on the test rows of each site (of several targets the macro mean), by classifiers that "
        "learned from all. Sites differ in machines, in whom they invite and in what they write down, so that what "
        f"tells the site may score in all rows together. {explain_too_few(suite, LEAST_ROWS)}"
    )
    columns = ["", "training", "validation", "test", "test patients", *suite.names]
    return [SuiteTable(f"By site, {suite.title(kind)}", columns, rows, caption)] if rows else []


def _describe_size(counts: Mapping[str, int], targets: Sequence[str]) -> str:
    """Positives of rows; of several targets, rows."""
    return f"{counts[targets[0]]:,} of {counts['rows']:,}" if len(targets) == 1 else f"{counts['rows']:,}"


def tabulate_metrics(task: Suite, name: str, kind: str) -> list[SuiteTable]:
    """What an AUROC does not tell, on all test rows; thresholds are of validation."""
    rows, metrics = [], list_shown(task.methods.values(), tuple(_METRICS))
    for method in task.names:
        if result := task.methods.get((kind, method, None)):
            found = [find_overall(result, metric) for metric in metrics]
            rows.append([method, *(format_percent(one) for one in found)])
    caption = (
        f"In percent, {LEVEL:.0%} intervals by patient. The threshold has {SPECIFICITY:.0%} specificity on validation; "
        "what it reaches on test stands beside the sensitivity."
    )
    if set(metrics).intersection(OF_CLASSES):
        caption += (
            " Kappa and balanced accuracy are of the class whose probability is the highest; no threshold is fitted."
        )
    columns = ["", *(_METRICS[metric] for metric in metrics)]
    return [SuiteTable(f"{name}: metrics, {task.title(kind)}", columns, rows, caption)] if rows else []


def tabulate_differences(task: Suite, name: str) -> list[SuiteTable]:
    """Every method minus the first one, paired by patient, with DeLong's p beside."""
    first = task.index["first"]
    rows, metrics = [], list_shown(task.differences.values(), _COMPARED)
    for kind, title in _list_kinds(task):
        for method in (one for one in task.names if one != first):
            if result := task.differences.get((kind, method, first)):
                found = [find_overall(result, metric) for metric in metrics]
                cells = [format_estimate(one, 100.0, 1, sign=True) for one in found]
                rows.append([f"{method}, {title}", *cells, describe_delong(result)])
    caption = (
        f"Each method minus {first} in percentage points, on the same patients and the same draws of them; an interval "
        "that holds 0 settles nothing. DeLong's p of the AUROCs counts a patient's rows together (Obuchowski 1997); p "
        "are not corrected for their number."
    )
    columns = ["", *(_METRICS[metric] for metric in metrics), "DeLong p"]
    return [SuiteTable(f"{name}: differences to {first}", columns, rows, caption)] if rows else []


def list_shown(results: Iterable[Result], metrics: Sequence[str]) -> list[str]:
    """The metrics that some result has: those of classes are of tasks of ordered classes alone."""
    had = {entry.metric for result in results for entry in result.estimates}
    return [metric for metric in metrics if metric in had]


def find_overall(result: Result, metric: str) -> Estimate:
    """The number of a metric that stands for all targets: their macro mean, or that of the classes they are."""
    if metric not in OF_CLASSES:
        return find_estimate(result, metric, "macro", POOLED)
    found = (entry for entry in result.estimates if (entry.metric, entry.slice) == (metric, POOLED))
    return next(found, Estimate(metric, "classes", None, reason=NOT_EVALUATED))


def _list_kinds(task: Suite) -> Sequence[tuple[str, str]]:
    """Kinds of differences and their titles: all labels first, then smaller and smaller shares."""
    shares = sorted(((int(count), share) for count, share in task.index["shares"].items()), reverse=True)
    kinds = []
    for kind in (PROBE, FINETUNE, FOLDS):
        kinds.append((kind, _SHORT[kind]))
        kinds += [(name_count(kind, count), f"{_SHORT[kind]}, {100 * share:g}%") for count, share in shares]
    return kinds


def describe_delong(result: Result) -> str:
    """Of one target; of several, which have no one AUROC, of each; of those with too few rows nothing."""
    judged = {entry.of for entry in result.estimates if entry.metric == "auroc" and entry.reason is None}
    found = {name: one if name in judged else None for name, one in result.protocol.get("delong", {}).items()}
    said = ["-" if one is None else "< 0.001" if one["p"] < 0.001 else f"{one['p']:.3f}" for one in found.values()]
    return "; ".join(said) or "-"
