"""result.json: whole or not at all, strict, and of one version; suites that go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilum.checksums import hash_parts
from hilum.errors import UserError
from hilum.evaluate.result import (
    FEATURE_CODE,
    Estimate,
    Hashes,
    Result,
    hash_code,
    read_result,
    write_json,
    write_result,
)
from hilum.evaluate.scoring.scores import Scores, read_scores, write_scores
from hilum.evaluate.suite import Cell, run_suite

RESULT = Result(
    encoder="mvmae",
    task="findings",
    protocol={"kind": "linear probe", "strength": 0.1},
    seed=0,
    estimates=[
        Estimate("auroc", "Edema", 0.81, 0.75, 0.86, num=200, positives=40),
        Estimate("auroc", "Fracture", None, num=200, positives=3, reason="3 positives of 200, 10 needed"),
        Estimate("auroc", "macro", 0.81, 0.75, 0.86, num=1),
    ],
    hashes=Hashes(data="a", split="b", weights="c", code="d"),
    counts={"test_patients": 150},
    level=0.95,
    num_resamples=1000,
)


def test_round_trip(tmp_path: Path):
    path = write_result(tmp_path / "cell" / "result.json", RESULT)
    assert read_result(path) == RESULT
    assert read_result(path).find("auroc").value == 0.81
    assert not [file for file in path.parent.iterdir() if file != path]
    content = json.loads(path.read_text())
    assert content["unit"] == "patient"
    assert content["estimates"][1]["value"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(format="hilum-result/0"), "expected 'hilum-result/1'"),
        (lambda content: content.pop("hashes"), "hashes"),
        (lambda content: content.update(auroc=0.9), "auroc"),
        (lambda content: content["estimates"][0].update(value="high"), r"estimates\.0\.value"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change, message):
    path = write_result(tmp_path / "result.json", RESULT)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_result(path)


def test_half_a_file_is_refused(tmp_path: Path):
    path = write_result(tmp_path / "result.json", RESULT)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_result(path)


def test_nan_never_reaches_the_file(tmp_path: Path):
    path = write_result(tmp_path / "result.json", replace(RESULT, protocol={"by_seed": [float("nan")]}))
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["protocol"] == {"by_seed": [None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "summary.json", {"value": float("nan")})
    assert not (tmp_path / "summary.json").exists()


def test_hashes_tell_contents_apart():
    array = np.arange(6, dtype=np.float32)
    parts = [array, array.reshape(2, 3), array.astype(np.float64), "a", {"b": 1}, ["a", "b"], ["ab"]]
    assert len({hash_parts([part]) for part in parts}) == len(parts)
    assert hash_parts(["a", "bc"]) != hash_parts(["ab", "c"])
    assert hash_parts([{"a": 1, "b": 2}]) == hash_parts([{"b": 2, "a": 1}])
    assert len({hash_code(), hash_code(FEATURE_CODE), hash_code(("model/encoder.py",))}) == 3
    assert hash_code(FEATURE_CODE) == hash_code((*FEATURE_CODE, "batch.py"))  # a file counts once


def test_scores_round_trip(tmp_path: Path):
    scores = Scores(
        names=("Edema", "Fracture"),
        target=np.array([[1, np.nan], [0, 1]], dtype=np.float32),
        logit=np.zeros((3, 2, 2)),
        decision=np.ones((3, 2, 2)),
        patient=np.array([4, 5]),
        row=np.array([0, 9]),
    )
    write_scores(tmp_path / "scores.npz", scores)
    again = read_scores(tmp_path / "scores.npz")
    assert again.names == scores.names
    assert again.threshold is None
    assert np.array_equal(again.target, scores.target, equal_nan=True)
    (tmp_path / "scores.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="stored scores"):
        read_scores(tmp_path / "scores.npz")


def test_a_failing_cell_does_not_cost_the_others_and_is_tried_again(tmp_path: Path):
    runs: list[str] = []

    def build(name: str, action) -> Cell:
        def run(folder: Path) -> None:
            runs.append(name)
            action(folder)

        return Cell(name, {"name": name}, run)

    def write(folder: Path) -> None:
        write_result(folder / "result.json", RESULT)

    def refuse(folder: Path) -> None:
        raise UserError("this cannot be")

    def crash(folder: Path) -> None:
        raise ZeroDivisionError("defect")

    cells = [build("good", write), build("refused", refuse), build("broken", crash), build("silent", lambda _: None)]
    outcome = run_suite(cells, tmp_path, progress=False)
    assert set(outcome.done) == {"good"}
    assert outcome.failed["refused"] == "this cannot be"
    assert "ZeroDivisionError: defect" in outcome.failed["broken"]
    assert "result.json" in outcome.failed["silent"]
    assert "Traceback" in (tmp_path / cells[2].folder / "error.txt").read_text()

    mended = [cells[0], build("refused", write), *cells[2:]]
    runs.clear()
    assert set(run_suite(mended, tmp_path, progress=False).done) == {"good", "refused"}
    assert "good" not in runs
    assert not (tmp_path / mended[1].folder / "error.txt").exists()


def test_a_cell_with_other_settings_is_another_cell():
    cells = [Cell("probe", {"strength": value}, lambda _: None) for value in (1, 2)]
    assert cells[0].folder != cells[1].folder
