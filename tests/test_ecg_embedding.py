"""From a table of ECG files to a table of vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from hilum.config.ecg import EcgEncoderConfig
from hilum.ecg_embedding import embed_ecgs, load_ecg_teacher, write_ecg_vectors
from hilum.ecg_records import prepare_thin, read_ecg_manifest
from hilum.errors import UserError
from hilum.model.ecg_encoder import EcgEncoder, save_ecg_encoder, thin
from hilum.model.net1d import Net1D
from hilum.signals.prepare import prepare_record
from hilum.signals.read import read_record
from hilum.study import build_studies, write_studies

MIMIC = "I II III aVR aVF aVL V1 V2 V3 V4 V5 V6"


def make_leads(seconds: float = 10.0, rate: float = 100.0, seed: int = 0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    height = np.random.default_rng(seed).uniform(-1, 1, (12, 1))
    return height * np.exp(-((((time - 0.3) % 0.85) - 0.2) ** 2) / 2e-4)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    encoder = EcgEncoder(EcgEncoderConfig(width=16, depth=1))
    save_ecg_encoder(encoder, tmp_path / "teacher.safetensors", {})
    return tmp_path / "teacher.safetensors"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two files of one record, one too short, one that is not there, and a stack of three as Symile has it."""
    for name, seconds in (("a", 10.0), ("b", 10.0), ("short", 2.0)):
        np.save(tmp_path / f"{name}.npy", make_leads(seconds, seed=ord(name[0])))
    np.save(tmp_path / "stack.npy", np.stack([make_leads(seed=seed).T for seed in range(3)])[:, None])
    rows = [
        {"path": name, "rate": "100", "leads": MIMIC, "study": study, "patient": patient}
        for name, study, patient in (
            ("a.npy", "s1", "p1"), ("short.npy", "s2", "p2"), ("b.npy", "s3", "p1"), ("none.npy", "s4", None),
            ("stack.npy", None, None),
        )
    ]  # fmt: skip
    pl.DataFrame(rows).write_csv(tmp_path / "ecgs.csv")
    return tmp_path / "ecgs.csv"


def test_a_manifest_lists_records(manifest: Path):
    found = read_ecg_manifest(manifest)
    assert [(source.path.name, source.row) for source in found.sources] == [
        ("a.npy", None), ("short.npy", None), ("b.npy", None), ("none.npy", None),
        ("stack.npy", 0), ("stack.npy", 1), ("stack.npy", 2),
    ]  # fmt: skip
    assert {source.rate for source in found.sources} == {100.0}
    assert found.sources[0].leads == tuple(MIMIC.split())
    assert found.keys.columns == ["study", "path", "row"]
    assert found.keys["study"].to_list() == ["s1", "s2", "s3", "s4", None, None, None]
    assert found.patient[0] == found.patient[2]
    assert len(set(found.patient.tolist())) == 6


def test_signals_of_a_study_table_are_a_manifest(tmp_path: Path):
    rows = [
        {
            "dataset": "d", "study": study, "patient": patient, "root": str(tmp_path),
            "views": [{"path": f"{study}.png", "kind": "frontal", "laterality": "unknown"}],
            "signals": [{"path": f"{study}.dcm", "kind": "ecg"}, {"path": f"{study}.wav", "kind": "sound"}][:num],
        }
        for study, patient, num in (("s1", "p1", 2), ("s2", "p1", 1), ("s3", "p2", 0))
    ]  # fmt: skip
    write_studies(build_studies(rows), tmp_path / "studies.parquet")
    found = read_ecg_manifest(tmp_path / "studies.parquet")
    assert [source.path for source in found.sources] == [tmp_path / "s1.dcm", tmp_path / "s2.dcm"]
    assert found.keys["study"].to_list() == ["s1", "s2"]
    assert found.patient.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("file\na.npy\n", "no column path"),
        ("path,hertz\na.npy,100\n", "column hertz is not known"),
        ("path,rate\na.npy,fast\n", "record 1: rate and row must be numbers"),
        ("path,unit\na.npy,1\nb.npy,mmHg\n", "unit '1' is not known"),
        ("path,rate\na.npy,1\n,1\n", "record 2 has no path"),
        ("path\n", "lists no ECG record"),
    ],
)
def test_manifests_that_mean_nothing(text: str, error: str, tmp_path: Path):
    (tmp_path / "ecgs.csv").write_text(text)
    with pytest.raises(UserError, match=error):
        read_ecg_manifest(tmp_path / "ecgs.csv")


