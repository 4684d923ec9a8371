"""Figures of the comparison of alignments, from its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from evidence.curves import draw_curves
from hilum.report.figures import PALETTE, STYLE

# Does an alignment collapse the features of a batch?
HEALTH = {"features/effective_rank": "effective rank", "features/std": "spread (1: isotropic)"}
DIFFERENCE = "minus independent"
LABELS = ("100 labels", "300 labels", "1000 labels", "all labels")


def draw_summary(rows: list[dict[str, Any]], folder: Path) -> None:
    """`differences.png`, every arm against the reference, and `health.png`, spread of features through training."""
    draw_differences([row for row in rows if f"{DIFFERENCE}, {LABELS[0]}" in row], folder / "differences.png")
    draw_curves([row for row in rows if row.get("curves")], HEALTH, folder / "health.png")


def draw_differences(rows: list[dict[str, Any]], path: Path) -> None:
    """Dots with intervals, a panel for each number of labels, arms by question; filled where there are more seeds."""
    questions = list(dict.fromkeys(row["question"] for row in rows))
    rows = sorted(rows, key=lambda row: (questions.index(row["question"]), -row[f"{DIFFERENCE}, {LABELS[0]}"][0]))
    # Arms far off would press all others together: they are written at the edges.
    edge = 0.05
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(LABELS), sharey=True, figsize=(11, 0.9 + 0.24 * len(rows)), layout="constrained"
        )
        for axis, labels in zip(axes, LABELS, strict=True):
            axis.axvline(0, color=PALETTE[-1], linewidth=0.8)
            for place, row in enumerate(rows):
                value, low, high = row[f"{DIFFERENCE}, {labels}"]
                color = PALETTE[questions.index(row["question"]) % (len(PALETTE) - 1)]
                if value < -edge:
                    axis.annotate(f"\u25c2 {value:+.3f}", (-edge, place), color=color, va="center", fontsize=8)
                    continue
                if value > edge:
                    axis.annotate(
                        f"{value:+.3f} \u25b8", (edge, place), color=color, va="center", ha="right", fontsize=8
                    )
                    continue
                axis.plot([max(low, -edge), min(high, edge)], [place, place], color=color, linewidth=1.2)
                axis.plot(
                    value, place, "o", color=color, markersize=5, fillstyle="full" if row["seeds"] > 1 else "none"
                )
            axis.set_xlim(-edge, edge)
            axis.set_xticks([-edge, 0.0, edge])
            axis.set_title(labels, fontsize=9)
        axes[0].set_yticks(np.arange(len(rows)), [f"{row['arm']} ({row['seeds']})" for row in rows])
        axes[0].invert_yaxis()
        figure.supxlabel("Macro test AUROC minus that of `independent`, 95 % interval by patient (seeds)", fontsize=9)
        figure.savefig(path, dpi=130)
        plt.close(figure)
