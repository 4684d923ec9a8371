"""A probe report: the encoder beside its controls, per finding, with few labels, and how far its probabilities hold."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator, ScalarFormatter

from hilum.errors import UserError
from hilum.evaluate.console import describe_read, explain_no_score, list_notes
from hilum.evaluate.prompted.zero_shot import NO_THRESHOLD
from hilum.evaluate.result import Result, dump_result, read_result
from hilum.evaluate.task import UNITS

from .blocks import Block, Section, Table, Tile
from .figures import PALETTE, THIRD, WIDE, draw_figure, encode_svg, plot_intervals
from .part_table import tabulate_parts
from .screening_table import tabulate_screening

_METRICS = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1": "F1",
    "brier_error": "Brier error",
    "calibration_error": "calibration error",
}
_REPRESENTATIONS = {
    "class": "the class token",
    "mean": "the mean of the patch tokens",
    "both": "the class token and the mean of the patch tokens",
    "2x2": "the means of the patch tokens in 2 x 2 regions",
    "max": "the maximum over the tokens in each dimension",
    "4x4": "the means of the patch tokens in 4 x 4 regions",
    "tokens": "the patch tokens",
    "auto": "what was best on studies it is not scored on, named beside each encoder",
}
_CONTROLS = (
    "Macro means over findings. Untrained: the same network before training. Pixels: the image at 32 x 32. "
    "Shuffled labels: what chance looks like here."
)
_BY_FINDING = "AUROC with intervals; the dashed line is chance."
_THRESHOLDS = {
    "best F1 on validation": "the threshold that was best on validation",
    NO_THRESHOLD: NO_THRESHOLD,
    "best F1 on inner folds": "thresholds that were best on the training part of each fold",
}
_ROLE_COLORS = {"untrained": PALETTE[4], "pixels": PALETTE[2], "shuffled": PALETTE[6]}
# What no control has; black is the last of Okabe and Ito's that is legible on white.
_ENCODER_COLORS = (*(color for color in PALETTE if color not in _ROLE_COLORS.values()), "#000000")


def build_probe_section(probe: Path) -> tuple[Section, list[Tile]]:
    """Tables and plots of a folder with a probe.json."""
    summary = json.loads((probe / "probe.json").read_bytes())
    arms = summary["arms"]
    subject = arms[0]
    macro = _find(subject["result"], "auroc")
    counts = subject["result"]["counts"]
    crossed = ", cross-validated" if summary["protocol"] == "crossval" else ""
    tiles = [_build_tile(f"{subject['name']} on {summary['task']}{crossed}", macro, subject["result"]["level"])]
    num_patients = counts.get("test_patients", counts.get("patients", 0))
    blocks = [
        Block(
            text=[
                f"Task {summary['task']}, {subject['result']['protocol']['kind']} on "
                f"{_REPRESENTATIONS[summary['representation']]}. Intervals are {subject['result']['level']:.0%}, by "
                f"resampling {num_patients:,} patients. " + _describe_labels(summary["labels"])
            ]
        ),
        *_show_notes(arms, read_result(probe / subject["path"])),
        _tabulate_macro(_choose_drawn(arms, summary["methods"])),
        *tabulate_screening(_choose_drawn(arms, summary["methods"])),
        *_tabulate_methods(summary["methods"]),
        *_tabulate_differences(summary["differences"]),
        Block("By finding", figures=[_plot_findings(_choose_drawn(arms, summary["methods"]))], caption=_BY_FINDING),
        _tabulate_findings(subject),
        *tabulate_parts(_choose_drawn(arms, summary["methods"])),
        *_plot_efficiency(summary["label_efficiency"], arms),
        *_plot_reliability(arms),
    ]
    if summary["failed"]:
        failed = [f"{name}: {message}" for name, message in summary["failed"].items()]
        blocks.insert(0, Block("Evaluations that failed", text=failed, is_note=True))
    title = f"What the features know: {summary['task']}{crossed}"
    return Section(f"probe-{summary['task']}", title, blocks), tiles


def build_result_section(folder: Path) -> tuple[Section, list[Tile]]:
    """Tables and plots of a folder with the result.json of one evaluation, such as a fine-tuning."""
    read = read_result(folder / "result.json")
    result = dump_result(read)
    arm = {"name": result["encoder"], "role": "encoder", "result": result}
    protocol, counts = result["protocol"], result["counts"]
    if not any((one.metric, one.of) == ("auroc", "macro") for one in read.estimates):
        raise UserError(
            f"{folder}: one part of an evaluation of {read.task}. Name the folder that compares it with others, with a "
            "probe.json, risk.json or suite.json."
        )
    macro = _find(result, "auroc")
    text = (
        f"Task {result['task']}, {protocol['kind']}. Intervals are {result['level']:.0%}, by resampling "
        f"{counts['test_patients']:,} patients. " + _describe_labels(protocol["labels"])
    )
    blocks = [
        Block(text=[text]),
        *_show_notes([arm], read),
        _tabulate_macro([arm], caption="Macro means over findings."),
        *tabulate_screening([arm]),
        Block("By finding", figures=[_plot_findings([arm])], caption=_BY_FINDING),
        _tabulate_findings(arm),
        *tabulate_parts([arm]),
        *_plot_history(protocol),
    ]
    title = f"{protocol['kind'].capitalize()}: {result['task']}"
    name = f"{arm['name']} on {result['task']}, {protocol['kind']}"
    return Section(f"result-{folder.name}", title, blocks), [_build_tile(name, macro, result["level"])]


def _show_notes(arms: list[dict[str, Any]], subject: Result) -> list[Block]:
    notes = list_notes({arm["name"]: arm["result"]["notes"] for arm in arms})
    if subject.find("auroc").value is None:
        notes.insert(0, f"No score: {explain_no_score(subject)}.")
    return [Block(text=notes, is_note=True)] if notes else []


def _choose_drawn(arms: list[dict[str, Any]], methods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who stands beside whom: methods in place of their seeds, whose number no plot could hold."""
    if not methods:
        return arms
    drawn = [{"name": entry["result"]["encoder"], "role": "encoder", **entry} for entry in methods]
    seeds = {seed for entry in methods for seed in entry["result"]["protocol"]["runs"]}
    return drawn + [arm for arm in arms if arm["name"] not in seeds]