def test_thin_records_are_what_the_encoder_sees(manifest: Path):
    sources = read_ecg_manifest(manifest).sources
    found = prepare_thin(sources)
    assert found.kept.tolist() == [0, 2, 4, 5, 6]
    assert [place for place, _ in found.rejected] == [1, 3]
    assert found.notes == {"resampled from 100 to 500 Hz": 5}
    values = prepare_record(read_record(sources[4])).values
    np.testing.assert_array_equal(found.values[2], thin(torch.from_numpy(values)[None])[0].numpy())


def test_vectors_of_a_manifest(manifest: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "vectors.parquet"
    write_ecg_vectors(manifest, teacher, out, batch_records=2)
    table, rejected = pl.read_parquet(out), pl.read_parquet(tmp_path / "vectors-rejected.parquet")
    assert table.columns == ["study", "path", "row", "vector"]
    assert table["path"].to_list() == ["a.npy", "b.npy", *["stack.npy"] * 3]
    assert table["row"].to_list() == [None, None, 0, 1, 2]
    assert rejected["path"].to_list() == ["short.npy", "none.npy"]
    assert rejected["reason"][0].startswith("short.npy: it lasts 2.0 s")
    encoder, _ = load_ecg_teacher(teacher)
    sources = read_ecg_manifest(manifest).sources
    for place, source in ((0, sources[0]), (4, sources[6])):
        values = torch.from_numpy(prepare_record(read_record(source)).values)[None]
        np.testing.assert_allclose(table["vector"][place].to_numpy(), encoder(values)[0].numpy(), atol=1e-5)
    made_by = json.loads(pl.read_parquet_metadata(out)["hilum_features"])
    assert (made_by["teacher"], made_by["preprocessing"]["band"]) == ("hilum", [0.67, 40.0])
    said = capsys.readouterr().err
    assert "5 of 7 records, vectors of 48 numbers" in said
    assert "2 rejected" in said


def test_the_batch_size_changes_nothing(manifest: Path, teacher: Path):
    encoder, _ = load_ecg_teacher(teacher)
    sources = read_ecg_manifest(manifest).sources
    one, all_at_once = (embed_ecgs(encoder, sources, batch_records=size) for size in (1, 99))
    np.testing.assert_allclose(one.vectors, all_at_once.vectors, atol=1e-5)
    np.testing.assert_array_equal(one.kept, all_at_once.kept)


def test_ecg_founder_gives_1024_numbers(tmp_path: Path):
    torch.manual_seed(0)
    torch.save({"state_dict": Net1D().state_dict()}, tmp_path / "12_lead_ECGFounder.pth")
    np.save(tmp_path / "a.npy", make_leads())
    pl.DataFrame({"path": ["a.npy"], "rate": [100.0], "leads": [MIMIC]}).write_csv(tmp_path / "ecgs.csv")
    found = write_ecg_vectors(tmp_path / "ecgs.csv", tmp_path / "12_lead_ECGFounder.pth", tmp_path / "v.parquet")
    assert found.vectors.shape == (1, 1024)
    assert pl.read_parquet_schema(tmp_path / "v.parquet")["vector"] == pl.Array(pl.Float32, 1024)


def test_nothing_usable_and_nothing_overwritten(teacher: Path, tmp_path: Path):
    (tmp_path / "ecgs.csv").write_text("path\nnone.dcm\n")
    with pytest.raises(UserError, match=r"none of its 1 records can be used: none.dcm: the file does not exist"):
        write_ecg_vectors(tmp_path / "ecgs.csv", teacher, tmp_path / "v.parquet")
    assert not (tmp_path / "v.parquet").exists()
    pl.DataFrame({"mine": [1]}).write_parquet(tmp_path / "mine.parquet")
    with pytest.raises(UserError, match="not a file of Hilum"):
        write_ecg_vectors(tmp_path / "ecgs.csv", teacher, tmp_path / "mine.parquet")
    with pytest.raises(UserError, match="there is no such file"):
        load_ecg_teacher(tmp_path / "none.pth")


@pytest.mark.needs_real_data
def test_real_records_become_vectors(real_data: Path, teacher: Path, tmp_path: Path):
    folder = real_data / "ptbxl"
    rows = pl.read_csv(folder / "manifest.csv", infer_schema=False).filter(pl.col("path_hr") != "").head(4)
    paths = [str(folder / path) for path in rows["path_hr"]] + [str(real_data / "dicom" / "ecg12_waveform.dcm")]
    pl.DataFrame({"path": paths}).write_csv(tmp_path / "ecgs.csv")
    found = write_ecg_vectors(tmp_path / "ecgs.csv", teacher, tmp_path / "v.parquet")
    assert found.vectors.shape == (5, 48)
    assert found.rejected == []
