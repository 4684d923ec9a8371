"""Who takes part: methods, each by one or several runs that differ in their seed, and random weights beside them.

Everything that the suite wants of an encoder is asked here: its name, what it saw, its features, its fine-tuning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.evaluate.controls import embed_untrained
from hilum.evaluate.features import Precision, ViewFeatures, embed_cache, read_data_settings
from hilum.evaluate.finetune import Finetuned, finetune_encoder
from hilum.evaluate.result import hash_parts
from hilum.evaluate.task import Task, check_pretraining, measure_overlap
from hilum.model.encoder import Encoder
from hilum.model.weights import find_folder, find_weights, load_encoder, read_header

SUPERVISED = "supervised"
NO_CAP = 2**15  # views of a study; where a run's settings cap them and all are needed


@dataclass(frozen=True)
class Entrant:
    """One encoder under its name in tables."""

    name: str
    method: str  # averaged over its entrants
    run: Path  # run folder or weights file; of random weights, the run that lends its architecture
    is_random: bool = False

    @property
    def hides_views(self) -> bool:
        """Whether it is shown so few views of a study that nobody can tell which studies have exactly two."""
        cap = read_data_settings(self.run).max_views
        return cap is not None and cap < 3

    @property
    def settings(self) -> dict[str, Any]:
        """What its features and its fine-tuning depend on beside the data."""
        shown = read_data_settings(self.run)
        how = {"crop": shown.shown.mode, "train_crop": shown.crop.mode, "max_views": shown.max_views}
        if self.is_random:
            return {
                "weights": "random",
                "architecture": hash_parts([str(read_header(find_weights(self.run))[0])]),
                **how,
            }
        with find_weights(self.run).open("rb") as file:
            return {"weights": hashlib.file_digest(file, "sha256").hexdigest()[:16], **how}


def find_entrants(words: Sequence[str]) -> list[Entrant]:
    """Entrants of `RUN` or `METHOD=RUN,RUN,...`; a run without method is one by itself. `supervised`, which is the
    first run's architecture with random weights, joins unless a method is called so.

    Raises:
        UserError: no run, one that is not finished or not there, or a method or run named twice.
    """
    methods: dict[str, list[Path]] = {}
    for word in words:
        method, runs = _split_method(word)
        if method in methods:
            raise UserError(f"--runs names {method} twice: give its runs together, as {method}=RUN,RUN.")
        methods[method] = runs
    if not methods:
        raise UserError("--runs names no run to evaluate.")
    entrants = []
    for method, runs in methods.items():
        names = [find_folder(run).resolve().name for run in runs]
        unique = len(set(names)) == len(names)
        for place, (run, name) in enumerate(zip(runs, names, strict=True)):
            find_weights(run)  # or it says what is missing
            entrants.append(
                Entrant(method if len(runs) == 1 else f"{method}: {name if unique else place}", method, run)
            )
    if SUPERVISED not in methods:
        entrants.append(Entrant(SUPERVISED, SUPERVISED, entrants[0].run, is_random=True))
    return entrants


def _split_method(word: str) -> tuple[str, list[Path]]:
    method, found, runs = word.partition("=")
    if not found or Path(word).exists():
        return find_folder(Path(word)).resolve().name, [Path(word)]
    paths = [Path(run) for run in runs.split(",") if run]
    if not method or not paths:
        raise UserError(f"--runs {word}: expected RUN, or METHOD=RUN,RUN,...")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(f"--runs {word}: names a run twice.")
    return method, paths


def check_entrants(cache: Cache, entrants: Sequence[Entrant], leave_out: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Name -> what a reader must know of an entrant.

    Raises:
        UserError: one was pretrained on test patients or images, or on pixels of another policy.
    """
    notes = {}
    for entrant in entrants:
        about = read_header(find_weights(entrant.run))[1]
        cache.check_policy(about["image_policy"])
        if entrant.is_random:
            notes[entrant.name] = ("Random first weights: nothing was learned before the labels.",)
        else:
            notes[entrant.name] = check_pretraining(cache, find_folder(entrant.run), leave_out)
    return notes


def find_seen(cache: Cache, entrant: Entrant) -> dict[str, bool]:
    """Archive of the cache -> whether pretraining saw any patient or image of its training split, by the run's record.

    What archives are called does not matter, nor from which cache they were learned.
    """
    if entrant.is_random:
        return dict.fromkeys(cache.datasets, False)
    seen = {}
    for name in cache.datasets:
        others = [other for other in cache.datasets if other != name]
        overlap = measure_overlap(cache, find_folder(entrant.run), "train", others)
        seen[name] = bool(overlap.num_patients or overlap.num_images)
    return seen


def embed_entrant(
    cache: Cache, entrant: Entrant, *, all_views: bool = False, precision: Precision = "auto", progress: bool = True
) -> ViewFeatures:
    """Its features of every view; `all_views` overrules a cap that would hide which studies have two."""
    settings = read_data_settings(entrant.run)
    cap = NO_CAP if all_views else settings.max_views
    how: dict[str, Any] = {"precision": precision, "progress": progress, "max_views": cap}
    if not entrant.is_random:
        return embed_cache(cache, entrant.run, title=entrant.name, **how)
    return embed_untrained(cache, read_header(find_weights(entrant.run))[0], crop=settings.shown, **how)


def finetune_entrant(
    cache: Cache,
    entrant: Entrant,
    task: Task,
    *,
    name: str,
    epochs: int,
    views_per_step: int,
    seed: int = 0,
    precision: Precision = "auto",
    progress: bool = True,
) -> Finetuned:
    """Its encoder trained end to end on the task's training rows."""
    encoder, about = load_encoder(find_weights(entrant.run))
    if entrant.is_random:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            encoder = Encoder(encoder.config)
    settings = read_data_settings(entrant.run)
    return finetune_encoder(
        cache,
        encoder.to("cuda" if torch.cuda.is_available() else "cpu"),
        task,
        name=name,
        mean=about["mean"],
        std=about["std"],
        epochs=epochs,
        views_per_step=views_per_step,
        crop=CropConfig(mode="squash" if settings.crop.mode == "squash" else "random"),
        shown=settings.shown,
        max_views=settings.max_views,
        precision=precision,
        seed=seed,
        progress=progress,
    )


def group_methods(entrants: Sequence[Entrant]) -> Mapping[str, list[Entrant]]:
    """Method -> its entrants, in order."""
    methods: dict[str, list[Entrant]] = {}
    for entrant in entrants:
        methods.setdefault(entrant.method, []).append(entrant)
    return methods
