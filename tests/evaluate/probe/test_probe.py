"""From a cache of real files to probes: features once, fusion, controls, label counts, folds, and leaks refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from plain_metrics import score_auroc
from shown import TINY

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.controls import embed_pixels, embed_untrained
from hilum.evaluate.embedding_table import write_embeddings
from hilum.evaluate.features import choose_grid, embed_cache
from hilum.evaluate.finetune.classifier import StudyClassifier, score_rows
from hilum.evaluate.fusion import masked_cross_entropy
from hilum.evaluate.heads.linear import fit_probes
from hilum.evaluate.heads.logistic import fit_logistic
from hilum.evaluate.leaks import Overlap, check_pretraining, measure_overlap
from hilum.evaluate.probe.crossval import assign_folds, crossvalidate_probe, score_inner_folds
from hilum.evaluate.probe.efficiency import probe_label_counts
from hilum.evaluate.probe.label_subsets import choose_counts, pick_labelled
from hilum.evaluate.probe.run import probe_encoder
from hilum.evaluate.record import record_probe
from hilum.evaluate.rows import pool_rows, take_rows
from hilum.evaluate.scoring.estimates import score_macro
from hilum.evaluate.subject import build_random
from hilum.evaluate.task import read_findings_task, read_task
from hilum.model.encoder import Encoder
from hilum.model.weights import save_encoder
from hilum.training.run_folder import describe_training_data
from toy_archive import make_cache


@pytest.fixture(scope="session")
def pixels(shown_cache):
    return embed_pixels(shown_cache, side=8, progress=False)


@pytest.fixture(scope="session")
def task(shown_cache):
    return read_findings_task(shown_cache)


@pytest.fixture(scope="session")
def probed(pixels, task):
    return probe_encoder(pixels, task, name="pixels")


def test_targets_follow_the_policies(shown_cache, task):
    table = shown_cache.table()
    edema, pneumonia, cardiomegaly = (task.names.index(name) for name in ("Edema", "Pneumonia", "Cardiomegaly"))
    uncertain = table["Edema"].to_numpy() == -1
    assert uncertain.any()
    assert (task.target[uncertain, edema] == 0).all()
    assert np.isnan(read_findings_task(shown_cache, uncertain="ignore").target[uncertain, edema]).all()
    assert (read_findings_task(shown_cache, uncertain="ones").target[uncertain, edema] == 1).all()
    assert np.nansum(task.target[:, pneumonia]) == 2
    assert np.isnan(task.target[:, cardiomegaly]).all()  # this archive never states it: unknown, not absent


def test_findings_an_archive_cannot_say_have_no_loss(task):
    """M 8-6: unknown is not negative."""
    logit = torch.zeros(len(task.target), 14, requires_grad=True)
    masked_cross_entropy(logit, torch.from_numpy(task.target)).backward()
    said = ~np.isnan(task.target).all(axis=0)
    assert [name for name, known in zip(task.names, said, strict=True) if known] == ["Edema", "Fracture", "Pneumonia"]
    assert (logit.grad[:, ~said] == 0).all()
    assert (logit.grad[:, said] != 0).any(dim=0).all()


def test_column_tasks_of_views_and_studies(shown_cache, pixels):
    position = read_task(shown_cache, "position")
    assert (position.unit, position.names) == ("view", ("position=PA",))
    assert np.isnan(position.target[shown_cache.views["view_kind"] == 1]).all()  # lateral views name none
    kind = probe_encoder(pixels, read_task(shown_cache, "kind"), name="pixels")
    assert len(kind.test.row) == np.isin(shown_cache.views["study"], shown_cache.rows("test")).sum()
    assert read_task(shown_cache, "sex").names == ("sex=M",)
    assert read_task(shown_cache, "Edema").names == ("Edema",)
    with pytest.raises(UserError, match="no task 'agee'"):
        read_task(shown_cache, "agee")
    with pytest.raises(UserError, match="1 different values"):
        read_task(shown_cache, "dataset")


def test_features_are_made_once_and_again_for_other_weights(shown_cache, encoder, monkeypatch):
    first = embed_cache(shown_cache, encoder, precision="32-true", progress=False, batch_views=50)
    assert first.class_token.shape == (len(shown_cache.views), TINY.width)
    assert np.array_equal(first.view_row, np.arange(len(shown_cache.views)))
    assert np.array_equal(first.study, shown_cache.views["study"])
    calls = []
    monkeypatch.setattr(Encoder, "encode", lambda *_, **__: calls.append(1))
    again = embed_cache(shown_cache, encoder, precision="32-true", progress=False, batch_views=7)
    assert np.array_equal(first.mean, again.mean)
    assert not calls
    monkeypatch.undo()
    other = embed_untrained(shown_cache, partial(build_random, TINY), seed=1, precision="32-true", progress=False)
    assert not np.allclose(other.mean, first.mean)
    same = embed_untrained(shown_cache, partial(build_random, TINY), seed=1, precision="32-true", progress=False)
    assert np.array_equal(other.mean, same.mean)
    capped = embed_cache(shown_cache, encoder, max_views=1, precision="32-true", progress=False)
    assert len(capped.study) == len(shown_cache.studies)


def test_pixels_find_what_is_shown_and_shuffled_labels_nothing(pixels, task, probed):
    macro, num = score_macro(probed.test)
    assert num == 2  # Edema and Fracture; Pneumonia is too rare, the other eleven are unknown
    assert macro > 0.8
    assert set(probed.one_class) >= {"Cardiomegaly"}
    shuffled = probe_encoder(pixels, task, name="shuffled", shuffle_labels=True)
    assert np.array_equal(shuffled.test.target, probed.test.target, equal_nan=True)
    assert abs(score_macro(shuffled.test)[0] - 0.5) < 0.2
    assert probed.counts["train_patients"] * 2 == probed.counts["train_studies"]


def test_a_regression_that_stopped_too_early_is_said(pixels, task, probed, monkeypatch):
    said = "The regression stopped before it had converged; its scores may be lower than they could be."
    assert not any("converged" in note for note in probed.notes)
    monkeypatch.setattr("hilum.evaluate.heads.linear.fit_logistic", partial(fit_logistic, max_iterations=1))
    stopped = probe_encoder(pixels, task, name="pixels")
    assert said in stopped.notes
    assert said in record_probe(stopped, num_resamples=20).notes


def test_lateral_views_see_what_frontal_ones_cannot(probed):
    """Fracture shows in lateral views only; the three parts are the same studies."""
    place = probed.task.names.index("Fracture")
    parts = probed.by_kind
    assert list(parts) == ["all", "frontal", "lateral"]
    assert np.array_equal(parts["frontal"].row, parts["lateral"].row)

    def area(kind):
        return score_auroc(parts[kind].target[:, place], parts[kind].logit[0, :, place])

    assert area("lateral") > area("frontal") + 0.2


def test_probe_of_mean_features_is_mean_of_logits(probed, pixels, task):
    """The head is linear: fusing logits is applying it to the study's mean feature."""
    rows = take_rows(pixels, task, task.rows("test"), "mean")
    pooled, _ = pool_rows(rows, "study")
    assert torch.allclose(probed.probe.score_rows(rows), probed.probe.score_views(pooled), atol=1e-9)


