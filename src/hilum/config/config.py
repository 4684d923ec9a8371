"""The settings of a pretraining run as a whole, to and from config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag, TypeAdapter
from pydantic.dataclasses import dataclass
from tyro.conf import Suppress

from .adapter import LowRankAdapter
from .convolution import ConvEncoderConfig
from .data import DataConfig
from .model import CrossDecoder, EncoderConfig, MaskConfig
from .optim import OptimConfig
from .run import InitialWeights, RunConfig
from .strict import STRICT, read_settings
from .teachers import FeaturePreservation, ImageContrast, TeacherContrast, TeacherRegression, TeachersConfig
from .terms import (
    Captioning,
    ContrastAlignment,
    ImageTextContrast,
    PooledAlignment,
    Reconstruction,
    TaggedTerm,
    Term,
    TextContrast,
    TokenAlignment,
    VarianceCovariance,
    ViewContrast,
)
from .text import TextConfig
from .text_encoder import TextEncoderConfig


def _tell_encoders_apart(value: Any) -> str:
    """A vision transformer's settings have no `kind`: they are older than there being another."""
    kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
    return "transformer" if kind is None else str(kind)


_ENCODERS = ("transformer", "convolution")
TaggedEncoder = Annotated[
    Annotated[EncoderConfig, Tag("transformer")] | Annotated[ConvEncoderConfig, Tag("convolution")],
    Discriminator(_tell_encoders_apart),
]


@dataclass(frozen=True, config=STRICT)
class Config:
    """Everything a pretraining run depends on, but for the data."""

    recipe: Annotated[str, Suppress]
    """Name of the recipe this came from."""
    preset: Annotated[Literal["paper", "code", "hilum"], Suppress]
    """Where the paper and its released code disagree: the paper, the code, or Hilum's own."""
    size: Annotated[Literal["nano", "tiny", "small", "base", "large"], Suppress]
    """Size of the encoder."""
    terms: dict[str, TaggedTerm]
    """The weighted terms of the objective, by name."""
    seed: int = 0
    """Seeds weights, order, crops and masks."""
    data: DataConfig = DataConfig()
    encoder: TaggedEncoder = EncoderConfig()
    mask: MaskConfig = MaskConfig()
    adapter: LowRankAdapter | None = None
    """What of a frozen encoder is trained; None: all of the encoder is."""
    text: TextConfig = TextConfig()
    text_encoder: TextEncoderConfig | None = None
    """What reads texts that images are compared with; None: nothing does."""
    teachers: TeachersConfig = TeachersConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()
    initial_weights: Annotated[InitialWeights | None, Suppress] = None
    """What --init named; None: the encoder starts from random weights."""

    @property
    def transformer(self) -> EncoderConfig:
        """The encoder, of an objective that only works with a vision transformer (`check_effects` refuses others)."""
        assert isinstance(self.encoder, EncoderConfig), "a convolutional encoder"
        return self.encoder


_CONFIG = TypeAdapter(Config)


def dump_config(config: Config) -> str:
    """The config as the JSON text that `load_config` reads back to an equal one."""
    return json.dumps(_CONFIG.dump_python(config, mode="json"), indent=2) + "\n"


def parse_config(text: str | bytes) -> Config:
    """The config of which `dump_config` made the text, also where settings were added since: these get their defaults.

    Raises:
        ValidationError: of pydantic, for a key or a value that is none.
    """
    return _CONFIG.validate_json(text)


def load_config(path: Path) -> Config:
    """Read a run's config.json; a key Hilum does not know is an error that names it."""
    return read_settings(path, _CONFIG.validate_json, tags=_ENCODERS)


def find_reference(terms: Mapping[str, Term]) -> str | None:
    """Name of the term whose gradient others are measured by: the first reconstruction; None without one."""
    return next((name for name, term in terms.items() if isinstance(term, Reconstruction)), None)


def find_pair_terms(config: Config) -> list[str]:
    """Names of the terms that compare the views of one study: they learn from studies of two views and more."""

    def compares(term: Term) -> bool:
        of_images = isinstance(term, ImageContrast) and term.pairs == "study"
        return isinstance(term, TokenAlignment | PooledAlignment | ContrastAlignment | ViewContrast) or of_images

    return [name for name, term in config.terms.items() if compares(term)]


def find_look_terms(config: Config) -> list[str]:
    """Names of the terms that compare two looks at one image."""
    return [name for name, term in config.terms.items() if isinstance(term, ImageContrast) and term.pairs != "study"]


def find_cross_view_terms(config: Config) -> list[str]:
    """Names of the terms that reconstruct a view with the help of the others of its study."""
    return [
        name
        for name, term in config.terms.items()
        if isinstance(term, Reconstruction) and isinstance(term.decoder, CrossDecoder) and term.decoder.other_views
    ]


def find_captioning(config: Config) -> str | None:
    """Name of the term that learns from reports (there is at most one); None without one."""
    return next((name for name, term in config.terms.items() if isinstance(term, Captioning)), None)


def find_image_text(config: Config) -> str | None:
    """Name of the term that compares images with texts (there is at most one); None without one."""
    return next((name for name, term in config.terms.items() if isinstance(term, ImageTextContrast)), None)


def find_teacher_terms(config: Config) -> list[str]:
    """Names of the terms that learn from teachers."""
    return [name for name, term in config.terms.items() if isinstance(term, TeacherContrast | TeacherRegression)]


def list_teachers(config: Config, term: TeacherContrast | TeacherRegression) -> dict[str, int]:
    """The teachers that a term learns from, by name, and how many numbers their vectors have."""
    tables = config.teachers.tables
    return {name: tables[name].width for name in term.teachers or tables}


def find_whole_terms(config: Config) -> list[str]:
    """Names of the terms that read whole views and not what masks leave of them."""

    def reads_whole(term: Term) -> bool:
        chooses = isinstance(term, TeacherContrast | TeacherRegression | ImageContrast)
        always = FeaturePreservation | ImageTextContrast | ViewContrast | TextContrast
        return isinstance(term, always) or (chooses and term.reads == "whole")

    return [name for name, term in config.terms.items() if reads_whole(term)]


def needs_start(config: Config) -> list[str]:
    """Settings and terms that mean nothing without weights to start from."""
    names = [f"terms.{name}" for name, term in config.terms.items() if isinstance(term, FeaturePreservation)]
    return [*(["adapter"] if config.adapter else []), *names]


def find_batch_terms(config: Config) -> list[str]:
    """Names of the terms that compare what is in a batch with each other: in parts they are another objective."""

    def compares(term: Term) -> bool:
        multiplies_means = isinstance(term, Captioning) and term.average == "slot"
        contrasts = (
            ContrastAlignment | TeacherContrast | ImageContrast | ImageTextContrast | ViewContrast | TextContrast
        )
        return isinstance(term, contrasts | VarianceCovariance) or multiplies_means

    return [name for name, term in config.terms.items() if compares(term)]
