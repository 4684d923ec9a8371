"""Who takes part: methods, each by one or several runs that differ in their seed, and random weights beside them.

Everything that the suite wants of an encoder is asked here: its name, what it saw, its features, its fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hilum.cache import Cache
from hilum.checksums import hash_file, hash_parts
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.evaluate.asked import SUPERVISED, Untrained, find_asked, group_asked
from hilum.evaluate.controls import embed_untrained
from hilum.evaluate.features import NO_CAP, Precision, ViewFeatures, embed_cache
from hilum.evaluate.finetune.run import finetune_encoder
from hilum.evaluate.finetune.settings import choose_settings
from hilum.evaluate.finetune.state import Finetuned
from hilum.evaluate.leaks import measure_overlap
from hilum.evaluate.subject import Subject, find_subject
from hilum.evaluate.task import Task
from hilum.model.conv_weights import FORMAT as CONVOLUTIONAL
from hilum.model.heads import Representation
from hilum.model.image_encoder import ImageEncoder
from hilum.model.places import find_folder, find_weights, read_format
from hilum.model.towers.catalogue import TowerSpec
from hilum.model.towers.saved import find_saved_tower

AS_RELEASED = CropConfig(mode="squash")  # whole images, as PaCX-MAE's code shows them to probes (P 3.2)


@dataclass(frozen=True)
class Entrant:
    """One encoder under its name in tables."""

    name: str
    method: str  # averaged over its entrants
    word: str  # what it was asked for by; of random weights, the encoder that lends its architecture
    subject: Subject = field(compare=False)
    is_random: bool = False
    seed: int = 0  # of random weights, and of the order of their training

    @property
    def hides_views(self) -> bool:
        """Whether it is shown so few views of a study that nobody can tell which studies have exactly two."""
        cap = self.subject.settings.max_views
        return cap is not None and cap < 3

    @property
    def is_own(self) -> bool:
        """Whether it is Hilum's own vision transformer, whose attention can be read."""
        asked = self._find_architecture()
        if not isinstance(asked, Path):
            return not isinstance(asked, TowerSpec)  # a size: of Hilum's own
        return find_saved_tower(find_weights(asked)) is None and not self.is_convolutional

    @property
    def is_convolutional(self) -> bool:
        """Whether it is Hilum's convolutional encoder, which projects each view to a vector."""
        asked = self._find_architecture()
        return isinstance(asked, Path) and read_format(find_weights(asked)) == CONVOLUTIONAL

    def _find_architecture(self) -> Path | TowerSpec | str:
        asked = find_asked(self.word)
        return asked.like if isinstance(asked, Untrained) else asked

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What its features and its fine-tuning depend on beside the data."""
        shown = self.subject.settings
        how = {"crop": shown.shown.mode, "train_crop": shown.crop.mode, "max_views": shown.max_views}
        if self.seed:
            how["seed_of_weights"] = self.seed
        weights = identify_weights(self.word)
        return {"weights": f"random, like {weights}" if self.is_random else weights, **how}


def identify_weights(word: str) -> str:
    """What an encoder that was asked for by `word` is, wherever it lies: by the content of its files."""
    asked = find_asked(word)
    if isinstance(asked, TowerSpec):
        return f"{asked.label} {_hash_files(asked.weights)}" if isinstance(asked.weights, Path) else word
    if isinstance(asked, Untrained):
        return f"{SUPERVISED} {_hash_files(find_weights(asked.like))}" if isinstance(asked.like, Path) else word
    return _hash_files(find_weights(asked))


def _hash_files(path: Path) -> str:
    """First 16 hex digits of the sha256 of a file, or of those of all files of a folder."""
    if path.is_file():
        return hash_file(path)[:16]
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return hash_parts([[file.relative_to(path).as_posix(), hash_file(file)] for file in found])


def find_entrants(words: Sequence[str], num_networks: int = 1, *, beside_random: bool = True) -> list[Entrant]:
    """Entrants of `RUN` or `METHOD=RUN,RUN,...`; a run without method is one by itself.

    A RUN is a run folder, a weights file or a public encoder (`subject.py`). With `beside_random`, `supervised`, which
    is the first one's architecture with random weights, joins unless a method is called so. Of random weights
    `num_networks` networks take part, each with a seed of its own: one would say as much about its draw as about having
    no pretraining.

    Raises:
        UserError: no run, one that is not finished or not there, or a method or a run named twice.
    """
    methods = group_asked(words)
    entrants = []
    for method, runs in methods.items():
        subjects = [find_subject(run) for run in runs]
        unique = len({subject.name for subject in subjects}) == len(runs)
        for place, (run, subject) in enumerate(zip(runs, subjects, strict=True)):
            name = method if len(runs) == 1 else f"{method}: {subject.name if unique else place}"
            entrant = Entrant(name, method, run, subject, is_random=subject.is_random)
            entrants += _draw_networks(entrant, num_networks) if entrant.is_random else [entrant]
    if beside_random and SUPERVISED not in methods:
        first = entrants[0]
        drawn = Entrant(SUPERVISED, SUPERVISED, first.word, first.subject, is_random=True)
        entrants += _draw_networks(drawn, num_networks)
    return entrants


def _draw_networks(entrant: Entrant, num: int) -> list[Entrant]:
    """The entrant, whose seed is 0, and its like of the seeds after."""
    others = [replace(entrant, name=f"{entrant.name}: network {seed}", seed=seed) for seed in range(1, num)]
    return [entrant, *others]


def check_entrants(cache: Cache, entrants: Sequence[Entrant], leave_out: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Name -> what a reader must know of an entrant.

    Raises:
        UserError: one was pretrained on test patients or images, or on pixels of another policy.
    """
    notes = {}
    for entrant in entrants:
        if entrant.subject.image_policy is not None:
            cache.check_policy(entrant.subject.image_policy)
        if entrant.is_random:
            notes[entrant.name] = ("Random first weights: nothing was learned before the labels.",)
        else:
            notes[entrant.name] = entrant.subject.check_pretraining(cache, leave_out)
    return notes


