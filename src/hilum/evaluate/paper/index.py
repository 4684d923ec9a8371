"""A finished suite as it lies in its folder: `suite.json`, the index, and the results it points to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum.errors import UserError
from hilum.evaluate.heads.fit import HEADS
from hilum.evaluate.result import Result, read_result

FORMAT = "hilum-suite/1"
INDEX = "suite.json"
# Kinds of evaluations, and of one difference: two views minus one, of one method.
PROBE, FINETUNE, ONE_VIEW, TWO_VIEWS = "probe", "finetune", "one view", "two views"
PROBE_PER_FINDING, FINETUNE_PER_FINDING = "probe per finding", "finetune per finding"
SECOND_VIEW = "second view"
ROLLOUT, RESCUED, DRIFT = "rollout", "rescued", "drift"
FOLDS = "probe by folds"
RETRIEVAL, MATCHING = "retrieval", "matching"  # of pairs of test breasts, of no task
ZERO_SHOT, HEAT_MAPS = "zero-shot", "heat maps"  # of prompts; zero-shot is of a task (`name_task`)
RISK, RISK_WITH_TABLE = "risk", "risk with table"  # from an encoder's features (or a table) alone, and from both
MAPS = "maps.npz"  # of a rollout: some test images and what reaches each reader of them
CASES = "cases.npz"  # of rescued studies: some of their images, and what reaches the heads of both encoders of them
PER_FINDING = {PROBE: PROBE_PER_FINDING, FINETUNE: FINETUNE_PER_FINDING}  # the same, selected for each finding


@dataclass(frozen=True)
class Suite:
    """What tables and figures are made of."""

    index: dict[str, Any]
    methods: Mapping[tuple[str, str, int | None], Result]  # (kind, method, label count)
    differences: Mapping[tuple[str, str, str], Result]  # (kind, first, second)

    @property
    def names(self) -> list[str]:
        """The methods, in the order they were given."""
        return list(dict.fromkeys(encoder["method"] for encoder in self.index["encoders"]))

    @property
    def random(self) -> set[str]:
        """The methods whose networks were not pretrained."""
        return {encoder["method"] for encoder in self.index["encoders"] if encoder["is_random"]}

    @property
    def archives(self) -> list[str]:
        """The archives with test studies."""
        return list(self.index["archives"])

    def title(self, kind: str) -> str:
        """What PROBE, with the head of this suite, and FINETUNE are called."""
        return "fine-tuned" if kind == FINETUNE else HEADS[self.index.get("head", "linear")].title


def name_task(task: str, kind: str) -> str:
    """The kind of an evaluation in a suite of several tasks."""
    return f"{task}, {kind}"


def take_task(suite: Suite, task: str) -> Suite:
    """What a suite of several tasks has of one: a suite of that task alone."""
    start = name_task(task, "")
    methods = {
        (kind.removeprefix(start), *rest): found
        for (kind, *rest), found in suite.methods.items()
        if kind.startswith(start)
    }
    differences = {
        (kind.removeprefix(start), *rest): found
        for (kind, *rest), found in suite.differences.items()
        if kind.startswith(start)
    }
    return Suite({**suite.index, **suite.index["tasks"][task]}, methods, differences)  # ty: ignore[invalid-argument-type]


def name_alignment(teacher: str) -> str:
    """The kind of an evaluation against a teacher's vectors."""
    return f"alignment with {teacher}"


def name_segmentation(decoder: str) -> str:
    """The kind of a segmentation by a decoder."""
    return f"segmentation by {decoder}"


def name_pointing(teacher: str) -> str:
    """What a teacher's own attention over the patches is called."""
    return f"{teacher} reads"


def name_count(kind: str, count: int | None) -> str:
    """The kind of a difference of two evaluations with so many labels."""
    return kind if count is None else f"{kind}, {count} labels"


def read_suite(folder: Path) -> Suite:
    """Read a suite's index and the results that tables are made of.

    Raises:
        UserError: no index, one of another format, or a result that cannot be read.
    """
    try:
        index = json.loads((folder / INDEX).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / INDEX}: cannot be read ({error}). Run `hilum evaluate` again.") from error
    if index.get("format") != FORMAT:
        raise UserError(f"{folder / INDEX}: format {index.get('format')!r}, expected {FORMAT!r}. Evaluate again.")
    methods = {
        (entry["kind"], entry["method"], entry["count"]): read_result(folder / entry["path"])
        for entry in index["methods"]
    }
    differences = {
        (entry["kind"], entry["first"], entry["second"]): read_result(folder / entry["path"])
        for entry in index["differences"]
    }
    return Suite(index, methods, differences)
