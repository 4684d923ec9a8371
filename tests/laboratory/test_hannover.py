"""Hannover's chest X-rays with their laboratory values, truly missing where they are: the readers on a real table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.cli import main
from hilum.config.laboratory import build_laboratory
from hilum.identifiers import Naming
from hilum.laboratory.embedding import embed_laboratory
from hilum.laboratory.pretraining import pretrain_laboratory
from hilum.laboratory.splits import split_by_patient
from hilum.laboratory.vocabulary import LaboratoryVariable, LaboratoryVocabulary
from hilum.laboratory.wide import read_wide
from hilum.loader import iterate_studies
from hilum.sources.signal_files import LabsFile
from hilum.sources.table import ingest_table
from hilum.teachers.vectors import read_teacher_vectors
from toy_table import QUIET

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


def test_images_and_their_values_walk_the_whole_road_to_a_batch(real_data: Path, tmp_path: Path) -> None:
    """Beside each image stands the vector of its own study's values; 63 images have no value, and no row."""
    file, vocabulary = real_data / "hannover_cxr_labs" / "manifest.csv", tmp_path / "eight.csv"
    vocabulary.write_text("\n".join(["name,unit,itemid", *(f"{name},," for name in NAMES)]) + "\n")
    columns = ("study=image_id", *(f"{name}={name}_val" for name in NAMES))
    ingest_table(
        file, tmp_path / "s.parquet", console=QUIET, naming=Naming(keep_ids=True),
        columns={"day": "-admission_offset", "study": "image_id"}, labs=LabsFile(file, columns, str(vocabulary)),
    )  # fmt: skip
    build_cache(tmp_path / "s.parquet", tmp_path / "cache", workers=1, short_side=32)
    for command in (
        f"pretrain labs --data {{}}/cache --out {{}}/labs --vocabulary {vocabulary} --epochs 2 --warmup-steps 1",
        "embed {}/labs --data {}/cache --out {}/labs.parquet",
    ):
        assert main(command.replace("{}", str(tmp_path)).split()) == 0
    cache = Cache.open(tmp_path / "cache")
    teacher = read_teacher_vectors(cache, tmp_path / "labs.parquet")
    own = pl.read_csv(file, infer_schema_length=None)
    observed = own.select(pl.sum_horizontal(pl.col(f"{name}_val").is_not_null() for name in NAMES)).to_series()
    has_values = dict(zip(own["image_id"], observed > 0, strict=True))
    studies = cache.table()
    known = [bool(has_values[study.rpartition(":")[2]]) for study in studies["study"]]
    assert (len(known), sum(known)) == (243, 180)
    assert (teacher.of_study >= 0).tolist() == known
    assert studies.group_by("patient").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 71
    told = pl.read_parquet(tmp_path / "labs.parquet")
    counts = dict(zip(own["image_id"], observed, strict=True))
    assert told["num_observed"].to_list() == [counts[study.rpartition(":")[2]] for study in told["study"]]
    (batch,) = iterate_studies(cache, cache.rows(), views_per_batch=300, teachers={"labs": teacher})
    rows = batch.row.numpy()
    assert batch.num_studies == batch.num_views == 243
    owner = batch.vectors["labs"].owner.numpy()
    assert owner.tolist() == [place for place, row in enumerate(rows) if known[row]]
    np.testing.assert_array_equal(batch.vectors["labs"].values.numpy(), teacher.values[teacher.of_study[rows[owner]]])
