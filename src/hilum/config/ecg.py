"""Our own encoder of ECGs and its pretraining."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt, MultipleOf
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass
from tyro.conf import Suppress

from hilum.ranges import Count, Fraction, NotNegative, Positive, Seed

from .strict import STRICT, read_settings


@dataclass(frozen=True, config=STRICT)
class EcgEncoderConfig:
    """A one-dimensional convolutional network on twelve leads at 100 samples a second."""

    width: Annotated[int, Ge(16), MultipleOf(16)] = 64
    """Channels; a record's vector is three times as long (mean, deviation and maximum over time)."""
    depth: Count = 4
    """Number of residual blocks."""
    kernel_size: Count = 9
    """Length of a block's convolution, in places of 0.04 s; odd."""


@dataclass(frozen=True, config=STRICT)
class EcgPretrainingConfig:
    """Masked reconstruction of ten seconds, and two five-second halves of a record that find each other."""

    recipe: Annotated[Literal["ecg"], Suppress] = "ecg"
    """Which kind of run a config.json is of."""
    encoder: EcgEncoderConfig = EcgEncoderConfig()
    seed: Seed = 0
    """Seeds weights, order, masks, crops and noise."""
    records_per_step: Annotated[int, Ge(2)] = 64
    """Records of a step."""
    steps: Count = 2000
    """Length of the run in optimiser steps."""
    lr: Positive = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: NotNegative = 0.05
    """Decoupled weight decay."""
    warmup: Fraction = 0.05
    """Share of the run in which the learning rate rises; then half a cosine."""
    clip_norm: Positive = 1.0
    """Largest gradient norm."""
    reconstruction_weight: NotNegative = 1.0
    """Weight of the masked reconstruction; 0: none."""
    mask_ratio: Annotated[float, Gt(0.0), Lt(1.0)] = 0.5
    """Share of the time patches of 0.2 s that are hidden in all leads."""
    contrast_weight: NotNegative = 1.0
    """Weight of the contrast between halves of records; 0: none."""
    temperature: Positive = 0.1
    """Of the contrast's cosines."""
    gain: NotNegative = 0.1
    """Deviation of the logarithm of each lead's random gain."""
    noise: NotNegative = 0.05
    """Deviation of the random noise, in deviations of the record."""
    checkpoint_every: Count = 200
    """Steps between checkpoints."""
    log_every: Count = 10
    """Steps between lines of metrics.jsonl."""


_CONFIG = TypeAdapter(EcgPretrainingConfig)


def dump_ecg(config: EcgPretrainingConfig) -> str:
    """The settings as the JSON text that `load_ecg` reads back to equal ones."""
    return json.dumps(_CONFIG.dump_python(config, mode="json"), indent=2) + "\n"


def load_ecg(path: Path) -> EcgPretrainingConfig:
    """Read a run's config.json; a key Hilum does not know is an error that names it."""
    return read_settings(path, _CONFIG.validate_json)
