"""The laboratory table: one row for each study or admission, one column for each laboratory value."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from hilum.errors import UserError
from hilum.identifiers import hash_study

from .vocabulary import LaboratoryVocabulary


@dataclass(frozen=True)
class LaboratoryTable:
    """Laboratory values with their rows' names; missing is NaN and nothing else.

    `split` is train, val or test for each row, or None where nobody has divided them yet.
    """

    vocabulary: LaboratoryVocabulary
    source: str  # what to call the table in messages
    dataset: tuple[str, ...]  # archive of each row
    study: tuple[str, ...]
    patient: tuple[str, ...]
    values: Float64[np.ndarray, "row lab"]  # in the vocabulary's units; infinite: beyond what can be measured
    split: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()  # what was decided in reading, in sentences

    def __post_init__(self) -> None:
        rows, labs = self.values.shape
        assert {len(self.dataset), len(self.study), len(self.patient)} == {rows}, "rows do not agree"
        assert labs == len(self.vocabulary), "columns are not those of the vocabulary"
        assert self.split is None or len(self.split) == rows, "rows do not agree"

    def __len__(self) -> int:
        return len(self.study)

    @property
    def observed(self) -> Bool[np.ndarray, "row lab"]:
        """True where there is a value."""
        return ~np.isnan(self.values)

    @cached_property
    def key(self) -> Int64[np.ndarray, " row"]:
        """The rows' lasting 64-bit names, which key random draws whatever else is in the table."""
        keys = [hash_study(*names) for names in zip(self.dataset, self.study, strict=True)]
        return np.array(keys, dtype=np.uint64).view(np.int64)

    @property
    def digest(self) -> str:
        """sha256 of names, splits and values."""
        digest = hashlib.sha256(repr((self.vocabulary, self.dataset, self.study, self.patient, self.split)).encode())
        digest.update(np.ascontiguousarray(self.values).tobytes())
        return digest.hexdigest()

    def find_rows(self, split: str) -> Int64[np.ndarray, " chosen"]:
        """The rows of a split.

        Raises:
            UserError: the table has no splits.
        """
        if self.split is None:
            raise UserError(
                f"{self.source}: its patients are not divided into training, validation and test. `hilum cache` does "
                "so: give a cache."
            )
        return np.flatnonzero(np.array(self.split) == split)

    def take(self, rows: Int64[np.ndarray, " chosen"]) -> LaboratoryTable:
        """These rows, in this order."""

        def pick(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(names[row] for row in rows)

        return replace(
            self,
            dataset=pick(self.dataset),
            study=pick(self.study),
            patient=pick(self.patient),
            values=self.values[rows],
            split=None if self.split is None else pick(self.split),
        )
