"""Figures of the comparison of MV-MLM's arms, from its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from evidence.curves import draw_curves
from hilum.report.figures import PALETTE, STYLE

LOSSES = {"image_text/loss": "images and texts: loss", "views/loss": "CC and MLO: loss"}  # of the first seed
TASKS = ("breast:mass", "breast:calcification", "breast:malignancy", "breast:birads", "breast:density")


def draw_summary(rows: list[dict[str, Any]], folder: Path) -> None:
    """`all_labels.png` and `few_labels.png`, every arm's numbers by task, and `training.png`, losses against steps."""
    labels = {name.rpartition(", ")[2] for row in rows for name in row["numbers"] if name.startswith("breast:mass,")}
    for found in sorted(labels & {name for name in labels if name.endswith("labels")}):
        draw_tasks(rows, found, folder / ("all_labels.png" if found.startswith("all") else "few_labels.png"))
    draw_curves([row for row in rows if "curves" in row], LOSSES, folder / "training.png")


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
