"""How an archive's images look beside real chest X-rays: grey values, and contrast by size of structure.

The real curves are `real_xrays.json`, aggregates written by `evidence/real_statistics.py`; no image is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, PercentFormatter, ScalarFormatter

from hilum.cache import Cache
from hilum.imaging.statistics import NUM_GREYS, Curve, Look, summarize_images
from hilum.study import EXTRA_PREFIX
from hilum.vocabulary import VIEW_KINDS

from .blocks import Block
from .figures import PALETTE, draw_figure, encode_svg

KINDS = ("frontal", "lateral")  # views with a real counterpart here
_NUM_IMAGES = 400  # of each kind; more would not move the curves
_REAL = PALETTE[6]
_BODY_PART = f"{EXTRA_PREFIX}body_part"  # of DICOM headers, or a column of the user's


def describe_look(cache: Cache) -> list[Block]:
    """Panels for each kind of view the archive has and real curves exist for; nothing if it has none."""
    real = read_real_looks()
    figures, counts = [], []
    is_chest = find_chests(cache)
    for kind in KINDS:
        if (look := measure_look(cache, kind, studies=is_chest)) is None:
            continue
        reference = real[kind]
        figures += [_plot_histogram(look, reference, kind), _plot_spectrum(look, reference, kind)]
        counts.append(f"{look.num_images:,} {kind} images here and {reference.num_images:,} real ones")
    if not figures:
        return []
    caption = (
        "Grey band: the middle 80 % of real images. Where the contrast line leaves the band at its right end (fine "
        "detail: vessels, bone edges, noise), the images here are noisier or sharper than real X-rays if it lies "
        f"above, smoother if below. Measured on the central square of {'; '.join(counts)}."
    )
    if num_others := int((~is_chest).sum()):
        caption += f" {num_others:,} studies of other body parts are left out."
    return [Block("Beside real X-rays", figures=figures, caption=caption)]


def find_chests(cache: Cache) -> Bool[np.ndarray, " study"]:
    """Studies that are chests as far as anybody says: an AP view may be one of a hand."""
    table = cache.table()
    if _BODY_PART not in table.columns:
        return np.ones(len(table), dtype=bool)
    part = table[_BODY_PART].fill_null("").str.to_lowercase()
    return ((part == "") | part.str.contains("chest|thorax|lung|rib")).to_numpy()


def measure_look(
    cache: Cache,
    kind: str,
    num_images: int | None = _NUM_IMAGES,
    studies: Bool[np.ndarray, " study"] | None = None,
) -> Look | None:
    """Curves of the images of one kind, of at most `num_images` of them (None: of all), the same ones every time.

    studies: which to take; all where not given.
    """
    wanted = cache.views["view_kind"] == VIEW_KINDS.index(kind)
    if studies is not None:
        wanted &= studies[cache.views["study"]]
    view = np.flatnonzero(wanted)
    order = np.argsort(cache.studies["key"][cache.views["study"][view]], kind="stable")  # keys are hashes
    chosen = view[order[:num_images]]
    return summarize_images(_read_images(cache, chosen)) if len(chosen) else None


def _read_images(cache: Cache, views: np.ndarray) -> Iterator[Float32[np.ndarray, "_ _"]]:
    full_scale = np.float32(np.iinfo(cache.pixel_dtype).max)
    for view in views.tolist():
        yield cache.image(view).astype(np.float32) / full_scale


def read_real_looks() -> dict[str, Look]:
    """The real curves by kind of view."""
    stored = json.loads((files("hilum.report") / "real_xrays.json").read_text("utf-8"))
    return {kind: load_look(look) for kind, look in stored["looks"].items()}


def load_look(stored: dict[str, Any]) -> Look:
    """A look from the lists `dataclasses.asdict` made of it."""
    curves = {
        name: Curve(**{line: np.array(values) for line, values in stored[name].items()})
        for name in ("histogram", "spectrum")
    }
    return Look(stored["num_images"], **curves)


def _plot_histogram(look: Look, real: Look, kind: str) -> str:
    with draw_figure(height=2.4) as (figure, axis):
        edges = np.linspace(0, 1, NUM_GREYS + 1)
        low, high = (np.append(line, line[-1]) for line in (real.histogram.low, real.histogram.high))
        axis.fill_between(edges, low, high, step="post", color=_REAL, alpha=0.22, linewidth=0)
        axis.stairs(real.histogram.mean, edges, color=_REAL, linewidth=1.3, label="real X-rays")
        axis.stairs(look.histogram.mean, edges, color=PALETTE[0], linewidth=1.6, label="this archive")
        # Black borders would press all else to the ground: their share may leave the picture.
        inner = slice(1, -1)
        axis.set_ylim(0, 1.4 * max(real.histogram.high[inner].max(), look.histogram.mean[inner].max()))
        axis.set_xlim(0, 1)
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["black", "", "grey", "", "white"])
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_ylabel("share of pixels")
        _finish(axis, f"{kind}: grey values")
        return encode_svg(figure, f"Grey values of {kind} views beside real X-rays")


def _plot_spectrum(look: Look, real: Look, kind: str) -> str:
    with draw_figure(height=2.4) as (figure, axis):
        cycles = np.arange(1, len(real.spectrum.mean) + 1)
        axis.fill_between(cycles, real.spectrum.low, real.spectrum.high, color=_REAL, alpha=0.22, linewidth=0)
        axis.plot(cycles, real.spectrum.mean, color=_REAL, linewidth=1.3, label="real X-rays")
        here = look.spectrum.mean
        axis.plot(cycles[: len(here)], here, color=PALETTE[0], linewidth=1.6, label="this archive")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlim(1, cycles[-1])
        axis.set_xticks(2 ** np.arange(int(np.log2(cycles[-1])) + 1))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.set_xlabel("cycles per short side")
        axis.set_ylabel("power, share of variance")
        _finish(axis, f"{kind}: contrast by size")
        return encode_svg(figure, f"Power spectrum of {kind} views beside real X-rays")


def _finish(axis: Axes, title: str) -> None:
    axis.set_title(title, loc="left", fontsize=9)
    axis.legend(loc="upper right")