def find_seen(cache: Cache, entrant: Entrant) -> dict[str, bool | None]:
    """Archive of the cache -> whether pretraining saw any patient or image of its training split, by the run's record;
    None where there is no record.

    What archives are called does not matter, nor from which cache they were learned.
    """
    if entrant.is_random:
        return dict.fromkeys(cache.datasets, False)
    if entrant.subject.path is None:
        return dict.fromkeys(cache.datasets, None)
    seen: dict[str, bool | None] = {}
    for name in cache.datasets:
        others = [other for other in cache.datasets if other != name]
        overlap = measure_overlap(cache, entrant.subject.path, "train", others)
        found = bool(overlap.num_patients or overlap.num_images)
        seen[name] = None if overlap.imported and not found else found
    return seen


def find_run(entrant: Entrant) -> Path | None:
    """The folder of the pretraining that an entrant is from; None for random and published weights."""
    subject = entrant.subject
    is_run = subject.path is not None and not entrant.is_random and "imported" not in subject.about
    return find_folder(subject.path) if is_run and subject.path is not None else None


def embed_entrant(
    cache: Cache,
    entrant: Entrant,
    *,
    all_views: bool = False,
    as_released: bool = False,
    keep_tokens: bool = False,
    precision: Precision = "auto",
    progress: bool = True,
) -> ViewFeatures:
    """Its features of every view, with tokens for heads that attend to them; `all_views` overrules a cap that would
    hide which studies have two. `as_released`: of whole images with their sides scaled apart, whatever its settings
    show, and of training images mirrored too (P 3.2)."""
    cap = NO_CAP if all_views else entrant.subject.settings.max_views
    how: dict[str, Any] = {"precision": precision, "progress": progress, "max_views": cap, "keep_tokens": keep_tokens}
    crop = AS_RELEASED if as_released else None
    how["keep_mirrored"] = as_released
    if not entrant.is_random:
        return embed_cache(cache, entrant.word, crop=crop, title=entrant.name, **how)
    build = entrant.subject.build_untrained
    crop = crop or entrant.subject.read_settings(build(0)).shown
    return embed_untrained(cache, build, seed=entrant.seed, crop=crop, **how)


def check_representation(entrants: Sequence[Entrant], representation: Representation, remedy: str = "") -> None:
    """Refuse what one of the encoders does not offer, before any of them is run; `remedy` is what else could be done.

    Raises:
        UserError: there is no class token to read, or nothing whose largest numbers are read.
    """
    for entrant in entrants:
        encoder = entrant.subject.build_untrained(0)
        offered = ["class", "mean", "both"] if encoder.has_class_token else ["mean"]
        offered += ["max"] if encoder.offers_max else []
        if representation not in offered:
            lacks = f"offers no '{representation}'" if representation == "max" else "has no class token"
            raise UserError(
                f"{entrant.name}: this encoder {lacks}, so --representation {representation} cannot read it; it offers "
                f"{', '.join(offered)}. {remedy or 'Choose among these, or leave --representation out.'}"
            )


def load_entrant(cache: Cache, entrant: Entrant) -> ImageEncoder:
    """Its encoder, on the GPU where there is one."""
    if not entrant.is_random:
        return entrant.subject.load_for(cache, entrant.seed)
    encoder = entrant.subject.build_untrained(entrant.seed)
    return encoder.to("cuda" if torch.cuda.is_available() else "cpu")


def finetune_entrant(
    cache: Cache,
    entrant: Entrant,
    task: Task,
    *,
    name: str,
    checkpoints: Path,
    progress: bool = True,
    **choices: Any,
) -> Finetuned:
    """Its encoder trained end to end on the task's training rows, as `hilum finetune` does; a fine-tuning that was
    stopped continues from `checkpoints`. `choices` are fields of `FinetuneSettings`, whose seed is also that of random
    weights."""
    subject = entrant.subject
    settings = choose_settings(from_scratch=entrant.is_random, **choices)
    encoder = subject.build_untrained(settings.seed) if entrant.is_random else subject.load_for(cache, settings.seed)
    mean, std = subject.read_statistics(cache)
    return finetune_encoder(
        cache,
        encoder.to("cuda" if torch.cuda.is_available() else "cpu"),
        task,
        settings.show_as(subject.read_settings(encoder)),
        name=name,
        mean=mean,
        std=std,
        checkpoints=checkpoints,
        progress=progress,
    )


def group_methods(entrants: Sequence[Entrant]) -> Mapping[str, list[Entrant]]:
    """Method -> its entrants, in order."""
    methods: dict[str, list[Entrant]] = {}
    for entrant in entrants:
        methods.setdefault(entrant.method, []).append(entrant)
    return methods
