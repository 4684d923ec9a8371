"""When a woman without cancer gets it: a known hazard, follow-up that ends, and the C-index nobody can exceed.

From her last exam on, cancer is diagnosed at a constant rate a year (an exponential time, proportional hazards),

    rate = BASE exp(DENSITY z + AGE (age - 54) / 10 + SIGN s + NOISE e),    e ~ N(0, 1),

z: her glandularity in standard deviations; s: 0, or 0.2 to 1 where an early sign of the coming cancer is planted,
faintly, in the last and the earlier images. Exponential times have no memory: having been free of cancer at an earlier
exam changes nothing, so the same rate holds from there. All but e shows, in images or in the table. The base rate is
some twenty times a population's, so that an archive of some hundred women holds events enough to measure with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from hilum.phantom.breast.plan import Laterality
from hilum.phantom.dice import Dice

BASE = 0.085  # a year
DENSITY, AGE, SIGN, NOISE = 0.55, 0.30, 2.6, 0.30
SIGN_SHARE, SIGN_RANGE = 0.25, (0.2, 1.0)
FOLLOW_UP = (2.0, 10.0)  # years until the archive closes
DROP_OUT = 0.05  # a year
DAYS = 365.25


@dataclass(frozen=True)
class Outcome:
    """What became of a woman after her last exam."""

    days: int  # to the diagnosis or to the end of follow-up; 0: cancer at the last exam
    event: bool
    laterality: Laterality  # of the cancer, or of the one that would have come
    risk: float  # log rate without its noise: the best score that images and tables can give
    rate: float  # a year
    sign: float


def draw_sign(key: int) -> float:
    """s of the module: how plain the early sign is, 0 for none."""
    dice = Dice("breast sign", key)
    return round(dice.draw_between(*SIGN_RANGE), 3) if dice.happens(SIGN_SHARE) else 0.0


def draw_outcome(key: int, glandular_z: float, age: float, sign: float, laterality: Laterality) -> Outcome:
    """The outcome of a woman without cancer at her last exam."""
    dice = Dice("breast outcome", key)
    risk = float(np.log(BASE)) + DENSITY * glandular_z + AGE * (age - 54) / 10 + SIGN * sign
    rate = float(np.exp(risk + NOISE * dice.draw_normal(0.0, 1.0, -3.0, 3.0)))
    time = -np.log(1 - dice.draw()) / rate
    end = min(dice.draw_between(*FOLLOW_UP), -np.log(1 - dice.draw()) / DROP_OUT)
    days = max(int(DAYS * min(time, max(end, 0.25))), 1)
    return Outcome(days, bool(time < max(end, 0.25)), laterality, risk, rate, sign)


def find_true_c_index(
    score: Float64[np.ndarray, " woman"], rate: Float64[np.ndarray, " woman"], until: float | None = None
) -> float:
    """The C-index that `score` has over endless follow-up of exponential times with these rates.

    Two women with rates p and q: the first gets cancer before the second, and before `until` (years), with probability
    p / (p + q) (1 - exp(-(p + q) until)). So the index is a mean over pairs, without drawing any time; this is what
    Uno's estimator, truncated at `until`, aims at. Ties in the score count half.
    """
    total, hits = 0.0, 0.0
    for own in range(len(rate)):
        both = rate[own] + rate
        chance = rate[own] / both * (1.0 if until is None else 1 - np.exp(-both * until))
        chance[own] = 0.0  # a woman with herself is no pair
        total += float(chance.sum())
        hits += float(chance[score[own] > score].sum() + 0.5 * chance[score[own] == score].sum())
    return hits / total
