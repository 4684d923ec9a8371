"""Tables that no number was published for: differences, few labels, selection, slices, what pretraining saw."""

from __future__ import annotations

from hilum.evaluate.result import Result
from hilum.evaluate.scored import DRAWS
from hilum.evaluate.slices import LEAST_ROWS
from hilum.evaluate.task import UNITS

from .index import FINETUNE, PER_FINDING, PROBE, Suite
from .mvmae import published
from .parts import MEAN, name_part
from .published_yaml import read_published
from .table import MEAN_TITLE, SuiteTable, find_estimate, format_percent, list_parts, summarise


def tabulate_differences(suite: Suite, kind: str) -> list[SuiteTable]:
    parts = list_parts(suite, paper=False)
    rows = []
    for (of, first, second), result in suite.differences.items():
        if of == kind:
            found = (find_estimate(result, "auroc", "macro", name_part(part.own)) for part in parts)
            rows.append([f"{first} minus {second}", *(format_percent(one, sign=True) for one in found)])
    caption = "Percentage points of macro AUROC on the same patients, paired; an interval that holds 0 settles nothing."
    columns = ["", *(part.title for part in parts)]
    return [SuiteTable(f"Differences, {suite.title(kind)}", columns, rows, caption)] if rows else []


def list_counts(suite: Suite, kind: str) -> list[int | None]:
    """Label counts of a curve, None (all) last."""
    found = {count for of, _, count in suite.methods if of == kind and count is not None}
    return [*sorted(found), None]


def read_draws(result: Result, part: str) -> tuple[float, float] | None:
    """Least and greatest macro AUROC over draws of the labelled patients and over runs, on a part of the test split."""
    values = [value for value in result.protocol.get(DRAWS, {}).get(part, []) if value is not None]
    return (min(values), max(values)) if len(values) > 1 else None


def describe_draws(result: Result, part: str) -> str:
    """Macro AUROC in percent with its interval, and the spread over draws."""
    text, draws = format_percent(find_estimate(result, "auroc", "macro", part)), read_draws(result, part)
    return text if draws is None else f"{text}\nspread {100 * draws[0]:.1f} to {100 * draws[1]:.1f}"


def tabulate_few_labels(suite: Suite, kind: str) -> list[SuiteTable]:
    counts, part = list_counts(suite, kind), name_part(summarise(suite))
    if len(counts) == 1:
        return []
    rows = []
    for method in suite.names:
        results = [suite.methods.get((kind, method, count)) for count in counts]
        if any(results):
            cells = ["-" if one is None else describe_draws(one, part) for one in results]
            rows.append([method, *cells])
    columns = ["", *("all" if count is None else f"{count:,}" for count in counts)]
    what = MEAN_TITLE if part == MEAN else "all test studies"
    caption = f"Macro AUROC in percent, {what}, by labelled training studies; "
    caption += "intervals by patient, then the spread over draws and runs."
    if suite.index["paper"]:
        claimed = read_published("mvmae")["label_efficiency"]["studies_for_about_80_auroc"]
        named = ", ".join(f"{published.MODELS[model]} {count:,}" for model, count in claimed.items())
        caption += f" Published: about 80 % with {named} studies."
    return [SuiteTable(f"With few labels, {suite.title(kind)}", columns, rows, caption)]


def tabulate_selection(suite: Suite, kind: str) -> list[SuiteTable]:
    """The paper's two selections (M 4.2), of probes and, of one training each, of fine-tuned models."""
    parts, rows = list_parts(suite, paper=False), []
    for method in suite.names:
        for of, title in ((kind, "for all findings"), (PER_FINDING[kind], "for each finding")):
            if result := suite.methods.get((of, method, None)):
                cells = [format_percent(find_estimate(result, "auroc", "macro", name_part(part.own))) for part in parts]
                rows.append([f"{method}, {title}", *cells])
    what = {PROBE: "probe", FINETUNE: "epoch"}[kind]
    caption = f"Macro AUROC in percent of the {what} that validation chose once, and of each finding's own."
    columns = ["", *(part.title for part in parts)]
    title = f"Selection for all findings or for each, {suite.title(kind)}"
    return [SuiteTable(title, columns, rows, caption)] if rows else []


def explain_too_few(suite: Suite, least_studies: int = 0) -> str:
    """What the words in the place of a score mean."""
    least = suite.index["min_positives"]
    few = f"fewer than {least_studies} studies, or " if least_studies else ""
    return f"Too few: {few}no finding that {least} of them have and {least} have not."


def tabulate_slices(suite: Suite, kind: str, task: str = "") -> list[SuiteTable]:
    """Every part of the test rows with its size; `task` is named in a suite of several."""
    methods = {name: suite.methods[kind, name, None] for name in suite.names if (kind, name, None) in suite.methods}
    if not methods:
        return []
    first = next(iter(methods.values()))
    names = [key.removeprefix("test_studies of ") for key in first.counts if key.startswith("test_studies of ")]
    rows = []
    for name in names:
        counts = [f"{first.counts[f'test_{unit} of {name}']:,}" for unit in ("studies", "patients")]
        cells = [format_percent(find_estimate(result, "auroc", "macro", name)) for result in methods.values()]
        rows.append([name.replace("=", ": ", 1), *counts, *cells])
    title, unit = f"{task}: by part" if task else "By part", UNITS[suite.index.get("unit", "study")]
    caption = f"Macro AUROC in percent of parts of the test split. {explain_too_few(suite, LEAST_ROWS)}"
    return (
        [SuiteTable(f"{title}, {suite.title(kind)}", ["", unit, "patients", *methods], rows, caption)] if rows else []
    )


def tabulate_seen(suite: Suite, kind: str) -> list[SuiteTable]:
    rows, archives = [], suite.index["archives"]
    for method in suite.names:
        result = suite.methods.get((kind, method, None))
        saw = [encoder["saw"] for encoder in suite.index["encoders"] if encoder["method"] == method]
        row = [method]
        for archive in archives:
            found = [one.get(archive, False) for one in saw]
            said = "seen" if all(found) else "not seen" if not any(found) else "seen by some runs"
            said = "nobody knows" if None in found else said
            value = None if result is None else find_estimate(result, "auroc", "macro", name_part(archive)).value
            row.append(("-" if value is None else f"{100 * value:.1f}") + f"\n{said}")
        rows.append(row)
    caption = (
        f"Macro AUROC in percent ({suite.title(kind)}), and whether pretraining saw patients or images of the "
        "archive's training split, by the record of the run; where there is none nobody knows."
    )
    return [SuiteTable("Archives seen in pretraining", ["", *archives], rows, caption)]
