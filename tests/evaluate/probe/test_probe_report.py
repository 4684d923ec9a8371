"""The probe report: every arm, difference and label count leaves its result, and a second call makes none again."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from shown import write_run

from hilum.errors import UserError
from hilum.evaluate.console import describe_read, print_probe
from hilum.evaluate.controls import embed_pixels
from hilum.evaluate.features import embed_cache
from hilum.evaluate.probe.protocol import Arm, ProbeProtocol
from hilum.evaluate.probe.report import name_subjects, report_probes, run_probe_report
from hilum.evaluate.result import read_result
from hilum.evaluate.subject import find_subject
from hilum.evaluate.suite import run_suite
from hilum.evaluate.task import read_task
from hilum.folder_lock import lock_folder
from hilum.report.probe_section import build_probe_section


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shown_cache):
    root = tmp_path_factory.mktemp("runs")
    return [write_run(root / name, shown_cache, seed) for seed, name in ((1, "mvmae"), (2, "independent"))]


KWARGS = {"num_seeds": 2, "min_positives": 5, "precision": "32-true", "progress": False}


@pytest.fixture(scope="module")
def report(tmp_path_factory, shown_cache, runs):
    return run_probe_report(shown_cache.path, runs, tmp_path_factory.mktemp("probe"), counts=[20, 60], **KWARGS)


def test_everything_stands_beside_everything(report):
    summary = json.loads(report.read_text())
    assert [(arm["name"], arm["role"]) for arm in summary["arms"]] == [
        ("mvmae", "encoder"),
        ("independent", "encoder"),
        ("untrained", "untrained"),
        ("pixels 32x32", "pixels"),
        ("shuffled labels", "shuffled"),
    ]
    assert [entry["result"]["encoder"] for entry in summary["differences"]] == [
        "mvmae - independent",
        "mvmae - untrained",
        "mvmae - pixels 32x32",
        "independent - untrained",
        "independent - pixels 32x32",
    ]
    assert len(summary["label_efficiency"]) == 4 * 2
    assert summary["failed"] == {}
    for entry in [*summary["arms"], *summary["differences"], *summary["label_efficiency"]]:
        result = read_result(report.parent / entry["path"])
        assert result.hashes.data == summary["arms"][0]["result"]["hashes"]["data"]
        assert result.find("auroc").value is not None


def test_numbers_agree_with_each_other(report):
    summary = json.loads(report.read_text())
    arms = {arm["name"]: read_result(report.parent / arm["path"]) for arm in summary["arms"]}
    for entry in summary["differences"]:
        result = read_result(report.parent / entry["path"])
        first, second = (arms[result.protocol[side]].find("auroc").value for side in ("first", "second"))
        assert result.find("auroc").value == pytest.approx(first - second)
        assert result.find("auroc").low <= result.find("auroc").value <= result.find("auroc").high
    assert arms["pixels 32x32"].find("auroc").value > arms["shuffled labels"].find("auroc").value
    slices = {estimate.slice for estimate in arms["mvmae"].estimates}
    assert {"sex=F", "sex=M", "two kinds of view, seen: frontal"} <= slices
    points = summary["arms"][0]["reliability"]["all"]
    whole = [e for e in arms["mvmae"].estimates if (e.metric, e.slice) == ("auroc", "all") and e.of != "macro"]
    assert sum(points["num"]) == sum(estimate.num for estimate in whole)
    curve = [entry["result"] for entry in summary["label_efficiency"] if entry["result"]["encoder"] == "mvmae"]
    assert [point["protocol"]["label_count"] for point in curve] == [20, 60]
    assert [len(point["protocol"]["by_seed"]) for point in curve] == [2, 2]


def test_few_labels_stand_in_the_console(report):
    with redirect_stdout(io.StringIO()) as printed:
        print_probe(report, report, report)
    lines = [line.split("│") for line in printed.getvalue().splitlines()]
    (head,) = (line for line in printed.getvalue().splitlines() if "labelled training studies" in line)
    assert re.findall(r"\d+", head) == ["20", "60"]
    for entry in json.loads(report.read_text())["label_efficiency"]:
        result = read_result(report.parent / entry["path"])
        place = 2 + [20, 60].index(result.protocol["label_count"])
        (row,) = (line for line in lines if len(line) == 5 and line[1].strip() == result.encoder)
        assert row[place].strip() == f"{result.find('auroc').value:.3f}"


def test_a_second_call_keeps_what_is_there(report, shown_cache, runs):
    before = {path: path.stat().st_mtime_ns for path in report.parent.rglob("result.json")}
    run_probe_report(shown_cache.path, runs, report.parent, counts=[20, 60], **KWARGS)
    assert {path: path.stat().st_mtime_ns for path in report.parent.rglob("result.json")} == before


@pytest.fixture(scope="module")
def in_own_folders(shown_cache, runs) -> dict[Path, str]:
    """Reports of one run for two tasks and protocols, the second cross-validated, and what was printed of each."""
    said = {}
    for task, representation, crossval in (("sex", "mean", False), ("Edema", "class", True)):
        protocol = {"representation": representation, "crossval": crossval, "num_repeats": 1, "counts": [60]}
        settings = {**KWARGS, "task": task, **protocol, "progress": True, "blank": "ignore"}
        with redirect_stdout(io.StringIO()) as printed:
            path = run_probe_report(shown_cache.path, runs[:1], **settings)
        said[path] = printed.getvalue()
    return said


def test_crossvalidation_notes_what_pretraining_saw(in_own_folders):
    summary = json.loads(list(in_own_folders)[1].read_text())
    assert summary["protocol"] == "crossval"
    assert summary["label_efficiency"] == []
    notes = summary["arms"][0]["result"]["notes"]
    assert "without their labels" in notes[0]


def test_a_method_is_the_mean_of_its_seeds(shown_cache, runs, tmp_path):
    task = read_task(shown_cache, "findings")
    seeds = [Arm(run.name, "encoder", embed_cache(shown_cache, run, progress=False), "ours") for run in runs]
    pixels = Arm("pixels 32x32", "pixels", embed_pixels(shown_cache, progress=False))
    protocol = ProbeProtocol(crossval=True, num_repeats=1, representation="mean", min_positives=5)
    path = report_probes(shown_cache, [*seeds, pixels], task, tmp_path, protocol, progress=False)
    summary = json.loads(path.read_text())
    of_seeds = [read_result(path.parent / arm["path"]).find("auroc").value for arm in summary["arms"][:2]]
    (method,) = (read_result(path.parent / entry["path"]) for entry in summary["methods"])
    assert method.protocol["values_of_runs"]["auroc | macro | all"] == of_seeds
    assert method.find("auroc").value == pytest.approx(sum(of_seeds) / 2)
    (difference,) = (read_result(path.parent / entry["path"]) for entry in summary["differences"])
    assert difference.encoder == "ours - pixels 32x32"
    control = read_result(path.parent / summary["arms"][2]["path"]).find("auroc").value
    assert difference.find("auroc").value == pytest.approx(sum(of_seeds) / 2 - control)
    section, _ = build_probe_section(path.parent)
    assert {"Methods", "By part"} <= {block.heading for block in section.blocks}


def test_a_folder_of_cells_has_one_writer(tmp_path):
    with lock_folder(tmp_path, "taken", patience=0.0), pytest.raises(UserError, match="another command is evaluating"):
        run_suite([], tmp_path, progress=False)
    assert run_suite([], tmp_path, progress=False).done == {}


def test_a_difference_has_the_notes_of_both_sides(report):
    summary = json.loads(report.read_text())
    notes = {arm["name"]: set(arm["result"]["notes"]) for arm in summary["arms"]}
    for entry in summary["differences"]:
        said = entry["result"]
        assert set(said["notes"]) == notes[said["protocol"]["first"]] | notes[said["protocol"]["second"]]
    assert any(entry["result"]["notes"] for entry in summary["differences"])


def test_leaks_are_refused_before_anything_is_computed(shown_cache, tmp_path):
    run = write_run(tmp_path / "leaky", shown_cache, 0)
    about = json.loads((run / "pretraining.json").read_text())
    everything = [bytes(content).hex() for content in shown_cache.views["content_hash"]]
    (run / "pretraining.json").write_text(json.dumps({**about, "images": everything}))
    with pytest.raises(UserError, match="Leak"):
        run_probe_report(shown_cache.path, [run], tmp_path / "out", **KWARGS)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_meant_is_said_before_anything_is_computed(shown_cache, runs, tmp_path):
    for settings, message in (
        ({"num_seeds": 0}, "num_seeds is 0"),
        ({"crossval": True, "num_repeats": 0}, "num_repeats is 0"),
        ({"task": "Lung Lesion"}, "no study that states Lung Lesion"),
        ({"counts": [20, 10**6]}, "1,000,000 labelled studies were asked for; training has"),
    ):
        with pytest.raises(UserError, match=message):
            run_probe_report(shown_cache.path, runs, tmp_path, **{**KWARGS, **settings})
    with pytest.raises(UserError, match="nowhere: there is no such"):
        run_probe_report(shown_cache.path, [runs[0], tmp_path / "nowhere"], tmp_path, **KWARGS)
    with pytest.raises(UserError, match=r"^supervised nano: .*images of 224 px wanted"):
        run_probe_report(shown_cache.path, [runs[0], "supervised:nano"], tmp_path, **KWARGS)
    assert not list(tmp_path.iterdir())


def test_tasks_and_protocols_have_folders_of_their_own_and_say_which(shown_cache, in_own_folders):
    assert [path.parent.name for path in in_own_folders] == [
        "probe-sex-representation-mean",
        "probe-crossval-Edema-blank-ignore-representation-class",
    ]
    for path, text in in_own_folders.items():
        macro = read_result(path.parent / json.loads(path.read_text())["arms"][0]["path"]).find("auroc")
        assert f"{macro.value:.3f}" in text
        assert f"{macro.low:.3f} to {macro.high:.3f}" in text
        assert f"written: {path}" in text
        assert f"Next: hilum report {shown_cache.path} {path.parent}" in text
    assert "without their labels" in text
    assert json.loads(path.read_text())["labels"]["blank"] == "ignore"


def test_a_record_that_names_no_patients_is_noted_in_the_result(shown_cache, tmp_path):
    run = write_run(tmp_path / "older", shown_cache, 0)
    about = json.loads((run / "pretraining.json").read_text())
    older = {name: value for name, value in about.items() if name not in ("people", "lists_all_people")}
    (run / "pretraining.json").write_text(json.dumps(older))
    path = run_probe_report(shown_cache.path, [run], task="Edema", representation="class", counts=[60], **KWARGS)
    summary = json.loads(path.read_text())
    assert any("compared by images alone" in note for note in summary["arms"][0]["result"]["notes"])
    assert not any("compared by images alone" in note for note in summary["arms"][1]["result"]["notes"])


def test_all_encoders_are_read_in_the_ways_that_all_of_them_offer(shown_cache, runs, tmp_path):
    task = read_task(shown_cache, "sex")
    arms = [
        Arm(run.name, "encoder", embed_cache(shown_cache, run, grid=grid, progress=False))
        for run, grid in zip(runs, (4, 2), strict=True)
    ]
    protocol = ProbeProtocol(counts=[20], num_seeds=1, min_positives=5)
    path = report_probes(shown_cache, arms, task, tmp_path, protocol, progress=False)
    summary = json.loads(path.read_text())
    for arm in summary["arms"]:
        assert list(arm["result"]["protocol"]["validation_macro_auroc_tried"]) == ["class", "mean", "both", "2x2"]
        assert any("Too large" in note and "4x4" in note for note in arm["result"]["notes"])
    read = {arm["name"]: arm["result"]["protocol"]["representation"] for arm in summary["arms"]}
    for entry in summary["label_efficiency"]:  # few labels choose nothing
        assert entry["result"]["protocol"]["representation"] == read[entry["result"]["encoder"]]


def test_what_was_read_is_named_and_counted():
    assert describe_read({"representation": "4x4"}) == "4 x 4"
    assert describe_read({"representation": "mean", "features": {"weights": "pixels"}}) == ""
    folds = {"representation": "auto", "representations": ["mean", "4x4", "mean"]}
    assert describe_read(folds) == "mean (2 of 3), 4 x 4 (1 of 3)"


def test_an_encoder_is_not_compared_with_itself(shown_cache, runs, tmp_path):
    again = [runs[0], runs[1], runs[0] / "weights.safetensors"]
    with pytest.raises(UserError, match=r"weights\.safetensors is the same encoder as"):
        run_probe_report(shown_cache.path, again, tmp_path, counts=[20], **KWARGS)
    towers = ["timm:resnet18=random", "timm:resnet18=random"]
    with pytest.raises(UserError, match="timm:resnet18=random is named twice"):
        run_probe_report(shown_cache.path, [runs[0], *towers], tmp_path, counts=[20], **KWARGS)


def test_public_weights_of_one_file_name_in_two_folders_have_names_of_their_own(tmp_path):
    words = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").touch()
        words.append(f"timm:resnet18={tmp_path / folder / 'model.safetensors'}")
    names = name_subjects([find_subject(word) for word in words], words)
    assert len(set(names)) == 2
    assert not any(str(tmp_path) in name for name in names)
