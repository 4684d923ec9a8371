"""Everything a probe is judged by, side by side: encoders, their controls, paired differences, label efficiency.

Each number is in a `result.json` of a cell of its own (`suite.py`); `probe.json` puts them in one place for the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.labels import BlankPolicy, UncertainPolicy
from hilum.model.heads import NUM_VECTORS, Representation

from .console import name_results, print_probe
from .controls import embed_pixels, embed_untrained
from .crossval import NUM_FOLDS, crossvalidate_probe
from .efficiency import choose_counts, pick_labelled, probe_label_counts, stack_repeats
from .features import Precision, ViewFeatures, embed_cache
from .fusion import Rare
from .heads import Head
from .metrics import MIN_POSITIVES, read_reliability
from .probe import probe_encoder
from .record import record_crossval, record_difference, record_label_count, record_mean, record_probe
from .result import dump_result, read_result, write_json, write_result
from .scores import read_scores, write_scores
from .slices import list_slices
from .subject import Subject, check_cache, describe_licence, find_subject
from .suite import Cell, run_suite
from .targets import check_folds, check_splits, warn_of_no_score
from .task import Task, read_task

FORMAT = "hilum-probe/1"
SHUFFLED = "shuffled labels"


@dataclass(frozen=True)
class Arm:
    """Features under the name they have in tables, and what they are there for."""

    name: str
    role: Literal["encoder", "untrained", "pixels", "shuffled"]
    features: ViewFeatures
    method: str | None = None
    """Arms of one method differ in the seed of their pretraining; the method is judged by the mean of their metrics."""


def run_probe_report(
    data: Path,
    runs: Sequence[Path | str],
    out: Path | None = None,
    *,
    task: str = "findings",
    representation: Representation | Literal["auto"] = "auto",
    head: Head = "linear",
    rare: Rare = "as-is",
    uncertain: UncertainPolicy = "zeros",
    blank: BlankPolicy = "zeros",
    leave_out: Sequence[str] = (),
    num_seeds: int = 5,
    crossval: bool = False,
    num_repeats: int = 3,
    counts: Sequence[int] | None = None,
    min_positives: int = MIN_POSITIVES,
    batch_views: int = 256,
    precision: Precision = "auto",
    progress: bool = True,
) -> Path:
    """Probe finished runs and their controls on a cache, and write `out/probe.json`.

    Args:
        data, runs: a cache folder, and encoders: run folders, weights files or names (`subject.py`); the first is the
            one the others are compared with, and lends its architecture to the untrained control, its crop and cap on
            views to both.
        out: by default a folder in that of the first run, named after task and protocol.
        task: findings, one finding, or a text column of the study table.
        representation: what is read of a view; auto: for each arm, and in cross-validation for each fold, what is best
            on studies that it is not scored on.
        head: what is fitted to it; attentive: reads the patch tokens (or regions, where tokens would be too many).
        rare: weighted: positives of rare findings count more in training, see `fusion.weigh_positives`.
        uncertain, blank: what an uncertain state, and a finding nobody mentioned, counts as.
        leave_out: archives of the cache that take no part.
        crossval: repeated cross-validation by patient over the whole cache, for archives too small to split.
        num_repeats: rounds of folds in cross-validation.
        counts: label counts of the efficiency curve; round numbers up to all where not given.

    Raises:
        UserError: test patients or images were pretrained on (cross-validation notes it instead: it tests on all, and
            what pretraining saw of them was not the labels), nothing in the labels can be scored, or a cell failed;
            the others' results are kept.
    """
    _check_counts(num_seeds=num_seeds, num_repeats=num_repeats, batch_views=batch_views)
    check_head(head, representation, rare)
    subjects = [find_subject(run) for run in runs]  # or it says which is missing
    cache = Cache.open(data)
    target = read_task(cache, task, uncertain=uncertain, blank=blank, leave_out=leave_out)
    choices = {"head": None if head == "linear" else head, "rare": None if rare == "as-is" else rare}
    folder = name_results("probe", target, representation=representation, crossval=crossval, choices=choices)
    out = subjects[0].name_folder(out, folder)
    if crossval:
        check_folds(target, NUM_FOLDS)
    else:
        check_splits(target, "Add --crossval, which needs no split, or build the cache with larger --fractions of it.")
    warn_of_no_score(target, min_positives, crossval=crossval)
    if counts:
        pick_labelled(target, counts, 0)  # or it says that there are not so many
    named = dict(zip(_name_subjects(subjects, runs), subjects, strict=True))
    caps = {name: subject.settings.max_views for name, subject in named.items()}
    if target.unit == "view" and len(set(caps.values())) > 1:
        found = ", ".join(f"{name} {cap or 'all'}" for name, cap in caps.items())
        raise UserError(
            f"Task {task} is one of views, and these runs see different ones of a study (data.max_views: {found}). "
            "Probe them one by one."
        )
    notes: dict[str, tuple[str, ...]] = {}
    for name, subject in named.items():
        check = subject.describe_overlap if crossval else subject.check_pretraining
        notes[name] = check(cache, leave_out)
    embed: dict[str, Any] = {"batch_views": batch_views, "precision": precision, "progress": progress}
    if representation in ("2x2", "4x4"):
        embed["grid"] = int(representation[0])  # asked for, however large
    embed["keep_tokens"] = head == "attentive"
    for name, subject in named.items():  # the last of them too, before hours with the first
        try:
            check_cache(cache, subject.load(0))
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    arms = [
        Arm(name, "encoder", embed_cache(cache, run, **embed, title=name))
        for name, run in zip(named, runs, strict=True)
    ]
    notes |= {arm.name: (*notes[arm.name], *describe_licence(arm.features.made_by)) for arm in arms}
    made_by = arms[0].features.made_by
    shown: dict[str, Any] = {"crop": CropConfig(mode=made_by["crop"]), "max_views": made_by["max_views"]}
    arms.append(Arm("untrained", "untrained", embed_untrained(cache, subjects[0].build_untrained, **shown, **embed)))
    arms.append(Arm("pixels 32x32", "pixels", embed_pixels(cache, **shown, progress=progress)))
    path = report_probes(
        cache,
        arms,
        target,
        out,
        representation=representation,
        head=head,
        rare=rare,
        num_seeds=num_seeds,
        crossval=crossval,
        num_repeats=num_repeats,
        counts=counts,
        min_positives=min_positives,
        notes=notes,
        progress=progress,
    )
    if progress:
        print_probe(path, data, subjects[0].path or out)
    return path


def report_probes(
    cache: Cache,
    arms: Sequence[Arm],
    task: Task,
    out: Path,
    *,
    representation: Representation | Literal["auto"] = "auto",
    head: Head = "linear",
    rare: Rare = "as-is",
    num_seeds: int = 5,
    crossval: bool = False,
    num_repeats: int = 3,
    counts: Sequence[int] | None = None,
    min_positives: int = MIN_POSITIVES,
    notes: Mapping[str, str | Sequence[str]] | None = None,
    progress: bool = True,
) -> Path:
    """The cells of a probe report and their summary; the first arm is the subject. Returns the path of `probe.json`.

    Paired differences are of all encoders with each other and with the controls; a method stands for its arms. `notes`
    are what a reader must know of an arm, by its name.
    """
    _check_counts(num_seeds=num_seeds, num_repeats=num_repeats)
    check_head(head, representation, rare)
    weighted = rare == "weighted"
    # All encoders are read in the same ways: those that the features of each of them offer.
    offers = [arm.features.representations for arm in arms if arm.role != "pixels"]
    common = tuple(name for name in NUM_VECTORS if all(name in offer for offer in offers))
    reading = common if representation == "auto" else representation
    left_out = [name for name in NUM_VECTORS if representation == "auto" and name not in common]
    whole, regions = ([name for name in left_out if (name in ("2x2", "4x4")) is large] for large in (False, True))
    general = (f"Too large to be tried as features here: regions of {', '.join(regions)}.",) if regions else ()
    if whole:
        general += (f"Not read of any encoder, since one here has no class token: {', '.join(whole)}.",)
    if head == "attentive":
        reading, general = "tokens", ()
        if without := [arm.name for arm in arms if arm.role != "pixels" and arm.features.tokens is None]:
            stored = (
                f"Too many to be stored: the patch tokens of {', '.join(without)}; means of regions stand for them."
            )
            general = (stored,)
    slices = list_slices(cache, task)
    arms = [*arms, Arm(SHUFFLED, "shuffled", arms[0].features)]
    depends = {
        "task": task.name,
        "labels": task.policy,
        "split": task.hash_split(),
        "representation": reading,
        "head": head,
        "rare": rare,
        "min_positives": min_positives,
    }

    def evaluate(arm: Arm, folder: Path) -> None:
        shuffled = arm.role == "shuffled"
        record: dict[str, Any] = {
            "slices": slices,
            "min_positives": min_positives,
            "notes": (*general, *_list_notes(notes, arm)),
        }
        if crossval:
            found = crossvalidate_probe(
                arm.features,
                task,
                name=arm.name,
                representation=reading,
                head=head,
                weighted=weighted,
                num_repeats=num_repeats,
                shuffle_labels=shuffled,
            )
            write_scores(folder / "scores.npz", found.scores)
            result = record_crossval(found, **record)
        else:
            probed = probe_encoder(
                arm.features,
                task,
                name=arm.name,
                representation=reading,
                head=head,
                weighted=weighted,
                shuffle_labels=shuffled,
                fuse_otherwise=arm.role == "encoder",
            )
            write_scores(folder / "scores.npz", probed.test)
            result = record_probe(probed, **record)
        write_result(folder / "result.json", result)

    kind = f"crossval {num_repeats}" if crossval else "probe"
    cells = [
        Cell(
            arm.name,
            {**depends, "kind": kind, "arm": arm.name, "features": arm.features.made_by},
            partial(evaluate, arm),
        )
        for arm in arms
    ]
    outcome = run_suite(cells, out / "cells", progress=progress)

    methods = {arm.method: [other.name for other in arms if other.method == arm.method] for arm in arms if arm.method}
    means = [
        _mean_cell(method, [outcome.done[name] for name in names], slices, min_positives)
        for method, names in methods.items()
        if set(names) <= outcome.done.keys()
    ]
    judged = run_suite(means, out / "cells", progress=progress)
    done = outcome.done | judged.done
    encoders = list(dict.fromkeys(arm.method or arm.name for arm in arms if arm.role == "encoder"))
    controls = [arm.name for arm in arms if arm.role in ("untrained", "pixels")]
    differences = [
        _difference_cell(done[first], done[second], f"{first} - {second}", min_positives)
        for first, second in [*combinations(encoders, 2), *product(encoders, controls)]
        if first in done and second in done
    ]
    curve = []
    if not crossval:
        counts = counts or choose_counts(len(task.rows("train")))
        curve = [
            _curve_cell(arm, done[arm.name], task, count, num_seeds, min_positives, depends, _list_notes(notes, arm))
            for arm in arms
            if arm.role != "shuffled" and arm.name in done
            for count in counts
        ]
    rest = run_suite([*differences, *curve], out / "cells", progress=progress)

    summary = {
        "format": FORMAT,
        "task": task.name,
        "targets": list(task.names),
        "labels": task.policy,
        "protocol": "crossval" if crossval else "probe",
        "representation": reading if head == "attentive" else representation,
        "head": head,
        "arms": [
            {
                "name": arm.name,
                "role": arm.role,
                **_embed(outcome.done[arm.name], out),
                "reliability": _read_reliability(outcome.done[arm.name]),
            }
            for arm in arms
            if arm.name in outcome.done
        ],
        "methods": [_embed(judged.done[method], out) for method in methods if method in judged.done],
        "differences": [_embed(rest.done[cell.name], out) for cell in differences if cell.name in rest.done],
        "label_efficiency": [_embed(rest.done[cell.name], out) for cell in curve if cell.name in rest.done],
        "failed": {**outcome.failed, **judged.failed, **rest.failed},
    }
    write_json(out / "probe.json", summary)
    if summary["failed"]:
        name, message = next(iter(summary["failed"].items()))
        num = len(cells) + len(means) + len(differences) + len(curve)
        share = f"{len(summary['failed'])} of {num} evaluations failed, the others are written"
        share = share if outcome.done else f"none of the {len(cells)} evaluations worked"
        raise UserError(f"{out}: {share}. The first: {name}: {message}")
    return out / "probe.json"


def _list_notes(notes: Mapping[str, str | Sequence[str]] | None, arm: Arm) -> tuple[str, ...]:
    said = (notes or {}).get(arm.name, ())
    return (said,) if isinstance(said, str) else tuple(said)


def _mean_cell(method: str, seeds: Sequence[Path], slices: dict[str, np.ndarray], min_positives: int) -> Cell:
    def run(folder: Path) -> None:
        parts = [(read_result(seed / "result.json"), read_scores(seed / "scores.npz")) for seed in seeds]
        scores = stack_repeats([part[1] for part in parts])
        write_scores(folder / "scores.npz", scores)
        results = [part[0] for part in parts]
        result = record_mean(method, results, scores, slices=slices, min_positives=min_positives)
        write_result(folder / "result.json", result)

    return Cell(method, {"seeds": [seed.name for seed in seeds], "slices": sorted(slices)}, run)


def _difference_cell(first: Path, second: Path, name: str, min_positives: int) -> Cell:
    def run(folder: Path) -> None:
        sides = [(read_result(side / "result.json"), read_scores(side / "scores.npz")) for side in (first, second)]
        write_result(folder / "result.json", record_difference(sides[0], sides[1], min_positives=min_positives))

    # The folders' names hold the hashes of what was compared.
    return Cell(name, {"first": first.name, "second": second.name}, run)


def _curve_cell(
    arm: Arm,
    probed: Path,
    task: Task,
    count: int,
    num_seeds: int,
    min_positives: int,
    depends: dict[str, Any],
    notes: tuple[str, ...],
) -> Cell:
    """With few labels the arm is read as with all of them (`probed`): few could not choose."""

    def run(folder: Path) -> None:
        probes = probe_label_counts(
            arm.features,
            task,
            name=arm.name,
            counts=[count],
            num_seeds=num_seeds,
            representation=read_result(probed / "result.json").protocol["representation"],
            head=depends["head"],
            weighted=depends["rare"] == "weighted",
        )[count]
        result = record_label_count(probes, min_positives=min_positives, num_resamples=200, notes=notes)
        write_result(folder / "result.json", result)

    settings = {**depends, "kind": "label efficiency", "count": count, "seeds": num_seeds, "probed": probed.name}
    return Cell(f"{arm.name} {count} labels", {**settings, "features": arm.features.made_by}, run)


def _embed(folder: Path, out: Path) -> dict[str, Any]:
    path = folder / "result.json"
    return {"path": path.relative_to(out).as_posix(), "result": dump_result(read_result(path))}


def _read_reliability(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Points of reliability diagrams: of each finding, and of all (study, finding) pairs together."""
    scores = read_scores(folder / "scores.npz")
    probability = scores.probability.mean(axis=0)
    points = {
        name: read_reliability(scores.target[:, i].astype(np.float64), probability[:, i])
        for i, name in enumerate(scores.names)
    }
    return {"all": read_reliability(scores.target.astype(np.float64).ravel(), probability.ravel(), 15), **points}


def _name_subjects(subjects: Sequence[Subject], runs: Sequence[Path | str]) -> list[str]:
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        # Of public encoders the last part of where their weights are, never the place.
        names = [
            str(subject.path or f"{subject.name} ({Path(run).name})")
            for subject, run in zip(subjects, runs, strict=True)
        ]
    reserved = {"untrained", "pixels 32x32", SHUFFLED}
    return [f"{name} (run)" if name in reserved else name for name in names]


def check_head(head: Head, representation: str, rare: Rare) -> None:
    """Refuse settings that do not go together, before anything is computed.

    Raises:
        UserError: with the settings and what goes with them.
    """
    if head == "attentive" and representation != "auto":
        raise UserError(
            f"--representation {representation} is for --head linear and knn: the attentive head reads patch tokens."
        )
    if head == "knn" and rare == "weighted":
        raise UserError("--rare weighted is for --head linear and attentive: neighbours vote, they have no loss.")


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} is {count}: expected at least 1.")
