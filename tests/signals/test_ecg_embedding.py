"""From the ECGs of a study table to a teacher's table of vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from hilum.config.ecg import EcgEncoderConfig
from hilum.errors import UserError
from hilum.model.ecg_encoder import EcgEncoder, save_ecg_encoder, thin
from hilum.model.net1d import Net1D
from hilum.signals.embedding import embed_ecgs, load_ecg_teacher, write_ecg_vectors
from hilum.signals.prepare import prepare_record
from hilum.signals.read import read_record
from hilum.signals.table import list_ecgs, prepare_thin
from hilum.study import ECG_LEADS, ECG_RATE, ECG_UNIT, build_studies, open_studies, write_studies

MIMIC = "I II III aVR aVF aVL V1 V2 V3 V4 V5 V6"


def make_leads(seconds: float = 10.0, rate: float = 100.0, seed: int = 0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    height = np.random.default_rng(seed).uniform(-1, 1, (12, 1))
    return height * np.exp(-((((time - 0.3) % 0.85) - 0.2) ** 2) / 2e-4)


def write_table(folder: Path, studies: dict[str, list[str]], patients: dict[str, str] | None = None, **extras) -> Path:
    """A study table: the paths of each study's ECGs."""
    rows = [
        {
            "dataset": "d", "study": study, "patient": (patients or {}).get(study, study), "root": str(folder),
            "views": [{"path": f"{study}.png", "kind": "frontal", "laterality": "unknown"}],
            "signals": [{"path": path, "kind": "ecg"} for path in paths], **extras,
        }
        for study, paths in studies.items()
    ]  # fmt: skip
    write_studies(build_studies(rows), folder / "studies.parquet")
    return folder / "studies.parquet"


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    encoder = EcgEncoder(EcgEncoderConfig(width=16, depth=1))
    (tmp_path / "run").mkdir()
    save_ecg_encoder(encoder, tmp_path / "run" / "weights.safetensors", {})
    (tmp_path / "run" / "pretraining.json").write_text('{"people": {"salt": ["someone"]}}')
    return tmp_path / "run"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two files of one patient, one too short, one that is not there, rows of a stack as Symile has it, and none."""
    for name, seconds in (("a", 10.0), ("b", 10.0), ("short", 2.0)):
        np.save(tmp_path / f"{name}.npy", make_leads(seconds, seed=ord(name[0])))
    np.save(tmp_path / "stack.npy", np.stack([make_leads(seed=seed).T for seed in range(3)])[:, None])
    studies = {
        "s1": ["a.npy"], "s2": ["short.npy"], "s3": ["short.npy", "b.npy", "a.npy"], "s4": ["none.npy"], "s5": [],
        "s6": ["stack.npy#2"],
    }  # fmt: skip
    return write_table(tmp_path, studies, {"s1": "p1", "s3": "p1"}, **{ECG_RATE: "100", ECG_LEADS: MIMIC})


def test_ecgs_of_a_study_table(table: Path):
    found = list_ecgs(open_studies(table), table)
    assert [(source.path.name, source.row) for source in found.sources] == [
        ("a.npy", None), ("short.npy", None), ("short.npy", None), ("b.npy", None), ("a.npy", None), ("none.npy", None),
        ("stack.npy", 2),
    ]  # fmt: skip
    assert {(source.rate, source.leads, source.unit) for source in found.sources} == {
        (100.0, tuple(MIMIC.split()), "mV")
    }
    assert found.keys["study"].to_list() == ["s1", "s2", "s3", "s3", "s3", "s4", "s6"]
    assert found.patient[0] == found.patient[2]
    assert len(set(found.patient.tolist())) == 4


def test_files_that_say_it_themselves_are_told_nothing(tmp_path: Path):
    extras = {ECG_RATE: "250", ECG_LEADS: "I II", ECG_UNIT: "uV"}
    table = write_table(tmp_path, {"s1": ["a.dcm"], "s2": ["ecg/b.hea"], "s3": ["c.csv"]}, **extras)
    said = [(source.rate, source.leads, source.unit) for source in list_ecgs(open_studies(table), table).sources]
    assert said == [(None, None, "mV"), (None, None, "mV"), (250.0, None, "uV")]


def test_other_signals_are_none(tmp_path: Path):
    table = write_table(tmp_path, {"s1": [], "s2": []})
    with pytest.raises(UserError, match=r"studies.parquet: none of its 2 studies has an ECG.*--columns ecg=COLUMN"):
        list_ecgs(open_studies(table), table)
    broken = write_table(tmp_path, {"s1": ["a.npy"]}, **{ECG_RATE: "fast"})
    with pytest.raises(UserError, match="study d/s1: extra_ecg_rate is 'fast'"):
        list_ecgs(open_studies(broken), broken)


def test_thin_records_are_what_the_encoder_sees(table: Path):
    sources = list_ecgs(open_studies(table), table).sources
    found = prepare_thin(sources)
    assert found.kept.tolist() == [0, 3, 4, 6]
    assert [place for place, _ in found.rejected] == [1, 2, 5]
    assert found.notes == {"resampled from 100 to 500 Hz": 4}
    values = prepare_record(read_record(sources[6])).values
    np.testing.assert_array_equal(found.values[3], thin(torch.from_numpy(values)[None])[0].numpy())


def test_vectors_of_a_study_table(table: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "vectors.parquet"
    write_ecg_vectors(table, str(teacher), out, batch_records=2)
    vectors, rejected = pl.read_parquet(out), pl.read_parquet(tmp_path / "vectors-rejected.parquet")
    assert vectors.columns == ["dataset", "study", "group", "split", "path", "vector"]
    # A study has one row: of several ECGs the first that can be used.
    assert vectors.select("study", "path").rows() == [("s1", "a.npy"), ("s3", "b.npy"), ("s6", "stack.npy#2")]
    assert rejected["path"].to_list() == ["short.npy", "short.npy", "none.npy"]
    assert rejected["reason"][0].startswith("short.npy: it lasts 2.0 s")
    encoder = load_ecg_teacher(str(teacher)).encoder
    sources = list_ecgs(open_studies(table), table).sources
    for place, source in ((0, sources[0]), (1, sources[3]), (2, sources[6])):
        values = torch.from_numpy(prepare_record(read_record(source)).values)[None]
        np.testing.assert_allclose(vectors["vector"][place].to_numpy(), encoder(values)[0].numpy(), atol=1e-5)
    made_by = json.loads(pl.read_parquet_metadata(out)["hilum_features"])
    assert (made_by["teacher"], made_by["preprocessing"]["band"]) == ("ECG run", [0.67, 40.0])
    assert made_by["people"] == {"salt": ["someone"]}
    said = capsys.readouterr().err
    assert "3 studies with a vector of 48 numbers, from 4 of 7 ECGs" in said
    assert "3 rejected" in said


def test_the_batch_size_changes_nothing(table: Path, teacher: Path):
    encoder, sources = load_ecg_teacher(str(teacher)).encoder, list_ecgs(open_studies(table), table).sources
    one, all_at_once = (embed_ecgs(encoder, sources, batch_records=size) for size in (1, 99))
    np.testing.assert_allclose(one.vectors, all_at_once.vectors, atol=1e-5)
    np.testing.assert_array_equal(one.kept, all_at_once.kept)


def test_ecg_founder_gives_1024_numbers_and_random_weights_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.manual_seed(0)
    net = Net1D()
    torch.save({"state_dict": net.state_dict()}, tmp_path / "12_lead_ECGFounder.pth")
    np.save(tmp_path / "a.npy", make_leads())
    table = write_table(tmp_path, {"s1": ["a.npy"]}, **{ECG_RATE: "100", ECG_LEADS: MIMIC})
    found = {}
    for weights in (str(tmp_path / "12_lead_ECGFounder.pth"), "random"):
        write_ecg_vectors(table, f"ecgfounder={weights}", tmp_path / "v.parquet")
        found[weights] = pl.read_parquet(tmp_path / "v.parquet")["vector"].to_numpy()
        assert found[weights].shape == (1, 1024)
        made_by = json.loads(pl.read_parquet_metadata(tmp_path / "v.parquet")["hilum_features"])
        is_random = weights == "random"
        assert made_by["teacher"] == ("ECGFounder (random weights)" if is_random else "ECGFounder")
        assert ("these vectors know nothing" in capsys.readouterr().err) == is_random
    source = list_ecgs(open_studies(table), table).sources[0]
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(prepare_record(read_record(source)).values)[None])
    np.testing.assert_allclose(next(iter(found.values())), expected.numpy(), atol=1e-5)


def test_nothing_usable_and_nothing_overwritten(teacher: Path, tmp_path: Path):
    table = write_table(tmp_path, {"s1": ["none.dcm"]})
    with pytest.raises(UserError, match=r"none of its 1 ECGs can be used: none.dcm: the file does not exist"):
        write_ecg_vectors(table, str(teacher), tmp_path / "v.parquet")
    assert not (tmp_path / "v.parquet").exists()
    pl.DataFrame({"mine": [1]}).write_parquet(tmp_path / "mine.parquet")
    with pytest.raises(UserError, match="not a file of Hilum"):
        write_ecg_vectors(table, str(teacher), tmp_path / "mine.parquet")
    with pytest.raises(UserError, match="there is no such file"):
        load_ecg_teacher(f"ecgfounder={tmp_path / 'none.pth'}")
    (teacher / "pretraining.json").unlink()
    with pytest.raises(UserError, match=r"pretraining.json is missing.*whether test patients taught"):
        load_ecg_teacher(str(teacher))


@pytest.mark.needs_real_data
def test_real_records_become_vectors(real_data: Path, teacher: Path, tmp_path: Path):
    folder = real_data / "ptbxl"
    rows = pl.read_csv(folder / "manifest.csv", infer_schema=False).filter(pl.col("path_hr") != "").head(4)
    paths = [str(folder / path) for path in rows["path_hr"]] + [str(real_data / "dicom" / "ecg12_waveform.dcm")]
    table = write_table(tmp_path, {f"s{place}": [path] for place, path in enumerate(paths)})
    found = write_ecg_vectors(table, str(teacher), tmp_path / "v.parquet")
    assert found.vectors.shape == (5, 48)
    assert found.rejected == []
