"""Figures of the comparison of MV-MLM's arms, from its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from hilum.report.figures import PALETTE, STYLE

TASKS = ("breast:mass", "breast:calcification", "breast:malignancy", "breast:birads", "breast:density")


def draw_summary(rows: list[dict[str, Any]], folder: Path) -> None:
    """`all_labels.png` and `few_labels.png`, every arm's numbers by task, and `training.png`, losses against steps."""
    labels = {name.rpartition(", ")[2] for row in rows for name in row["numbers"] if name.startswith("breast:mass,")}
    for found in sorted(labels & {name for name in labels if name.endswith("labels")}):
        draw_tasks(rows, found, folder / ("all_labels.png" if found.startswith("all") else "few_labels.png"))
    draw_curves([row for row in rows if "curves" in row], folder / "training.png")


def draw_tasks(rows: list[dict[str, Any]], labels: str, path: Path) -> None:
    """Dots with intervals by patient, a panel for each task, arms coloured by question."""
    questions = list(dict.fromkeys(row["question"] for row in rows))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(TASKS), sharey=True, figsize=(13, 0.9 + 0.26 * len(rows)), layout="constrained"
        )
        for axis, task in zip(axes, TASKS, strict=True):
            for place, row in enumerate(rows):
                value, low, high = row["numbers"].get(f"{task}, {labels}", (None,) * 3)
                if value is None:
                    continue
                color = PALETTE[questions.index(row["question"]) % (len(PALETTE) - 1)]
                if low is not None:
                    axis.plot([low, high], [place, place], color=color, linewidth=1.2)
                axis.plot(value, place, "o", color=color, markersize=5)
            axis.axvline(0.5, color=PALETTE[-1], linewidth=0.8)
            axis.set_title(task.removeprefix("breast:"), fontsize=9)
        axes[0].set_yticks(np.arange(len(rows)), [f"{row['arm']} ({row['seeds']})" for row in rows])
        axes[0].invert_yaxis()
        figure.supxlabel(f"Macro test AUROC with {labels}, 95 % interval by patient (seeds)", fontsize=9)
        figure.savefig(path, dpi=130)
        plt.close(figure)


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Loss of the contrast with texts, and of the views with each other, against steps; of the first seed."""
    shown = {"image_text/loss": "images and texts", "views/loss": "CC and MLO"}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(shown), figsize=(11, 4), layout="constrained")
        for axis, (name, title) in zip(axes, shown.items(), strict=True):
            for place, row in enumerate(rows):
                if not row["curves"].get(name):
                    continue
                steps, values = np.array(row["curves"][name]).T
                window = max(1, len(values) // 12)
                smooth = np.convolve(values, np.ones(window) / window, mode="valid")
                style, color = ("-", "--", ":", "-.")[place // len(PALETTE) % 4], PALETTE[place % len(PALETTE)]
                axis.plot(steps[len(steps) - len(smooth) :], smooth, style, color=color, lw=1.1, label=row["arm"])
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("step")
        axes[0].set_ylabel("loss")
        handles, names = axes[0].get_legend_handles_labels()
        axes[-1].legend(handles, names, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=6.5)
        figure.savefig(path, dpi=130)
        plt.close(figure)