def test_probe_on_views_fuses_at_the_end(pixels, task):
    by_view = probe_encoder(pixels, task, name="pixels", train_on="view", fusion="mean_probability")
    by_study = probe_encoder(pixels, task, name="pixels")
    assert not torch.allclose(by_view.probe.weight, by_study.probe.weight)
    assert score_macro(by_view.test)[0] > 0.75


@pytest.mark.parametrize("representation", ["class", "mean", "both", "2x2", "4x4"])
def test_stored_features_equal_the_frozen_encoder_end_to_end(shown_cache, encoder, task, representation):
    """M 8-31, to 1e-6, whatever the batches."""
    features = embed_cache(shown_cache, encoder, precision="32-true", progress=False)
    probed = probe_encoder(features, task, name="tiny", representation=representation, settings=[0.01])
    classifier = StudyClassifier(encoder, len(probed.probe.intercept), representation)
    classifier.head = probed.probe.fold()
    rows = task.rows("test")
    owner = shown_cache.views["study"].astype(np.int64)
    said = score_rows(
        classifier, shown_cache, rows, owner, mean=shown_cache.mean, std=shown_cache.std, views_per_batch=13
    )
    assert np.abs(1 / (1 + np.exp(-said)) - probed.test.probability[0]).max() < 1e-6