def _plot_history(protocol: dict[str, Any]) -> list[Block]:
    history = protocol.get("history")
    if not history:
        return []
    panels = []
    for name, title in (("loss", "training loss"), ("val_macro_auroc", "validation macro AUROC")):
        points = [(entry["epoch"], entry[name]) for entry in history if entry[name] is not None]
        with draw_figure(THIRD) as (figure, axis):
            axis.plot([epoch for epoch, _ in points], [value for _, value in points], marker=".")
            axis.axvline(protocol["best_epoch"] + 1, color="#999999", linestyle="--", linewidth=1)
            axis.set_title(title, loc="left", fontsize=9)
            axis.set_xlabel("epoch")
            panels.append(encode_svg(figure, f"{title} by epoch"))
    return [Block("By epoch", figures=panels, caption="The dashed line is the epoch that validation chose.")]


def _build_tile(name: str, macro: dict[str, Any], level: float) -> Tile:
    value, *interval = _format_interval(macro).split("\n")
    spread = "".join(f"; {level:.0%} interval {ends}" for ends in interval)
    num = f"{macro['num']} target{'' if macro['num'] == 1 else 's'}"
    return Tile(value, f"macro AUROC of {name}, {num}{spread}")


def _describe_labels(policy: dict[str, Any]) -> str:
    said = [f"Without the archives {', '.join(policy['leave_out'])}."] if "leave_out" in policy else []
    if "uncertain" in policy:
        said.append(f"Labels by the policies uncertain={policy['uncertain']}, blank={policy['blank']}.")
    return " ".join(said)


