"""Runs that learn from teachers: presets, continuing, controls, mixtures with other terms, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from hilum.cache import Cache
from hilum.cli import main
from hilum.config import Config, CropConfig, FeaturePreservation, TeacherRegression, dump_config, load_config
from hilum.errors import UserError
from hilum.evaluate.distilled.teacher_maps import point_at_views, read_pools
from hilum.evaluate.leaks import measure_overlap
from hilum.evaluate.segmentation.squares import read_squares
from hilum.model.encoder import Encoder, Features
from hilum.model.weights import load_encoder
from hilum.objective.objective import build_objective
from hilum.objective.teachers import TeacherRegression as TeacherRegressionTerm
from hilum.recipes import Preset, build_recipe
from hilum.teachers.table import list_people, write_teacher_table
from hilum.training.checkpoint import load_latest_checkpoint
from hilum.training.pretrain import pretrain
from tiny_runs import (
    build_tiny,
    drop_timings,
    hash_weights,
    make_tiny_cache,
    read_metrics,
    write_tiny_teachers,
    write_vectors,
)
from toy_archive import make_cache

PRESETS: tuple[Preset, ...] = ("paper", "code", "hilum")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_tiny_cache(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tables(cache: Cache) -> dict[str, Path]:
    return write_tiny_teachers(cache)


@pytest.fixture(scope="module")
def starts(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A masked autoencoder of each preset, trained for a moment."""
    folder = tmp_path_factory.mktemp("starts")
    return {preset: pretrain(build_tiny("mae", preset, epochs=1.0), cache.path, folder / preset) for preset in PRESETS}


def build(preset: Preset = "hilum", *, epochs: float = 2.0, dropout: bool = True, **run) -> Config:
    config = build_tiny("pacx", preset, epochs=epochs, **run)
    if dropout:
        return config
    assert config.adapter is not None
    terms = {name: replace(term, dropout=0.0) for name, term in config.terms.items()}
    return replace(config, terms=terms, adapter=replace(config.adapter, dropout=0.0))


def take_up(straight: Path, out: Path) -> Path:
    """A copy of a finished run as if it had been stopped at an earlier checkpoint."""
    shutil.copytree(straight, out)
    (out / "weights.safetensors").unlink()
    shutil.rmtree(sorted((out / "checkpoints").iterdir())[-1])
    return out


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_replays_and_continues_to_the_same_bits(
    preset: Preset, cache: Cache, tables: Mapping[str, Path], starts: Mapping[str, Path], tmp_path: Path
) -> None:
    """With dropout in encoder and heads, whose draws no checkpoint holds."""
    config = build(preset, checkpoint_every=2)
    out = pretrain(config, cache.path, tmp_path / "run", init=starts[preset], teachers=tables)
    begun = load_config(out / "config.json")
    assert {name: table.width for name, table in begun.teachers.tables.items()} == {"ecg": 7, "labs": 4}
    again = pretrain(begun, cache.path, tmp_path / "again", init=starts[preset], teachers=tables)
    continued = take_up(out, tmp_path / "continued")
    pretrain(config, cache.path, continued, teachers=tables, resume=True)  # without a word on its start
    for other in (again, continued):
        assert hash_weights(other) == hash_weights(out)
        assert drop_timings(read_metrics(other)) == drop_timings(read_metrics(out))
    before, after = (load_file(run / "weights.safetensors") for run in (starts[preset], out))
    assert before.keys() == after.keys()  # a plain encoder, with nothing of updates or teachers
    moved = {name for name, value in before.items() if not torch.equal(after[name], value)}
    layers = {f"blocks.{block}.{name}.weight" for block in (0, 1) for name in ("attn.qkv", "mlp.fc1", "mlp.fc2")}
    norms = {name for name in before if "norm" in name and (preset != "code" or name.startswith("norm."))}
    assert moved == layers | norms
    encoder, about = load_encoder(out / "weights.safetensors")
    assert encoder.norm.eps == (1e-5 if preset == "code" else 1e-6)
    with safe_open(out / "weights.safetensors", framework="pt") as file:
        assert "ecg" not in json.dumps(about) + " ".join(file.keys())