def test_the_representation_is_chosen_on_validation_and_not_on_test(shown_cache, encoder, task):
    """Swapping what validation shows swaps the choice, whatever would be best on test."""
    features = embed_cache(shown_cache, encoder, precision="32-true", progress=False)
    assert features.representations == ("class", "mean", "both", "2x2", "4x4")
    rng = np.random.default_rng(0)
    noise = replace(features, **{name: rng.normal(size=getattr(features, name).shape).astype(np.float32) for name in (
        "class_token", "mean", "regions")})  # fmt: skip
    for place, names in (("class_token", ("class", "both")), ("regions", ("2x2", "4x4"))):
        found = probe_encoder(replace(noise, **{place: getattr(features, place)}), task, name="one that sees")
        assert found.representation in names
        best = {reading: max(values.values()) for reading, values in found.tried.items()}
        assert best[found.representation] == max(best.values())
        assert list(best) == ["class", "mean", "both", "2x2", "4x4"]
    # A class token that sees in training and test, and not in validation, beside a mean that sees a little everywhere:
    # test would choose the former.
    in_val = np.isin(noise.study, task.rows("val"))[:, None]
    class_token = np.where(in_val, noise.class_token, features.class_token)
    weak = replace(noise, class_token=class_token, mean=features.mean + 2 * features.mean.std() * noise.mean)
    by_class, by_mean = (probe_encoder(weak, task, name="weak", representation=name) for name in ("class", "mean"))
    assert score_macro(by_class.test)[0] > score_macro(by_mean.test)[0] + 0.02
    assert probe_encoder(weak, task, name="weak", representation=("class", "mean")).representation == "mean"
    asked = probe_encoder(features, task, name="asked", representation="mean")
    assert (asked.representation, list(asked.tried)) == ("mean", ["mean"])


def test_folds_choose_what_they_read_without_the_rows_they_score(shown_cache, encoder, task):
    features = embed_cache(shown_cache, encoder, precision="32-true", progress=False)
    options = {"name": "tiny", "num_folds": 3, "num_repeats": 1, "settings": [1e-2, 1e-1]}
    found = crossvalidate_probe(features, task, **options)
    assert len(found.representations) == len(found.settings) == 3
    # With the targets of one fold turned around, what is chosen and said for that fold stays.
    fold = assign_folds(task.group.gather(task.rows()), 3, "folds/0/0")
    turned = task.target.copy()
    turned[task.rows()[fold == 1]] = 1 - turned[task.rows()[fold == 1]]
    after = crossvalidate_probe(features, replace(task, target=turned), **options)
    assert (found.representations[1], found.settings[1]) == (after.representations[1], after.settings[1])
    assert np.array_equal(found.scores.logit[:, fold == 1], after.scores.logit[:, fold == 1])


def test_regions_that_would_be_too_large_are_left_out(shown_cache, encoder):
    assert [choose_grid(width, 1000) for width in (128, 192, 256, 384, 768, 1024, 1280)] == [4, 4, 4, 2, 2, 2, 0]
    assert [choose_grid(128, num) for num in (32_768, 32_769, 131_072, 131_073)] == [4, 2, 2, 0]
    task = read_findings_task(shown_cache)
    options = {"precision": "32-true", "progress": False}
    four, two, none = (embed_cache(shown_cache, encoder, grid=grid, **options) for grid in (4, 2, 0))
    assert np.allclose(four.read("2x2"), two.read("2x2"), atol=1e-6)
    assert (two.representations[-1], none.representations[-1]) == ("2x2", "both")
    with pytest.raises(UserError, match="without '4x4'; they offer class, mean, both, 2x2"):
        probe_encoder(two, task, name="two", representation="4x4")


def test_label_subsets_are_nested_whole_patients(task):
    counts = choose_counts(len(task.rows("train")))
    assert counts == sorted(counts)
    assert counts[-1] == len(task.rows("train"))
    for seed in (0, 1):
        picked = pick_labelled(task, counts, seed)
        for smaller, larger in pairwise(counts):
            assert set(picked[smaller]) <= set(picked[larger])
            groups = set(task.group.gather(picked[smaller]))
            everyone = {i for i in task.rows("train").tolist() if task.group[i] in groups}
            assert set(picked[smaller].tolist()) == everyone
    assert set(pick_labelled(task, [40], 0)[40]) != set(pick_labelled(task, [40], 1)[40])


