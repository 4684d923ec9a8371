"""The paper's tables of a suite, each with the published numbers beside the user's own where that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hilum.evaluate.result import Estimate, Result

from . import published
from .cells import FINETUNE, ONE_VIEW, PER_FINDING, PROBE, TWO_VIEWS
from .mvmae import SECOND_VIEW, Suite
from .parts import MEAN, POOLED, name_part

TITLES = {PROBE: "linear probe", FINETUNE: "fine-tuned"}
MEAN_TITLE, POOLED_TITLE = "Combined: mean of archives", "Combined: pooled"


@dataclass(frozen=True)
class SuiteTable:
    """A table for people; the second line of a cell (after a line break) is its interval or what else is small."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str = ""
    footnotes: list[str] = field(default_factory=list)  # "[a] ...", marked in cells


@dataclass(frozen=True)
class Part:
    """A column (or some): a part of the test split, and which published data set stands beside it."""

    title: str
    own: str | None  # archive, MEAN or POOLED; None: only published
    dataset: str | None


class _Notes:
    """Footnotes in the order they are first marked."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def mark(self, *keys: str) -> str:
        self.keys += [key for key in keys if key not in self.keys]
        return "".join(f" [{chr(97 + self.keys.index(key))}]" for key in keys)

    def explain(self) -> list[str]:
        return [f"[{chr(97 + place)}] {published.FOOTNOTES[key]}" for place, key in enumerate(self.keys)]


def build_tables(suite: Suite) -> list[SuiteTable]:
    """All tables that there are results for, in the paper's order."""
    protocols = [kind for kind in (FINETUNE, PROBE) if any(key[0] == kind for key in suite.methods)]
    tables = [_tabulate_studies(suite)]
    for common in (False, True):
        # The published numbers are of fine-tuning: beside ours of that, or of the probe if there is no other.
        tables += [
            _tabulate_full(suite, kind, common, suite.index["paper"] and kind == protocols[0]) for kind in protocols
        ]
    for kind in protocols:
        tables += _tabulate_differences(suite, kind)
    tables += _tabulate_calibration(suite)
    for kind in protocols:
        tables += _tabulate_findings(suite, kind, suite.index["paper"] and kind == protocols[0])
    for kind in protocols:
        tables += _tabulate_few_labels(suite, kind)
    tables += _tabulate_selection(suite)
    tables += _tabulate_views(suite)
    for kind in protocols:
        tables += _tabulate_slices(suite, kind)
    if protocols:
        tables += _tabulate_seen(suite, protocols[-1])
    return tables


def list_parts(suite: Suite, *, paper: bool) -> list[Part]:
    """The user's archives, the two meanings of Combined, and with `paper` the published data sets they lack."""
    archives = suite.index["archives"]
    parts = [Part(name, name, published.match_dataset(name)) for name in archives]
    if len(archives) > 1:
        parts.append(Part(MEAN_TITLE, MEAN, None))
    if len(archives) > 1 or paper:
        parts.append(Part(POOLED_TITLE, POOLED, "combined"))
    if paper:
        there = {part.dataset for part in parts}
        parts += [Part(title, None, key) for key, title in published.DATASETS.items() if key not in there]
    return parts


def find_estimate(result: Result, metric: str, of: str, slice: str) -> Estimate:
    """That estimate, or an undefined one where the result has none."""
    for entry in result.estimates:
        if (entry.metric, entry.of, entry.slice) == (metric, of, slice):
            return entry
    return Estimate(metric, of, None, slice=slice, reason="not evaluated")


def summarise(suite: Suite) -> str:
    """The part that stands for all: the mean over archives, or the one archive there is."""
    return MEAN if len(suite.index["archives"]) > 1 else POOLED


def format_percent(estimate: Estimate, *, sign: bool = False) -> str:
    return _format(estimate, 100.0, 1, sign)


def _format(estimate: Estimate, scale: float, digits: int, sign: bool = False) -> str:
    if estimate.value is None:
        return "-"
    style = f"{'+' if sign else ''}.{digits}f"
    value = f"{scale * estimate.value:{style}}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value}\n{scale * estimate.low:{style}} to {scale * estimate.high:{style}}"


def _tabulate_studies(suite: Suite) -> SuiteTable:
    names = ("train", "val", "test", "patients", "images")
    rows = [[name, *(f"{found[key]:,}" for key in names)] for name, found in suite.index["studies"].items()]
    if suite.index["paper"]:
        rows += [
            [f"{name} (published)", *(f"{value:,}" for value in values[:5])]
            for name, values in published.read_published()["table4_datasets"].items()
        ]
    caption = "Studies with known findings in each split. Published patients and images are of differing splits."
    if not suite.index["paper"]:
        caption = "Studies with known findings in each split."
    return SuiteTable("Studies (Table 4)", ["", *names], rows, caption)


