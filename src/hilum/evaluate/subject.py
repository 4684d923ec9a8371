"""What is evaluated: a run's encoder, a public one, or Hilum's own before any training, and how each is to be fed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.config import ConvEncoderConfig, DataConfig, EncoderConfig, load_config
from hilum.errors import UserError
from hilum.model.conv_encoder import ConvEncoder
from hilum.model.conv_weights import FORMAT as CONVOLUTIONAL
from hilum.model.conv_weights import load_conv_encoder, read_conv_header, save_conv_encoder
from hilum.model.encoder import Encoder
from hilum.model.image_encoder import ImageEncoder, PixelRangeError
from hilum.model.places import find_folder, find_weights, name_run, place_results, read_format
from hilum.model.towers.catalogue import TowerSpec, Weights
from hilum.model.towers.saved import find_saved_tower, read_tower_header, save_tower
from hilum.model.towers.tower import Tower
from hilum.model.weights import load_encoder, read_header, save_encoder
from hilum.outputs import check_result_folder
from hilum.recipes import build_recipe

from .asked import Untrained, find_asked
from .leaks import check_pretraining, check_splits_apart, measure_overlap, note_imported

_NUM_NAMED = 5  # images named in a message


@dataclass(frozen=True)
class Subject:
    """An encoder and how it is shown studies; nothing but a file's header is read before `load`."""

    name: str  # in tables
    load: Callable[[int], ImageEncoder]  # in evaluation mode; the seed counts only where weights are random
    build_untrained: Callable[[int], ImageEncoder]  # the same network with random weights
    settings: DataConfig = DataConfig()  # noqa: RUF009 - frozen
    path: Path | None = None  # run folder or weights file with a record of what it has seen; None: nobody keeps one
    mean: float | None = None  # of the pixels it reads, before any statistics of its own; None: those of the cache
    std: float | None = None
    image_policy: str | None = None  # None: it was trained on no cache
    about: dict[str, Any] = field(default_factory=dict)  # the header of its file
    is_random: bool = False  # whether it starts from random weights
    notes: tuple[str, ...] = ()  # what a reader of its results must know

    def load_for(self, cache: Cache, seed: int = 0) -> ImageEncoder:
        """The encoder, on the GPU where there is one.

        Raises:
            UserError: it was trained on pixels of another intensity policy than the cache's.
        """
        if self.image_policy is not None:
            cache.check_policy(self.image_policy)
        return self.load(seed).to("cuda" if torch.cuda.is_available() else "cpu")

    def read_settings(self, encoder: ImageEncoder) -> DataConfig:
        """Its settings with the crop that the encoder is made for, where there is such a one."""
        return self.settings if encoder.crop is None else replace(self.settings, evaluation_crop=encoder.crop)

    def read_statistics(self, cache: Cache) -> tuple[float, float]:
        """Mean and standard deviation that `prepare` normalises by."""
        return (cache.mean if self.mean is None else self.mean), (cache.std if self.std is None else self.std)

    def check_pretraining(self, cache: Cache, leave_out: Sequence[str] = ()) -> tuple[str, ...]:
        """Refuse to test on what it was pretrained on; returns what a reader must know of that and of the encoder.

        Raises:
            UserError: test patients or images are in its record, copies of test images in the cache's other splits, or
                the record is lost.
        """
        check_splits_apart(cache, leave_out)
        seen = () if self.path is None else check_pretraining(cache, self.path, leave_out)
        return (*self.notes, *seen)

    def describe_overlap(self, cache: Cache, leave_out: Sequence[str] = ()) -> tuple[str, ...]:
        """How much of the whole cache its pretraining saw, and what else a reader must know."""
        if self.path is None:
            return self.notes
        overlap = measure_overlap(cache, self.path, None, leave_out)
        seen = f"Pretraining saw {overlap} of this evaluation, without their labels."
        return (*self.notes, seen, *note_imported(overlap))

    def name_folder(self, out: Path | None, name: str) -> Path:
        """Where results go: to `out`, or to a folder of that name in the run's.

        Raises:
            UserError: neither is known, or `out` holds a run, a cache or weights.
        """
        if out is not None:
            check_result_folder(out)
            return out
        if self.path is None:
            raise UserError(f"{self.name} has no run folder to put results in: add --out FOLDER.")
        return place_results(self.path, name)


def find_subject(encoder: Path | str) -> Subject:
    """The encoder that a path (run folder, weights file) or a name (`supervised:tiny`, `biomedclip=FOLDER`) means.

    Raises:
        UserError: neither; or a run that is not finished, or weights that are not there.
    """
    asked = find_asked(encoder)
    if isinstance(asked, Untrained):
        return _describe_untrained(asked)
    if isinstance(asked, TowerSpec):
        return _describe_tower(asked)
    path, file = asked, find_weights(asked)
    if saved := find_saved_tower(file):
        return replace(_describe_tower(saved), name=name_run(path))
    config, about = _read_any_header(file)
    load = load_encoder if isinstance(config, EncoderConfig) else load_conv_encoder
    return Subject(
        name=name_run(path),
        load=lambda seed: load(file)[0],
        build_untrained=partial(build_random, config),
        settings=read_data_settings(path),
        path=path,
        mean=about["mean"],
        std=about["std"],
        image_policy=about["image_policy"],
        about=about,
    )