def test_the_log_says_how_images_and_teachers_find_each_other(
    cache: Cache, tables: Mapping[str, Path], starts: Mapping[str, Path], tmp_path: Path, capfd
) -> None:
    """P 2.7."""
    config = build("hilum", epochs=6.0, dropout=False)
    config = replace(config, optim=replace(config.optim, lr=1e-2))
    out = pretrain(config, cache.path, tmp_path / "run", init=starts["hilum"], teachers=tables)
    last = read_metrics(out)[-1]
    for teacher in ("ecg", "labs"):
        assert {f"contrast/{teacher}", f"regression/{teacher}"} <= set(last)
        assert 1 <= last[f"contrast/{teacher}_scale"] <= 100
        figures = {
            "info_nce", "information", "info_nce_share", "retrieval", "retrieval_top5", "retrieval_chance",
            "positive_cosine", "negative_cosine", "student_std", "teacher_std", "student_norm", "teacher_norm", "scale",
        }  # fmt: skip
        assert {f"val/contrast/{teacher}_{figure}" for figure in figures} <= set(last)
        figures = {"cosine", "centred_cosine", "constant_cosine"}
        assert {f"val/regression/{teacher}_{figure}" for figure in figures} <= set(last)
    assert last["contrast/ecg_scale"] != last["contrast/labs_scale"]
    said = " ".join(capfd.readouterr().err.split())
    assert "ecg (7 numbers) of 12, labs (4 numbers) of 9 of 18 training studies; 6 have all, 3 none" in said


def test_two_processes_are_one(
    cache: Cache, tables: Mapping[str, Path], starts: Mapping[str, Path], tmp_path: Path
) -> None:
    config = build("hilum", epochs=1.0, dropout=False)
    two = replace(config, run=replace(config.run, devices=2))
    one, other = (
        pretrain(each, cache.path, tmp_path / str(each.run.devices), init=starts["hilum"], teachers=tables)
        for each in (config, two)
    )
    weights = load_file(other / "weights.safetensors")
    for name, value in load_file(one / "weights.safetensors").items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=2e-5, msg=name)
    for line, same in zip(read_metrics(one), read_metrics(other), strict=True):
        for name in ("contrast/loss", "regression/loss", "contrast/ecg", "regression/labs", "gradient_norm"):
            assert same[name] == pytest.approx(line[name], rel=1e-4, abs=1e-5), name


