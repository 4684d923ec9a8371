"""Fine-tuning learns what is shown, keeps its best epoch, and treats layers as it says."""

from __future__ import annotations

import copy
import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_metrics import score_auroc

from hilum.config import AugmentConfig, CropConfig, DataConfig
from hilum.errors import UserError
from hilum.evaluate.features import embed_cache
from hilum.evaluate.finetune.classifier import StudyClassifier, add_drop_path, group_by_layer, score_rows
from hilum.evaluate.finetune.report import run_finetune
from hilum.evaluate.finetune.run import finetune_encoder
from hilum.evaluate.finetune.selection import Selection
from hilum.evaluate.finetune.settings import FinetuneSettings, choose_settings
from hilum.evaluate.finetune.state import choose_rhythm
from hilum.evaluate.leaks import check_pretraining, measure_overlap
from hilum.evaluate.probe.label_subsets import pick_labelled
from hilum.evaluate.record import record_finetuned
from hilum.evaluate.result import read_result
from hilum.evaluate.scoring.scores import read_scores
from hilum.evaluate.task import read_findings_task
from hilum.model.weights import describe_weights, save_encoder
from hilum.progress import RunProgress


@pytest.fixture(scope="module")
def finetuned(shown_cache, encoder):
    return finetune_encoder(
        shown_cache,
        encoder,
        read_findings_task(shown_cache),
        FinetuneSettings(
            epochs=5, views_per_step=16, lr=1e-2, augment=AugmentConfig(jitter_probability=0.5), precision="32-true"
        ),
        name="tiny",
        mean=shown_cache.mean,
        std=shown_cache.std,
        progress=False,
    )


def test_it_learns_and_keeps_the_best_epoch(finetuned, shown_cache):
    history = [epoch["val_macro_auroc"] for epoch in finetuned.history]
    assert finetuned.best_epoch == int(np.argmax(history))
    edema = finetuned.task.names.index("Edema")
    assert score_auroc(finetuned.test.target[:, edema], finetuned.test.logit[0, :, edema]) > 0.8
    owner = shown_cache.views["study"].astype(np.int64)
    again = score_rows(
        finetuned.classifier, shown_cache, finetuned.test.row, owner, mean=shown_cache.mean, std=shown_cache.std
    )
    np.testing.assert_allclose(again, finetuned.test.logit[0], atol=1e-5, rtol=0)


def test_the_encoder_given_is_not_changed(finetuned, encoder):
    tuned = finetuned.classifier.encoder.state_dict()
    assert any(not torch.equal(value, tuned[name]) for name, value in encoder.state_dict().items())
    assert not encoder.blocks[0].attn._forward_hooks


def test_its_record_is_a_result(finetuned):
    result = record_finetuned(finetuned, num_resamples=50)
    assert result.protocol["kind"] == "fine-tuning"
    assert result.find("auroc").num == 2
    assert result.counts["train_patients"] > 0


def test_rates_fall_with_depth(encoder):
    classifier = StudyClassifier(encoder, 3)
    groups = group_by_layer(classifier, 0.05, 0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(classifier.parameters()))
    scale = {id(parameter): group["scale"] for group in groups for parameter in group["params"]}
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert scale[id(classifier.head.weight)] == scale[id(encoder.norm.weight)] == 1
    assert scale[id(encoder.blocks[1].mlp.fc1.weight)] == 0.5
    assert scale[id(encoder.blocks[0].mlp.fc1.weight)] == 0.25
    assert scale[id(encoder.pos_embed)] == scale[id(encoder.patch_embed.proj.weight)] == 0.125
    assert decay[id(encoder.blocks[0].mlp.fc1.weight)] == 0.05
    assert decay[id(encoder.pos_embed)] == decay[id(encoder.norm.weight)] == decay[id(classifier.head.bias)] == 0