def _tabulate_full(suite: Suite, kind: str, common: bool, paper: bool) -> SuiteTable:
    """Tables 1 and 2: AUROC and F1 with all labels."""
    parts, notes, metrics = list_parts(suite, paper=paper), _Notes(), ("auroc", "f1")
    columns = ["", *(f"{part.title} {name}" for part in parts for name in ("AUROC", "F1"))]
    rows = []
    for method in suite.names:
        if result := suite.methods.get((kind, method, None)):
            cells = [
                format_percent(find_estimate(result, metric, "macro", name_part(part.own, common=common)))
                if part.own else "-"
                for part in parts for metric in metrics
            ]  # fmt: skip
            rows.append([method, *cells])
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
    name = f"All labels, {'commonest findings, ' if common else ''}{TITLES[kind]}"
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


def _build_fairer_row(parts: Sequence[Part], notes: _Notes) -> list[str]:
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


def _tabulate_differences(suite: Suite, kind: str) -> list[SuiteTable]:
    parts = list_parts(suite, paper=False)
    rows = []
    for (of, first, second), result in suite.differences.items():
        if of == kind:
            found = (find_estimate(result, "auroc", "macro", name_part(part.own)) for part in parts)
            rows.append([f"{first} minus {second}", *(format_percent(one, sign=True) for one in found)])
    caption = "Percentage points of macro AUROC on the same patients, paired; an interval that holds 0 settles nothing."
    columns = ["", *(part.title for part in parts)]
    return [SuiteTable(f"Differences, {TITLES[kind]}", columns, rows, caption)] if rows else []


def _tabulate_calibration(suite: Suite) -> list[SuiteTable]:
    """Table 3: Brier error of the probe with few labels."""
    count, paper, notes = suite.index["calibration_count"], suite.index["paper"], _Notes()
    parts = list_parts(suite, paper=paper)
    metrics = ("brier_error", "calibration_error")
    rows = []
    for method in suite.names:
        if result := suite.methods.get((PROBE, method, count)):
            cells = [
                _format(find_estimate(result, metric, "macro", name_part(part.own)), 1.0, 4) if part.own else "-"
                for part in parts for metric in metrics
            ]  # fmt: skip
            rows.append([method, *cells])
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
    caption = f"Linear probe of {labelled} labelled studies (the paper's: 20,000); macro means, lower is better."
    columns = ["", *(f"{part.title} {name}" for part in parts for name in ("Brier", "calibration error"))]
    return [SuiteTable("Calibration, linear probe (Table 3)", columns, rows, caption, notes.explain())]


def _tabulate_findings(suite: Suite, kind: str, paper: bool) -> list[SuiteTable]:
    """Tables 5 to 7: AUROC by finding, for each archive."""
    methods = {name: suite.methods[kind, name, None] for name in suite.names if (kind, name, None) in suite.methods}
    tables = []
    for archive in suite.index["archives"]:
        dataset, notes, rows = published.match_dataset(archive), _Notes(), []
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
            SuiteTable(f"{archive} by finding, {TITLES[kind]} (Tables 5-7)", columns, rows, caption, notes.explain())
        )
    return tables


def _list_findings(result: Result) -> list[str]:
    return [
        entry.of
        for entry in result.estimates
        if (entry.metric, entry.slice) == ("auroc", POOLED) and entry.of != "macro"
    ]


def list_counts(suite: Suite, kind: str) -> list[int | None]:
    """Label counts of a curve, None (all) last."""
    found = {count for of, _, count in suite.methods if of == kind and count is not None}
    return [*sorted(found), None]


def read_draws(result: Result) -> tuple[float, float] | None:
    """Least and greatest pooled macro AUROC over draws of the labelled patients (and runs)."""
    values = [draw["macro_auroc"] for draw in result.protocol.get("by_seed", []) if draw["macro_auroc"] is not None]
    return (min(values), max(values)) if values else None


def _tabulate_few_labels(suite: Suite, kind: str) -> list[SuiteTable]:
    counts, part = list_counts(suite, kind), name_part(summarise(suite))
    if len(counts) == 1:
        return []
    rows = []
    for method in suite.names:
        results = [suite.methods.get((kind, method, count)) for count in counts]
        if any(results):
            cells = ["-" if one is None else _describe_draws(one, part) for one in results]
            rows.append([method, *cells])
    columns = ["", *("all" if count is None else f"{count:,}" for count in counts)]
    what = MEAN_TITLE if part == MEAN else "all test studies"
    caption = f"Macro AUROC in percent, {what}, by labelled training studies; "
    caption += "intervals by patient, then the spread over draws (pooled)."
    if suite.index["paper"]:
        claimed = published.read_published()["label_efficiency"]["studies_for_about_80_auroc"]
        named = ", ".join(f"{published.MODELS[model]} {count:,}" for model, count in claimed.items())
        caption += f" Published: about 80 % with {named} studies."
    return [SuiteTable(f"With few labels, {TITLES[kind]}", columns, rows, caption)]


def _describe_draws(result: Result, part: str) -> str:
    text, draws = format_percent(find_estimate(result, "auroc", "macro", part)), read_draws(result)
    return text if draws is None else f"{text}\ndraws {100 * draws[0]:.1f} to {100 * draws[1]:.1f}"


