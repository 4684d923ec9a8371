"""What a run folder records, who may write it, and metrics cut back to a checkpoint."""

from __future__ import annotations

import fcntl
import json
from dataclasses import replace
from pathlib import Path

import pytest

from hilum.config import Config, VarianceCovariance
from hilum.errors import UserError
from hilum.recipes import build_recipe
from hilum.training.run_folder import (
    MetricsFile,
    check_unused,
    describe_environment,
    list_differences,
    lock_run,
    record_session,
)


def test_a_second_writer_is_refused_and_the_next_may_follow(tmp_path: Path):
    with (
        lock_run(tmp_path / "run"),
        pytest.raises(UserError, match="another process is writing"),
        lock_run(tmp_path / "run", patience=0.05),
    ):
        pass
    with lock_run(tmp_path / "run", patience=0.0):
        other = (tmp_path / "run" / ".lock").open()
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.close()


def test_a_folder_with_a_run_is_refused_unless_it_is_to_be_continued(tmp_path: Path):
    out = tmp_path / "run"
    check_unused(out, resume=False)
    out.mkdir()
    (out / "config.json").write_text("{}")
    check_unused(out, resume=False)  # no step was taken
    (out / "environment.json").write_text("{}")
    check_unused(out, resume=True)
    with pytest.raises(UserError, match=r"run: holds a run already\. Add --resume"):
        check_unused(out, resume=False)
    with pytest.raises(UserError, match=r"config\.json is a file; expected a new folder"):
        check_unused(out / "config.json", resume=True)


def test_metrics_are_cut_back_to_the_checkpoint_and_half_lines_dropped(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 4}\n{"step": 6}\n{"step": 8, "lo')
    metrics = MetricsFile(path, last_step=4)
    metrics.append({"step": 6, "loss": 0.5, "features/std": float("nan")})
    metrics.flush_to_disk()
    metrics.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"step": 1}, {"step": 4}, {"step": 6, "loss": 0.5, "features/std": None}]


def test_differences_name_settings_and_leave_out_how_the_run_is_carried_out():
    config = build_recipe("mvmae", "hilum", "tiny")
    assert list_differences(config, replace(config, run=replace(config.run, devices=4, precision="32-true"))) == []
    other = build_recipe("independent", "hilum", "tiny")
    found = list_differences(config, other)
    assert "recipe: was mvmae, now independent" in found
    assert "terms.alignment.kind: was contrast_alignment, now unset" in found


def test_parts_of_a_step_may_change_unless_a_term_compares_the_views_of_one():
    config = build_recipe("mvmae", "hilum", "tiny")
    without = build_recipe("mvmae", "paper", "tiny")

    def change(one: Config, **parts: int) -> list[str]:
        accumulate = parts.pop("accumulate", one.optim.accumulate)
        now = replace(one, optim=replace(one.optim, accumulate=accumulate), run=replace(one.run, **parts))
        return list_differences(one, now)

    why = "(decides which views terms.alignment compare)"
    assert change(without, accumulate=2, devices=2) == []
    assert change(config, accumulate=2) == [f"optim.accumulate: was 1, now 2 {why}"]
    assert change(config, devices=2, num_nodes=2) == []
    in_parts = replace(config, optim=replace(config.optim, accumulate=3))
    assert change(in_parts, devices=2) == [f"run.devices: was 1, now 2 {why}"]
    assert change(in_parts, precision="32-true") == []
    guarded = replace(without, terms={**without.terms, "spread": VarianceCovariance()})
    assert "terms.spread" in change(guarded, accumulate=2)[0]


def test_the_environment_names_no_person_and_no_place():
    about = describe_environment()
    assert not set(about) & {"host", "hostname", "user", "cwd", "path"}
    text = json.dumps(about)
    for private in (str(Path.home()), str(Path.cwd())):
        assert private not in text
    assert about["torch"]
    assert about["threads"] >= 1


def test_sessions_are_added_where_something_changed(tmp_path: Path):
    record_session(tmp_path, 0, precision="32-true", num_processes=1)
    record_session(tmp_path, 8, precision="32-true", num_processes=1)
    record_session(tmp_path, 12, precision="bf16-mixed", num_processes=2)
    sessions = json.loads((tmp_path / "environment.json").read_text())["sessions"]
    assert [(one["from_step"], one["precision"], one["processes"]) for one in sessions] == [
        (0, "32-true", 1), (12, "bf16-mixed", 2),
    ]  # fmt: skip