def test_drop_path_acts_in_training_only_and_keeps_the_mean(encoder):
    pixels, kind = torch.randn(400, 1, 32, 32), torch.zeros(400, dtype=torch.long)
    plain = encoder.encode(pixels[:1], kind[:1]).tokens
    hooks = add_drop_path(encoder, 0.5)
    assert torch.equal(encoder.encode(pixels[:1], kind[:1]).tokens, plain)
    encoder.train()
    one = pixels[:1].expand(400, -1, -1, -1)
    branch = encoder.blocks[1].mlp
    tokens = torch.randn(1, 5, 32).expand(400, -1, -1)
    said = branch(tokens)
    dropped = (said == 0).flatten(1).all(dim=1)
    assert 0.4 < dropped.float().mean() < 0.6
    assert torch.allclose(said[~dropped][0], 2 * branch.eval()(tokens[:1])[0], atol=1e-5)
    assert encoder.encode(one, kind).tokens.std(dim=0).max() > 0
    for hook in hooks:
        hook.remove()
    encoder.eval()
    assert torch.equal(encoder.encode(pixels[:1], kind[:1]).tokens, plain)


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"lr": -1.0}, {"views_per_step": 0}])
def test_settings_that_train_nothing_are_refused(setting):
    with pytest.raises(UserError, match=f"{next(iter(setting))} is .*more than 0"):
        FinetuneSettings(**setting)
    with pytest.raises(UserError, match=r"min_lr is 0\.1, above lr, 0\.001"):
        FinetuneSettings(min_lr=0.1)


def test_random_weights_train_longer_and_choices_come_before_both():
    pretrained, scratch = (choose_settings(from_scratch=which) for which in (False, True))
    assert (pretrained.epochs, pretrained.lr, pretrained.layer_decay) == (30, 1e-3, 0.65)
    assert (scratch.epochs, scratch.lr, scratch.layer_decay) == (100, 3e-4, 1.0)
    chosen = choose_settings(from_scratch=True, epochs=5, lr=None, seed=0)
    assert chosen == replace(scratch, epochs=5)


def test_images_are_shown_as_in_pretraining():
    squashed = FinetuneSettings().show_as(DataConfig(crop=CropConfig(mode="squash"), max_views=2))
    assert (squashed.crop.mode, squashed.evaluation_crop.mode, squashed.max_views) == ("squash", "squash", 2)
    cropped = FinetuneSettings().show_as(DataConfig(crop=CropConfig(min_scale=0.2)))
    assert (cropped.crop, cropped.evaluation_crop.mode) == (CropConfig(mode="random"), "center")


