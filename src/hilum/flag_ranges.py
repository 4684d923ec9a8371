"""Which numbers a flag may have: said once beside its type, checked before the command runs."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from .errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Between:
    """For `Annotated`: the smallest and largest number that mean something; with `above`, the smallest is left out."""

    least: int | float
    most: int | float = math.inf
    above: bool = False

    def __contains__(self, value: object) -> bool:
        assert isinstance(value, int | float)
        return (self.least < value if self.above else self.least <= value) and value <= self.most and value < math.inf

    def __str__(self) -> str:
        lower = f"above {self.least:g}" if self.above else f"at least {self.least:g}"
        return lower if self.most == math.inf else f"{lower} and at most {self.most:g}"


Workers = Annotated[int, Between(0)]
Count = Annotated[int, Between(1)]
Seed = Annotated[int, Between(0)]
Rate = Annotated[float, Between(0, above=True)]


def check_numbers(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, refusing arguments outside the ranges in its annotations.

    Raises:
        UserError: when called with one; names the flag, what was found and what is expected.
    """
    ranges = {
        name: found
        for name, hint in get_type_hints(function, include_extras=True).items()
        if get_origin(hint) is Annotated
        for found in get_args(hint)[1:]
        if isinstance(found, Between)
    }

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
        for name, allowed in ranges.items():
            if name in given and given[name] not in allowed:
                raise UserError(f"--{name.replace('_', '-')} is {given[name]:g}; it must be {allowed}.")
        return function(*args, **kwargs)

    return call
