"""Of mammograms: sensitivity at a fixed specificity, probabilistic F1, and how far ordered classes are met (L 3.3)."""

from __future__ import annotations

from typing import Any

from hilum.evaluate.scoring.estimates import OF_CLASSES, OF_MAMMOGRAMS
from hilum.evaluate.scoring.metrics import SPECIFICITY

from .blocks import Block, Table
from .part_table import format_estimate

_TITLES = {
    "sensitivity_at_specificity": f"sensitivity at {SPECIFICITY:.0%} specificity",
    "specificity_reached": "specificity reached",
    "probabilistic_f1": "probabilistic F1",
    "quadratic_kappa": "quadratic-weighted kappa",
    "balanced_accuracy": "balanced accuracy",
}
assert tuple(_TITLES) == OF_MAMMOGRAMS


def tabulate_screening(arms: list[dict[str, Any]]) -> list[Block]:
    """One row for each evaluation that has any of these metrics; nothing where none has."""
    found = [_take_overall(arm["result"]) for arm in arms]
    metrics = [metric for metric in _TITLES if any(metric in one for one in found)]
    if not metrics:
        return []
    rows = [
        [arm["name"], *(format_estimate(one.get(metric)) for metric in metrics)]
        for arm, one in zip(arms, found, strict=True)
    ]
    said = []
    if "sensitivity_at_specificity" in metrics:
        said.append(
            f"The threshold has {SPECIFICITY:.0%} specificity on validation; what it reaches on test is beside it."
        )
    if set(OF_CLASSES) & set(metrics):
        said.append(
            "Kappa and balanced accuracy are of the class with the highest probability; no threshold is fitted."
        )
    columns = ["", *(_TITLES[metric] for metric in metrics)]
    return [Block("As screening asks", table=Table(columns, rows, strong=[0]), caption=" ".join(said))]


def _take_overall(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Metric -> its estimate of all targets, on all test rows."""
    return {
        entry["metric"]: entry
        for entry in result["estimates"]
        if entry["slice"] == "all"
        and entry["metric"] in _TITLES
        and (entry["of"] == "macro" or entry["metric"] in OF_CLASSES)
    }