def test_the_command_leaves_an_encoder_that_knows_what_it_saw(shown_cache, encoder, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    about = {"mean": shown_cache.mean, "std": shown_cache.std, "image_policy": shown_cache.policy}
    learned = {"num_views": 9, "num_studies": 8, "num_groups": 7, "datasets": ["elsewhere"], "groups_digest": "0" * 64}
    save_encoder(encoder, run / "weights.safetensors", {**about, "pretraining": learned})
    (run / "pretraining.json").write_text(
        json.dumps({"people": {"salt": ["elsewhere"]}, "lists_all_people": True, "images": []})
    )
    path = run_finetune(shown_cache.path, run, task="Edema", epochs=1, min_positives=5)
    assert path == run / "finetune-Edema" / "result.json"
    said, result = capsys.readouterr().out, read_result(path)
    assert f"{result.find('auroc').value:.3f}" in said
    assert f"written: {path}" in said
    assert f"Next: hilum report {path.parent}" in said
    described = describe_weights(path.parent)
    assert "pretrained on 9 images of 8 studies of 7 patients (elsewhere)" in described
    assert "fine-tuned on task Edema" in described
    assert result.task == "Edema"
    assert result.find("auroc").value is not None
    assert result.protocol["representation"] == "mean", "no term of `hilum` trains the class token"
    seen = json.loads((path.parent / "pretraining.json").read_text())
    assert seen["people"]["salt"] == ["elsewhere"]
    assert measure_overlap(shown_cache, path.parent, "train").num_patients == seen["num_groups"]
    check_pretraining(shown_cache, path.parent)
    assert len(read_scores(path.parent / "scores.npz").row) == len(shown_cache.rows("test"))
    assert not (path.parent / "checkpoints").exists()
    written = path.stat().st_mtime_ns
    assert run_finetune(shown_cache.path, run, task="Edema", epochs=1, min_positives=5, progress=False) == path
    assert path.stat().st_mtime_ns == written, "typed again, what is finished is kept"
    with pytest.raises(UserError, match=r"was started with other settings: epochs: was 1, now 2\. Repeat"):
        run_finetune(shown_cache.path, run, task="Edema", epochs=2, progress=False)
    others = {"label_count": 20, "seed": 3, "representation": "attentive"}
    few = run_finetune(shown_cache.path, run, task="Edema", epochs=1, progress=False, **others)
    assert few.parent.name == "finetune-Edema-labels-20-seed-3-representation-attentive"
    assert read_result(few).protocol["label_count"] == 20
    features = embed_cache(shown_cache, path.parent, progress=False)
    assert len(features.mean) == len(shown_cache.views)


def test_what_was_refused_can_be_typed_again_otherwise(shown_cache, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="fine-tuning needs more than 0"):
        run_finetune(shown_cache.path, "supervised:nano", out, task="Edema", epochs=-1, progress=False)
    with pytest.raises(UserError, match="images of 224 px wanted"):
        run_finetune(shown_cache.path, "supervised:nano", out, task="Edema", epochs=1, progress=False)
    (out / "checkpoints").mkdir()
    (out / "checkpoints" / "step-00000001.pt").touch()
    with pytest.raises(UserError, match="weights: was of another encoder; epochs: was 1, now 2"):
        run_finetune(shown_cache.path, "supervised:tiny", out, task="Edema", epochs=2, progress=False)


OPTIONS = {"views_per_step": 16, "lr": 1e-2, "precision": "32-true"}


def tune(cache, encoder, *, checkpoints=None, **choices):
    task, settings = read_findings_task(cache, ("Edema", "Fracture")), FinetuneSettings(**{**OPTIONS, **choices})
    about = {"name": "tiny", "mean": cache.mean, "std": cache.std, "checkpoints": checkpoints, "progress": False}
    return finetune_encoder(cache, encoder, task, settings, **about)


def test_one_that_was_killed_ends_with_the_same_bits(shown_cache, encoder, tmp_path, monkeypatch):
    """M 8-33, for fine-tuning: stopped in the middle of an epoch, with drop path, selection and an average."""
    settings = {"epochs": 2, "ema": 0.9, "select": "per-finding", "representation": "attentive"}
    whole = tune(shown_cache, encoder, **settings)
    advance, steps = RunProgress.advance, []

    def count(self, **said):
        advance(self, **said)
        steps.append(1)
        if len(steps) == 16:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(RunProgress, "advance", count)
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
        tune(shown_cache, encoder, **settings, checkpoints=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000016"]
    rest = tune(shown_cache, encoder, **settings, checkpoints=tmp_path)
    per_epoch = len(steps) // 2
    assert len(steps) == 2 * per_epoch
    assert 16 % per_epoch, "stopped within an epoch"
    for one, other in zip(whole.history, rest.history, strict=True):
        assert (one["loss"], one["val_macro_auroc"]) == (other["loss"], other["val_macro_auroc"])
    assert (whole.best_epoch, whole.best_epoch_of) == (rest.best_epoch, rest.best_epoch_of)
    assert np.array_equal(whole.test.logit, rest.test.logit)
    assert np.array_equal(whole.test_per_finding.logit, rest.test_per_finding.logit)
    tuned = rest.classifier.state_dict()
    assert all(torch.equal(value, tuned[name]) for name, value in whole.classifier.state_dict().items())


def test_the_average_of_the_weights_is_what_is_kept(shown_cache, encoder):
    settings = {"epochs": 1, "drop_path": 0.0}
    last, average = (tune(shown_cache, encoder, **settings, ema=ema) for ema in (0.0, 0.99))
    assert [one["loss"] for one in last.history] == [one["loss"] for one in average.history]
    start = encoder.state_dict()
    moved, averaged = (
        sum(float((value - start[name]).abs().sum()) for name, value in found.classifier.encoder.state_dict().items())
        for found in (last, average)
    )
    assert 0 < averaged < moved


def test_one_training_gives_both_selections(shown_cache, encoder):
    found = tune(shown_cache, encoder, epochs=3, select="per-finding")
    alone = tune(shown_cache, encoder, epochs=3)
    assert alone.test_per_finding is None
    assert found.best_epoch == alone.best_epoch
    assert np.array_equal(found.test.logit, alone.test.logit), "the macro selection does not depend on the other"
    assert set(found.best_epoch_of.values()) != {found.best_epoch}
    for place, (name, epoch) in enumerate(found.best_epoch_of.items()):
        same = np.array_equal(found.test_per_finding.logit[0, :, place], alone.test.logit[0, :, place])
        assert same == (epoch == found.best_epoch), name
    each = record_finetuned(found, select="per-finding", num_resamples=20)
    assert each.protocol["best_epoch_of"] == found.best_epoch_of
    assert each.protocol["select"] == "per-finding"
    one, other = (record_finetuned(result, num_resamples=20) for result in (found, alone))
    assert one.estimates == other.estimates
    assert one.protocol["select"] == "macro"
    assert "best_epoch_of" not in one.protocol
    assert each.estimates != one.estimates


def test_selection_by_hand():
    """Two findings over three epochs: the first is best told in epoch 0, the second in 2, their mean in 2."""
    target = np.array([[1.0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    good, bad = np.array([1.0, 0, 1, 0]), np.array([0.0, 1, 0, 1])
    fair = np.array([1.0, 0, 0, 0])  # 0.75 for the first finding
    right = np.array([1.0, 1, 0, 0])
    epochs = [np.stack(columns, axis=1) for columns in ((good, 1 - right, bad), (bad, fair, bad), (fair, right, good))]
    selection = Selection(target, "per-finding")
    for epoch, said in enumerate(epochs):
        macro = selection.add(epoch, said, lambda e=epoch: {"w": torch.tensor(float(e))}, lambda s=said: s + 10)
    assert macro == pytest.approx(0.875)
    assert (selection.best.epoch, float(selection.weights["w"])) == (2, 2.0)
    assert selection.finding_epoch.tolist() == [0, 2, 2]  # validation cannot judge the third: it follows the mean
    assert selection.said["test"][:, 0].tolist() == (good + 10).tolist()
    assert selection.said["val"][:, 1].tolist() == right.tolist()


def test_weighted_positives_and_few_labels(shown_cache, encoder):
    task = read_findings_task(shown_cache, ("Edema", "Fracture"))
    rows = pick_labelled(task, [30], 2)[30]
    found = tune(shown_cache, encoder, epochs=1, rare="weighted", label_count=30, seed=2)
    assert found.counts["train_studies"] == len(rows)
    assert (found.settings["rare"], found.settings["label_count"]) == ("weighted", 30)


def test_validation_is_as_rare_as_it_takes_to_cost_no_more_than_training():
    assert choose_rhythm(8000, 1000, 30) == 1
    assert choose_rhythm(100, 1200, 100) == 4, "a validation costs as much as 400 studies of training"
    assert choose_rhythm(10, 1200, 30) == 3, "ten validations at least"
    assert choose_rhythm(10, 1200, 5) == 1


def test_with_few_labels_not_every_epoch_is_validated(shown_cache, encoder):
    found = tune(shown_cache, encoder, epochs=25, label_count=4)
    assert found.settings["epochs_a_validation"] == 2
    assert [entry["epoch"] for entry in found.history] == [*range(2, 25, 2), 25]
    assert found.best_epoch + 1 in {entry["epoch"] for entry in found.history}


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights(shown_cache, encoder, tmp_path):
    broken = copy.deepcopy(encoder)
    with torch.no_grad():
        broken.pos_embed.fill_(float("nan"))
    with pytest.raises(UserError, match=r"Stopped at step 1: the loss is nan\. Start anew with a lower --lr"):
        tune(shown_cache, broken, epochs=1)


def test_memory_that_runs_out_is_explained(shown_cache, encoder, monkeypatch):
    def exhaust(*_, **__):
        raise MemoryError

    monkeypatch.setattr("hilum.evaluate.finetune.state.prepare", exhaust)
    with pytest.raises(UserError, match=r"Out of memory in a step of 16 views: lower --views-per-step.*MemoryError"):
        tune(shown_cache, encoder, epochs=1)