def test_label_counts_and_seeds(pixels, task):
    num_train = len(task.rows("train"))
    probes = probe_label_counts(pixels, task, name="pixels", counts=[20, num_train], num_seeds=2)
    assert [len(found) for found in probes.values()] == [2, 1]
    assert probes[num_train][0].num_train == num_train
    assert 20 <= probes[20][0].num_train <= 22


def test_folds_part_no_patient_and_score_everybody(pixels, task):
    folds = assign_folds(task.group, 4, "x")
    by_patient = pl.DataFrame({"group": task.group, "fold": folds}).group_by("group").agg(pl.col("fold").n_unique())
    assert by_patient["fold"].max() == 1
    assert np.bincount(folds).min() >= len(folds) / 4 - 2
    found = crossvalidate_probe(pixels, task, name="pixels", num_folds=4, num_repeats=2, settings=[1e-3, 1e-1])
    assert found.scores.logit.shape == (2, len(task.rows()), 14)
    assert not np.isnan(found.scores.logit).any()
    assert score_macro(found.scores)[0] > 0.8
    nothing = crossvalidate_probe(
        pixels, task, name="shuffled", num_folds=4, num_repeats=2, settings=[1e-3, 1e-1], shuffle_labels=True
    )
    assert abs(score_macro(nothing.scores)[0] - 0.5) < 0.12


def test_inner_scores_see_neither_the_test_fold_nor_their_own(pixels, task):
    rows = take_rows(pixels, task, task.rows(), "mean")
    fold = assign_folds(task.group.gather(rows.row), 3, "x")
    unseen = fold != 2  # scores of fold 1 for test fold 0, and the reverse, are by a probe of fold 2 alone
    turned = replace(rows, target=torch.where(torch.from_numpy(unseen)[:, None], 1 - rows.target, rows.target))
    said, after = (score_inner_folds(part, fold, [1e-2], fit_probes) for part in (rows, turned))
    for test in range(3):
        assert np.isnan(said[test][:, fold == test]).all()
        assert not np.isnan(said[test][:, fold != test]).any()
    assert np.array_equal(said[0][:, fold == 1], after[0][:, fold == 1])
    assert np.array_equal(said[1][:, fold == 0], after[1][:, fold == 0])
    assert not np.array_equal(said[2][:, fold == 0], after[2][:, fold == 0])


def test_an_out_of_fold_score_does_not_see_its_own_label(pixels, task):
    """Turning one patient's labels around changes no score of theirs within the same folds and strength."""
    kwargs = {"name": "pixels", "num_folds": 3, "num_repeats": 1, "settings": [1e-2]}
    before = crossvalidate_probe(pixels, task, **kwargs)
    patient = task.patient[0]
    mine = task.patient == patient
    target = task.target.copy()
    target[mine] = 1 - target[mine]
    after = crossvalidate_probe(pixels, replace(task, target=target), **kwargs)
    assert np.array_equal(before.scores.logit[0, mine], after.scores.logit[0, mine], equal_nan=True)
    assert not np.array_equal(before.scores.logit[0, ~mine], after.scores.logit[0, ~mine])


def test_pretraining_on_test_patients_is_refused(shown_cache: Cache, tmp_path: Path):
    with pytest.raises(UserError, match=r"pretraining\.json is missing"):
        check_pretraining(shown_cache, tmp_path)
    about = describe_training_data(shown_cache)
    (tmp_path / "pretraining.json").write_text(json.dumps(about))
    check_pretraining(shown_cache, tmp_path)
    assert measure_overlap(shown_cache, tmp_path, "train").num_patients == about["num_groups"]
    leaked = bytes(shown_cache.views["content_hash"][shown_cache.views["study"] == shown_cache.rows("test")[0]][0])
    (tmp_path / "pretraining.json").write_text(json.dumps({**about, "images": [*about["images"], leaked.hex()]}))
    study = shown_cache.table()[int(shown_cache.rows("test")[0])]["study"][0]
    leave = rf"0 of .* patients and 1 of .* images of the test split.*--id-space.*leave 1 study \(toy/{study}\) out"
    with pytest.raises(UserError, match=leave):
        check_pretraining(shown_cache, tmp_path)


