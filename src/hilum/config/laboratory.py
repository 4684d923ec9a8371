"""Settings of the auto-encoder of laboratory values and of its training (P 1.2)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass
from tyro.conf import Suppress

from hilum.ranges import Count, Fraction, NotNegative, Positive, Seed

from .strict import STRICT, read_settings


@dataclass(frozen=True, config=STRICT)
class LaboratoryConfig:
    """Everything its training depends on, but for the data."""

    recipe: Annotated[Literal["labs"], Suppress] = "labs"
    """Which kind of run a config.json is of."""
    preset: Annotated[Literal["paper", "code", "hilum"], Suppress] = "hilum"
    """Where the paper and its released code disagree: the paper, the code, or Hilum's own."""
    hidden: Count = 512
    """Width of the layer between input and vector, and between vector and output."""
    width: Count = 256
    """Length of a row's vector."""
    mask_missing: bool = True
    """Keep what stands in missing slots from the vectors; the released code lets it in when it makes them."""
    ties: Literal["average", "upper"] = "average"
    """Percentile of equal values: their average rank, or that of the last of them, as in Symile's files."""
    drop: Fraction = 0.15
    """Probability that an observed value is hidden from the encoder in training."""
    lr: Positive = 3e-4
    """Peak learning rate."""
    weight_decay: NotNegative = 0.01
    """Decoupled weight decay of all parameters."""
    warmup_steps: Annotated[int, Ge(0)] = 200
    """Steps in which the learning rate rises; then it falls by a cosine to 0."""
    epochs: Count = 50
    """Passes over the training rows; of each the last few rows that fill no batch are left out."""
    batch_size: Count = 256
    """Rows a step; all of them where there are fewer."""
    checkpoint_minutes: NotNegative = 5.0
    """Minutes between checkpoints, which are written at ends of epochs and when the run is told to stop."""
    seed: Seed = 0
    """Seeds first weights, order and what is dropped."""


_CONFIG = TypeAdapter(LaboratoryConfig)


def build_laboratory(preset: Literal["paper", "code", "hilum"] = "hilum") -> LaboratoryConfig:
    """Of a preset (P 1.2, P 7): `code` shows the encoder placeholders; `paper` and `code` rank ties as Symile does."""
    config = LaboratoryConfig(preset=preset)
    return config if preset == "hilum" else replace(config, ties="upper", mask_missing=preset == "paper")


def dump_laboratory(config: LaboratoryConfig) -> str:
    """The settings as the JSON text that `load_laboratory` reads back to equal ones."""
    return json.dumps(_CONFIG.dump_python(config, mode="json"), indent=2) + "\n"


def load_laboratory(path: Path) -> LaboratoryConfig:
    """Read a run's config.json; a key Hilum does not know is an error that names it."""
    return read_settings(path, _CONFIG.validate_json)
