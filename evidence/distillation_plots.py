"""Figures of the comparison of distillations, from its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from hilum.report.figures import PALETTE, STYLE


def draw_summary(rows: list[dict[str, Any]], folder: Path) -> None:
    """A figure for each group: every arm against `mae`, a panel for each number of labels."""
    for group in dict.fromkeys(row["group"] for row in rows):
        draw_group([row for row in rows if row["group"] == group], group, folder / f"{group.replace(' ', '_')}.png")


def draw_group(rows: list[dict[str, Any]], group: str, path: Path) -> None:
    """Dots with intervals, arms by question; filled where there is more than one seed."""
    labels = list(dict.fromkeys(row["labels"] for row in rows))
    questions = list(dict.fromkeys(row["question"] for row in rows))
    arms = [row for row in rows if row["labels"] == labels[0] and row["minus mae"] != [0.0, 0.0, 0.0]]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(labels), sharey=True, figsize=(11, 0.9 + 0.24 * len(arms)), layout="constrained", squeeze=False
        )
        for axis, label in zip(axes[0], labels, strict=True):
            axis.axvline(0, color=PALETTE[-1], linewidth=0.8)
            for place, arm in enumerate(arms):
                row = next(one for one in rows if one["arm"] == arm["arm"] and one["labels"] == label)
                value, low, high = row["minus mae"]
                color = PALETTE[questions.index(row["question"]) % (len(PALETTE) - 1)]
                axis.plot([low, high], [place, place], color=color, linewidth=1.2)
                fill = "full" if row["seeds"] > 1 else "none"
                axis.plot(value, place, "o", color=color, markersize=5, fillstyle=fill)
            axis.set_title(f"{label} labels" if label != "all" else "all labels", fontsize=9)
        axes[0, 0].set_yticks(np.arange(len(arms)), [f"{row['arm']} ({row['seeds']})" for row in arms])
        axes[0, 0].invert_yaxis()
        figure.supxlabel(f"{group}: macro test AUROC minus that of `mae`, 95 % interval by patient (seeds)", fontsize=9)
        figure.savefig(path, dpi=130)
        plt.close(figure)