def test_reconstruction_alignment_teachers_and_preservation_are_a_list_of_terms(
    cache: Cache, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    """A masked pass for some and a whole one for others, with all of the encoder trained, and continued."""
    taught, base = build("hilum"), build_tiny("mvmae", epochs=2.0, checkpoint_every=2)
    config = replace(base, terms={
        **base.terms,
        "contrast": taught.terms["contrast"],
        "regions": TeacherRegression(teachers=("labs",), feature="patches"),
        "kept": FeaturePreservation(),
    })  # fmt: skip
    start = pretrain(replace(base, optim=replace(base.optim, steps=1)), cache.path, tmp_path / "start")
    out = pretrain(config, cache.path, tmp_path / "run", init=start, teachers=tables)
    last = read_metrics(out)[-1]
    assert {f"{name}/loss" for name in config.terms} <= set(last)
    assert {f"val/{name}" for name in config.terms} <= set(last)
    assert last["kept/loss"] > 0
    assert "regions/labs" in last
    assert "regions/ecg" not in last
    continued = take_up(out, tmp_path / "continued")
    pretrain(config, cache.path, continued, teachers=tables, resume=True)
    assert hash_weights(continued) == hash_weights(out)
    # What a teacher reads of an image is drawn from the run's last checkpoint, though its head is thrown away.
    encoder, rows = load_encoder(out / "weights.safetensors")[0].eval(), np.arange(5)
    shown = {"mean": cache.mean, "std": cache.std, "crop": CropConfig(mode="center")}
    (pointed,) = point_at_views(cache, encoder, read_pools(out), rows, **shown).values()
    objective, last_weights = (
        build_objective(load_config(out / "config.json")),
        load_latest_checkpoint(out / "checkpoints"),
    )
    assert last_weights is not None
    objective.load_state_dict(last_weights.weights)
    pixels = read_squares(cache, rows, size=32, **shown)
    kind = torch.from_numpy(cache.views["view_kind"][rows].astype(np.int64))
    term = objective.eval().terms["regions"]
    assert isinstance(term, TeacherRegressionTerm)
    expected = term.point(objective.encoder.encode(pixels, kind))["labs"].detach().numpy()
    np.testing.assert_allclose(pointed, expected, atol=1e-6)
    assert read_pools(start) == {}
    # Masked views are what they are without teachers: the first step's reconstruction is the same number.
    alone = pretrain(base, cache.path, tmp_path / "alone", init=start)
    first, same = (read_metrics(run)[0] for run in (alone, out))
    assert first["reconstruction/loss"] == same["reconstruction/loss"]


def test_two_looks_without_teachers_train_continue_and_are_one_in_two_processes(
    cache: Cache, starts: Mapping[str, Path], tmp_path: Path
) -> None:
    """Control d of P 7.4, in the same updates as `pacx`."""
    config = build_tiny("image_contrast", epochs=1.0, checkpoint_every=1)
    terms = {"image_contrast": replace(config.terms["image_contrast"], dropout=0.0, width=8)}
    assert config.adapter is not None
    config = replace(config, terms=terms, adapter=replace(config.adapter, dropout=0.0))
    out = pretrain(config, cache.path, tmp_path / "run", init=starts["hilum"])
    continued = take_up(out, tmp_path / "continued")
    pretrain(config, cache.path, continued, resume=True)
    assert hash_weights(continued) == hash_weights(out)
    two = replace(config, run=replace(config.run, devices=2))
    other = pretrain(two, cache.path, tmp_path / "two", init=starts["hilum"])
    for line, same in zip(read_metrics(out), read_metrics(other), strict=True):
        assert line["image_contrast/loss"] > 0
        for name in ("image_contrast/loss", "image_contrast/scale", "gradient_norm"):
            assert same[name] == pytest.approx(line[name], rel=1e-4, abs=1e-5), name


def test_views_reports_and_teachers_are_one_objective(cache: Cache, tables: Mapping[str, Path], tmp_path: Path) -> None:
    """Teachers read the masked pass, or a whole one; what the other terms see is the same."""
    first = {}
    for reads in ("visible", "whole"):
        config = build_tiny("mvmae_v2t_pacx", epochs=0.5)
        terms = {
            name: replace(term, reads=reads) if name in ("contrast", "regression") else term
            for name, term in config.terms.items()
        }
        out = pretrain(replace(config, terms=terms), cache.path, tmp_path / reads, teachers=tables)
        first[reads] = read_metrics(out)[0]
        assert {f"val/{name}" for name in terms} <= set(read_metrics(out)[-1])
    for name in ("reconstruction", "captioning"):
        assert first["visible"][f"{name}/loss"] == first["whole"][f"{name}/loss"]
    for name in ("contrast", "regression"):
        assert first["visible"][f"{name}/loss"] != first["whole"][f"{name}/loss"]


def test_the_whole_encoder_is_trained_where_it_is_not_frozen(
    cache: Cache, tables: Mapping[str, Path], starts: Mapping[str, Path], tmp_path: Path
) -> None:
    before = load_file(starts["hilum"] / "weights.safetensors")
    for recipe in ("pacx_unfrozen", "pacx_kept"):
        config = build_tiny(recipe, epochs=0.5)
        out = pretrain(config, cache.path, tmp_path / recipe, init=starts["hilum"], teachers=tables)
        after = load_file(out / "weights.safetensors")
        still = {name for name, value in before.items() if torch.equal(after[name], value)}
        assert ("blocks.0.attn.proj.weight" in still) == (recipe == "pacx_kept")
        assert ("kept/loss" in read_metrics(out)[-1]) == (recipe == "pacx_kept")


def test_controls_learn_from_others_vectors_and_from_noise(
    cache: Cache, tables: Mapping[str, Path], starts: Mapping[str, Path], tmp_path: Path, capfd
) -> None:
    """Images, crops and first weights are the same in all three; what they are paired with is not."""
    first = {}
    for pairs in ("own", "shuffled", "random"):
        config = build("paper", epochs=0.5)
        config = replace(config, teachers=replace(config.teachers, pairs=pairs))
        out = pretrain(config, cache.path, tmp_path / pairs, init=starts["paper"], teachers=tables)
        first[pairs] = read_metrics(out)[0]
    said = capfd.readouterr().err
    assert "every study has another's" in said
    assert "noise in place of all vectors" in said
    assert len({line["regression/loss"] for line in first.values()}) == 3
    assert len({line["features/std"] for line in first.values()}) == 1


def test_what_a_run_needs_and_is_not_told_is_asked_for(
    cache: Cache, tables: Mapping[str, Path], starts: Mapping[str, Path], tmp_path: Path
) -> None:
    config, start = build("hilum"), starts["hilum"]
    with pytest.raises(UserError, match=r"adapter of recipe pacx need trained weights .*--init"):
        pretrain(config, cache.path, tmp_path / "run", teachers=tables)
    with pytest.raises(
        UserError, match=r"terms\.contrast, terms\.regression learn from teachers.*--teachers NAME=TABLE"
    ):
        pretrain(config, cache.path, tmp_path / "run", init=start)
    named = replace(config.terms["contrast"], teachers=("ekg",))
    with pytest.raises(UserError, match=r"names 'ekg', and --teachers gives ecg, labs\. Did you mean ecg\?"):
        pretrain(
            replace(config, terms={"contrast": named}), cache.path, tmp_path / "run", init=start, teachers=tables
        )  # fmt: skip
    only = replace(config, terms={"contrast": replace(named, teachers=("ecg",))})
    with pytest.raises(UserError, match=r"--teachers labs=\.\.\. has no effect: terms\.contrast name other teachers"):
        pretrain(only, cache.path, tmp_path / "run", init=start, teachers=tables)
    (tmp_path / "other").mkdir()
    other = make_cache(tmp_path / "other", [2] * 8, seed=4, dataset="other", split=["train"] * 8)
    with pytest.raises(UserError, match=r"none of its \d+ studies is in"):
        pretrain(config, other.path, tmp_path / "run", init=start, teachers=tables)
    with pytest.raises(UserError, match=r"channels is 1 there and 3 here"):
        pretrain(build("paper"), cache.path, tmp_path / "wide", init=start, teachers=tables)
    assert not (tmp_path / "run").exists()


def test_another_table_is_another_run(
    cache: Cache, tables: Mapping[str, Path], starts: Mapping[str, Path], tmp_path: Path
) -> None:
    config = build("hilum", epochs=0.5, checkpoint_every=1)
    out = pretrain(config, cache.path, tmp_path / "run", init=starts["hilum"], teachers=tables)
    (out / "weights.safetensors").unlink()
    values = torch.randn(5, 7).numpy()
    changed = write_vectors(cache, tmp_path / "changed.parquet", values, cache.rows("train")[:5])
    with pytest.raises(
        UserError, match=r"other settings: teachers\.tables\.ecg\.file: .*teachers\.tables\.ecg\.sha256"
    ):
        pretrain(config, cache.path, out, teachers={**tables, "ecg": changed}, resume=True)
    with pytest.raises(UserError, match="learn from teachers"):
        pretrain(config, cache.path, out, resume=True)


def test_the_scale_is_within_its_clamp_after_every_step(
    cache: Cache, tables: Mapping[str, Path], starts: Mapping[str, Path], tmp_path: Path
) -> None:
    config = build("paper", epochs=1.0, checkpoint_every=1, keep_checkpoints=100)
    wild = replace(config.optim, lr=30.0, clip_norm=None, warmup=0.0, warmup_start=0.0)
    config = replace(config, optim=wild)
    out = pretrain(config, cache.path, tmp_path / "run", init=starts["paper"], teachers=tables)
    for _ in range(len(list((out / "checkpoints").iterdir()))):
        found = load_latest_checkpoint(out / "checkpoints")
        assert found is not None
        scale = found.weights["terms.contrast.log_scale"].exp().item()
        assert 1 - 1e-6 <= scale <= 100 + 1e-4
        shutil.rmtree(out / "checkpoints" / f"step-{found.step:08d}")


def test_the_command_line_names_tables(
    cache: Cache, tables: Mapping[str, Path], starts: Mapping[str, Path], tmp_path: Path, capsys
) -> None:
    (tmp_path / "config.json").write_text(dump_config(build("hilum", epochs=0.5)))
    words = ["pretrain", str(tmp_path / "config.json"), "--data", str(cache.path), "--out", str(tmp_path / "run")]
    words += ["--init", str(starts["hilum"])]
    named = [f"{name}={path}" for name, path in tables.items()]
    for wrong, message in (
        (["ecg"], "expected NAME=TABLE"),
        (["=x.parquet"], "expected NAME=TABLE"),
        (["ecg=nowhere.parquet"], "there is no such file"),
        ([named[0], named[0]], "names ecg twice"),
    ):
        assert main([*words, "--teachers", *wrong]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*words, "--teachers", *named, "--teachers.pairs", "shuffled"]) == 0
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "report.html")]) == 0
    assert "in patches of 8 px, seen whole." in (tmp_path / "report.html").read_text()
    config = load_config(tmp_path / "run" / "config.json")
    assert (list(config.teachers.tables), config.teachers.pairs) == (["ecg", "labs"], "shuffled")


