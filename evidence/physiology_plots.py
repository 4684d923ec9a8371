"""Figures of the planted physiology for a physician's eye: ECGs on paper, laboratory values, what images show of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from hilum.phantom.physiology.analytes import ANALYTES
from hilum.phantom.physiology.body import render_view
from hilum.phantom.physiology.ecg import LEAD_NAMES, Leads
from hilum.phantom.physiology.heart import RATE_HZ
from hilum.phantom.physiology.state import Physiology
from hilum.phantom.plan import StudyPlan
from hilum.report.figures import PALETTE, STYLE

LAYOUT = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
ROW_MV = 3.2  # between rows of leads
SHOWN = ("51301", "52075", "50813", "50912", "51006", "50971", "50983", "50862", "51222", "51277", "50931", "51250")


def plot_ecgs(records: Mapping[str, Leads], path: Path) -> None:
    """Each record as on paper: three rows of four leads, 2.5 s each, and lead II below; 25 mm/s, 10 mm/mV."""
    columns = 2
    rows = -(-len(records) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(10.2 * columns, 4.6 * rows), layout="constrained")
        for axis, (title, leads) in zip(np.ravel(axes), records.items(), strict=False):
            _draw_paper(axis, leads)
            axis.set_title(title, loc="left", fontsize=11)
        figure.savefig(path, dpi=75)
        plt.close(figure)


def _draw_paper(axis: Axes, leads: Leads) -> None:
    quarter = leads.shape[1] // 4
    seconds = np.arange(leads.shape[1]) / RATE_HZ
    for row, names in enumerate(LAYOUT):
        for column, name in enumerate(names):
            part = slice(column * quarter, (column + 1) * quarter)
            trace = leads[LEAD_NAMES.index(name), part]
            axis.plot(seconds[part], trace - np.median(trace) - row * ROW_MV, color="black", linewidth=0.7)
            axis.text(seconds[part][0] + 0.03, 0.85 - row * ROW_MV, name, fontsize=8, fontweight="bold")
    strip = leads[1] - np.median(leads[1])
    axis.plot(seconds, strip - 3 * ROW_MV, color="black", linewidth=0.7)
    axis.text(0.03, 0.85 - 3 * ROW_MV, "II", fontsize=8, fontweight="bold")
    axis.set_xlim(0, 10)
    axis.set_ylim(-3.6 * ROW_MV, 2.0)
    for locate, shade, width in ((MultipleLocator(0.2), "#e7a7a7", 0.6), (MultipleLocator(0.04), "#f6dede", 0.3)):
        which = "major" if width > 0.5 else "minor"
        (axis.xaxis.set_major_locator if which == "major" else axis.xaxis.set_minor_locator)(locate)
        vertical = MultipleLocator(0.5 if which == "major" else 0.1)
        (axis.yaxis.set_major_locator if which == "major" else axis.yaxis.set_minor_locator)(vertical)
        axis.grid(visible=True, which=which, color=shade, linewidth=width)
    axis.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    axis.set_axisbelow(True)


def plot_laboratory(values: np.ndarray, groups: Mapping[str, np.ndarray], path: Path) -> None:
    """Box plots (5 to 95 %) of some of the values (study, analyte), a box for each group of studies."""
    items = list(ANALYTES)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(3, 4, figsize=(14, 8), layout="constrained")
        for axis, item in zip(np.ravel(axes), SHOWN, strict=True):
            column = values[:, items.index(item)]
            parts = [column[rows & ~np.isnan(column)] for rows in groups.values()]
            boxes = axis.boxplot(parts, whis=(5, 95), showfliers=False, widths=0.6, patch_artist=True)
            for place, box in enumerate(boxes["boxes"]):
                box.set(facecolor=PALETTE[place % len(PALETTE)], alpha=0.6)
            for line in boxes["medians"]:
                line.set(color="black")
            analyte = ANALYTES[item]
            axis.set_title(f"{analyte.name} ({analyte.unit or 'index'})", fontsize=9)
            axis.set_xticks(np.arange(1, len(groups) + 1), list(groups), fontsize=7, rotation=20)
        figure.savefig(path, dpi=80)
        plt.close(figure)


def plot_bodies(
    plan: StudyPlan, physiology: Physiology, changes: Sequence[tuple[str, float]], path: Path, size: int = 256
) -> None:
    """One chest with each image quantity as large as given, frontal and lateral, and what that changes of the image."""
    plain = replace(physiology, image=dict.fromkeys(physiology.image, 0.0))
    projections = list(plan.projections)
    before = {name: render_view(plan, plain, name, size).pixels.astype(float) for name in projections}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(changes), 2 * len(projections), figsize=(5 * len(projections), 2.6 * len(changes)), layout="constrained"
        )
        for row, (name, amount) in zip(axes, changes, strict=True):
            changed = replace(plain, image={**plain.image, name: amount})
            for place, projection in enumerate(projections):
                after = render_view(plan, changed, projection, size).pixels.astype(float)
                row[2 * place].imshow(after, cmap="gray")
                row[2 * place + 1].imshow(after - before[projection], cmap="RdBu_r", vmin=-600, vmax=600)
            row[0].set_ylabel(f"{name}\n{amount:+g}", fontsize=9)
        for axis in np.ravel(axes):
            axis.set_xticks([])
            axis.set_yticks([])
        figure.savefig(path, dpi=70)
        plt.close(figure)
