"""The ECGs and laboratory values of named archives, as teachers read them from the study table alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.cli import main
from hilum.laboratory.studies import collect_labs
from hilum.laboratory.vocabulary import read_vocabulary
from hilum.signals.read import read_record
from hilum.signals.record import take_leads
from hilum.signals.table import list_ecgs
from hilum.study import open_studies
from signals.ecg_files import MIMIC_ORDER, make_leads, write_wfdb
from sources.archives.mimic_tables import write_triples
from sources.archives.symile_mimic import FLAT, list_observed, make_ecg, name_admission, write_symile_mimic


@pytest.fixture(scope="module")
def symile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive's study table and vectors of its teachers, by commands, without a cache."""
    folder = tmp_path_factory.mktemp("symile")
    write_symile_mimic(folder / "archive", ecg_samples=2500)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for code, command in (
            (0, "ingest symile-mimic archive --out s.parquet --keep-ids"),
            (
                0,
                "pretrain labs --data s.parquet --out labs --preset code --epochs 2 --hidden 8 --width 4",
            ),
            (0, "embed labs --data s.parquet --out labs.parquet"),
            (3, "pretrain ecg --data s.parquet --out ecg --steps 2 --encoder.width 16 --encoder.depth 1 --workers 1"),
            (3, "embed ecg --data s.parquet --out ecg.parquet --workers 1"),
        ):
            assert main(command.split()) == code, command
    return folder


def test_every_admission_of_symile_has_its_own_signal_and_values(symile: Path) -> None:
    studies = open_studies(symile / "s.parquet")
    listed = list_ecgs(studies, symile)
    sources = dict(zip(listed.keys["study"], listed.sources, strict=True))
    for split, number in (("train", 0), ("train", 11), ("val", 4), ("test", 0), ("test", 9)):
        record = read_record(sources[name_admission(split, number)])
        assert (record.rate, record.channels) == (500.0, MIMIC_ORDER)
        written = make_ecg(split, number, 2500)[0].T
        assert np.array_equal(record.samples, written)
        # MIMIC-IV-ECG has aVF before aVL; encoders want it the other way round (P 1.3).
        assert np.array_equal(take_leads(record)[4:6], written[[5, 4]])
    table = collect_labs(studies, read_vocabulary("symile"), "symile")
    place = dict(zip(table.study, range(len(table)), strict=True))
    for split, number in (("train", 2), ("test", 7)):
        row = place[name_admission(split, number)]
        assert np.array_equal(table.observed[row], list_observed(number))
        assert table.values[row, 4] == pytest.approx(number + 0.4) or not list_observed(number)[4]
        assert table.split is not None
        assert table.split[row] == split


def test_teachers_of_symile_have_a_vector_of_every_admission_but_the_flat_one(symile: Path) -> None:
    labs, ecg = (pl.read_parquet(symile / f"{name}.parquet") for name in ("labs", "ecg"))
    assert dict(labs.group_by("split").len().iter_rows()) == {"train": 12, "val": 10, "test": 10}
    assert dict(ecg.group_by("split").len().iter_rows()) == {"train": 11, "val": 10, "test": 10}
    rejected = pl.read_parquet(symile / "ecg-rejected.parquet").row(0, named=True)
    assert rejected["study"] == name_admission(*FLAT)
    assert "all its leads are flat lines" in rejected["reason"]


def test_triples_of_mimic_find_their_records_and_units(tmp_path: Path) -> None:
    root = write_triples(tmp_path)
    assert main(["ingest", "mimic-triples", str(root), "--out", str(tmp_path / "s.parquet"), "--keep-ids"]) == 0
    studies = open_studies(tmp_path / "s.parquet")
    listed = list_ecgs(studies, tmp_path)
    assert len(listed.sources) == 3
    for source in listed.sources:
        source.path.parent.mkdir(parents=True, exist_ok=True)
        write_wfdb(source.path.parent, source.path.name, make_leads(), names=MIMIC_ORDER)
        assert read_record(source).channels == MIMIC_ORDER
    table = collect_labs(studies, read_vocabulary("symile"), "triples")
    found = {
        study: {table.vocabulary.variables[lab].itemid: table.values[row, lab] for lab in np.flatnonzero(seen)}
        for row, (study, seen) in enumerate(zip(table.study, table.observed, strict=True))
    }
    assert {50912: 1.2, 50971: 4.1} in found.values()
    assert {50983: 140.0} in found.values()
