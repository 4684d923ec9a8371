"""Hannover's chest X-rays with their laboratory values, truly missing where they are: the readers on a real table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.config.laboratory import build_laboratory
from hilum.laboratory.embedding import embed_laboratory
from hilum.laboratory.pretraining import pretrain_laboratory
from hilum.laboratory.splits import split_by_patient
from hilum.laboratory.vocabulary import LaboratoryVariable, LaboratoryVocabulary
from hilum.laboratory.wide import read_wide

NAMES = ("crp", "d-dimer", "factor_xii", "ldh", "lymphocytes", "neutrophils", "pco2", "po2")

pytestmark = pytest.mark.needs_real_data


def test_the_table_reads_and_every_row_gets_a_vector(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "hannover_cxr_labs" / "manifest.csv"
    vocabulary = LaboratoryVocabulary(tuple(LaboratoryVariable(name) for name in NAMES))
    table = read_wide(
        file,
        vocabulary,
        study="image_id",
        columns={name: f"{name}_val" for name in NAMES},
    )
    assert len(table) == 243
    # As counted by polars, which reads the columns by itself.
    own = pl.read_csv(file, infer_schema_length=None).select([f"{name}_val" for name in NAMES])
    assert table.observed.sum(axis=0).tolist() == list(own.count().row(0)) == [179, 98, 73, 133, 104, 104, 174, 174]
    assert np.array_equal(table.observed, own.select(pl.all().is_not_null()).to_numpy())
    assert int((~table.observed.any(axis=1)).sum()) == 63
    # Values beyond what was measured are written as Inf and -Inf, and stay what they are.
    assert table.notes == tuple(
        f"{name}_val: {number} infinite, ranked beyond every number (of {total} cells)."
        for name, number, total in (("crp", 2, 179), ("d-dimer", 8, 98), ("po2", 2, 174))
    )

    patient = tuple(pl.read_csv(file, infer_schema=False)["patient_id"])
    table = split_by_patient(replace(table, patient=patient))
    config = replace(build_laboratory(), epochs=3, warmup_steps=2, batch_size=64)
    run = pretrain_laboratory(config, table, tmp_path / "run", progress=False)
    vectors = embed_laboratory(table, run)
    assert vectors.shape == (243, 256)
    assert np.isfinite(vectors).all()
    nothing = ~table.observed.any(axis=1)
    # Rows without any value all have the one vector of nothing.
    assert len(np.unique(vectors[nothing], axis=0)) == 1
    assert len(np.unique(vectors[~nothing].round(5), axis=0)) > 100
