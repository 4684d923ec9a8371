"""A short stream of random numbers for one purpose and one thing, the same on every machine and in every order.

Plans and reports need some dozens of scalar draws each. Each `Dice` is a fresh stream from `keyed_random`, so that one
more draw for one patient changes no other patient, and no library's generator can change the phantom.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import TypeVar

from hilum.keyed_random import draw_uniform, make_keys

Item = TypeVar("Item")
_NORMAL = NormalDist()
_BLOCK = 64


def make_key(purpose: str, *parts: int) -> int:
    """One key of 63 bits (it fits a signed 64-bit column) for a purpose and integers."""
    return int(make_keys(purpose, *parts)[0] >> 1)


def _stream(purpose: str, *parts: int) -> Iterator[float]:
    for block in itertools.count():
        yield from draw_uniform(make_keys(purpose, *parts, block), _BLOCK)[0].tolist()


class Dice:
    """Scalar draws for (purpose, parts); the n-th draw depends on nothing but these and n."""

    def __init__(self, purpose: str, *parts: int) -> None:
        self.draw = _stream(purpose, *parts).__next__  # uniform in [0, 1)

    def draw_between(self, low: float, high: float) -> float:
        return low + (high - low) * self.draw()

    def draw_normal(self, mean: float, deviation: float, low: float, high: float) -> float:
        """A normal number clipped to [low, high]."""
        return min(max(mean + deviation * _NORMAL.inv_cdf(max(self.draw(), 2.0**-25)), low), high)

    def happens(self, probability: float) -> bool:
        return self.draw() < probability

    def choose(self, items: Sequence[Item]) -> Item:
        return items[int(self.draw() * len(items))]

    def choose_weighted(self, weights: Mapping[Item, float]) -> Item:
        """One key of `weights`, with probability proportional to its value."""
        rest = self.draw() * sum(weights.values())
        for item, weight in weights.items():
            rest -= weight
            if rest < 0:
                return item
        return next(reversed(list(weights)))  # only by rounding

    def shuffle(self, items: Sequence[Item]) -> list[Item]:
        numbers = [self.draw() for _ in items]
        return [items[i] for i in sorted(range(len(items)), key=numbers.__getitem__)]
