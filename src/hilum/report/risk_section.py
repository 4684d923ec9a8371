"""A risk evaluation: every C-index by its name, cancers over the years in groups of risk, and whether risks hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hilum.errors import UserError
from hilum.evaluate.console import list_notes
from hilum.evaluate.result import Estimate, Result, read_result
from hilum.evaluate.risk.concordance import C_INDICES, UNO_WEIGHTS
from hilum.evaluate.risk.estimates import AUC_YEARS, name_c_index, name_years
from hilum.evaluate.risk.follow_up import FORMAT
from hilum.evaluate.risk.hazards import NAMES
from hilum.evaluate.risk.kaplan_meier import Side

from .blocks import Block, Section, Table, Tile
from .figures import PALETTE, PANEL, THIRD, draw_figure, encode_svg

_INDICES = (
    "Harrell's C moves with censoring; Uno's weighs by the follow-up of the training exams ({}), truncated at 5 years, "
    "and is the one to quote; Antolini's compares the risks until the year of each cancer; Mirai's is as released with "
    "Mirai, whose weights are not of censoring."
)
_AUC = "AUC of cancer before 2 and 5 years: weighted for censoring (IPCW), and of the exams with known outcome alone."
_WINDOWS = (
    "Without cancers that came so soon after the exam that they may have been there to be seen: risk rather than "
    "detection."
)
_GROUPS = (
    "Test exams in thirds by predicted risk within 5 years; 1 - Kaplan-Meier, bands by resampling women. The number "
    "still followed at the start of each year is in the table."
)
_CALIBRATION = (
    "Test exams in fifths by predicted risk; observed is 1 - Kaplan-Meier. On the dashed line risks hold. "
    "Recalibrated: a logistic map of each year's risk fitted on validation (Platt), which leaves their order."
)


def build_risk_section(folder: Path) -> tuple[Section, list[Tile]]:
    """Tables and plots of a folder with a risk.json."""
    summary = json.loads((folder / "risk.json").read_bytes())
    if summary["format"] != FORMAT:
        raise UserError(
            f"{folder}: its risk.json is of the format {summary['format']}, this Hilum reads {FORMAT}. Run "
            "`hilum probe ... --task risk` again."
        )
    results = {arm["name"]: read_result(folder / arm["path"]) for arm in summary["arms"]}
    blocks = []
    if summary["failed"]:
        failed = [f"{name}: {message}" for name, message in summary["failed"].items()]
        blocks.append(Block("Evaluations that failed", text=failed, is_note=True))
    section = Section("risk", "Risk of cancer within 5 years", blocks)
    if not results:
        return section, []
    subject = summary["arms"][0]
    first = results[subject["name"]]
    blocks.append(Block(text=[_describe(first)]))
    if notes := list_notes({name: result.notes for name, result in results.items()}):
        blocks.append(Block(text=notes, is_note=True))
    rows = list(results.items())
    pairs = [read_result(folder / entry["path"]) for entry in summary["differences"]]
    differences = [(result.encoder.replace(" - ", " minus "), result) for result in pairs]
    uno_weight = first.protocol["uno_weight"]
    indices = _INDICES.format(UNO_WEIGHTS[uno_weight])
    blocks += [
        Block("Beside its controls", table=_tabulate(rows, ".3f", uno_weight), caption=f"{indices} {_AUC}"),
        *(
            [
                Block(
                    "Differences, on the same women",
                    table=_tabulate(differences, "+.3f", uno_weight),
                    caption="Paired.",
                )
            ]
            if differences
            else []
        ),
        Block("Detection or risk", table=_tabulate_windows(first), caption=f"{subject['name']}. {_WINDOWS}"),
        Block(
            "Cancers by group of risk",
            figures=[_plot_groups(subject["groups"])],
            table=_tabulate_groups(subject["groups"]),
            caption=_GROUPS,
        ),
        Block(
            "Do its risks hold?",
            figures=[
                _plot_calibration(before, after)
                for before, after in zip(subject["calibration"], subject["recalibrated"], strict=True)
                if before["year"] in (1, *AUC_YEARS)
            ],
            caption=_CALIBRATION,
        ),
        Block("Year by year", table=_tabulate_years(first)),
    ]
    uno = first.find("c_index_uno", "risk")
    tile = Tile(_format(uno, ".3f").partition("\n")[0], f"Uno's C-index of {subject['name']}, risk within 5 years")
    return section, [tile]


def _describe(result: Result) -> str:
    counts, protocol = result.counts, result.protocol
    earlier = f" and up to {protocol['earlier_exams']} earlier exams" if protocol["earlier_exams"] else ""
    apart = ", one for left breasts and one for right ones," if protocol.get("sides") == "apart" else ""
    masked = ", of which years after a cancer were left out" if protocol.get("mask_after_event") else ""
    hazards = NAMES[protocol.get("hazard", "additive")]
    return (
        f"A head of {hazards}{apart} on frozen features of the exam's views{earlier}, fitted to "
        f"{counts['train_studies']:,} exams ({counts['train_cancers']:,} with cancer within 5 years){masked}, chosen "
        f"on {counts['val_studies']:,} ({counts['val_cancers']:,}), scored on {counts['test_studies']:,} "
        f"({counts['test_cancers']:,}) of {counts['test_patients']:,} women. Intervals are {result.level:.0%}, by "
        "resampling women. For research, not for the care of patients."
    )


def _tabulate(rows: list[tuple[str, Result]], style: str, uno_weight: Side) -> Table:
    metrics = [(f"c_index_{name}", "risk", name_c_index(name, uno_weight)) for name in C_INDICES]
    for name, said in (("auc_ipcw", "AUC"), ("auc_mirai", "AUC (known only)")):
        metrics += [(name, name_years(year), f"{said}, {name_years(year)}") for year in AUC_YEARS]
    found = [[name, *(_format(result.find(metric, of), style) for metric, of, _ in metrics)] for name, result in rows]
    return Table(["", *(heading for *_, heading in metrics)], found, strong=[0])


def _tabulate_windows(result: Result) -> Table:
    rows = []
    for slice in dict.fromkeys(one.slice for one in result.estimates):
        uno = result.find("c_index_uno", "risk", slice)
        name = "all exams" if slice == "all" else slice.replace("=", "s ")
        aucs = (_format(result.find("auc_ipcw", name_years(year), slice), ".3f") for year in AUC_YEARS)
        rows.append([name, f"{uno.positives:,} of {uno.num:,}", _format(uno, ".3f"), *aucs])
    name = name_c_index("uno", result.protocol["uno_weight"])
    return Table(["", "cancers", name, *(f"AUC, {name_years(year)}" for year in AUC_YEARS)], rows)


def _tabulate_groups(groups: list[dict[str, Any]]) -> Table:
    years = range(len(groups[0]["followed"])) if groups else ()
    rows = [
        [one["name"], f"{one['mean_risk']:.3f}", f"{one['cancers']:,} of {one['num']:,}"]
        + [f"{one['followed'][year]:,}" for year in years]
        for one in groups
    ]
    return Table(["risk", "predicted", "cancers", *(f"followed at {year}" for year in years)], rows)


def _tabulate_years(result: Result) -> Table:
    names = ("brier_error", "brier_error_recalibrated", "calibration_gap", "calibration_gap_recalibrated")
    rows = []
    for one in result.estimates:
        if one.metric == names[0]:
            found = [result.find(name, one.of) for name in names]
            cells = [_format(each, style) for each, style in zip(found, (".4f", ".4f", "+.4f", "+.4f"), strict=True)]
            rows.append([one.of, f"{one.positives or 0:,}", *cells])
    span = f"{name_years(1)} to {name_years(max(AUC_YEARS))}"
    whole = [result.find(f"integrated_{name}", span) for name in names[:2]]
    rows.append([span, "", *(_format(one, ".4f") for one in whole), "", ""])
    recall = _format(result.find("decile_recall", name_years(max(AUC_YEARS))), ".3f").replace("\n", ", ")
    rows.append(["cancers among the tenth at highest risk", recall, "", "", "", ""])
    said = ("Brier error", "recalibrated", "predicted minus observed", "recalibrated")
    return Table(["risk within", "cancers", *said], rows)


def _plot_groups(groups: list[dict[str, Any]]) -> str:
    with draw_figure(PANEL, 2.8) as (figure, axis):
        for one, color in zip(groups, (PALETTE[0], PALETTE[4], PALETTE[1]), strict=False):
            seen = [place for place, value in enumerate(one["observed"]) if value is not None]
            years = [one["years"][place] for place in seen]
            axis.step(years, [one["observed"][place] for place in seen], where="post", color=color, label=one["name"])
            sure = [place for place in seen if one["low"][place] is not None]
            axis.fill_between(
                [one["years"][place] for place in sure], [one["low"][place] for place in sure],
                [one["high"][place] for place in sure], step="post", color=color, alpha=0.15, linewidth=0,
            )  # fmt: skip
        axis.set_xlabel("years after the exam")
        axis.set_ylabel("share with cancer")
        axis.set_ylim(bottom=0)
        axis.legend(title="predicted risk", loc="upper left")
        return encode_svg(figure, "Share with cancer over the years by group of predicted risk")


def _plot_calibration(before: dict[str, Any], after: dict[str, Any]) -> str:
    drawn = [
        (PALETTE[place], name, [one for one in found["points"] if one["observed"] is not None])
        for place, (name, found) in enumerate((("as predicted", before), ("recalibrated", after)))
    ]
    with draw_figure(THIRD, 2.5) as (figure, axis):
        every = [one for _, _, points in drawn for one in points]
        top = 1.1 * max([*(one[name] or 0 for one in every for name in ("predicted", "observed", "high")), 0.01])
        axis.plot([0, top], [0, top], color="#999999", linestyle="--", linewidth=1)
        for color, name, points in drawn:
            known = [one for one in points if one["low"] is not None]
            places, low, high = ([one[end] for one in known] for end in ("predicted", "low", "high"))
            axis.vlines(places, low, high, color=color, linewidth=1.2)
            said, seen = [one["predicted"] for one in points], [one["observed"] for one in points]
            axis.plot(said, seen, marker="o", markersize=4, color=color, label=name)
        axis.legend(loc="upper left")
        axis.set_title(f"within {name_years(before['year'])}", loc="left", fontsize=9)
        axis.set_xlabel("predicted")
        axis.set_ylabel("observed")
        return encode_svg(figure, f"Predicted and observed risk within {name_years(before['year'])}")


def _format(estimate: Estimate, style: str) -> str:
    if estimate.value is None:
        return "-"
    if estimate.low is None:
        return f"{estimate.value:{style}}"
    return f"{estimate.value:{style}}\n{estimate.low:{style}} to {estimate.high:{style}}"
