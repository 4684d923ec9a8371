"""Objects of a project that exists while a checkpoint is written and not when it is read (M 6.1)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

PACKAGE = "released_project"

_SOURCE = '''
from dataclasses import dataclass, field
from enum import Enum

@dataclass
class Annealing:
    start: int = 50
    end: int = 500
    final: float = 2.0
    steps: list = field(default_factory=lambda: [0.1, 0.2])

class Policy(Enum):
    FLU = "FLU"

class Options(dict):
    """As configuration libraries do: a mapping with attributes of its own."""

class Views(list):
    pass

class Slotted:
    __slots__ = ("value",)

class Stateful:
    """Chooses what is kept, and would act on it when it comes back."""
    def __getstate__(self):
        return {"kept": 1}
    def __setstate__(self, state):
        raise RuntimeError("executed while reading")

class Evaluator:
    def __init__(self):
        self.nested = {"annealing": [Annealing()], "policy": Policy.FLU}

class Built:
    """Comes back by a call of a function of the project."""
    def __reduce__(self):
        return build, (20_000,)

def build(num_studies):
    raise RuntimeError("executed while reading")
'''


@contextmanager
def foreign_project() -> Iterator[dict[str, Any]]:
    """Hyper-parameters that hold instances of the project's classes; its modules are gone after the block."""
    package, module = ModuleType(PACKAGE), ModuleType(f"{PACKAGE}.evaluation")
    sys.modules |= {package.__name__: package, module.__name__: module}
    try:
        exec(_SOURCE, module.__dict__)
        made = module.__dict__
        options = made["Options"](depth=12)
        options.locked = True
        slotted = made["Slotted"]()
        slotted.value = 3
        yield {
            "beta_annealing": made["Annealing"](),
            "policy": made["Policy"].FLU,
            "options": options,
            "views": made["Views"](["F", "L", "U"]),
            "slotted": slotted,
            "stateful": made["Stateful"](),
            "online_evaluator": made["Evaluator"](),
            "evaluator_class": made["Evaluator"],
            "built": made["Built"](),
        }
    finally:
        del sys.modules[package.__name__], sys.modules[module.__name__]
