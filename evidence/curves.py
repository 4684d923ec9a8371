"""Numbers of a training against its steps, arm by arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from hilum.report.figures import PALETTE, STYLE


def draw_curves(rows: Sequence[dict[str, Any]], shown: Mapping[str, str], path: Path) -> None:
    """A panel for each number (name in `curves` of a row -> title), smoothed over a twelfth of it, a line an arm."""
    lines = {}
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
                (lines[row["arm"]],) = axis.plot(
                    steps[len(steps) - len(smooth) :], smooth, style, color=color, linewidth=1.1
                )
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("step")
        axes[-1].legend(list(lines.values()), list(lines), loc="center left", bbox_to_anchor=(1, 0.5), fontsize=6.5)
        figure.savefig(path, dpi=130)
        plt.close(figure)