def test_whom_a_teacher_has_learned_from_its_student_has_seen(
    cache: Cache, starts: Mapping[str, Path], tmp_path: Path
) -> None:
    """Patients of another archive, whom an evaluation there must not test the student on (P 7.4)."""
    (tmp_path / "other").mkdir()
    other = make_cache(
        tmp_path / "other", [1] * 8, seed=4, dataset="other", split=["train"] * 4 + ["val"] * 2 + ["test"] * 2
    )
    taught = other.table().filter(pl.col("split") == "train")
    rows = cache.table().select("dataset", "study", "group", "split")
    vectors = np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32)
    table = tmp_path / "ecg.parquet"
    write_teacher_table(table, rows, vectors, made_by={}, people=list_people(taught, other.path))
    config = build("hilum", epochs=0.5)
    out = pretrain(config, cache.path, tmp_path / "taught", init=starts["hilum"], teachers={"ecg": table})
    assert measure_overlap(other, out, "train").num_patients == taught["group"].n_unique() > 0
    assert measure_overlap(other, out, "test").num_patients == 0
    assert measure_overlap(cache, out, "train").num_patients == cache.table()[cache.rows("train")]["group"].n_unique()
    noise = replace(config, teachers=replace(config.teachers, pairs="random", scaling="raw"))
    out = pretrain(noise, cache.path, tmp_path / "noise", init=starts["hilum"], teachers={"ecg": table})
    assert measure_overlap(other, out, "train").num_patients == 0  # noise tells of nobody


@pytest.mark.parametrize(("preset", "kept"), [("paper", 19), ("code", 49), ("hilum", 49)])
def test_the_mask_ratio_of_the_settings_is_what_the_encoder_sees(
    preset: Preset, kept: int, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P 12-3, of 196 patches in a run: the released code stores the ratio and passes it nowhere (P 7.1-2)."""
    seen: list[int] = []
    encode = Encoder.encode

    def watch(self: Encoder, *inputs, **settings) -> Features:
        features = encode(self, *inputs, **settings)
        seen.append(features.tokens.shape[1] - 1)
        return features

    monkeypatch.setattr(Encoder, "encode", watch)
    config = build_tiny("mae", preset, epochs=0.5)
    config = replace(
        config,
        encoder=replace(config.encoder, image_size=56, patch_size=4),
        mask=build_recipe("mae", preset).mask,
    )
    pretrain(config, cache.path, tmp_path / "run")
    assert set(seen) == {kept, 196}  # and whole in validation, whose features are measured
