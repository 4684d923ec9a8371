"""The settings of a pretraining run as a whole, to and from config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from tyro.conf import Suppress

from hilum.errors import UserError

from .data import DataConfig
from .model import CrossDecoder, EncoderConfig, MaskConfig
from .optim import OptimConfig
from .run import InitialWeights, RunConfig
from .strict import STRICT
from .terms import (
    Captioning,
    ContrastAlignment,
    PooledAlignment,
    Reconstruction,
    TaggedTerm,
    Term,
    TokenAlignment,
    VarianceCovariance,
)
from .text import TextConfig


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
    encoder: EncoderConfig = EncoderConfig()
    mask: MaskConfig = MaskConfig()
    text: TextConfig = TextConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()
    initial_weights: Annotated[InitialWeights | None, Suppress] = None
    """What --init named; None: the encoder starts from random weights."""


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
    try:
        return parse_config(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}); expected the config.json of a run.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path}: {where}: {first['msg']} (found {first['input']!r}; {error.error_count()} such in all). "
            "Correct or remove it, or use the Hilum that wrote the file; `hilum pretrain RECIPE --help` lists settings."
        ) from error


def find_reference(terms: Mapping[str, Term]) -> str | None:
    """Name of the term whose gradient others are measured by: the first reconstruction; None without one."""
    return next((name for name, term in terms.items() if isinstance(term, Reconstruction)), None)


def find_pair_terms(config: Config) -> list[str]:
    """Names of the terms that compare the views of one study: they learn from studies of two views and more."""
    kinds = TokenAlignment | PooledAlignment | ContrastAlignment
    return [name for name, term in config.terms.items() if isinstance(term, kinds)]


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


def find_batch_terms(config: Config) -> list[str]:
    """Names of the terms that compare the views of a batch with each other: in parts they are another objective."""

    def compares(term: Term) -> bool:
        multiplies_means = isinstance(term, Captioning) and term.average == "slot"
        return isinstance(term, ContrastAlignment | VarianceCovariance) or multiplies_means

    return [name for name, term in config.terms.items() if compares(term)]
