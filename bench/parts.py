"""Processor time of the parts of a whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any


class PartClock:
    """Calls functions and adds up what each part took.

    Attributes:
        spent: seconds of processor time by part.
    """

    def __init__(self, parts: Iterable[str]) -> None:
        self.spent = dict.fromkeys(parts, 0.0)

    def __call__(self, part: str, make: Callable[..., Any], *arguments: object) -> Any:
        """What `make` gives of these arguments; its time counts for the part."""
        begin = time.process_time()
        made = make(*arguments)
        self.spent[part] += time.process_time() - begin
        return made
