"""Which controls stand beside a distilled arm is told by what runs are, and what is missing is said everywhere."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from shown import write_run

from hilum.cache import Cache
from hilum.checksums import hash_file
from hilum.commands.paper import run_evaluate
from hilum.config import AugmentConfig, Config, InitialWeights, TeachersConfig, dump_config, load_config
from hilum.config.teachers import TeacherTable
from hilum.evaluate.paper.entrants import find_entrants
from hilum.evaluate.paper.index import read_suite
from hilum.evaluate.paper.pacx.controls import CONTROLS, list_unequal_controls, match_controls, tell_role
from hilum.evaluate.paper.tables import build_tables
from hilum.recipes import build_recipe
from hilum.report.page import write_report

START = InitialWeights(file="mae/weights.safetensors", sha256="0")


def build_arms() -> dict[str, Config]:
    """The distillation and its four controls, by their roles."""
    pacx = build_recipe("pacx", "hilum", "tiny")
    arms = {
        "distilled": pacx,
        "shuffled": replace(pacx, teachers=replace(pacx.teachers, pairs="shuffled")),
        "continued": build_recipe("mae", "hilum", "tiny"),
        "random": replace(pacx, teachers=replace(pacx.teachers, pairs="random")),
        "images": build_recipe("image_contrast", "hilum", "tiny"),
    }
    return {role: replace(config, initial_weights=START) for role, config in arms.items()}


def test_roles_are_told_by_settings() -> None:
    for role, config in build_arms().items():
        assert tell_role(config) == role
        assert tell_role(replace(config, initial_weights=None)) is None, "what starts from nothing is no distillation"
    for recipe in ("pacx_unfrozen", "pacx_kept"):
        assert tell_role(replace(build_recipe(recipe, "hilum", "tiny"), initial_weights=START)) == "distilled"


@pytest.fixture(scope="module")
def runs(shown_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each role, which all start from `mae`."""
    root = tmp_path_factory.mktemp("controls")
    runs = {"mae": write_run(root / "mae", shown_cache, 1)}
    start = replace(START, sha256=hash_file(runs["mae"] / "weights.safetensors"))
    for seed, (role, config) in enumerate(build_arms().items(), start=2):
        runs[role] = write_run(root / role, shown_cache, seed)
        (runs[role] / "config.json").write_text(dump_config(replace(config, initial_weights=start)))
    return runs


def match(runs: dict[str, Path], names: list[str]) -> dict[str, list[str]]:
    (found,) = match_controls(find_entrants([f"{name}={runs[name]}" for name in names], beside_random=False))
    assert found["method"] == "distilled"
    return found["controls"]


def test_a_control_has_the_same_start_and_the_same_images(
    shown_cache: Cache, runs: dict[str, Path], tmp_path: Path
) -> None:
    assert match(runs, list(runs)) == {role: [role] for role in CONTROLS}
    assert match(runs, ["mae", "distilled", "random"]) == {
        role: [role] if role == "random" else [] for role in CONTROLS
    }
    other = write_run(tmp_path / "other", shown_cache, 9)
    config = json.loads((runs["random"] / "config.json").read_text())
    for path, content, controls in (
        ("config.json", config, ["random"]),
        ("config.json", {**config, "initial_weights": {"file": "else", "sha256": "f" * 64}}, []),
        ("config.json", config, ["random"]),
        ("pretraining.json", {"data_digest": "of another cache", "datasets": ["toy"]}, []),
    ):
        (other / path).write_text(json.dumps(content))
        assert match({**runs, "random": other}, ["mae", "distilled", "random"])["random"] == controls
    assert match_controls(find_entrants([f"mae={runs['mae']}"], beside_random=False)) == []


