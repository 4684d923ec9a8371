"""Where lesions, devices and mimics find their place."""

from __future__ import annotations

import numpy as np

from hilum.phantom.growth import Growth
from hilum.phantom.plan import StudyPlan
from hilum.phantom.shape import draw_shape

UNLUCKY = 14112  # the first seed whose first points all miss the lung


def test_a_person_whose_first_points_all_miss_the_lung_gets_others(plans: list[StudyPlan]) -> None:
    growth = Growth(draw_shape(plans[0]), organs=[], lungs={})
    shape = growth.shape
    for seed in (*range(20), UNLUCKY):
        rng = np.random.default_rng(seed)
        point = growth.scatter_healthy(1, 1, rng)
        assert point.shape == (1, 3)
        assert (point**2).sum() < 0.88
        assert point[0, 0] * shape.lung_size[0] + shape.lobe_center > 1.2
    assert _draws_of(growth, UNLUCKY) == 2


def _draws_of(growth: Growth, seed: int) -> int:
    """How often the generator was asked: its state after is that of so many draws of 36 points."""
    rng, counted = np.random.default_rng(seed), np.random.default_rng(seed)
    growth.scatter_healthy(1, 1, rng)
    for number in range(10):
        if counted.bit_generator.state == rng.bit_generator.state:
            return number
        counted.uniform(-1, 1, (36, 3))
    return -1
