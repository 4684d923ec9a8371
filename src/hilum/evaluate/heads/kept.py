"""A trained head on disk, beside its `result.json`: all that an export needs to know of it, and no patient.

head.safetensors    the head as one linear layer on raw features (standardisation folded in); of an attentive one
                    its queries, places and value map too, under the names of `StudyClassifier`
head.json           `HeadRecord`: findings, thresholds, what it reads of which images, whose features
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hilum.atomic import write_atomic
from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.fusion import Fusion
from hilum.evaluate.result import write_json
from hilum.evaluate.task import Unit
from hilum.model.heads import Pooling

from .attentive import AttentiveProbe
from .fit import FittedHead
from .linear import LinearProbe

FORMAT = "hilum-head/1"
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Finding:
    """One output of a head."""

    name: str
    threshold: float | None
    """Probability from which it is called present; None: validation had one class, nothing to choose by."""
    learned: bool
    """False: training knew one class only, every image gets the same score."""


@dataclass(frozen=True, config=_STRICT)
class HeadRecord:
    """What belongs to a head's numbers."""

    kind: str
    """linear probe, attentive probe or fine-tuning."""
    encoder: str
    """Name in tables of the encoder it reads."""
    weights: str
    """Digest (`features.hash_weights`) of that encoder, fine-tuned where it was."""
    task: str
    unit: Unit
    """What a score is of: study, breast or view."""
    findings: list[Finding]
    threshold_chosen_by: str
    representation: Pooling
    """What it reads of a view's tokens."""
    fusion: Fusion
    """How views become a study."""
    crop: str
    max_views: int | None
    precision: str
    """In which features were computed when thresholds were chosen."""
    pixel_policy: str
    """Id of the cache's policy: grey, size and depth."""
    datasets: list[str]
    data: str
    """Digest of the cache."""
    labels: dict[str, Any]
    """How raw states became targets."""
    counts: dict[str, int]
    """Patients, studies and views of each part."""
    seed: int
    tensors: str = ""
    """sha256 of head.safetensors; filled in by `write_head`."""
    format: str = FORMAT


_RECORD = TypeAdapter(HeadRecord)


def list_findings(
    names: tuple[str, ...], threshold: Float[np.ndarray, " finding"] | None, one_class: tuple[str, ...]
) -> list[Finding]:
    """`threshold` as probabilities, NaN where there is none."""
    chosen = np.full(len(names), np.nan) if threshold is None else threshold
    return [
        Finding(name, float(value) if np.isfinite(value) else None, name not in one_class)
        for name, value in zip(names, chosen, strict=True)
    ]


def describe_images(cache: Cache, labels: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record that tell of the cache, but for archives left out."""
    gone = labels.get("leave_out", [])
    return {
        "pixel_policy": cache.policy,
        "datasets": [name for name in cache.datasets if name not in gone],
        "data": cache.digest,
        "labels": dict(labels),
    }


def fold_probe(probe: FittedHead) -> dict[str, Tensor] | None:
    """A fitted probe as the state of a `StudyClassifier` without its encoder; None of nearest neighbours, which hold
    the vectors of training studies, and of the released probe, which is there to be measured.

    Standardised tokens t' = (t - m) / s are folded into an attentive head exactly: q.t' and (q / s).t differ by the
    same number for every token, which the softmax does not see; V t' = (V / s) t - (V / s) m, a constant that goes
    through the linear layer into its bias.
    """
    if isinstance(probe, LinearProbe):
        return {f"head.{name}": value.float() for name, value in probe.fold().state_dict().items()}
    if not isinstance(probe, AttentiveProbe):
        return None
    mean, std = probe.standardize.mean.double(), probe.standardize.std.double()
    pool, linear = probe.head.pool, probe.head.linear
    value = pool.value.weight.detach().double() / std
    weight = linear.weight.detach().double()
    folded = {
        "pool.query": pool.query.detach().double() / std,
        "pool.place": pool.place.detach(),
        "pool.value.weight": value,
        "head.weight": weight,
        "head.bias": linear.bias.detach().double() - weight @ (value @ mean),
    }
    return {name: tensor.float() for name, tensor in folded.items()}


def write_head(folder: Path, state: Mapping[str, Tensor], record: HeadRecord) -> None:
    """Write head.safetensors, then head.json; equal heads give equal bytes."""
    content = save({name: value.detach().float().cpu().contiguous() for name, value in sorted(state.items())})
    write_atomic(folder / "head.safetensors", content)
    said = _RECORD.dump_python(record, mode="json") | {"tensors": hashlib.sha256(content).hexdigest()}
    write_json(folder / "head.json", said)


def read_head(folder: Path) -> tuple[dict[str, Tensor], HeadRecord]:
    """The head that `write_head` left in a folder.

    Raises:
        UserError: there is none, of another format, or its two files do not belong together.
    """
    path = folder / "head.json"
    try:
        said = json.loads(path.read_bytes())
        content = (folder / "head.safetensors").read_bytes()
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            raise ValueError(f"expected the format {FORMAT}")
        record, state = _RECORD.validate_python(said), load(content)
    except (OSError, ValueError, ValidationError, SafetensorError) as error:
        reason = _name_first(error) if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise UserError(f"{path}: not readable as a trained head ({reason}). Probe or fine-tune again.") from error
    if hashlib.sha256(content).hexdigest() != record.tensors:
        raise UserError(f"{folder / 'head.safetensors'}: not the tensors that head.json tells of. Copy both again.")
    assert all(torch.isfinite(value).all() for value in state.values()), "a head of finite numbers"
    return state, record


def _name_first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, found {first['input']!r}"
