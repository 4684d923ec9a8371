"""Small laboratory tables."""

from __future__ import annotations

import numpy as np

from hilum.laboratory.table import LaboratoryTable
from hilum.laboratory.vocabulary import LaboratoryVariable, LaboratoryVocabulary

VOCABULARY = LaboratoryVocabulary(
    (
        LaboratoryVariable("Creatinine", "mg/dL", 50912),
        LaboratoryVariable("Sodium", "mEq/L", 50983),
        LaboratoryVariable("CRP"),
    )
)


def make_table(values: np.ndarray, *, split: tuple[str, ...] | None = None, dataset: str = "toy") -> LaboratoryTable:
    """Rows s0, s1, ... of patients p0, p0, p1, p1, ...; a vocabulary of that width."""
    names = tuple(f"lab {place}" for place in range(values.shape[1]))
    vocabulary = VOCABULARY if values.shape[1] == 3 else LaboratoryVocabulary(tuple(map(LaboratoryVariable, names)))
    return LaboratoryTable(
        vocabulary=vocabulary,
        source=dataset,
        dataset=(dataset,) * len(values),
        study=tuple(f"s{row}" for row in range(len(values))),
        patient=tuple(f"p{row // 2}" for row in range(len(values))),
        values=values.astype(np.float64),
        split=split,
    )


def draw_table(num_rows: int, num_labs: int, seed: int = 0, observed: float = 0.7) -> LaboratoryTable:
    """Values that two hidden causes explain in part, some missing; 70 % training, 15 % validation, 15 % test rows."""
    generator = np.random.default_rng(seed)
    causes = generator.normal(size=(num_rows, 2))
    values = causes @ generator.normal(size=(2, num_labs)) + 0.3 * generator.normal(size=(num_rows, num_labs))
    values[generator.random(values.shape) > observed] = np.nan
    split = tuple(("train" if share < 0.7 else "val" if share < 0.85 else "test") for share in _shares(num_rows))
    return make_table(values, split=split)


def _shares(num_rows: int) -> np.ndarray:
    return (np.arange(num_rows) // 2 * 2) / num_rows
