"""An auto-encoder of laboratory values on disk: weights, vocabulary, training percentiles and settings in one file.

Its percentile tables hold, for each laboratory value by itself, which values training rows had and how often: keep the
file as private as such a histogram.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hilum.config.laboratory import LaboratoryConfig
from hilum.errors import UserError
from hilum.laboratory.percentiles import PercentileTables
from hilum.laboratory.vocabulary import LaboratoryVariable, LaboratoryVocabulary

from .lab_autoencoder import LabAutoencoder
from .weights import check_content, name_shape, write_tensors

FORMAT = "hilum-laboratory-autoencoder-1"
_CONFIG = TypeAdapter(LaboratoryConfig)
_VOCABULARY = TypeAdapter(tuple[LaboratoryVariable, ...])


@dataclass(frozen=True)
class LabTeacher:
    """All that makes vectors of laboratory tables: the network in evaluation mode and what its inputs are."""

    autoencoder: LabAutoencoder
    config: LaboratoryConfig
    vocabulary: LaboratoryVocabulary
    percentiles: PercentileTables
    digest: str  # of weights and percentile tables: what vectors were made by
    about: dict[str, Any]  # what else the file says: what it was trained on


def save_lab_teacher(
    path: Path,
    autoencoder: LabAutoencoder,
    *,
    config: LaboratoryConfig,
    vocabulary: LaboratoryVocabulary,
    percentiles: PercentileTables,
    about: Mapping[str, Any],
) -> None:
    """Write the file; it appears whole or not at all, and the same content gives the same bytes.

    about: what JSON can hold and a reader should know: what it was trained on.
    """
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in autoencoder.state_dict().items()}
    tensors |= _store(percentiles)
    header = {
        "format": FORMAT,
        "config": _CONFIG.dump_python(config, mode="json"),
        "vocabulary": [asdict(variable) for variable in vocabulary.variables],
        "ties": percentiles.ties,
        "about": dict(about),
    }
    write_tensors(path, tensors, header)


def load_lab_teacher(path: Path, vocabulary: LaboratoryVocabulary | None = None) -> LabTeacher:
    """The auto-encoder as it was saved.

    Args:
        path: The file, or the run folder it is in.
        vocabulary: What its inputs must be; where given, another vocabulary is an error.

    Raises:
        UserError: no such file or another one, unknown, missing or wrongly shaped tensors, content that is not what was
            written, or another vocabulary.
    """
    path = path / "weights.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"There is no {path}: training on a laboratory table writes it when it is finished.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("hilum", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}). Copy it again.") from error
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path}: not an auto-encoder of laboratory values: its format is {header.get('format')!r}, expected "
            f"{FORMAT!r}. Give a run folder, or the weights.safetensors in it."
        )
    try:
        config = _CONFIG.validate_python(header["config"])
        own = LaboratoryVocabulary(_VOCABULARY.validate_python(header["vocabulary"]))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {where}: {first['msg']}. Was it written by another version of Hilum?") from error
    if vocabulary is not None and (difference := vocabulary.describe_difference(own)):
        raise UserError(f"{path}: was trained on other laboratory values: {difference}.")
    weights = {name: value for name, value in tensors.items() if not name.startswith(_PREFIX)}
    with torch.device("meta"):  # shapes only
        autoencoder = LabAutoencoder(len(own), config.hidden, config.width, mask_missing=config.mask_missing)
    _check_tensors(path, autoencoder, weights, tensors.keys() - weights.keys())
    check_content(path, {"sha256": None, **header}, tensors)  # no file of this format lacks it
    autoencoder.load_state_dict(weights, assign=True)
    percentiles = _restore(path, tensors, header["ties"], len(own))
    return LabTeacher(autoencoder.eval(), config, own, percentiles, header["sha256"], header["about"])


_PREFIX = "percentiles."
_TABLES = ("value", "count", "num_distinct", "mean")


def _store(tables: PercentileTables) -> dict[str, Tensor]:
    """Tables of unequal length one after the other."""
    arrays = (
        np.concatenate(tables.distinct).astype(np.float64),
        np.concatenate(tables.count).astype(np.int64),
        np.array([len(distinct) for distinct in tables.distinct], dtype=np.int64),
        tables.mean.astype(np.float64),
    )
    return {_PREFIX + name: torch.from_numpy(array) for name, array in zip(_TABLES, arrays, strict=True)}


def _restore(path: Path, tensors: Mapping[str, Tensor], ties: Any, num_labs: int) -> PercentileTables:
    value, count, num_distinct, mean = (tensors[_PREFIX + name].numpy() for name in _TABLES)
    whole = len(num_distinct) == len(mean) == num_labs and len(value) == len(count) == num_distinct.sum()
    if not whole or ties not in ("average", "upper"):
        raise UserError(f"{path}: its percentile tables do not fit its {num_labs} laboratory values. Copy it again.")
    ends = np.cumsum(num_distinct)[:-1]
    return PercentileTables(ties, tuple(np.split(value, ends)), tuple(np.split(count, ends)), mean)


def _check_tensors(path: Path, autoencoder: LabAutoencoder, weights: Mapping[str, Tensor], tables: set[str]) -> None:
    own = autoencoder.state_dict()
    expected = own.keys() | {_PREFIX + name for name in _TABLES}
    found = weights.keys() | tables
    problems = [f"unknown: {name}" for name in sorted(found - expected)]
    problems += [f"missing: {name}" for name in sorted(expected - found)]
    problems += [
        f"{name} is {name_shape(weights[name])} and not {name_shape(value)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        raise UserError(f"{path}: its tensors are not those of its settings: {'; '.join(problems[:4])}. Copy it again.")