def test_the_same_patient_in_another_archive_is_found(tmp_path: Path):
    """Other studies and images, another archive's name, and a joined patient whose group has another name there."""
    train, test = (
        make_cache(tmp_path / name, [1, 1, 1], dataset=name, seed=seed, patient=patients, split=[split] * 3)
        for seed, (name, patients, split) in enumerate(
            [("y2020", ["b", "c", "d"], "train"), ("y2021", ["a", "b", "e"], "test")]
        )
    )
    (tmp_path / "pretraining.json").write_text(json.dumps(describe_training_data(train)))
    assert measure_overlap(test, tmp_path) == Overlap(1, 3, 0, 3)
    leak = r"Leak: 1 of 3 patients and 0 of 3 images of the test split.*same --split-rule.*leave 1 study \(y2021/s001\)"
    with pytest.raises(UserError, match=leak):
        check_pretraining(test, tmp_path)
    joined = make_cache(
        tmp_path / "joined", [1, 1, 1], dataset="j", seed=5, patient=["a", "b", "e"], group=["a", "a", "e"],
        split=["test"] * 3,
    )  # fmt: skip
    assert set(joined.table()["group"]) == {"a", "e"}
    assert measure_overlap(joined, tmp_path).num_patients == 1


def test_a_record_holds_no_id_and_no_hash_that_another_record_has(tmp_path: Path):
    one, other = (make_cache(tmp_path / name, [1, 1], dataset="d", seed=seed, split=["train"] * 2)
                  for seed, name in enumerate(("one", "other")))  # fmt: skip
    records = [describe_training_data(cache) for cache in (one, other)]
    hashes = [set(record["people"][cache.digest]) for record, cache in zip(records, (one, other), strict=True)]
    assert len(hashes[0]) == len(hashes[1]) == 1
    assert not hashes[0] & hashes[1]  # of the same patient
    patient = one.table()["patient"][0]
    assert patient not in json.dumps(records[0])
    for plain in (patient, f"d\0{patient}"):
        assert hashlib.sha256(plain.encode()).hexdigest() not in json.dumps(records[0])


def test_a_record_from_before_patient_ids_says_so_and_still_compares_images(shown_cache, tmp_path):
    about = describe_training_data(shown_cache)
    older = {name: value for name, value in about.items() if name not in ("people", "lists_all_people")}
    (tmp_path / "pretraining.json").write_text(json.dumps({**older, "groups": ["0" * 64]}))
    (note,) = check_pretraining(shown_cache, tmp_path)
    assert "was compared by images alone" in note
    overlap = measure_overlap(shown_cache, tmp_path, None)
    assert overlap.num_images == len(about["images"])
    assert "at least 0 of" in str(overlap)
    # What starts from such an encoder cannot know either.
    assert not describe_training_data(shown_cache, tmp_path)["lists_all_people"]
    everything = [bytes(content).hex() for content in shown_cache.views["content_hash"]]
    (tmp_path / "pretraining.json").write_text(json.dumps({**older, "images": everything}))
    with pytest.raises(UserError, match="Leak"):
        check_pretraining(shown_cache, tmp_path)


def test_embeddings_as_a_table(shown_cache, encoder, tmp_path):
    about = {"mean": shown_cache.mean, "std": shown_cache.std, "image_policy": shown_cache.policy}
    save_encoder(encoder, tmp_path / "weights.safetensors", about)
    write_embeddings(tmp_path, shown_cache.path, tmp_path / "x.parquet", precision="32-true")
    frame = pl.read_parquet(tmp_path / "x.parquet")
    assert len(frame) == len(shown_cache.views)
    assert frame["class_token"].to_numpy().shape == (len(frame), TINY.width)
    assert set(frame["split"].unique()) == {"train", "val", "test"}
    save_encoder(encoder, tmp_path / "weights.safetensors", {**about, "image_policy": "minmax-9/short256/uint8"})
    with pytest.raises(UserError, match="policy"):
        write_embeddings(tmp_path, shown_cache.path, tmp_path / "x.parquet")
    with pytest.raises(UserError, match="--representation names nothing to write; choose from class, mean"):
        write_embeddings(tmp_path, shown_cache.path, tmp_path / "x.parquet", representations=())


def test_what_cannot_be_probed_says_why(pixels, task):
    with pytest.raises(UserError, match="no validation study"):
        probe_encoder(pixels, replace(task, split=np.where(task.split == 1, 0, task.split)), name="pixels")
    with pytest.raises(UserError, match="both classes"):
        probe_encoder(pixels, replace(task, target=np.zeros_like(task.target)), name="pixels")
