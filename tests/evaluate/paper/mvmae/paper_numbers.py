"""What published tables must agree on among themselves (M 5), over a dict in the form of `paper/mvmae/published.yaml`.

A check returns what it found as (name, value) pairs; which of them contradict is listed apart, so that a contradiction
that is the paper's own is kept and one of ours is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Numbers = Mapping[str, Any]

DATASETS = ("mimic", "chexpert", "padchest", "combined")  # order of the pairs in Tables 1 and 2, of columns elsewhere
PER_LABEL_MODELS = ("supervised", "independent", "biomedclip", "chexagent", "mvmae")  # columns of Tables 5 to 7
# Percentage points: rounding to 0.01 moves a mean of 14 by 0.08 (one standard deviation), at worst by 0.5.
TOLERANCE = 0.1

# Model and data set where Table 1 is not the mean of Tables 5 to 7, with the difference in percentage points.
CONTRADICTIONS = {
    ("biomedclip", "mimic"): 6.9,
    ("biomedclip", "chexpert"): 13.0,
    ("biomedclip", "padchest"): 5.2,
    ("independent", "padchest"): 0.5,
}


def read_auroc(numbers: Numbers, model: str, dataset: str, table: str = "table1_full_labels") -> float:
    """AUROC in percent; each data set has a pair of columns, AUROC and F1."""
    return numbers[table][model][2 * DATASETS.index(dataset)]


def average_per_label(numbers: Numbers) -> dict[tuple[str, str], float]:
    """(model, data set) -> mean over the labels of Tables 5 to 7, in percent."""
    means = {}
    for dataset, labels in numbers["table5_7_per_label_auroc"].items():
        for column, model in enumerate(PER_LABEL_MODELS):
            total = 0.0
            for values in labels.values():
                total += values[column]
            means[model, dataset] = 100 * total / len(labels)
    return means


def compare_with_table1(numbers: Numbers) -> dict[tuple[str, str], float]:
    """(model, data set) -> mean per label minus Table 1, in percentage points."""
    return {
        (model, dataset): mean - read_auroc(numbers, model, dataset)
        for (model, dataset), mean in average_per_label(numbers).items()
    }


def list_contradictions(numbers: Numbers) -> dict[tuple[str, str], float]:
    """Those of them that rounding does not explain."""
    return {key: value for key, value in compare_with_table1(numbers).items() if abs(value) > TOLERANCE + 1e-9}


def sum_studies(numbers: Numbers) -> dict[str, int]:
    """Data set -> studies of all splits (Table 4)."""
    return {dataset: sum(row[:3]) for dataset, row in numbers["table4_datasets"].items()}


def average_of_datasets(numbers: Numbers, model: str) -> float:
    """Mean of Table 1's three AUROCs, which the paper's caption says "Combined" is."""
    return sum(read_auroc(numbers, model, dataset) for dataset in DATASETS[:3]) / 3


def subtract_table8(numbers: Numbers, first: str, second: str) -> list[float]:
    table = numbers["table8_two_view_studies_probe_5k"]
    return [one - other for one, other in zip(table[first], table[second], strict=True)]


def list_misshapen(numbers: Numbers) -> list[str]:
    """Rows of the wrong length, percentages and shares out of range, per-label tables with other labels."""
    wrong = []
    widths = {
        "table1_full_labels": 8, "table2_top5": 8, "table3_brier_probe_20k": 4, "table4_datasets": 6,
        "table8_two_view_studies_probe_5k": 4, "figure5_delta_from_table8": 4,
    }  # fmt: skip
    for table, width in widths.items():
        for row, values in numbers[table].items():
            if len(values) != width:
                wrong.append(f"{table} {row}: {len(values)} numbers")
    for table in ("table1_full_labels", "table2_top5"):
        for row, values in numbers[table].items():
            if not all(15 < value < 100 for value in values):
                wrong.append(f"{table} {row}: not percentages")
    for row, values in numbers["table3_brier_probe_20k"].items():
        if not all(0.05 < value < 0.1 for value in values):
            wrong.append(f"Table 3 {row}: no Brier errors of 14 labels")
    per_label = numbers["table5_7_per_label_auroc"]
    names = set(per_label["mimic"])
    for dataset, labels in per_label.items():
        if set(labels) != names or len(labels) != 14:
            wrong.append(f"Tables 5 to 7, {dataset}: labels {sorted(set(labels) ^ names)}")
        for label, values in labels.items():
            if len(values) != len(PER_LABEL_MODELS) or not all(0 <= value <= 1 for value in values):
                wrong.append(f"Tables 5 to 7, {dataset}, {label}: {values}")
    return wrong
