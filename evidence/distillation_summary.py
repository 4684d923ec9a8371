"""From the suites to what is kept: their tables, and the means of groups of targets with paired differences."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from evidence.distillation_arms import MAE, list_arms
from evidence.distillation_plots import draw_summary
from evidence.distillation_suites import SUITES, name_suite
from hilum.evaluate.paper.index import INDEX, PROBE, read_suite
from hilum.evaluate.result import read_result, write_json
from hilum.evaluate.scoring.bootstrap import read_interval
from hilum.evaluate.scoring.resamples import read_resamples
from hilum.phantom.physiology.effects import TARGETS

RESULTS = Path("results/distillation")
# What is averaged: physiology that images show, faintly or strongly, and that they do not; findings, and of these the
# ones of which no ECG and no laboratory value knows, which a distillation could harm.
GROUPS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "physiology": ("physiology", tuple(name for name, target in TARGETS.items() if target.image != "none")),
    "faint physiology": ("physiology", tuple(name for name, target in TARGETS.items() if target.image == "faint")),
    "invisible physiology": ("physiology", tuple(name for name, target in TARGETS.items() if target.image == "none")),
    "findings": ("findings", None),
    "findings without physiology": ("findings", ("Fracture", "Lung Lesion", "Support Devices", "Pneumothorax")),
    "physiology abroad": ("abroad", tuple(name for name, target in TARGETS.items() if target.image != "none")),
}


# What an arm is held against beside `mae`: what its gain might come from, or what it changes one thing of.
AGAINST: dict[str, tuple[str, ...]] = {
    "pacx": ("images alone",),
    "pacx, standardised": ("images alone", "pacx"),
    "pacx of one institution": ("pacx",),
    "mvmae_v2t with teachers": ("mvmae_v2t",),
    "mvmae_v2t with teachers, whole views": ("mvmae_v2t", "mvmae_v2t with teachers"),
}


def write_summary() -> None:
    """`summary.json`, `validation.json`, the suites' tables and figures, and the plots."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for group, (suite, names) in GROUPS.items():
        rows += summarize_group(group, suite, names)
    write_json(RESULTS / "summary.json", rows)
    write_json(RESULTS / "validation.json", {suite: read_validation(suite) for suite in ("physiology", "findings")})
    for suite in SUITES:
        shutil.copy(name_suite(suite) / "tables.md", RESULTS / f"{suite}.md")
        shutil.copy(name_suite(suite) / INDEX, RESULTS / f"{suite}.json")
    draw_summary(rows, RESULTS)
    print_rows(rows)


def summarize_group(group: str, suite: str, names: Sequence[str] | None) -> list[dict[str, Any]]:
    """Macro test AUROC of a group for every arm and number of labels, and its paired differences."""
    folder = name_suite(suite)
    found = read_suite(folder)
    shares = {int(count): share for count, share in found.index["shares"].items()}
    place = {
        (one["method"], one["count"]): folder / one["path"] for one in found.index["methods"] if one["kind"] == PROBE
    }
    rows = []
    for count in (*sorted(shares), None):
        averaged = {arm: average_group(place[arm, count].parent, names) for arm in found.names}
        for arm, own in averaged.items():
            others = (MAE, *(other for other in AGAINST.get(arm, ()) if other in averaged))
            rows.append(
                {
                    "group": group,
                    "labels": "all" if count is None else f"{shares[count]:.0%}",
                    "arm": arm,
                    "question": list_arms()[arm].question,
                    "seeds": sum(one["method"] == arm for one in found.index["encoders"]),
                    "auroc": own[0],
                    **{f"minus {other}": subtract(own, averaged[other]) for other in others},
                }
            )
    return rows


def read_validation(suite: str) -> dict[str, list[float]]:
    """Arm -> best macro AUROC on validation, of all of a suite's targets with all labels, of each of its seeds."""
    folder, found = name_suite(suite), {}
    for cell in json.loads((folder / INDEX).read_bytes())["cells"]:
        if cell["kind"] == PROBE and cell["count"] is None:
            tried = read_result(folder / cell["path"]).protocol["validation_macro_auroc_tried"]
            found.setdefault(cell["method"], []).append(max(max(values.values()) for values in tried.values()))
    return found


def subtract(first: tuple[float, np.ndarray], second: tuple[float, np.ndarray]) -> list[float]:
    """A paired difference and the ends of its interval."""
    interval = read_interval(first[1] - second[1])
    assert interval is not None
    return [first[0] - second[0], interval.low, interval.high]


def average_group(folder: Path, names: Sequence[str] | None) -> tuple[float, np.ndarray]:
    """Mean AUROC of some findings, or of all that can be judged (None), and what it is on each resample."""
    found = read_resamples(folder)
    kept = {of: place for place, (metric, of, part) in enumerate(found.names) if (metric, part) == ("auroc", "all")}
    places = [kept[name] for name in names or ["macro"]]
    return float(np.mean(found.value[places])), found.resampled[places].mean(axis=0)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A table for each group: arms by numbers of labels."""
    for group in GROUPS:
        part = [row for row in rows if row["group"] == group]
        labels = list(dict.fromkeys(row["labels"] for row in part))
        table = Table("arm", "seeds", *(f"{one} labels" for one in labels), title=f"{group}: AUROC, and minus {MAE}")
        for arm in dict.fromkeys(row["arm"] for row in part):
            own = {row["labels"]: row for row in part if row["arm"] == arm}
            cells = []
            for one in labels:
                value, low, high = own[one]["minus mae"]
                cells.append(
                    f"{own[one]['auroc']:.3f}" + (f" {value:+.3f} ({low:+.3f} to {high:+.3f})" if arm != MAE else "")
                )
            table.add_row(arm, str(next(iter(own.values()))["seeds"]), *cells)
        Console(width=150).print(table)
