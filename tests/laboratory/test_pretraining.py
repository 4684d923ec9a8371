"""Training of the laboratory auto-encoder: it learns, it goes on after a kill, and its file is read strictly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hilum.config.laboratory import LaboratoryConfig, build_laboratory, dump_laboratory, load_laboratory
from hilum.errors import UserError
from hilum.laboratory.embedding import embed_laboratory
from hilum.laboratory.percentiles import fit_percentiles
from hilum.laboratory.pretraining import pretrain_laboratory
from hilum.laboratory.rows import VALIDATION_DRAW, collect_rows, measure_autoencoder
from hilum.laboratory.table import LaboratoryTable
from hilum.model.lab_weights import load_lab_teacher
from hilum.objective.lab_reconstruction import draw_dropped
from tiny_runs import hash_weights, read_metrics, start_process
from toy_labs import draw_table

TABLE = draw_table(600, 8)
# 420 training rows in steps of 64: 6 steps an epoch.
SMALL = replace(build_laboratory(), hidden=32, width=16, lr=3e-3, warmup_steps=20, epochs=40, batch_size=64)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain_laboratory(SMALL, TABLE, tmp_path_factory.mktemp("runs") / "finished", progress=False)


def test_presets_differ_where_the_paper_and_its_code_do(tmp_path: Path) -> None:
    paper, code, hilum = (build_laboratory(preset) for preset in ("paper", "code", "hilum"))
    assert (hilum.hidden, hilum.width, hilum.drop, hilum.lr, hilum.weight_decay) == (512, 256, 0.15, 3e-4, 0.01)
    assert (hilum.warmup_steps, hilum.epochs, hilum.batch_size) == (200, 50, 256)
    assert (paper.mask_missing, code.mask_missing, hilum.mask_missing) == (True, False, True)
    assert (paper.ties, code.ties, hilum.ties) == ("upper", "upper", "average")
    assert replace(paper, preset="hilum", ties="average") == hilum
    (tmp_path / "config.json").write_text(dump_laboratory(code))
    assert load_laboratory(tmp_path / "config.json") == code
    (tmp_path / "config.json").write_text(dump_laboratory(code).replace('"drop"', '"dropp"'))
    with pytest.raises(UserError, match="dropp"):
        load_laboratory(tmp_path / "config.json")


def test_steps_are_the_papers(tmp_path: Path) -> None:
    """39 steps an epoch of 10,000 rows, the rest left out (P 1.2); two epochs of a narrow network."""
    values = np.random.default_rng(0).random((10_000, 2))
    names = tuple(map(str, range(10_000)))
    vocabulary = draw_table(4, 2).vocabulary
    table = LaboratoryTable(vocabulary, "big", ("big",) * 10_000, names, names, values, split=("train",) * 10_000)
    config = replace(build_laboratory(), hidden=2, width=2, epochs=2)
    pretrain_laboratory(config, table, tmp_path / "run", progress=False)
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [39, 78]
    assert "clean_mse" not in read_metrics(tmp_path / "run")[0]  # no validation row


def test_a_run_leaves_what_its_folder_promises_and_learns(finished: Path) -> None:
    assert {path.name for path in finished.iterdir() if not path.name.startswith(".")} == {
        "config.json", "pretraining.json", "environment.json", "metrics.jsonl", "checkpoints", "weights.safetensors",
    }  # fmt: skip
    lines = read_metrics(finished)
    assert [line["epoch"] for line in lines] == list(range(1, 41))
    assert [line["step"] for line in lines] == [6 * epoch for epoch in range(1, 41)]
    last = lines[-1]
    # Who knows nothing of a row says one half.
    rows = collect_rows(TABLE.take(TABLE.find_rows("val")), load_lab_teacher(finished).percentiles)
    dropped = draw_dropped(rows.observed, rows.key, SMALL.drop, SMALL.seed, VALIDATION_DRAW)
    ignorant = float(np.square(rows.share - 0.5)[dropped].mean())
    assert last["imputation_mse"] < 0.6 * ignorant
    assert last["clean_mse"] < last["denoise_mse"] < last["imputation_mse"]
    assert last["vector_std"] > 0.1
    seen = json.loads((finished / "pretraining.json").read_bytes())
    assert (seen["num_rows"], seen["num_patients"], seen["datasets"]) == (420, 210, ["toy"])
    assert "p0" not in (finished / "pretraining.json").read_text()


def test_measures_are_those_of_p_1_2(finished: Path) -> None:
    """Entry by entry, with the drops that validation always has."""
    teacher = load_lab_teacher(finished)
    rows = collect_rows(TABLE.take(TABLE.find_rows("val")), teacher.percentiles)
    found = measure_autoencoder(teacher.autoencoder, rows, SMALL.drop, SMALL.seed)
    last = read_metrics(finished)[-1]
    assert found == pytest.approx({name: last[name] for name in found})
    share, observed = torch.from_numpy(rows.share), torch.from_numpy(rows.observed)
    with torch.no_grad():
        clean, vector = teacher.autoencoder(share, observed)
    assert found["clean_mse"] == pytest.approx(float((clean - share)[observed].square().mean()), rel=1e-5)
    assert found["vector_std"] == pytest.approx(float(vector.numpy().std(axis=0).mean()), rel=1e-5)
    empty = collect_rows(TABLE.take(np.zeros(0, dtype=np.int64)), teacher.percentiles)
    assert measure_autoencoder(teacher.autoencoder, empty, 0.15, 0) == {}


def test_only_training_rows_are_learned_from(finished: Path, tmp_path: Path) -> None:
    """Other values in validation and test rows change neither percentiles nor weights."""
    values = TABLE.values.copy()
    others = np.concatenate([TABLE.find_rows("val"), TABLE.find_rows("test")])
    values[others] = 1e6
    pretrain_laboratory(SMALL, replace(TABLE, values=values), tmp_path / "run", progress=False)
    one, other = load_lab_teacher(finished), load_lab_teacher(tmp_path / "run")
    assert one.digest == other.digest


def start(config: LaboratoryConfig, table: LaboratoryTable, out: Path) -> None:
    torch.set_num_threads(1)
    pretrain_laboratory(config, table, out, resume=True, progress=False)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_continues_to_the_same_bits(finished: Path, tmp_path: Path, how: signal.Signals) -> None:
    config = replace(SMALL, checkpoint_minutes=0.0)  # a checkpoint each epoch
    out, kills = tmp_path / "run", 0
    while not (out / "weights.safetensors").exists():
        before = len(list(out.glob("checkpoints/step-*")))
        process = start_process(start, config, TABLE, out)
        begin = time.monotonic()
        lines = _count_lines(out)
        while kills < 3 and _count_lines(out) < lines + 3 and process.is_alive() and time.monotonic() - begin < 240:
            time.sleep(0.005)
        if kills < 3 and process.is_alive():
            os.kill(process.pid, how)
            kills += 1
        process.join()
        assert before <= 1  # only the newest is kept
    assert kills == 3
    assert read_metrics(out) == read_metrics(finished)
    assert load_lab_teacher(out).digest == load_lab_teacher(finished).digest


def _count_lines(out: Path) -> int:
    return (out / "metrics.jsonl").read_text().count("\n") if (out / "metrics.jsonl").exists() else 0


def test_a_run_is_only_continued_with_its_own_settings_and_values(finished: Path, tmp_path: Path) -> None:
    before = hash_weights(finished)
    with pytest.raises(UserError, match="holds a run already"):
        pretrain_laboratory(SMALL, TABLE, finished, progress=False)
    with pytest.raises(UserError, match=re.escape("lr: was 0.003, now 0.001")):
        pretrain_laboratory(replace(SMALL, lr=1e-3), TABLE, finished, resume=True, progress=False)
    with pytest.raises(UserError, match="other laboratory values"):
        pretrain_laboratory(SMALL, draw_table(600, 8, seed=1), finished, resume=True, progress=False)
    assert pretrain_laboratory(SMALL, TABLE, finished, resume=True, progress=False) == finished
    assert hash_weights(finished) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"other files \(notes.txt\)"):
        pretrain_laboratory(SMALL, TABLE, tmp_path, progress=False)
    with pytest.raises(UserError, match="patients are not divided into training, validation and test"):
        pretrain_laboratory(SMALL, replace(TABLE, split=None), tmp_path / "new", progress=False)


def test_what_is_odd_about_a_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = TABLE.values[:40].copy()
    values[:, 2] = np.nan
    table = replace(TABLE.take(np.arange(40)), values=values, split=("train",) * 40)
    pretrain_laboratory(replace(SMALL, epochs=2), table, tmp_path / "run")
    said = capsys.readouterr().err
    assert "all 2 steps are warm-up" in said
    assert "no training row has lab 2" in said
    assert "no validation row" in said


def rewrite(source: Path, out: Path, tensors: dict | None = None, **header) -> Path:
    from safetensors import safe_open

    with safe_open(source / "weights.safetensors", "pt") as file:
        about = json.loads(file.metadata()["hilum"]) | header
    out.mkdir(exist_ok=True)
    save_file(
        tensors or load_file(source / "weights.safetensors"), out / "weights.safetensors", {"hilum": json.dumps(about)}
    )
    return out


def test_weights_are_read_strictly(finished: Path, tmp_path: Path) -> None:
    teacher = load_lab_teacher(finished / "weights.safetensors", TABLE.vocabulary)
    assert teacher.config == SMALL
    assert teacher.vocabulary == TABLE.vocabulary
    expected = fit_percentiles(TABLE.take(TABLE.find_rows("train")), "average")
    for lab in range(8):
        assert np.array_equal(teacher.percentiles.distinct[lab], expected.distinct[lab])
        assert np.array_equal(teacher.percentiles.count[lab], expected.count[lab])
    assert np.array_equal(teacher.percentiles.mean, expected.mean)
    assert not teacher.autoencoder.training

    tensors = load_file(finished / "weights.safetensors")
    with pytest.raises(UserError, match=r"unknown: encoder\.extra"):
        load_lab_teacher(rewrite(finished, tmp_path, tensors | {"encoder.extra": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"missing: decoder\.fc1\.bias"):
        load_lab_teacher(rewrite(finished, tmp_path, {k: v for k, v in tensors.items() if k != "decoder.fc1.bias"}))
    with pytest.raises(UserError, match=r"encoder\.fc2\.bias is 17 and not 16"):
        load_lab_teacher(rewrite(finished, tmp_path, tensors | {"encoder.fc2.bias": torch.zeros(17)}))
    with pytest.raises(UserError, match="checksum differs"):
        load_lab_teacher(rewrite(finished, tmp_path, tensors | {"encoder.fc2.bias": torch.zeros(16)}))
    shares = tensors["percentiles.mean"] + 0.01
    with pytest.raises(UserError, match="checksum differs"):
        load_lab_teacher(rewrite(finished, tmp_path, tensors | {"percentiles.mean": shares}))
    with pytest.raises(UserError, match="its format is 'hilum-encoder-1'"):
        load_lab_teacher(rewrite(finished, tmp_path, format="hilum-encoder-1"))
    with pytest.raises(UserError, match="hiden"):
        load_lab_teacher(rewrite(finished, tmp_path, config={"hiden": 3}))
    with pytest.raises(UserError, match="trained on other laboratory values: value 1 is"):
        load_lab_teacher(finished, replace_first(TABLE).vocabulary)
    with pytest.raises(UserError, match="There is no"):
        load_lab_teacher(tmp_path / "absent")
    (tmp_path / "weights.safetensors").write_bytes(b"half a file")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_lab_teacher(tmp_path)


def replace_first(table: LaboratoryTable) -> LaboratoryTable:
    first, *rest = table.vocabulary.variables
    return replace(table, vocabulary=replace(table.vocabulary, variables=(replace(first, unit="mg/L"), *rest)))


def test_every_row_has_a_vector_and_equal_ones_where_nothing_is_known(finished: Path) -> None:
    values = TABLE.values[:5].copy()
    values[[1, 3]] = np.nan
    table = replace(TABLE.take(np.arange(5)), values=values)
    vectors = embed_laboratory(table, finished)
    assert vectors.shape == (5, 16)
    assert np.isfinite(vectors).all()
    assert np.array_equal(vectors[1], vectors[3])
    assert not np.array_equal(vectors[0], vectors[1])
    # A row's vector is its own: the others, and their order, do not matter.
    turned = embed_laboratory(table.take(np.array([4, 0])), finished)
    assert np.allclose(turned, vectors[[4, 0]], atol=1e-6)
    assert embed_laboratory(table.take(np.zeros(0, dtype=np.int64)), finished).shape == (0, 16)
    with pytest.raises(UserError, match="not those of this auto-encoder"):
        embed_laboratory(replace_first(table), finished)


def test_preset_code_shows_mean_shares_and_the_others_nothing(finished: Path, tmp_path: Path) -> None:
    """P 7: un-zeroed placeholders at extraction. The same weights, the switch alone."""
    config = json.loads(dump_laboratory(SMALL)) | {"mask_missing": False}
    buggy = rewrite(finished, tmp_path, config=config)
    right, wrong = embed_laboratory(TABLE, finished), embed_laboratory(TABLE, buggy)
    whole = TABLE.observed.all(axis=1)
    assert whole.any()
    assert np.array_equal(right[whole], wrong[whole])
    assert (np.abs(right - wrong)[~whole].max(axis=1) > 1e-3).all()
    # Training is untouched by the switch: there missing slots are always zero.
    pretrain_laboratory(replace(SMALL, mask_missing=False), TABLE, tmp_path / "run", progress=False)
    one, other = (load_lab_teacher(run).autoencoder.state_dict() for run in (finished, tmp_path / "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_training_and_embedding_need_no_polars() -> None:
    """They run where only a table in memory and its weights are."""
    program = "import sys, hilum.laboratory.pretraining, hilum.laboratory.embedding; print('polars' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
