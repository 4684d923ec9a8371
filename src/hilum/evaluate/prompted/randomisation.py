"""The weight-randomisation test of maps (Adebayo et al. 2018, "Sanity checks for saliency maps", section 4).

A map that shows what a network has learned must change when the network forgets it. Weights are replaced by first
random ones from the top down, part by part, until none is left; how alike the maps stay is told by rank correlation
(absolute: a map that is turned upside down still draws the same edges) and by structural similarity.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, stats

from hilum.evaluate.result import Estimate
from hilum.evaluate.subject import build_random
from hilum.model.conv_encoder import ConvEncoder

# From the top down; the last has no learned weight left.
CASCADE: Mapping[str, tuple[str, ...]] = {
    "projection": ("project", "pool"),
    "transformer": ("norm", "blocks"),
    "tokenizer": ("tokens",),
    "backbone": ("backbone",),
}
# Beyond the seeds of runs, whose own first weights these would be: a trained network is like them, not like others.
APART = 2**31  # the generator reads 32 bits of a seed
MOST_ALIKE = 0.5  # a map passes where its rank correlation without any learned weight is surely below this
_WINDOW = 7  # places of a structural similarity (Wang et al. 2004 use 8 x 8 or a Gaussian of 11)
_STEADY = (0.01**2, 0.03**2)  # Wang et al. 2004: (K1 L)^2 and (K2 L)^2, of maps from 0 to L = 1


def list_cascade(encoder: ConvEncoder) -> dict[str, tuple[str, ...]]:
    """Parts without learned weights at each step of the cascade; steps at which nothing changes are left out."""
    steps: dict[str, tuple[str, ...]] = {}
    lost: tuple[str, ...] = ()
    for name, parts in CASCADE.items():
        own = tuple(part for part in parts if any(True for _ in encoder.get_submodule(part).parameters()))
        lost += own
        if own:
            steps[name] = lost
    return steps


def randomise(encoder: ConvEncoder, parts: tuple[str, ...], seed: int) -> ConvEncoder:
    """A copy in evaluation mode whose named parts have random weights, another draw for each seed."""
    fresh, forgetful = build_random(encoder.config, APART + seed), copy.deepcopy(encoder)
    for part in parts:
        forgetful.get_submodule(part).load_state_dict(fresh.get_submodule(part).state_dict())
    return forgetful.eval()


def correlate_ranks(first: Float[np.ndarray, " place"], second: Float[np.ndarray, " place"]) -> float:
    """The absolute value of Spearman's rank correlation, 0 to 1.

    Of a first map that is the same everywhere it is 1, for it has nothing to lose; of a second alone it is 0.
    """
    if np.ptp(first) == 0:
        return 1.0
    if np.ptp(second) == 0:
        return 0.0
    return float(abs(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1]))


def measure_structure(
    first: Float[np.ndarray, "row column"],
    second: Float[np.ndarray, "row column"],
    inside: Bool[np.ndarray, "row column"],
) -> float:
    r"""Structural similarity of two maps, each stretched to 0..1 over `inside`, the mean over windows centred there.

    .. math:: \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
        {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}

    Wang et al. 2004, eq. 13, in square windows of 7 places, or of as many (an odd number) as the map has; beyond its
    border the map is mirrored.
    """
    x, y = (_stretch(one.astype(np.float64), inside) for one in (first, second))
    window = min(_WINDOW, *(side - (side + 1) % 2 for side in first.shape))

    def average(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, window, mode="reflect")

    mean_x, mean_y = average(x), average(y)
    var_x, var_y = average(x * x) - mean_x**2, average(y * y) - mean_y**2
    covariance = average(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + _STEADY[0]) * (2 * covariance + _STEADY[1])
    alike /= (mean_x**2 + mean_y**2 + _STEADY[0]) * (var_x + var_y + _STEADY[1])
    return float(alike[inside].mean())


def judge_randomisation(estimate: Estimate) -> tuple[bool, str]:
    """Whether maps pass, and why: the interval of the mean rank correlation without learned weights must end below
    `MOST_ALIKE`."""
    if estimate.value is None or estimate.high is None:
        return False, "not passed: too few patients for an interval"
    said = f"rank correlation {estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
    if estimate.high < MOST_ALIKE:
        return True, f"passed: {said} with random weights ends below {MOST_ALIKE:g}"
    return False, f"not passed: {said} with random weights does not end below {MOST_ALIKE:g}"


def _stretch(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    low, high = values[inside].min(), values[inside].max()
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
