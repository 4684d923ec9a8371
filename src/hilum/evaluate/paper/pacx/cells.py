"""What PaCX-MAE's evaluation asks beside probes and fine-tuning: alignment with teachers, segmentation, attention
rollout, and drift from the encoder that an arm started from. Every cell leaves its numbers with their resamples.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from hilum.atomic import open_atomic
from hilum.cache import Cache
from hilum.checksums import hash_file, hash_parts
from hilum.config import load_config
from hilum.evaluate.distilled.alignment_probe import AlignmentProbe, Pairs, estimate_alignment, probe_alignment
from hilum.evaluate.distilled.candidates import find_candidates
from hilum.evaluate.distilled.drift import estimate_drift
from hilum.evaluate.distilled.record import record_alignment, record_segmentation
from hilum.evaluate.distilled.rollout import Reader, estimate_shares, roll_out_views
from hilum.evaluate.distilled.teacher_maps import point_at_views, read_pools
from hilum.evaluate.features import ViewFeatures
from hilum.evaluate.paper.cells import READ, Job, Load
from hilum.evaluate.paper.entrants import Entrant, find_run, load_entrant
from hilum.evaluate.paper.index import DRIFT, MAPS, ROLLOUT, name_alignment, name_pointing, name_segmentation
from hilum.evaluate.result import Estimate, Hashes, Result, hash_code
from hilum.evaluate.scoring.bootstrap import LEVEL
from hilum.evaluate.scoring.resamples import Name, name_estimate, write_resampled
from hilum.evaluate.segmentation.run import segment_encoder
from hilum.evaluate.segmentation.settings import SegmentationSettings
from hilum.evaluate.segmentation.squares import read_squares
from hilum.model.encoder import Encoder
from hilum.model.heads import Representation
from hilum.model.places import find_weights
from hilum.model.segmentation import Decoder
from hilum.teachers.vectors import TeacherVectors

from .distillation import DistillationQuestion

NUM_DRAWN = 3  # test images whose maps a report shows
READERS: dict[Reader, str] = {"class": "class token", "mean": "mean patch token"}


def list_distillation_jobs(
    question: DistillationQuestion, entrant: Entrant, entrants: Sequence[Entrant], load: Load
) -> list[Job]:
    """Alignment with each teacher, drift, rollout, and segmentation by each decoder, as far as there is what they
    need."""
    jobs: list[Job] = []
    build = functools.partial(Job.build, question, entrant)

    for name, vectors in question.teachers.items():
        table = {"table": vectors.hash_content(question.cache), "read": READ, "leave_out": list(question.leave_out)}
        jobs.append(build(name_alignment(name), table, functools.partial(_align, question, entrant, load, name)))
    start = find_start(entrant, entrants) if question.drifts else None
    if start is not None:
        jobs.append(build(DRIFT, {"start": start.settings}, functools.partial(_drift, question, entrant, start, load)))
    if question.masks is None:
        return jobs
    masks = {"masks": question.masks.digest, "leave_out": list(question.leave_out)}
    if question.rolls_out and entrant.is_own:
        jobs.append(build(ROLLOUT, masks, functools.partial(_roll_out, question, entrant)))
    for decoder in question.decoders:
        how = {**masks, "epochs": question.decoder_epochs, "seed": entrant.seed}
        how["views_per_step"] = question.views_per_step
        jobs.append(build(name_segmentation(decoder), how, functools.partial(_segment, question, entrant, decoder)))
    return jobs


def find_start(entrant: Entrant, entrants: Sequence[Entrant]) -> Entrant | None:
    """The entrant whose weights a run began with, by its record; None where it has none or they take no part."""
    config = None if (folder := find_run(entrant)) is None else folder / "config.json"
    if config is None or not config.is_file() or (start := load_config(config).initial_weights) is None:
        return None
    files = {one.name: one.subject.path for one in entrants if not one.is_random and one.subject.path is not None}
    return next(
        (one for one in entrants if (at := files.get(one.name)) and _hash_weights(find_weights(at)) == start.sha256),
        None,
    )


@functools.cache
def _hash_weights(path: Path) -> str:
    return hash_file(path)


def find_paired(
    features: ViewFeatures, teacher: TeacherVectors, rows: Int64[np.ndarray, " study"]
) -> Int64[np.ndarray, " paired"]:
    """Those of these studies that have both features and a vector, ascending."""
    return np.intersect1d(features.study, teacher.find_known(rows))


def pair_with_teacher(
    cache: Cache,
    features: ViewFeatures,
    representation: Representation,
    teacher: TeacherVectors,
    rows: Int64[np.ndarray, " study"],
) -> Pairs:
    """Those of these studies that have a vector: the mean over their views of what is read of each, and the vector."""
    vectors = features.read(representation)
    studies, place = np.unique(features.study, return_inverse=True)
    total = np.zeros((len(studies), vectors.shape[1]))
    np.add.at(total, place, vectors)
    mean = (total / np.bincount(place)[:, None]).astype(np.float32)
    known = find_paired(features, teacher, rows)
    return Pairs(
        mean[np.isin(studies, known)], teacher.values[teacher.of_study[known]], cache.studies["patient"][known]
    )


def _align(question: DistillationQuestion, entrant: Entrant, load: Load, name: str, folder: Path) -> None:
    features, teacher = load(entrant), question.teachers[name]
    tried: dict[Representation, AlignmentProbe] = {}
    for read in READ:
        if read in features.representations:
            splits = (
                pair_with_teacher(question.cache, features, read, teacher, question.find_rows(split))
                for split in ("train", "val", "test")
            )
            tried[read] = probe_alignment(*splits, teacher=name)
    candidates = find_candidates(question.cache, find_paired(features, teacher, question.find_rows("test")))
    best = max(tried, key=lambda read: max(tried[read].tried.values()))
    probe, num = tried[best], question.num_resamples
    result = record_alignment(
        probe, estimate_alignment(probe, candidates=candidates, num_resamples=num), encoder=entrant.name,
        hashes=_hash(question, [teacher.hash_content(question.cache)], features.made_by["weights"]),
        num_resamples=num, notes=question.notes[entrant.name],
    )  # fmt: skip
    chosen = {read: max(one.tried.values()) for read, one in tried.items()}
    more: dict[str, Any] = {"representation": best, "validation_centred_cosine_of_representations": chosen}
    if candidates is not None:  # fewer where some have no image or no vector
        more["candidates_of_queries"] = [int(num) for num in candidates.sum(axis=1) if num]
    protocol = {**result.protocol, **more}
    write_resampled(folder, replace(result, protocol=protocol), probe.rows)


def _segment(question: DistillationQuestion, entrant: Entrant, decoder: Decoder, folder: Path) -> None:
    encoder = load_entrant(question.cache, entrant)
    crop = entrant.subject.read_settings(encoder).shown
    mean, std = entrant.subject.read_statistics(question.cache)
    settings = SegmentationSettings(
        decoder=decoder, epochs=question.decoder_epochs, views_per_step=question.views_per_step,
        precision=question.precision, seed=entrant.seed,
    )  # fmt: skip
    found = segment_encoder(
        question.cache, encoder, question.lay_masks(encoder.side, crop.mode), settings, name=entrant.name,
        mean=mean, std=std, checkpoints=folder / "checkpoints", progress=question.progress,
    )  # fmt: skip
    result = record_segmentation(
        found, question.cache, num_resamples=question.num_resamples, notes=question.notes[entrant.name]
    )
    write_resampled(folder, result, found.test.rows)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _roll_out(question: DistillationQuestion, entrant: Entrant, folder: Path) -> None:
    encoder = load_entrant(question.cache, entrant)
    assert isinstance(encoder, Encoder), "others have no such cell"
    crop = entrant.subject.read_settings(encoder).shown
    mean, std = entrant.subject.read_statistics(question.cache)
    masks = question.lay_masks(encoder.side, crop.mode)
    rows = masks.rows("test")
    shown: dict[str, Any] = {"mean": mean, "std": std, "crop": crop}
    maps = {
        title: roll_out_views(question.cache, encoder, masks.view_row[rows], **shown, reader=reader)
        for reader, title in READERS.items()
    }
    folder_of_run = find_run(entrant)
    pools = {} if folder_of_run is None else read_pools(folder_of_run)
    pointed = point_at_views(question.cache, encoder, pools, masks.view_row[rows], **shown)
    maps |= {name_pointing(name): found for name, found in pointed.items()}
    estimates: dict[Name, Estimate] = {}
    for (title, found), (place, structure) in product(maps.items(), enumerate(masks.structures)):
        known = masks.known[rows, place]
        shares = estimate_shares(
            found[known], {structure: masks.mask[rows[known], place]}, masks.patient[rows[known]], slice=title,
            num_resamples=question.num_resamples,
        )  # fmt: skip
        estimates |= {name_estimate(one): one for one in shares}  # a mask's area is the same for all maps
    views = {"test_views": len(rows), "test_patients": len(np.unique(masks.patient[rows]))}
    about = {
        "kind": "attention rollout", "structures": list(masks.structures), "maps": list(maps), "crop": crop.mode,
        "unit": "view",
    }  # fmt: skip
    result = _record(question, entrant, "attention rollout", about, list(estimates.values()), views, masks.hash())
    drawn = rows[:NUM_DRAWN]
    squares = read_squares(question.cache, masks.view_row[drawn], size=encoder.side, mean=0.0, std=1.0, crop=crop)
    with open_atomic(folder / MAPS) as file:
        np.savez_compressed(
            file, allow_pickle=False, image=squares[:, 0].numpy().astype(np.float16), title=np.array(list(maps)),
            **{f"map_{place}": found[:NUM_DRAWN].astype(np.float32) for place, found in enumerate(maps.values())},
        )  # fmt: skip
    write_resampled(folder, result, hash_parts([masks.view_row[rows], masks.known[rows]]))


def _drift(question: DistillationQuestion, entrant: Entrant, start: Entrant, load: Load, folder: Path) -> None:
    tested = question.find_rows("test")
    now, before = (features.take(np.isin(features.study, tested)) for features in (load(entrant), load(start)))
    shared = np.intersect1d(now.view_row, before.view_row)
    now, before = (one.take(np.isin(one.view_row, shared)) for one in (now, before))
    patient = question.cache.studies["patient"]
    estimates: list[Estimate] = list(estimate_drift(now, before, patient, num_resamples=question.num_resamples))
    views = {"test_views": len(shared), "test_patients": len(np.unique(patient[now.study]))}
    about = {"kind": "drift", "start": start.method, "start_run": start.name, "unit": "view"}
    result = _record(question, entrant, f"drift from {start.name}", about, estimates, views, hash_parts([shared]))
    write_resampled(folder, result, hash_parts([shared]))


def _record(
    question: DistillationQuestion,
    entrant: Entrant,
    task: str,
    protocol: dict[str, Any],
    estimates: list[Estimate],
    counts: dict[str, int],
    split: str,
) -> Result:
    weights = str(entrant.settings["weights"])
    return Result(
        encoder=entrant.name,
        task=task,
        protocol=protocol,
        seed=entrant.seed,
        estimates=estimates,
        hashes=Hashes(data=question.cache.digest, split=split, weights=weights, code=hash_code()),
        counts=counts,
        level=LEVEL,
        num_resamples=question.num_resamples,
        notes=question.notes[entrant.name],
    )


def _hash(question: DistillationQuestion, split: list[str], weights: str) -> Hashes:
    parts = [hash_parts([question.find_rows(name) for name in ("train", "val", "test")]), *split]
    return Hashes(data=question.cache.digest, split=hash_parts(parts), weights=weights, code=hash_code())
