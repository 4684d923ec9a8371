"""Results never go where a run, a cache or weights lie: a fine-tuning would replace what it starts from."""

from __future__ import annotations

import shutil

import pytest
from shown import write_run

from hilum.errors import UserError
from hilum.evaluate.finetune.report import run_finetune
from hilum.evaluate.paper.mvmae.suite import run_mvmae
from hilum.evaluate.paper.pacx.suite import run_pacx
from hilum.evaluate.probe.report import run_probe_report
from hilum.outputs import check_result_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, shown_cache):
    return write_run(tmp_path_factory.mktemp("runs") / "mvmae", shown_cache, 1)


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda data, run, out: run_finetune(data, run, out, epochs=1, progress=False),
        lambda data, run, out: run_probe_report(data, [run], out, progress=False),
        lambda data, run, out: run_mvmae(data, [str(run)], out, progress=False),
        lambda data, run, out: run_pacx(data, [str(run)], out, progress=False),
    ],
    ids=["finetune", "probe", "mvmae", "pacx"],
)
def test_a_run_keeps_its_files(shown_cache, run, tmp_path, evaluate):
    out = shutil.copytree(run, tmp_path / "run")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"holds .*: results need a folder of their own"):
        evaluate(shown_cache.path, run, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_run_that_has_no_weights_yet_and_a_cache_are_no_places_for_results(shown_cache, tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="holds a run"):
        check_result_folder(tmp_path)
    with pytest.raises(UserError, match="holds a cache"):
        check_result_folder(shown_cache.path)


def test_an_earlier_fine_tuning_and_an_empty_folder_are(tmp_path):
    check_result_folder(tmp_path / "new")
    for name in ("settings.json", "weights.safetensors", "result.json"):
        (tmp_path / name).touch()
    check_result_folder(tmp_path)
