"""The tables that the paper has too, with its numbers beside the user's own where that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from hilum.evaluate.paper.index import ONE_VIEW, PROBE, SECOND_VIEW, TWO_VIEWS, Suite
from hilum.evaluate.paper.own_tables import describe_draws, explain_too_few
from hilum.evaluate.paper.parts import MEAN, POOLED, name_part
from hilum.evaluate.paper.published_yaml import read_published
from hilum.evaluate.paper.table import (
    Footnotes,
    Part,
    SuiteTable,
    find_estimate,
    format_estimate,
    format_percent,
    list_parts,
)
from hilum.evaluate.result import Result

from . import published


def tabulate_studies(suite: Suite) -> SuiteTable:
    names = ("train", "val", "test", "patients", "images")
    rows = [[name, *(f"{found[key]:,}" for key in names)] for name, found in suite.index["studies"].items()]
    if suite.index["paper"]:
        rows += [
            [f"{name} (published)", *(f"{value:,}" for value in values[:5])]
            for name, values in read_published("mvmae")["table4_datasets"].items()
        ]
    caption = "Studies with known findings in each split. Published patients and images are of differing splits."
    if not suite.index["paper"]:
        caption = "Studies with known findings in each split."
    return SuiteTable("Studies (Table 4)", ["", *names], rows, caption)


def tabulate_full(suite: Suite, kind: str, common: bool, paper: bool) -> SuiteTable:
    """Tables 1 and 2: AUROC and F1 with all labels."""
    parts, notes, metrics = list_parts(suite, paper=paper), Footnotes(published.FOOTNOTES), ("auroc", "f1")
    columns = ["", *(f"{part.title} {name}" for part in parts for name in ("AUROC", "F1"))]
    rows = []
    for method in suite.names:
        if result := suite.methods.get((kind, method, None)):
            cells = [
                format_percent(find_estimate(result, metric, "macro", name_part(part.own, common=common)))
                if part.own else "-"
                for part in parts for metric in metrics
            ]  # fmt: skip
            is_probed = kind == PROBE and method in suite.random
            rows.append([f"{method}{notes.mark('random') if is_probed else ''}", *cells])
    rows += _count_scored(suite, kind, parts, common, 2)
    if paper:
        for model, title in published.MODELS.items():
            general = ["validation", *(["chexagent"] if model == "chexagent" else []), *(["top5"] if common else [])]
            general += ["protocol"] if kind == PROBE and model != "chexagent" else []
            row = [f"{title} (published){notes.mark(*general)}"]
            for part in parts:
                for metric in metrics:
                    if part.dataset is None:
                        row.append("-")
                        continue
                    special = _list_marks(model, part.dataset, metric, common)
                    value = published.find_full_labels(model, part.dataset, metric, top5=common)
                    row.append(f"{value:.2f}{notes.mark(*special)}")
            rows.append(row)
        if not common:
            rows.append(_build_fairer_row(parts, notes))
    name = f"All labels, {'commonest findings, ' if common else ''}{suite.title(kind)}"
    which = f" These are {', '.join(suite.index['commonest_findings'])}: most test positives over all archives."
    caption = (
        f"Macro means in percent, on test, 95 % intervals by patient; F1 at thresholds tuned on validation. Findings "
        f"with fewer than {suite.index['min_positives']} test positives do not enter.{which if common else ''}"
    )
    return SuiteTable(
        f"{name} (Table {2 if common else 1})",
        columns, rows, caption, notes.explain(),
    )  # fmt: skip


def _list_marks(model: str, dataset: str, metric: str, common: bool) -> list[str]:
    marks = {"combined": ["pooled"], "chexpert": ["chexpert"]}.get(dataset, [])
    if metric == "auroc" and not common:
        marks = marks + (["biomedclip"] if model == "biomedclip" and dataset != "combined" else [])
        marks = marks + (["independent"] if (model, dataset) == ("independent", "padchest") else [])
    return marks


def _build_fairer_row(parts: Sequence[Part], notes: Footnotes) -> list[str]:
    row = [f"BiomedCLIP (published, mean of Tables 5-7){notes.mark('biomedclip')}"]
    for part in parts:
        mean = published.average_published("biomedclip", part.dataset) if part.dataset else None
        row += ["-" if mean is None else f"{mean:.1f}", "-"]
    return row


def _count_scored(suite: Suite, kind: str, parts: Sequence[Part], common: bool, repeat: int) -> list[list[str]]:
    """How many findings enter each column: the same for every method."""
    first = next((result for (of, _, count), result in suite.methods.items() if of == kind and count is None), None)
    if first is None:
        return []
    row = ["findings that enter"]
    for part in parts:
        found = find_estimate(first, "auroc", "macro", name_part(part.own, common=common)) if part.own else None
        said = "-" if found is None or part.own == MEAN else str(found.num)
        row += [said] * repeat
    return [row]


def tabulate_calibration(suite: Suite) -> list[SuiteTable]:
    """Table 3: Brier error of the probe with few labels."""
    count, paper, notes = suite.index["calibration_count"], suite.index["paper"], Footnotes(published.FOOTNOTES)
    parts = list_parts(suite, paper=paper)
    metrics = ("brier_error", "calibration_error")
    rows = []
    for method in suite.names:
        if result := suite.methods.get((PROBE, method, count)):
            row = [method]
            for part in parts:
                found = [find_estimate(result, name, "macro", name_part(part.own)) for name in metrics]
                row += [format_estimate(one, 1.0, 4) if part.own else "-" for one in found]
            rows.append(row)
    if not rows:
        return []
    if paper:
        for model, title in published.MODELS.items():
            if published.find_brier(model, "combined") is None:
                continue
            row = [f"{title} (published){notes.mark('validation')}"]
            for part in parts:
                value = published.find_brier(model, part.dataset) if part.dataset else None
                marks = _list_marks(model, part.dataset, "brier_error", False) if part.dataset else []
                row += ["-" if value is None else f"{value:.4f}{notes.mark(*marks)}", "-"]
            rows.append(row)
    labelled = f"{suite.index['num_train'] if count is None else count:,}"
    title = suite.title(PROBE)
    caption = f"{title.capitalize()} of {labelled} labelled studies (the paper's: linear, of 20,000); macro means, "
    caption += "lower is better."
    columns = ["", *(f"{part.title} {name}" for part in parts for name in ("Brier", "calibration error"))]
    return [SuiteTable(f"Calibration, {title} (Table 3)", columns, rows, caption, notes.explain())]


def tabulate_findings(suite: Suite, kind: str, paper: bool) -> list[SuiteTable]:
    """Tables 5 to 7: AUROC by finding, for each archive."""
    methods = {name: suite.methods[kind, name, None] for name in suite.names if (kind, name, None) in suite.methods}
    tables = []
    for archive in suite.index["archives"]:
        dataset, notes, rows = published.match_dataset(archive), Footnotes(published.FOOTNOTES), []
        models = published.PER_FINDING if paper and dataset else ()
        first = next(iter(methods.values()))
        where = name_part(archive)
        for finding in first.protocol["targets"] if "targets" in first.protocol else _list_findings(first):
            found = find_estimate(first, "auroc", finding, where)
            positives = f"{found.positives or 0:,} of {found.num:,}" + ("\ndoes not enter" if found.reason else "")
            own = [format_percent(find_estimate(result, "auroc", finding, where)) for result in methods.values()]
            values = [published.find_finding(model, dataset or "", finding) for model in models]
            rows.append([finding, positives, *own, *("-" if value is None else f"{value:.0f}" for value in values)])
        marks = ["validation", *(["chexpert"] if dataset == "chexpert" else [])]
        columns = [
            "",
            "positives",
            *methods,
            *(f"{published.MODELS[model]} (published){notes.mark(*marks)}" for model in models),
        ]
        caption = "AUROC in percent, on test."
        tables.append(
            SuiteTable(
                f"{archive} by finding, {suite.title(kind)} (Tables 5-7)", columns, rows, caption, notes.explain()
            )
        )
    return tables


def _list_findings(result: Result) -> list[str]:
    return [
        entry.of
        for entry in result.estimates
        if (entry.metric, entry.slice) == ("auroc", POOLED) and entry.of != "macro"
    ]


def tabulate_views(suite: Suite) -> list[SuiteTable]:
    """Table 8 and Figure 5: studies with two views, seen by one and by two."""
    count, paper, notes = suite.index["view_count"], suite.index["paper"], Footnotes(published.FOOTNOTES)
    parts = list_parts(suite, paper=paper)

    def subtract(result: Result) -> list[str]:
        found = (find_estimate(result, "auroc", "macro", name_part(part.own)) if part.own else None for part in parts)
        return ["-" if one is None else format_percent(one, sign=True) for one in found]

    rows = []
    for method in suite.names:
        for kind in (ONE_VIEW, TWO_VIEWS):
            if result := suite.methods.get((kind, method, count)):
                found = [describe_draws(result, name_part(part.own)) if part.own else "-" for part in parts]
                rows.append([f"{method}, {kind}", *found])
        if result := suite.differences.get((SECOND_VIEW, method, method)):
            rows.append([f"{method}, two views minus one", *subtract(result)])
    if not rows:
        return []
    for (kind, first, second), result in suite.differences.items():
        if kind in (ONE_VIEW, TWO_VIEWS):
            rows.append([f"{first} minus {second}, {kind}", *subtract(result)])
    if paper:
        marks = ("validation", "zeros")
        for model in ("mvmae", "independent"):
            for views, title in (("one_view", ONE_VIEW), ("two_views", TWO_VIEWS)):
                values = [published.find_views(model, views, part.dataset) if part.dataset else None for part in parts]
                rows.append(
                    [
                        f"{published.MODELS[model]} (published), {title}{notes.mark(*marks)}",
                        *_mark_views(values, parts, notes),
                    ]
                )
    pairs = suite.index["two_view_studies"]
    labelled = f"{pairs['train'] if count is None else count:,}"
    caption = (
        f"Macro AUROC in percent, {suite.title(PROBE)} of {labelled} labelled studies with exactly two views, on "
        f"{pairs['test']:,} such test studies; one view is the first. Intervals by patient, then the spread over "
        f"draws and runs. {explain_too_few(suite)}"
    )
    return [
        SuiteTable(
            "One view or two (Table 8, Figure 5)",
            ["", *(part.title for part in parts)],
            rows,
            caption,
            notes.explain(),
        )
    ]


def _mark_views(values: Sequence[float | None], parts: Sequence[Part], notes: Footnotes) -> list[str]:
    said = []
    for value, part in zip(values, parts, strict=True):
        marks = ["pooled"] if part.dataset == "combined" else []
        said.append("-" if value is None else f"{value:.2f}{notes.mark(*marks)}")
    return said
