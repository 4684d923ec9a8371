from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from hilum.identifiers import Naming
from hilum.sources.assemble import IngestSummary
from hilum.sources.table import ingest_table
from hilum.study import STUDY_SCHEMA, read_studies
from toy_table import QUIET, SALT


def ingest_real(data: Path, out: Path, **options) -> IngestSummary:
    return ingest_table(data / "manifest.csv", out / "s.parquet", console=QUIET, naming=Naming(salt=SALT), **options)


@pytest.mark.needs_real_data
def test_real_multiview_archive(real_data: Path, tmp_path: Path) -> None:
    summary = ingest_real(real_data / "cxr_multiview", tmp_path)
    studies = summary.studies
    assert (studies.num_studies, studies.num_patients, studies.num_groups, studies.num_views) == (326, 195, 193, 390)
    assert studies.views_per_study == {1: 268, 2: 54, 3: 3, 5: 1}
    assert studies.kinds == {"frontal": 344, "lateral": 46}
    assert studies.labels["Pneumonia"] == {1: 255, 0: 12, None: 59}
    assert studies.labels["Edema"] == {None: 326}
    assert summary.num_rejected == 0
    frame = read_studies(summary.out)
    assert set(STUDY_SCHEMA) == set(frame.columns)
    kinds = frame.select(pl.col("views").list.eval(pl.element().struct.field("kind")).list.unique().list.len())
    assert (kinds["views"] == 2).sum() == 46
    # The two pairs of patient ids are found without the archive's own column too: they list the same files.
    without = ingest_real(real_data / "cxr_multiview", tmp_path / "again", columns={"group": ""})
    assert without.studies.num_groups == 193


@pytest.mark.needs_real_data
def test_real_single_view_archives(real_data: Path, tmp_path: Path) -> None:
    nih = ingest_real(real_data / "nih", tmp_path / "nih").studies
    assert (nih.num_studies, nih.num_patients, nih.num_views, nih.kinds) == (829, 651, 829, {"frontal": 829})
    assert nih.labels["Pneumonia"] == {1: 264, 0: 565}
    assert [name for name, states in nih.labels.items() if states == {None: 829}] == [
        "Enlarged Cardiomediastinum",
        "Fracture",
        "Support Devices",
    ]
    # Hannover names no studies, and the day of an image only as days back to the admission.
    summary = ingest_real(real_data / "hannover_cxr_labs", tmp_path / "hannover", columns={"day": "-admission_offset"})
    hannover = summary.studies
    assert (hannover.num_studies, hannover.num_patients, hannover.num_views) == (243, 71, 243)
    days = read_studies(summary.out).group_by("patient").agg(pl.col("day").min())["day"]
    assert days.to_list() == [0.0] * 71
