"""The ECG encoder's runs: what they leave, how they go on after an end nobody planned, and whether they learn."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import hilum.signals.pretraining
from hilum.config.ecg import EcgEncoderConfig, EcgPretrainingConfig
from hilum.errors import UserError
from hilum.model.ecg_encoder import load_ecg_encoder
from hilum.signals.pretraining import draw_rows, pretrain_ecg
from hilum.training.run_folder import read_metrics

CONFIG = EcgPretrainingConfig(
    encoder=EcgEncoderConfig(width=16, depth=1), records_per_step=4, steps=6, checkpoint_every=2, log_every=2
)


def make_values(num: int = 9, seed: int = 0) -> np.ndarray:
    """Records that each repeat a beat of their own: what is hidden can be told, and whose a half is too."""
    generator = np.random.default_rng(seed)
    beats = generator.standard_normal((num, 12, 100)).cumsum(axis=2)
    values = np.tile(beats - beats.mean(axis=2, keepdims=True), 10)
    return (values / values.std(axis=(1, 2), keepdims=True)).astype(np.float32)


VALUES, PATIENT = make_values(), np.array([0, 0, *range(1, 8)])


def read_run(out: Path) -> tuple[dict[str, torch.Tensor], list[dict]]:
    metrics = [
        {key: value for key, value in line.items() if key != "seconds"} for line in read_metrics(out / "metrics.jsonl")
    ]
    return load_file(out / "weights.safetensors"), metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain_ecg(VALUES, PATIENT, tmp_path_factory.mktemp("whole") / "run", CONFIG)


def test_what_a_run_leaves(finished: Path):
    encoder, about = load_ecg_encoder(finished / "weights.safetensors")
    assert encoder.config == CONFIG.encoder
    assert (about["pretraining"]["num_records"], about["pretraining"]["num_patients"]) == (9, 8)
    assert about["pretraining"]["settings"]["temperature"] == 0.1
    assert json.loads((finished / "config.json").read_text())["steps"] == 6
    assert [line["step"] for line in read_metrics(finished / "metrics.jsonl")] == [2, 4, 6]
    assert {"loss", "reconstruction", "contrast", "lr"} <= set(read_metrics(finished / "metrics.jsonl")[0])


def test_a_crash_between_checkpoints_changes_no_bit(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = hilum.signals.pretraining._Run.take_step

    def crash(run) -> None:
        if run.num_done == 5:  # after the checkpoint of step 4
            raise OSError("the machine is gone")
        whole(run)

    with monkeypatch.context() as context:
        context.setattr(hilum.signals.pretraining._Run, "take_step", crash)
        with pytest.raises(OSError, match="gone"):
            pretrain_ecg(VALUES, PATIENT, tmp_path / "run", CONFIG)
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    pretrain_ecg(VALUES, PATIENT, tmp_path / "run", CONFIG, resume=True)
    (weights, metrics), (expected, expected_metrics) = read_run(tmp_path / "run"), read_run(finished)
    assert metrics == expected_metrics
    for name, value in expected.items():
        assert torch.equal(weights[name], value), name


def test_a_signal_saves_and_the_run_goes_on(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = hilum.signals.pretraining._Run.take_step

    def stop(run) -> None:
        whole(run)
        if run.num_done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as context:
        context.setattr(hilum.signals.pretraining._Run, "take_step", stop)
        with pytest.raises(SystemExit) as caught:
            pretrain_ecg(VALUES, PATIENT, tmp_path / "run", CONFIG)
    assert caught.value.code == 128 + signal.SIGTERM
    assert (tmp_path / "run" / "checkpoints" / "step-00000003").is_dir()
    pretrain_ecg(VALUES, PATIENT, tmp_path / "run", CONFIG, resume=True)
    weights, _ = read_run(tmp_path / "run")
    for name, value in read_run(finished)[0].items():
        assert torch.equal(weights[name], value), name


def test_a_finished_run_is_not_run_again(finished: Path):
    before = (finished / "weights.safetensors").stat().st_mtime_ns
    assert pretrain_ecg(VALUES, PATIENT, finished, CONFIG, resume=True) == finished
    assert (finished / "weights.safetensors").stat().st_mtime_ns == before


def test_folders_and_records_that_do_not_fit(finished: Path, tmp_path: Path):
    with pytest.raises(UserError, match="holds a run already"):
        pretrain_ecg(VALUES, PATIENT, finished, CONFIG)
    other = EcgPretrainingConfig(**{**vars(CONFIG), "lr": 2e-3})
    with pytest.raises(UserError, match=r"lr: was 0\.001, now 0\.002"):
        pretrain_ecg(VALUES, PATIENT, finished, other, resume=True)
    with pytest.raises(UserError, match="on other records or patients"):
        pretrain_ecg(VALUES[::-1].copy(), PATIENT, finished, CONFIG, resume=True)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match=r"holds other files \(letter.txt\)"):
        pretrain_ecg(VALUES, PATIENT, tmp_path, CONFIG)
    with pytest.raises(UserError, match="at least two are needed"):
        pretrain_ecg(VALUES[:3], np.zeros(3, np.int64), tmp_path / "run", CONFIG)


def test_each_record_is_drawn_once_an_epoch():
    rows = np.concatenate([draw_rows(0, step, 3, 9) for step in range(6)])
    assert sorted(rows[:9]) == sorted(rows[9:]) == list(range(9))
    assert rows[:9].tolist() != rows[9:].tolist()
    assert len(np.unique(np.concatenate([draw_rows(0, step, 4, 9) for step in range(2)]))) == 8


def test_it_learns(tmp_path: Path):
    config = EcgPretrainingConfig(
        encoder=EcgEncoderConfig(width=32, depth=1), records_per_step=12, steps=60, lr=3e-3, log_every=10
    )
    out = pretrain_ecg(make_values(12), np.arange(12), tmp_path / "run", config)
    first, *_, last = read_metrics(out / "metrics.jsonl")
    assert last["contrast"] < 0.5 * first["contrast"]
    assert last["reconstruction"] < 0.9 * first["reconstruction"]