def _tabulate_selection(suite: Suite) -> list[SuiteTable]:
    parts, rows = list_parts(suite, paper=False), []
    for method in suite.names:
        for kind, title in ((PROBE, "for all findings"), (PER_FINDING, "for each finding")):
            if result := suite.methods.get((kind, method, None)):
                cells = [format_percent(find_estimate(result, "auroc", "macro", name_part(part.own))) for part in parts]
                rows.append([f"{method}, {title}", *cells])
    caption = "Macro AUROC in percent of the probe that validation chose once, and of each finding's own."
    columns = ["", *(part.title for part in parts)]
    return [SuiteTable("Selection for all findings or for each", columns, rows, caption)] if rows else []


def _tabulate_views(suite: Suite) -> list[SuiteTable]:
    """Table 8 and Figure 5: studies with two views, seen by one and by two."""
    count, paper, notes = suite.index["view_count"], suite.index["paper"], _Notes()
    parts = list_parts(suite, paper=paper)

    def cells(result: Result, sign: bool = False) -> list[str]:
        found = (find_estimate(result, "auroc", "macro", name_part(part.own)) if part.own else None for part in parts)
        return ["-" if one is None else format_percent(one, sign=sign) for one in found]

    rows = []
    for method in suite.names:
        for kind in (ONE_VIEW, TWO_VIEWS):
            if result := suite.methods.get((kind, method, count)):
                draws = read_draws(result)
                spread = "-" if draws is None else f"{100 * draws[0]:.1f} to {100 * draws[1]:.1f}"
                rows.append([f"{method}, {kind}", *cells(result), spread])
        if result := suite.differences.get((SECOND_VIEW, method, method)):
            rows.append([f"{method}, two views minus one", *cells(result, sign=True), "-"])
    if not rows:
        return []
    for (kind, first, second), result in suite.differences.items():
        if kind in (ONE_VIEW, TWO_VIEWS):
            rows.append([f"{first} minus {second}, {kind}", *cells(result, sign=True), "-"])
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
        f"Macro AUROC in percent of linear probes of {labelled} labelled studies with exactly two views, on "
        f"{pairs['test']:,} such test studies; one view is the first. Last: spread over draws, pooled."
    )
    return [
        SuiteTable(
            "One view or two (Table 8, Figure 5)",
            ["", *(part.title for part in parts), "draws"],
            rows,
            caption,
            notes.explain(),
        )
    ]


def _mark_views(values: Sequence[float | None], parts: Sequence[Part], notes: _Notes) -> list[str]:
    said = []
    for value, part in zip(values, parts, strict=True):
        marks = ["pooled"] if part.dataset == "combined" else []
        said.append("-" if value is None else f"{value:.2f}{notes.mark(*marks)}")
    return [*said, "-"]


def _tabulate_slices(suite: Suite, kind: str) -> list[SuiteTable]:
    methods = {name: suite.methods[kind, name, None] for name in suite.names if (kind, name, None) in suite.methods}
    first = next(iter(methods.values()))
    names = [key.removeprefix("test_studies of ") for key in first.counts if key.startswith("test_studies of ")]
    rows = []
    for name in names:
        counts = [f"{first.counts[f'test_{unit} of {name}']:,}" for unit in ("studies", "patients")]
        found = [find_estimate(result, "auroc", "macro", name) for result in methods.values()]
        cells = ["too few" if one.value is None else format_percent(one) for one in found]
        rows.append([name.replace("=", ": ", 1), *counts, *cells])
    caption = "Macro AUROC in percent of parts of the test split."
    return (
        [SuiteTable(f"By part, {TITLES[kind]}", ["", "studies", "patients", *methods], rows, caption)] if rows else []
    )


def _tabulate_seen(suite: Suite, kind: str) -> list[SuiteTable]:
    rows, archives = [], suite.index["archives"]
    for method in suite.names:
        result = suite.methods.get((kind, method, None))
        saw = [encoder["saw"] for encoder in suite.index["encoders"] if encoder["method"] == method]
        row = [method]
        for archive in archives:
            found = [one.get(archive, False) for one in saw]
            said = "seen" if all(found) else "not seen" if not any(found) else "seen by some runs"
            value = None if result is None else find_estimate(result, "auroc", "macro", name_part(archive)).value
            row.append(("-" if value is None else f"{100 * value:.1f}") + f"\n{said}")
        rows.append(row)
    caption = (
        f"Macro AUROC in percent ({TITLES[kind]}), and whether pretraining saw patients or images of the archive's "
        "training split, by the record of the run."
    )
    return [SuiteTable("Archives seen in pretraining", ["", *archives], rows, caption)]


def write_markdown(tables: Sequence[SuiteTable]) -> str:
    """The tables as Markdown."""
    lines = []
    for table in tables:
        lines += [f"## {table.title}", "", _join(table.columns), _join(["---"] * len(table.columns))]
        lines += [_join(row) for row in table.rows]
        lines += ["", *(f"{text}\n" for text in (table.caption, *table.footnotes) if text)]
    return "\n".join(lines)


def _join(cells: Sequence[str]) -> str:
    said = (_fold(cell).replace("|", "/") for cell in cells)
    return f"| {' | '.join(said)} |"


def _fold(cell: str) -> str:
    value, *small = cell.split("\n")
    return f"{value} ({'; '.join(small)})" if small else value
