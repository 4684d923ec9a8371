"""What a classifier said of rows: kept beside every result, so that two encoders can be paired at any later time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from hilum.atomic import open_atomic
from hilum.errors import UserError


@dataclass(frozen=True)
class Scores:
    """What a classifier said of some rows, once or in several repeats whose metrics are averaged.

    Repeats are the rounds of a cross-validation; everything else has one.
    """

    names: tuple[str, ...]  # of the findings
    target: Float[np.ndarray, "row finding"]  # NaN: not known
    logit: Float[np.ndarray, "repeat row finding"]
    decision: Float[np.ndarray, "repeat row finding"]  # 1 at or above the threshold tuned on other rows; NaN: none
    patient: Int[np.ndarray, " row"]
    row: Int[np.ndarray, " row"]  # row of the task
    threshold: Float[np.ndarray, " finding"] | None = None  # as a probability, where there is one for all rows
    screened: Float[np.ndarray, "repeat row finding"] | None = (
        None  # 1 at or above the threshold of a fixed specificity
    )
    classes: str | None = None  # what the targets are the ordered classes of, one to a row; None: they stand alone

    @property
    def probability(self) -> Float[np.ndarray, "repeat row finding"]:
        return 1 / (1 + np.exp(-self.logit.astype(np.float64)))

    @property
    def decision_at_half(self) -> Float[np.ndarray, "repeat row finding"]:
        """1 at a probability of one half or more, the threshold that nobody tuned."""
        return (self.logit >= 0).astype(np.float32)

    @property
    def decision_at_specificity(self) -> Float[np.ndarray, "repeat row finding"]:
        """1 at or above the threshold that has `metrics.SPECIFICITY` on other rows; NaN where none was tuned."""
        return np.full(self.logit.shape, np.nan) if self.screened is None else self.screened

    def take_repeats(self, keep: Sequence[int]) -> Scores:
        """Some of the repeats."""
        screened = None if self.screened is None else self.screened[keep]
        return replace(self, logit=self.logit[keep], decision=self.decision[keep], screened=screened)

    def take(self, keep: Bool[np.ndarray, " row"]) -> Scores:
        """The same scores of some of the rows."""
        return replace(
            self,
            target=self.target[keep],
            logit=self.logit[:, keep],
            decision=self.decision[:, keep],
            patient=self.patient[keep],
            row=self.row[keep],
            screened=None if self.screened is None else self.screened[:, keep],
        )


def write_scores(path: Path, scores: Scores) -> None:
    """Store scores as numbers (npz); patients and rows are indices of the cache, no names."""
    arrays = {entry.name: getattr(scores, entry.name) for entry in fields(scores) if entry.name != "names"}
    with open_atomic(path) as file:
        np.savez(
            file,
            allow_pickle=False,
            names=np.array(scores.names),
            **{name: np.asarray(array) for name, array in arrays.items() if array is not None},
        )


def read_scores(path: Path) -> Scores:
    """Scores as they were written."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, Any] = dict(stored)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not readable as stored scores ({error}). Evaluate again.") from error
    names = tuple(arrays.pop("names").tolist())
    classes = str(arrays.pop("classes")) if "classes" in arrays else None
    return Scores(names=names, classes=classes, **arrays)