def test_a_control_differs_in_what_it_is_there_for_and_in_nothing_else(runs: dict[str, Path], tmp_path: Path) -> None:
    ecg, labs = TeacherTable("ecg.parquet", "e", 8), TeacherTable("labs.parquet", "l", 4)
    folders = {role: shutil.copytree(folder, tmp_path / role) for role, folder in runs.items()}

    def change(role: str, **changes: Any) -> None:
        config = replace(load_config(runs[role] / "config.json"), **changes)
        (folders[role] / "config.json").write_text(dump_config(config))

    def teach(role: str, *, scaling: Literal["raw", "whitened"], **tables: TeacherTable) -> TeachersConfig:
        return replace(load_config(runs[role] / "config.json").teachers, scaling=scaling, tables=tables)

    change("distilled", teachers=teach("distilled", scaling="whitened", ecg=ecg, labs=labs))
    for role, scaling in (("shuffled", "whitened"), ("random", "raw")):
        change(role, teachers=teach(role, scaling=scaling, ecg=ecg, labs=labs))
        assert match(folders, list(folders))[role] == [role], "noise has no scale of its own"
    change("shuffled", teachers=teach("shuffled", scaling="raw", ecg=ecg, labs=labs))
    assert match(folders, list(folders))["shuffled"] == []
    for role in ("shuffled", "random"):
        change(role, teachers=teach(role, scaling="whitened", ecg=ecg))
        assert match(folders, list(folders))[role] == [], "one teacher where the arm has two"
        change(role, teachers=teach(role, scaling="whitened", ecg=replace(ecg, sha256="other"), labs=labs))
        assert match(folders, list(folders))[role] == [], "another teacher of the same name"
    terms = load_config(runs["distilled"] / "config.json").terms
    for role in ("shuffled", "random", "images"):
        own = {} if role == "images" else {"teachers": teach(role, scaling="whitened", ecg=ecg, labs=labs)}
        change(role, **own)
        assert match(folders, list(folders))[role] == [role]
        change(role, **own, adapter=None)
        assert match(folders, list(folders))[role] == [], "another share of the encoder is trained"
        if own:
            change(role, **own, terms={"regression": terms["regression"]})
            assert match(folders, list(folders))[role] == [], "one term where the arm has two"
            same = load_config(runs[role] / "config.json")
            change(role, **own, optim=replace(same.optim, lr=same.optim.lr / 10))
            assert match(folders, list(folders))[role] == [], "another learning rate"
            change(role, **own, data=replace(same.data, augment=AugmentConfig(jitter_probability=0.1)))
            assert match(folders, list(folders))[role] == [], "other changes of the images"
            change(role, **own, seed=5, optim=replace(same.optim, steps=7), run=replace(same.run, log_every=3))
            assert match(folders, list(folders))[role] == [role], "lengths are compared as they were"


def test_an_arm_that_was_trained_for_longer_or_shorter_is_no_control(runs: dict[str, Path], tmp_path: Path) -> None:
    copies = {
        role: shutil.copytree(runs[role], tmp_path / role) for role in ("mae", "distilled", "continued", "images")
    }

    def record(role: str, steps: int) -> None:
        lines = ({"step": step, "loss": 1.0} for step in (1, steps))
        (copies[role] / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def find() -> dict[str, Any]:
        names = [f"{name}={folder}" for name, folder in copies.items()]
        return match_controls(find_entrants(names, beside_random=False))[0]

    record("distilled", 100)
    record("continued", 1600)
    record("images", 100)  # of 512 views, each image twice: as many images
    entry = find()
    assert (entry["controls"]["continued"], entry["controls"]["images"]) == ([], ["images"])
    assert list_unequal_controls([entry]) == [
        "continued is no control (continued MAE) of distilled: it took 1,600 steps of 409,600 images in all, distilled "
        "100 steps of 25,600 images in all. Train it as long (--optim.steps)."
    ]
    record("continued", 103)  # epochs that were rounded to steps
    entry = find()
    assert (entry["controls"]["continued"], list_unequal_controls([entry])) == (["continued"], [])
    config = load_config(copies["continued"] / "config.json")
    larger = replace(config, data=replace(config.data, views_per_step=512))
    (copies["continued"] / "config.json").write_text(dump_config(larger))  # as many steps, of twice the images
    assert find()["controls"]["continued"] == []


def test_what_is_missing_is_said_on_the_console_and_in_the_report(
    shown_cache: Cache, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{name}={runs[name]}" for name in ("mae", "distilled", "shuffled")]
    out = tmp_path / "suite"
    run_evaluate(
        shown_cache.path, words, out, suite="pacx", parts=("probe",), fractions=(1.0,), num_seeds=1, min_positives=3,
        num_resamples=20, precision="32-true",
    )  # fmt: skip
    write_report([out], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    said = " ".join(capsys.readouterr().out.split())
    for shown in (said, page, " ".join((out / "tables.md").read_text().split())):
        assert (
            "3 of 4 control arms from the same start on the same images, trained as long, are missing: continued MAE ("
            in shown
        )
        assert "Gain and controls, linear probe" in shown
    suite = read_suite(out)
    (table,) = [one for one in build_tables(suite) if one.title == "Gain and controls, linear probe"]
    (row,) = table.rows
    differences = [
        f"{100 * suite.differences['probe', arm, 'mae'].find('auroc').value:+.1f}" for arm in ("distilled", "shuffled")
    ]
    assert [row[0], row[1].split("\n")[0], row[2].split("\n")[0]] == ["distilled", *differences]
    assert row[3:] == ["missing"] * 3