def _tabulate_macro(arms: list[dict[str, Any]], caption: str = _CONTROLS) -> Block:
    rows = [
        [
            arm["name"],
            describe_read(arm["result"]["protocol"]),
            *(_format_interval(_find(arm["result"], metric)) for metric in _METRICS),
        ]
        for arm in arms
    ]
    title = "Beside its controls" if len(arms) > 1 else "All findings"
    return Block(title, table=Table(["", "what was read", *_METRICS.values()], rows, strong=[0]), caption=caption)


def _tabulate_methods(methods: list[dict[str, Any]]) -> list[Block]:
    if not methods:
        return []
    rows = []
    for entry in methods:
        result = entry["result"]
        seeds = ", ".join(f"{value:.3f}" for value in result["protocol"]["values_of_runs"]["auroc | macro | all"])
        rows.append([result["encoder"], _format_interval(_find(result, "auroc")), seeds])
    caption = "Means over runs that differ in their seed; the interval is that of the patients."
    return [Block("Methods", table=Table(["", "macro AUROC", "of each seed"], rows), caption=caption)]


def _tabulate_differences(differences: list[dict[str, Any]]) -> list[Block]:
    if not differences:
        return []
    rows = []
    for entry in differences:
        name = entry["result"]["encoder"].replace(" - ", " minus ")
        found = (_find(entry["result"], metric) for metric in ("auroc", "average_precision"))
        rows.append([name, *(_format_interval(estimate, sign=True) for estimate in found)])
    caption = "Differences of macro means on the same patients, paired; an interval that holds 0 settles nothing."
    return [Block("Differences", table=Table(["", "AUROC", "average precision"], rows), caption=caption)]


def _list_findings(result: dict[str, Any]) -> list[str]:
    scored = [entry for entry in result["estimates"] if entry["metric"] == "auroc" and entry["slice"] == "all"]
    return [entry["of"] for entry in scored if entry["of"] != "macro"]


def _plot_findings(arms: list[dict[str, Any]]) -> str:
    result = arms[0]["result"]
    names = [name for name in _list_findings(result) if _find(result, "auroc", name)["value"] is not None]
    shown = [arm for arm in arms if arm["role"] != "shuffled"]
    height = max(0.3, 0.07 * len(shown))
    with draw_figure(WIDE, height * len(names) + 0.9) as (figure, axis):
        step = min(0.18, 0.8 / len(shown))
        for place, arm in enumerate(shown):
            found = [_find(arm["result"], "auroc", name) for name in names]
            middle, low, high = (
                [np.nan if entry[key] is None else entry[key] for entry in found] for key in ("value", "low", "high")
            )
            shift = (place - (len(shown) - 1) / 2) * step
            plot_intervals(axis, names, middle, low, high, color=_color(arm, place), shift=shift, label=arm["name"])
        axis.axvline(0.5, color="#999999", linestyle="--", linewidth=1)
        axis.set_xlabel("AUROC")
        figure.legend(ncols=3, loc="outside upper center", columnspacing=1.2)
        return encode_svg(figure, "AUROC by finding")


def _tabulate_findings(arm: dict[str, Any]) -> Block:
    rows, unknown = [], []
    protocol = arm["result"]["protocol"]
    for name in _list_findings(arm["result"]):
        entry = _find(arm["result"], "auroc", name)
        if not entry["num"]:
            unknown.append(name)
            continue
        positives = f"{entry['positives'] or 0:,} of {entry['num']:,}"
        found = (_format_interval(_find(arm["result"], metric, name)) for metric in _METRICS)
        reason = entry["reason"] or ""
        left_out = reason and f"\n{reason.rpartition(', ')[2]}"  # "10 needed"
        if "negatives" in reason:
            left_out = left_out.replace(" needed", " negatives needed")
        rows.append([name, positives + left_out, *found])
    unit = {"study": "study", "breast": "breast", "view": "image"}[protocol["unit"]]
    caption = (
        f"F1 at {_THRESHOLDS[protocol['threshold']]}. Findings with too few positives (or negatives) are shown and do "
        "not enter the mean." + (f" No {unit} with a known state: {', '.join(unknown)}." if unknown else "")
    )
    table = Table(["", "positives", *_METRICS.values()], rows)
    return Block(f"{arm['name']} by finding", table=table, caption=caption)


