"""Which numbers a setting may be: said once beside its type, for a command's flags and for config.json alike."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, ParamSpec, TypeVar, get_type_hints

from annotated_types import Ge, Gt, Le

from .errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

Count = Annotated[int, Ge(1)]
Workers = Annotated[int, Ge(0)]  # 0: one per core
Seed = Annotated[int, Ge(0)]
Fraction = Annotated[float, Ge(0.0), Le(1.0)]
UpTo = Annotated[int, Ge(0)]  # 0: none
Positive = Annotated[float, Gt(0.0)]
NotNegative = Annotated[float, Ge(0.0)]


def check_numbers(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, refusing arguments outside the ranges in its annotations.

    Raises:
        UserError: when called with one; names the flag, what was found and what is expected.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        from pydantic import ConfigDict, TypeAdapter, ValidationError  # not for a command's --help

        finite = ConfigDict(allow_inf_nan=False)
        hints = get_type_hints(function, include_extras=True)
        for name, value in inspect.signature(function).bind(*args, **kwargs).arguments.items():
            if not all(isinstance(one, int | float) for one in (value if isinstance(value, tuple) else (value,))):
                continue
            try:
                TypeAdapter(hints[name], config=finite).validate_python(value)
            except ValidationError as error:
                found = error.errors()[0]
                expected = found["msg"].removeprefix("Input should be ")
                raise UserError(f"--{name.replace('_', '-')} is {found['input']}; it must be {expected}.") from None
        return function(*args, **kwargs)

    return call
