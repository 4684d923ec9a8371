"""A distillation of the evidence counts as trained by its settings, whatever files its run was given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from evidence import distillation_run
from evidence.distillation_arms import list_arms

from hilum.config import InitialWeights, dump_config
from hilum.config.teachers import TeacherTable


def test_a_finished_run_is_known_by_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation_run, "WORK", tmp_path)
    arms = list_arms()
    arm = arms["pacx"]
    folder = distillation_run.name_run(arm, 1)
    folder.mkdir(parents=True)
    tables = {name: TeacherTable(f"{name}.parquet", name, 4) for name in arm.teachers}
    begun = replace(
        arm.config,
        seed=1,
        initial_weights=InitialWeights("mae-1/weights.safetensors", "0"),
        teachers=replace(arm.config.teachers, tables=tables),
    )
    (folder / "config.json").write_text(dump_config(begun))
    assert not distillation_run.is_trained(arm, 1), "there are no weights yet"
    (folder / "weights.safetensors").touch()
    assert distillation_run.is_trained(arm, 1)
    assert not distillation_run.is_trained(arm, 0)
    for other in ("shuffled pairs", "random teachers", "LoRA", "contrast only"):
        assert not distillation_run.is_trained(replace(arms[other], name=arm.name), 1), other
