"""Figures as inline SVG or PNG, in one style. Colours stay apart for colour-blind readers and in print."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no screen is needed
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from jaxtyping import Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito 2008, reordered so that the first is the subject and grey is the control.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
# Widths in inches, at which letters are readable on a phone too: three, two or one beside each other on a wide page.
THIRD, PANEL, WIDE = 2.5, 3.9, 5.2
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=PALETTE),
    "legend.frameon": False,
    "svg.fonttype": "path",  # no font is fetched or needed
    "svg.hashsalt": "hilum",  # the same figure gives the same bytes
}


@contextmanager
def draw_figure(width: float = PANEL, height: float = 2.3) -> Generator[tuple[Figure, Axes]]:
    """A styled panel, in inches; closed afterwards whatever happens."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(width, height), layout="constrained")
        try:
            yield figure, axis
        finally:
            plt.close(figure)


def encode_svg(figure: Figure, label: str) -> str:
    """The figure as an inline SVG element that shrinks with the page and carries `label` for screen readers."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    width = round(figure.get_figwidth() * 115)  # px: letters are as high as the page's, whatever the panel's size
    return text[text.index("<svg") :].replace(
        "<svg ", f'<svg role="img" aria-label="{label}" style="width:{width}px" ', 1
    )


def encode_raster(figure: Figure, label: str) -> str:
    """The figure as an image element with its own pixels, for pictures that would be large as SVG; see `encode_svg`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    address = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(label)}" style="width:{round(figure.get_figwidth() * 115)}px" src="{address}">'


def encode_png(grey: Num[np.ndarray, "height width"]) -> str:
    """A grey picture in [0, 1] or uint8 as a data address."""
    from PIL import Image

    pixels = grey if grey.dtype == np.uint8 else (np.clip(grey, 0, 1) * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def plot_bars(axes: Axes, names: list[str], counts: list[int], color: str = PALETTE[0]) -> None:
    """Horizontal bars, first name on top, each with its number."""
    places = np.arange(len(names))[::-1]
    axes.barh(places, counts, color=color, height=0.7)
    axes.set_yticks(places, names)
    axes.grid(axis="y", visible=False)
    for place, count in zip(places, counts, strict=True):
        axes.annotate(f" {count:,.0f}", (count, place), va="center", fontsize=8)
    axes.margins(x=0.15)


def plot_intervals(
    axes: Axes,
    names: list[str],
    estimates: list[float],
    lows: list[float],
    highs: list[float],
    color: str,
    shift: float = 0.0,
    label: str = "",
) -> None:
    """A dot with its interval for each name, first name on top; `shift` sets several series side by side."""
    places = np.arange(len(names))[::-1] - shift
    center = np.array(estimates, dtype=float)
    spread = np.abs(np.array([center - np.array(lows, dtype=float), np.array(highs, dtype=float) - center]))
    axes.errorbar(center, places, xerr=spread, fmt="o", markersize=4, linewidth=1.2, color=color, label=label or None)
    axes.set_yticks(np.arange(len(names))[::-1], names)
