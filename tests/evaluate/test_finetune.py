"""Fine-tuning learns what is shown, keeps its best epoch, and treats layers as it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from plain_metrics import score_auroc

from hilum.config import AugmentConfig
from hilum.errors import UserError
from hilum.evaluate.features import embed_cache
from hilum.evaluate.finetune import StudyClassifier, add_drop_path, finetune_encoder, group_by_layer, score_studies
from hilum.evaluate.finetune_report import run_finetune
from hilum.evaluate.record import record_finetuned
from hilum.evaluate.result import read_result
from hilum.evaluate.scores import read_scores
from hilum.evaluate.task import check_pretraining, measure_overlap, read_column_task, read_findings_task
from hilum.model.weights import describe_weights, save_encoder


@pytest.fixture(scope="module")
def finetuned(shown_cache, encoder):
    return finetune_encoder(
        shown_cache,
        encoder,
        read_findings_task(shown_cache),
        name="tiny",
        mean=shown_cache.mean,
        std=shown_cache.std,
        epochs=5,
        views_per_step=16,
        lr=1e-2,
        representation="mean",
        augment=AugmentConfig(jitter_probability=0.5),
        precision="32-true",
        progress=False,
    )


def test_it_learns_and_keeps_the_best_epoch(finetuned, shown_cache):
    history = [epoch["val_macro_auroc"] for epoch in finetuned.history]
    assert finetuned.best_epoch == int(np.argmax(history))
    edema = finetuned.task.names.index("Edema")
    assert score_auroc(finetuned.test.target[:, edema], finetuned.test.logit[0, :, edema]) > 0.8
    again = score_studies(
        finetuned.classifier, shown_cache, finetuned.test.row, mean=shown_cache.mean, std=shown_cache.std
    )
    assert again == pytest.approx(finetuned.test.logit[0], abs=1e-5)


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


def test_tasks_of_views_are_refused(shown_cache, encoder):
    with pytest.raises(UserError, match="tasks of studies"):
        finetune_encoder(
            shown_cache, encoder, read_column_task(shown_cache, "kind"), name="tiny", mean=0.5, std=0.2, epochs=1
        )


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"lr": -1.0}, {"views_per_step": 0}])
def test_settings_that_train_nothing_are_refused(shown_cache, encoder, setting):
    task = read_findings_task(shown_cache, ("Edema",))
    with pytest.raises(UserError, match=f"{next(iter(setting))} is .*more than 0"):
        finetune_encoder(shown_cache, encoder, task, name="tiny", mean=0.5, std=0.2, **setting)


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
    features = embed_cache(shown_cache, path.parent, progress=False)
    assert len(features.mean) == len(shown_cache.views)
