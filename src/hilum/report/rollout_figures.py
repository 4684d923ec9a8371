"""Attention rollout of two encoders on the same images: image, one, the other, and the shift between them (P 3.6)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .figures import PALETTE, STYLE, encode_raster

_PANEL = 1.75  # inches


@dataclass(frozen=True)
class RolloutCase:
    """One view and what reaches each encoder's head of it."""

    image: Float[np.ndarray, "size size"]  # as the encoders were shown it, 0 to 1
    first: Float[np.ndarray, " patch"]  # shares, adding up to 1, patches row by row
    second: Float[np.ndarray, " other_patch"]
    title: str = ""  # no names of patients
    outlines: Mapping[str, Bool[np.ndarray, "size size"]] = field(default_factory=dict)  # structures to show


@contextmanager
def draw_rollouts(cases: Sequence[RolloutCase], names: tuple[str, str]) -> Generator[Figure]:
    """A row of four panels a case; `names` are of the encoders, the shift is the second's minus the first's.

    Both encoders of a case share one scale, from nothing to the largest share of a patch relative to an even rollout,
    so that a brighter patch is a larger share; the paper scales each by itself.
    """
    columns = ("image", *names, f"{names[1]} - {names[0]}")
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, grid = plt.subplots(
            len(cases), 4, figsize=(4 * _PANEL, (_PANEL + 0.12) * len(cases) + 0.2), layout="constrained", squeeze=False
        )
        try:
            structures = list(dict.fromkeys(name for case in cases for name in case.outlines))
            colors = dict(zip(structures, cycle(PALETTE[1:]), strict=False))
            for place, (case, panels) in enumerate(zip(cases, grid.tolist(), strict=True)):
                _draw_case(case, panels, colors)
                panels[0].set_ylabel(fill(case.title, 26), fontsize=8)
                if place == 0:
                    for panel, column in zip(panels, columns, strict=True):
                        panel.set_title(column, fontsize=9)
            if colors:
                lines = [Line2D([], [], color=color) for color in colors.values()]
                figure.legend(lines, list(colors), loc="outside lower center", ncols=len(colors))
            yield figure
        finally:
            plt.close(figure)


def encode_rollouts(cases: Sequence[RolloutCase], names: tuple[str, str]) -> str:
    """The figure for a page: an image element that carries its own pixels."""
    with draw_rollouts(cases, names) as figure:
        return encode_raster(figure, f"Attention rollout of {names[0]} and {names[1]} on {len(cases)} images")


def encode_maps(
    images: Float[np.ndarray, "view size size"], maps: Mapping[str, Float[np.ndarray, "view patch"]]
) -> str:
    """A row of an image and its maps for each view, for a page: a brighter patch is a larger share of its map, from
    nothing to the largest of the view's."""
    with plt.rc_context({**STYLE, "axes.grid": False}):
        num = 1 + len(maps)
        figure, grid = plt.subplots(
            len(images), num, figsize=(num * _PANEL, (_PANEL + 0.12) * len(images)), layout="constrained", squeeze=False
        )
        try:
            for place, (image, panels) in enumerate(zip(images, grid.tolist(), strict=True)):
                whole = (0, len(image), len(image), 0)
                shown = {"image": None, **{title: relate(found[place]) for title, found in maps.items()}}
                for panel, (title, shares) in zip(panels, shown.items(), strict=True):
                    panel.imshow(image, cmap="gray", vmin=0, vmax=1, extent=whole)
                    if shares is not None:
                        panel.imshow(
                            shares, cmap="viridis", vmin=0, vmax=float(shares.max()), alpha=0.5, extent=whole,
                            interpolation="bilinear",
                        )  # fmt: skip
                    panel.set_xticks([])
                    panel.set_yticks([])
                    panel.spines[:].set_visible(False)
                    if place == 0:
                        panel.set_title(title, fontsize=9)
            return encode_raster(figure, f"What reaches {', '.join(maps)} of {len(images)} images")
        finally:
            plt.close(figure)


def relate(shares: Float[np.ndarray, " patch"]) -> Float[np.ndarray, "side side"]:
    """Shares of patches as a picture, 1 where a patch has what it would have of an even rollout."""
    side = round(len(shares) ** 0.5)
    return shares.reshape(side, side) * len(shares)


def _draw_case(case: RolloutCase, panels: Sequence[Axes], colors: Mapping[str, str]) -> None:
    size = len(case.image)
    whole = (0, size, size, 0)  # left, right, bottom, top
    first, second = relate(case.first), relate(case.second)
    most = max(float(first.max()), float(second.max()))
    for panel in panels:
        panel.imshow(case.image, cmap="gray", vmin=0, vmax=1, extent=whole)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
        for structure, mask in case.outlines.items():
            if mask.any() and not mask.all():
                middles = np.arange(size) + 0.5
                panel.contour(middles, middles, mask, levels=[0.5], colors=[colors[structure]], linewidths=0.6)
    for panel, shown in ((panels[1], first), (panels[2], second)):
        panel.imshow(shown, cmap="viridis", vmin=0, vmax=most, alpha=0.5, extent=whole, interpolation="bilinear")
    shift = subtract(second, first)
    far = max(float(np.abs(shift).max()), 1e-12)
    panels[3].imshow(shift, cmap="PuOr_r", vmin=-far, vmax=far, alpha=0.6, extent=whole, interpolation="bilinear")


def subtract(
    second: Float[np.ndarray, "side side"], first: Float[np.ndarray, "other other"]
) -> Float[np.ndarray, "most most"]:
    """Second minus first, on a grid that both fit in; encoders with other patches have other grids."""
    most = int(np.lcm(len(first), len(second)))
    fine = [np.kron(shown, np.ones((most // len(shown),) * 2)) for shown in (first, second)]
    return fine[1] - fine[0]
