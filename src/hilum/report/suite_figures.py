"""Figures of a suite: curves of label efficiency, radar plots of findings, one view against two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator, ScalarFormatter

from hilum.evaluate.paper.index import FINETUNE, ONE_VIEW, PER_FINDING, PROBE, TWO_VIEWS, Suite
from hilum.evaluate.paper.own_tables import list_counts, read_draws
from hilum.evaluate.paper.parts import MEAN, POOLED, name_part
from hilum.evaluate.paper.table import TITLES, find_estimate, summarise
from hilum.evaluate.result import Result

from .figures import PALETTE, STYLE, WIDE, draw_figure, encode_svg

_SELECTED = {
    PROBE: "linear probe",
    PER_FINDING: "linear probe, selected per finding",
    FINETUNE: "fine-tuned",
}


def draw_suite(suite: Suite) -> dict[str, str]:
    """Name -> SVG of every figure there are numbers for."""
    figures = {}
    for kind in (PROBE, FINETUNE):
        if any(key[0] == kind and key[2] is not None for key in suite.methods):
            figures[f"few-labels-{kind}"] = plot_few_labels(suite, kind)
    archives = suite.index["archives"]
    for kind, title in _SELECTED.items():
        methods = {name: suite.methods[kind, name, None] for name in suite.names if (kind, name, None) in suite.methods}
        for archive in [*archives, *([POOLED] if len(archives) > 1 else [])] if methods else ():
            where = "all archives" if archive == POOLED else archive
            if drawn := plot_radar(methods, name_part(archive), f"{where}, {title}"):
                figures[f"radar-{kind}-{where}".replace(" ", "-")] = drawn
    if any(key[0] == TWO_VIEWS for key in suite.methods):
        figures["views"] = plot_views(suite)
    return figures


def plot_few_labels(suite: Suite, kind: str) -> str:
    """Macro AUROC by labelled studies; bands are the spread over draws and runs."""
    part = name_part(summarise(suite))
    num_all = suite.index["num_train"]
    with draw_figure(WIDE, 2.8) as (figure, axis):
        ticks = set()
        for place, method in enumerate(suite.names):
            points = []
            for count in list_counts(suite, kind):
                result = suite.methods.get((kind, method, count))
                value = None if result is None else find_estimate(result, "auroc", "macro", part).value
                if result is not None and value is not None:
                    draws = read_draws(result, part)
                    points.append((count or num_all, value, *(draws or (value, value))))
            if points:
                counts, values, worst, best = zip(*sorted(points), strict=True)
                color = PALETTE[place % len(PALETTE)]
                axis.plot(counts, values, marker="o", markersize=4, color=color, label=method)
                axis.fill_between(counts, worst, best, color=color, alpha=0.15, linewidth=0)
                ticks |= set(counts)
        axis.set_xscale("log")
        axis.set_xticks(sorted(ticks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.set_xlabel("labelled training studies")
        axis.set_ylabel("macro AUROC" + (", mean of archives" if part == MEAN else ""))
        axis.set_title(TITLES[kind], fontsize=9)
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
        return encode_svg(figure, f"Macro AUROC by labelled studies, {TITLES[kind]}")


def plot_radar(methods: Mapping[str, Result], part: str, title: str) -> str | None:
    """AUROC of each finding on a spoke of its own, a line a method; None for fewer than three scored findings."""
    first = next(iter(methods.values()))
    names = [
        entry.of
        for entry in first.estimates
        if (entry.metric, entry.slice) == ("auroc", part) and entry.of != "macro" and entry.reason is None
    ]
    if len(names) < 3:
        return None
    angles = np.linspace(0, 2 * np.pi, len(names), endpoint=False)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(WIDE, 4.4), layout="constrained")
        try:
            axis = figure.add_subplot(projection="polar")
            lows = []
            for place, (method, result) in enumerate(methods.items()):
                found = [find_estimate(result, "auroc", name, part).value for name in names]
                values = [np.nan if value is None else value for value in found]
                lows += [value for value in values if not np.isnan(value)]
                color = PALETTE[place % len(PALETTE)]
                axis.plot(np.append(angles, angles[0]), [*values, values[0]], color=color, linewidth=1.4, label=method)
            axis.set_ylim(max(0.0, np.floor(10 * min(lows) - 0.5) / 10), 1)
            axis.set_xticks(angles, _break_names(names))
            axis.tick_params(labelsize=8)
            for angle, label in zip(angles, axis.get_xticklabels(), strict=True):  # away from the rim, not across it
                side = np.sign(np.round(np.cos(angle), 2))
                label.set_horizontalalignment({-1: "right", 0: "center", 1: "left"}[int(side)])
            figure.suptitle(title, fontsize=9)
            figure.legend(ncols=3, loc="outside lower center")
            return encode_svg(figure, f"AUROC by finding, {title}")
        finally:
            plt.close(figure)


def plot_views(suite: Suite) -> str:
    """Macro AUROC of the same studies seen by one view and by two, with intervals."""
    count, part = suite.index["view_count"], name_part(summarise(suite))
    with draw_figure(WIDE, 2.6) as (figure, axis):
        for place, kind in enumerate((ONE_VIEW, TWO_VIEWS)):
            for row, method in enumerate(suite.names):
                result = suite.methods.get((kind, method, count))
                found = None if result is None else find_estimate(result, "auroc", "macro", part)
                if found is None or found.value is None:
                    continue
                low, high = (found.value if end is None else end for end in (found.low, found.high))
                ends = [found.value - low], [high - found.value]
                at, label = row + 0.2 * (2 * place - 1), kind if row == 0 else None
                axis.errorbar(at, found.value, yerr=ends, fmt="o", markersize=5, color=PALETTE[place], label=label)
        axis.set_xticks(range(len(suite.names)), _break_names(suite.names))
        axis.set_ylabel("macro AUROC" + (", mean of archives" if part == MEAN else ""))
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
        return encode_svg(figure, "Macro AUROC with one view and with two")


def _break_names(names: Sequence[str]) -> list[str]:
    return [name.replace(" ", "\n", 1) for name in names]
