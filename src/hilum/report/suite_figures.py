"""Figures of a suite: curves of label efficiency, radar plots of findings, one view against two.

What stands for which of the paper's figures, as far as the specification (M 4.2, M 5) says what they show:

- `plot_few_labels`: label efficiency of probe and fine-tuning, which the paper has as curves only.
- `plot_radar`: the radar plots of findings, which the paper draws by selection per label.
- `plot_views`: one view or two. Figure 5, of which the specification has the differences between methods that Table 8
  gives; here are the values themselves, the differences with their intervals are in the table of views.

The specification gives a number to Figure 5 alone: which of 3, 4, 8, 9 and 11 the curves and the radar plots are, and
what the others show, it does not say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator, ScalarFormatter

from hilum.evaluate.paper.index import FINETUNE, ONE_VIEW, PER_FINDING, PROBE, TWO_VIEWS, Suite, take_task
from hilum.evaluate.paper.mvmae import published
from hilum.evaluate.paper.own_tables import list_counts, read_draws
from hilum.evaluate.paper.parts import MEAN, POOLED, name_part
from hilum.evaluate.paper.table import find_estimate, summarise
from hilum.evaluate.result import Result
from hilum.evaluate.task import UNITS

from .figures import PALETTE, STYLE, WIDE, draw_figure, encode_svg

_SUBJECT = "mvmae"  # of the published models the one that the paper is about


@dataclass(frozen=True)
class RadarLine:
    """AUROC of every finding by one method, and how it is drawn."""

    label: str
    values: tuple[float, ...]  # NaN where there is none
    color: str
    is_published: bool = False


@dataclass(frozen=True)
class Radar:
    """What a radar plot shows; three findings at least."""

    title: str
    findings: tuple[str, ...]
    lines: tuple[RadarLine, ...]


def draw_suite(suite: Suite) -> dict[str, str]:
    """Name -> SVG of every figure there are numbers for; of several tasks those of each."""
    if "tasks" in suite.index:
        drawn = {name: draw_suite(_take_plain(suite, name)) for name in suite.index["tasks"]}
        return {
            f"{figure}-{name}".replace(":", "-").replace(" ", "-"): svg
            for name, figures in drawn.items()
            for figure, svg in figures.items()
        }
    figures = {}
    for kind in (PROBE, FINETUNE):
        if any(key[0] == kind and key[2] is not None for key in suite.methods):
            figures[f"few-labels-{kind}"] = plot_few_labels(suite, kind)
    figures |= {name: plot_radar(radar) for name, radar in list_radars(suite).items()}
    if any(key[0] == TWO_VIEWS for key in suite.methods):
        figures["views"] = plot_views(suite)
    return figures


def _take_plain(suite: Suite, task: str) -> Suite:
    """One task of several as a suite of its own, whose figures are titled after it."""
    found = take_task(suite, task)
    return replace(found, index={**{name: value for name, value in found.index.items() if name != "tasks"}, "of": task})


def _title(suite: Suite, kind: str) -> str:
    task = suite.index.get("of")
    return f"{task}, {suite.title(kind)}" if task else suite.title(kind)


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
        axis.set_xlabel(f"labelled training {UNITS[suite.index.get('unit', 'study')]}")
        axis.set_ylabel("macro AUROC" + (", mean of archives" if part == MEAN else ""))
        axis.set_title(_title(suite, kind), fontsize=9)
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
        return encode_svg(figure, f"Macro AUROC by labelled studies, {_title(suite, kind)}")


def list_radars(suite: Suite) -> dict[str, Radar]:
    """Name -> radar plot, for every archive and all pooled, of every protocol and by both selections.

    The published values are of models that were fine-tuned and selected by the macro mean (Tables 5-7; the paper's own
    radar plots are not given in numbers): they are drawn where ours are that, or of probes if nothing was fine-tuned.
    """
    radars = {}
    archives = suite.index["archives"]
    protocols = [kind for kind in (FINETUNE, PROBE) if any(key[0] == kind and key[2] is None for key in suite.methods)]
    kinds: dict[str, tuple[str | None, str]] = {kind: (kind, _title(suite, kind)) for kind in protocols}
    kinds |= {PER_FINDING[kind]: (None, f"{suite.title(kind)}, selected per finding") for kind in protocols}
    for kind, (protocol, title) in kinds.items():
        methods = {name: suite.methods[kind, name, None] for name in suite.names if (kind, name, None) in suite.methods}
        beside = suite.index["paper"] and suite.index["suite"] == "mvmae" and protocol == protocols[0]
        for archive in [*archives, *([POOLED] if len(archives) > 1 else [])] if methods else ():
            where = "all archives" if archive == POOLED else archive
            dataset = published.match_dataset(archive) if beside and archive != POOLED else None
            if radar := build_radar(methods, name_part(archive), f"{where}, {title}", dataset):
                radars[f"radar-{kind}-{where}".replace(" ", "-")] = radar
    return radars


def build_radar(methods: Mapping[str, Result], part: str, title: str, dataset: str | None = None) -> Radar | None:
    """A radar plot of the findings that enter the mean; None for fewer than three.

    Beside them, with a published data set, MVMAE's published values and those of models that methods are called after,
    each in the colour of its method.
    """
    first = next(iter(methods.values()))
    findings = tuple(
        entry.of
        for entry in first.estimates
        if (entry.metric, entry.slice) == ("auroc", part) and entry.of != "macro" and entry.reason is None
    )
    if len(findings) < 3:
        return None
    lines, models = [], {}
    for place, (method, result) in enumerate(methods.items()):
        found = (find_estimate(result, "auroc", name, part).value for name in findings)
        values = tuple(float("nan") if value is None else value for value in found)
        lines.append(RadarLine(method, values, PALETTE[place % len(PALETTE)]))
        models.setdefault(published.match_model(method), PALETTE[place % len(PALETTE)])
    models.setdefault(_SUBJECT, PALETTE[-1])
    for model in published.PER_FINDING if dataset else ():
        found = [published.find_finding(model, dataset or "", name) for name in findings]
        if model in models and any(value is not None for value in found):
            values = tuple(float("nan") if value is None else value / 100 for value in found)
            label = f"{published.MODELS[model]} (published)"
            lines.append(RadarLine(label, values, models[model], is_published=True))
    return Radar(title, findings, tuple(lines))


def plot_radar(radar: Radar) -> str:
    """AUROC of each finding on a spoke of its own, a line a method; what was published is dashed."""
    angles = np.linspace(0, 2 * np.pi, len(radar.findings), endpoint=False)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(WIDE, 4.4), layout="constrained")
        try:
            axis = figure.add_subplot(projection="polar")
            for line in radar.lines:
                stroke, width = ("--", 1.1) if line.is_published else ("-", 1.4)
                around = [*line.values, line.values[0]]
                axis.plot(
                    np.append(angles, angles[0]), around, stroke, color=line.color, linewidth=width, label=line.label
                )
            lowest = np.nanmin([line.values for line in radar.lines])
            axis.set_ylim(max(0.0, np.floor(10 * lowest - 0.5) / 10), 1)
            axis.set_xticks(angles, _break_names(radar.findings))
            axis.tick_params(labelsize=8)
            for angle, label in zip(angles, axis.get_xticklabels(), strict=True):  # away from the rim, not across it
                side = np.sign(np.round(np.cos(angle), 2))
                label.set_horizontalalignment({-1: "right", 0: "center", 1: "left"}[int(side)])
            figure.suptitle(radar.title, fontsize=9)
            figure.legend(ncols=3, loc="outside lower center")
            return encode_svg(figure, f"AUROC by finding, {radar.title}")
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