def read_data_settings(path: Path) -> DataConfig:
    """How a run's studies are shown: `.shown` of every image in evaluation, and at most `.max_views` of a study.

    They are in the config.json of a run folder; of a fine-tuned encoder, or weights without their folder, in the
    header of the weights. Where neither says: the centre, and all views.
    """
    config = find_folder(path) / "config.json"
    about = _read_any_header(find_weights(path))[1]
    if config.is_file() and "imported" not in about:
        return load_config(config).data
    return DataConfig(max_views=about.get("max_views"), evaluation_crop=about.get("crop", "center"))


def _read_any_header(file: Path) -> tuple[EncoderConfig | ConvEncoderConfig, dict[str, Any]]:
    """Of an encoder of Hilum's, a transformer or a convolutional one: config and metadata."""
    return read_conv_header(file) if read_format(file) == CONVOLUTIONAL else read_header(file)


def build_random(config: EncoderConfig | ConvEncoderConfig, seed: int = 0) -> Encoder | ConvEncoder:
    """Hilum's encoder of this architecture with its first random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return (Encoder(config) if isinstance(config, EncoderConfig) else ConvEncoder(config)).eval()


def describe_licence(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What may be done with a public encoder, from its `record` or from what made its features."""
    tower = record.get("tower")
    if tower is None or tower["weights"] == "random":
        return ()
    return (f"{tower['name']}: licence of the published weights: {tower['licence']}; computed by {tower['library']}.",)


def save_any(encoder: ImageEncoder, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write an encoder so that `find_subject` finds it again, with what the reader must know to feed it."""
    if isinstance(encoder, Tower):
        save_tower(encoder, path, metadata)
    elif isinstance(encoder, ConvEncoder):
        save_conv_encoder(encoder, path, metadata)
    else:
        assert isinstance(encoder, Encoder), type(encoder)
        save_encoder(encoder, path, metadata)


def check_cache(cache: Cache, encoder: ImageEncoder) -> None:
    """Refuse a cache that keeps smaller images than the encoder reads, or views of a kind unknown to it."""
    if isinstance(encoder, Encoder | ConvEncoder):
        cache.check_encoder(encoder.config)
    else:
        assert isinstance(encoder.image_size, int), "public encoders read squares"
        cache.check_size(encoder.image_size)


@contextmanager
def name_refused(cache: Cache, batch: StudyBatch) -> Generator[None, None, None]:
    """Say of which studies and files the views are that an encoder refuses within the block.

    Raises:
        UserError: with their names in the study table.
    """
    try:
        yield
    except PixelRangeError as error:
        rows = batch.view_row.cpu().numpy()[list(error.views)]
        images = cache.table().select("dataset", "study", "views").explode("views").unnest("views")[rows]
        names = [f"{one['dataset']}/{one['study']} ({one['path']})" for one in images[:_NUM_NAMED].to_dicts()]
        names += [f"{len(rows) - _NUM_NAMED} more"] if len(rows) > _NUM_NAMED else []
        raise UserError(
            f"{cache.path}: {', '.join(names)}: {error} Where an image is in truth as dark as that, leave its study "
            "out of the study table, and make the cache anew."
        ) from error


def _describe_untrained(asked: Untrained) -> Subject:
    """The baseline `supervised`, which learns from labels alone (M 4.3); like a run it also has its image size."""
    if isinstance(asked.like, Path):
        config, _ = _read_any_header(find_weights(asked.like))
    else:
        config = build_recipe("independent", "hilum", asked.like).transformer  # ty: ignore[invalid-argument-type]
    build = partial(build_random, config)
    note = "Random first weights: nothing was learned before the labels."
    return Subject(name=asked.label, load=build, build_untrained=build, is_random=True, notes=(note,))


def _describe_tower(spec: TowerSpec) -> Subject:
    """A public encoder; of one that Hilum fine-tuned, what that saw is beside its file and how in its header."""

    def build(weights: Weights, seed: int) -> ImageEncoder:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return TowerSpec(spec.name, weights).load()

    about: dict[str, Any] = {}
    path: Path | None = None
    unknown = f"What {spec.label} was pretrained on is not on record here: test patients or images may be among it."
    notes = ("Random weights: nothing was learned.",) if spec.weights == "random" else (unknown,)
    if isinstance(spec.weights, Path):
        about, beside = read_tower_header(spec.weights), find_folder(spec.weights)
        path = spec.weights if (beside / "pretraining.json").is_file() else None
        if about.get("tower", {}).get("weights") == "random":
            notes = ("Fine-tuned from random weights.",)
    return Subject(
        name=spec.label,
        load=partial(build, spec.weights),
        build_untrained=partial(build, "random"),
        settings=DataConfig(max_views=about.get("max_views")),
        path=path,
        mean=0.0,
        std=1.0,
        image_policy=about.get("image_policy"),
        about=about,
        is_random=spec.weights == "random",
        notes=notes,
    )
