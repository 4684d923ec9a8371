"""From what an evaluation found to its `result.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .breast_task import names_breast_task
from .finetune.selection import Select
from .finetune.state import Finetuned
from .heads.fit import HEADS, TRAINED_WITH, Head
from .mammo_clip_task import names_mammo_clip_task
from .probe.crossval import CrossValidation
from .probe.efficiency import stack_repeats
from .probe.run import ProbeResult
from .result import Estimate, Hashes, Result, hash_code
from .scoring.bootstrap import LEVEL, NUM_RESAMPLES
from .scoring.estimates import METRICS, OF_MAMMOGRAMS, USUAL, estimate_scores, score_macro
from .scoring.metrics import MIN_POSITIVES
from .scoring.scores import Scores
from .slices import estimate_slices
from .task import Task

THRESHOLD = "best F1 on validation"


def build_hashes(task: Task, weights: str) -> Hashes:
    """What the numbers of a task and an encoder depend on."""
    return Hashes(data=task.data, split=task.hash_split(), weights=weights, code=hash_code())


def list_metrics(task: str, scores: Scores) -> tuple[str, ...]:
    """The metrics of a task's results: of mammograms more of them, the ones at a fixed specificity where a threshold
    was tuned for it (not in cross-validation)."""
    if not (names_breast_task(task) or names_mammo_clip_task(task)):
        return USUAL
    untuned = "decision_at_specificity" if scores.screened is None else ""
    return (*USUAL, *(name for name in OF_MAMMOGRAMS if METRICS[name].reads != untuned))


def record_probe(
    result: ProbeResult,
    *,
    slices: dict[str, np.ndarray] | None = None,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    notes: tuple[str, ...] = (),
) -> Result:
    """All metrics of a probe's test rows; AUROC of slices, of the same studies by some of their views, and fused
    otherwise."""
    rules: dict[str, Any] = {"min_positives": min_positives, "num_resamples": num_resamples, "seed": 0}
    estimates: list[Estimate] = [*estimate_scores(result.test, list_metrics(result.task.name, result.test), **rules)]
    for kind, scores in result.by_kind.items():
        estimates += estimate_scores(scores, ("auroc",), **rules, slice=f"two kinds of view, seen: {kind}")
    for count, scores in result.by_count.items():
        estimates += estimate_scores(scores, ("auroc",), **rules, slice=f"several views, seen: {count}")
    for fusion, scores in result.by_fusion.items():
        estimates += estimate_scores(scores, ("auroc", "brier_error"), **rules, slice=f"fused by {fusion}")
    estimates += estimate_slices(result.test, slices or {}, **rules)
    protocol = {
        "kind": "shuffled labels" if result.shuffled else HEADS[result.head].title,
        **_describe_head(result.head, result.weighted),
        "representation": result.representation,
        "train_on": result.train_on,
        "fusion": result.probe.fusion,
        HEADS[result.head].setting: result.setting,
        "validation_macro_auroc_tried": {
            reading: {f"{setting:g}": value for setting, value in values.items()}
            for reading, values in result.tried.items()
        },
        "label_count": result.label_count,
        "one_class_in_training": list(result.one_class),
        "threshold": THRESHOLD,
        "features": result.features_made_by,
    }
    weights = result.features_made_by["weights"]
    return _record(result, weights, protocol, estimates, min_positives, num_resamples, (*notes, *result.notes))


def record_label_count(
    probes: Sequence[ProbeResult],
    *,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    kind: str = "label efficiency",
    notes: tuple[str, ...] = (),
) -> Result:
    """One label count: metrics are means over the draws of labelled patients, intervals are of test patients; the
    spread over draws is in `protocol["by_seed"]`. `notes` are of the encoder."""
    first = probes[0]
    scores = stack_repeats([probe.test for probe in probes])
    by_seed = [
        {
            "seed": probe.seed,
            "macro_auroc": score_macro(probe.test, min_positives=min_positives)[0],
            HEADS[probe.head].setting: probe.setting,
            "num_train": probe.num_train,
            "one_class_in_training": len(probe.one_class),
        }
        for probe in probes
    ]
    protocol = {
        "kind": kind,
        **_describe_head(first.head, first.weighted),
        "representation": first.representation,
        "representation_chosen_with": "all labels",
        "label_count": first.label_count,
        "by_seed": by_seed,
        "features": first.features_made_by,
    }
    estimates: list[Estimate] = [
        *estimate_scores(
            scores,
            ("auroc", "average_precision", "brier_error"),
            min_positives=min_positives,
            num_resamples=num_resamples,
        )
    ]
    weights = first.features_made_by["weights"]
    return _record(first, weights, protocol, estimates, min_positives, num_resamples, notes)


def _describe_head(head: Head, weighted: bool) -> dict[str, Any]:
    trained = {"trained_with": asdict(TRAINED_WITH[head])} if head in TRAINED_WITH else {}
    return {"head": head, "rare": "weighted" if weighted else "as they are", **trained}


def record_crossval(
    result: CrossValidation,
    *,
    slices: dict[str, np.ndarray] | None = None,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    notes: tuple[str, ...] = (),
) -> Result:
    """All metrics of the out-of-fold scores."""
    rules: dict[str, Any] = {"min_positives": min_positives, "num_resamples": num_resamples, "seed": 0}
    estimates: list[Estimate] = [
        *estimate_scores(result.scores, list_metrics(result.task.name, result.scores), **rules)
    ]
    estimates += estimate_slices(result.scores, slices or {}, **rules)
    protocol = {
        "kind": f"cross-validated {'shuffled labels' if result.shuffled else HEADS[result.head].title}",
        **_describe_head(result.head, result.weighted),
        "representation": result.representation,
        "num_folds": result.num_folds,
        "num_repeats": result.num_repeats,
        "representations": list(result.representations),
        "chosen_settings": list(result.settings),
        "threshold": "best F1 on inner folds",
        "features": result.features_made_by,
    }
    weights = result.features_made_by["weights"]
    return _record(result, weights, protocol, estimates, min_positives, num_resamples, notes)


def record_finetuned(
    result: Finetuned,
    *,
    select: Select = "macro",
    slices: dict[str, np.ndarray] | None = None,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    notes: tuple[str, ...] = (),
) -> Result:
    """All metrics of the test studies by the epoch that validation chose, for all findings or for each."""
    rules: dict[str, Any] = {"min_positives": min_positives, "num_resamples": num_resamples, "seed": 0}
    test = result.test if select == "macro" else result.test_per_finding
    assert test is not None, "the fine-tuning selected per finding too"
    estimates: list[Estimate] = [*estimate_scores(test, list_metrics(result.task.name, test), **rules)]
    estimates += estimate_slices(test, slices or {}, **rules)
    protocol = {
        "kind": "fine-tuning",
        **result.settings,
        "select": select,
        "threshold": THRESHOLD,
        "best_epoch": result.best_epoch,
        **({} if select == "macro" else {"best_epoch_of": result.best_epoch_of}),
        "history": result.history,
    }
    return _record(result, result.weights_before, protocol, estimates, min_positives, num_resamples, notes)


def _record(
    found: ProbeResult | CrossValidation | Finetuned,
    weights: str,
    protocol: dict[str, Any],
    estimates: list[Estimate],
    min_positives: int,
    num_resamples: int,
    notes: tuple[str, ...] = (),
) -> Result:
    """What the records of one evaluation have in common."""
    task = found.task
    judged = {"unit": task.unit, "targets": list(task.names), "labels": task.policy, "min_positives": min_positives}
    if task.chooses_on_test:
        judged["validation"] = "the test split: what was chosen was chosen on what is scored"
    return Result(
        encoder=found.encoder,
        task=task.name,
        protocol={**protocol, **judged},
        seed=found.seed,
        estimates=estimates,
        hashes=build_hashes(task, weights),
        counts=found.counts,
        level=LEVEL,
        num_resamples=num_resamples,
        notes=(*task.notes, *notes),
    )


def list_read(protocol: dict[str, Any]) -> list[str]:
    """What was read of the features behind a result: one entry a choice, so one for each fold and seed."""
    if "representations" in protocol:
        return protocol["representations"]
    return [protocol["representation"]] if "representation" in protocol else []


def join_notes(results: Sequence[Result]) -> tuple[str, ...]:
    """Notes of several results, each of them once."""
    return tuple(dict.fromkeys(note for result in results for note in result.notes))
