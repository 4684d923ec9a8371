"""A heat map over its image, in the geometry of the source: where the prompts point, and where the lesion is."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from hilum.atomic import open_atomic
from hilum.cache import Cache
from hilum.evaluate.prompted.localise import Located
from hilum.imaging.affine import map_heat_to_source

from .figures import STYLE

_LONGEST = 700  # pixels of a picture
_LESION, _PEAK = "#00E5FF", "#FF2D95"


def save_overlay(path: Path, cache: Cache, located: Located) -> None:
    """A PNG of the image, and of the map over it, with lesion (outline) and maximum (cross); nobody's name is on it."""
    source = located.lesions.size
    factor = max(1.0, max(source) / _LONGEST)
    size = (round(source[0] / factor), round(source[1] / factor))
    affine = _shrink(cache.views["affine"][located.lesions.view], factor)
    pixels = cache.image(located.lesions.view)
    image = map_heat_to_source(affine, pixels.astype(np.float32) / np.iinfo(pixels.dtype).max, size)
    heat, breast, marked = (
        map_heat_to_source(affine, part.astype(np.float32), size)
        for part in (_stretch(located), located.breast, located.marked)
    )
    heat = np.where(breast > 0.5, heat, np.nan)
    peak = (located.find_peak(cache) + 0.5) / factor
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, panels = plt.subplots(1, 2, figsize=(6, 3.1 * size[0] / size[1] + 0.3), layout="constrained")
        try:
            for panel in panels:
                panel.imshow(image, cmap="gray", vmin=0, vmax=max(float(image.max()), 1e-6), extent=(0, *size[::-1], 0))
                panel.set_axis_off()
            panels[1].imshow(heat, cmap="inferno", alpha=0.55, vmin=0, vmax=1, extent=(0, *size[::-1], 0))
            if located.lesions.masks:
                middles = (np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
                panels[1].contour(*middles, marked, levels=[0.5], colors=[_LESION], linewidths=1)
            for top, left, bottom, right in located.lesions.boxes / factor:
                box = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=_LESION, linewidth=1)
                panels[1].add_patch(box)
            panels[1].plot(peak[1], peak[0], marker="x", color=_PEAK, markersize=8, markeredgewidth=2)
            found = located.score(0.0)
            assert found is not None, "it needs no spacing"
            panels[1].set_title(f"{located.lesions.kind}: {'hit' if found['hit'] > 0.5 else 'missed'}", fontsize=9)
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_atomic(path) as file:
                figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
        finally:
            plt.close(figure)


def _shrink(affine: np.ndarray, factor: float) -> np.ndarray:
    """To a source whose pixels are `factor` times as large."""
    a, b, c, d, e, f = affine.astype(np.float64) / factor
    shift = 0.5 / factor - 0.5
    return np.array([a, b, c + shift, d, e, f + shift])


def _stretch(located: Located) -> np.ndarray:
    """0 to 1 within the breast."""
    inside = located.heat[located.breast]
    low, high = float(inside.min()), float(inside.max())
    return np.clip((located.heat - low) / max(high - low, 1e-12), 0, 1)