def _plot_efficiency(curve: list[dict[str, Any]], arms: list[dict[str, Any]]) -> list[Block]:
    if not curve:
        return []
    points: dict[str, list[tuple[int, float, float, float]]] = defaultdict(list)
    for entry in curve:
        protocol, macro = entry["result"]["protocol"], _find(entry["result"], "auroc")["value"]
        draws = [one["macro_auroc"] for one in protocol["by_seed"] if one["macro_auroc"] is not None]
        if macro is not None and draws:
            points[entry["result"]["encoder"]].append((protocol["label_count"], macro, min(draws), max(draws)))
    if not points:  # too few positives for a macro mean
        return []
    with draw_figure(WIDE, 2.6) as (figure, axis):
        for place, arm in enumerate(arms):
            if series := sorted(points[arm["name"]]):
                counts, macro, worst, best = zip(*series, strict=True)
                color = _color(arm, place)
                axis.plot(counts, macro, marker="o", markersize=4, color=color, label=arm["name"])
                axis.fill_between(counts, worst, best, color=color, alpha=0.15, linewidth=0)
        axis.set_xscale("log")
        axis.set_xticks(sorted({count for series in points.values() for count, *_ in series}))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(ScalarFormatter())
        unit = arms[0]["result"]["protocol"]["unit"]
        axis.set_xlabel(f"labelled training {UNITS[unit]}")
        axis.set_ylabel("macro AUROC")
        axis.legend()
        drawn = encode_svg(figure, "Macro AUROC by number of labels")
    caption = (
        "Mean over draws of the labelled patients, features read as with all labels; bands reach from the worst draw "
        "to the best."
    )
    return [Block("With few labels", figures=[drawn], caption=caption)]


def _plot_reliability(arms: list[dict[str, Any]]) -> list[Block]:
    points = arms[0]["reliability"]["all"]
    if not points["num"]:
        return []
    with draw_figure(height=3.4) as (figure, axis):
        top = 1.05 * max(*points["probability"], *points["frequency"])
        axis.plot([0, top], [0, top], color="#999999", linestyle="--", linewidth=1)
        axis.plot(points["probability"], points["frequency"], marker="o", markersize=4)
        axis.set_xlabel("predicted probability")
        axis.set_ylabel("share that has the finding")
        axis.set_aspect("equal")
        drawn = encode_svg(figure, "Reliability diagram")
    protocol = arms[0]["result"]["protocol"]
    unit = UNITS[protocol["unit"]]
    what = f"all {unit}, each by probes that saw no other of its patient" if "num_folds" in protocol else f"test {unit}"
    caption = f"All findings together; {what}, in bins of equal size."
    return [Block("Do its probabilities hold?", figures=[drawn], caption=caption)]


def _find(result: dict[str, Any], metric: str, of: str = "macro") -> dict[str, Any]:
    """The estimate of that metric; a control may lack one (differences of F1, say): an undefined one then."""
    for entry in result["estimates"]:
        if (entry["metric"], entry["of"], entry["slice"]) == (metric, of, "all"):
            return entry
    return {"value": None, "low": None, "high": None, "num": 0, "positives": None, "reason": None}


def _format_interval(entry: dict[str, Any], sign: bool = False) -> str:
    if entry["value"] is None:
        return "-"
    style = "+.3f" if sign else ".3f"
    if entry["low"] is None:
        return f"{entry['value']:{style}}"
    return f"{entry['value']:{style}}\n{entry['low']:{style}} to {entry['high']:{style}}"


def _color(arm: dict[str, Any], place: int) -> str:
    is_encoder = arm["role"] == "encoder"
    return _ENCODER_COLORS[place % len(_ENCODER_COLORS)] if is_encoder else _ROLE_COLORS[arm["role"]]
