"""`result.json`: the one form in which a number leaves Hilum, with everything needed to weigh and to repeat it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from hilum.atomic import write_atomic
from hilum.checksums import hash_parts
from hilum.errors import UserError

FORMAT = "hilum-result/1"
_STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="null")
TOO_FEW = "too few"  # how the reason begins where there are rows, but not enough for a number


@dataclass(frozen=True, config=_STRICT)
class Estimate:
    """One number: what it measures, of what, how sure it is, and what it rests on."""

    metric: str
    """auroc, average_precision, f1, f1_at_half (at the threshold 0.5), brier_error, calibration_error (adaptive bins),
    calibration_error_fixed. Of mammograms also sensitivity_at_specificity, specificity_reached, probabilistic_f1; of
    ordered classes quadratic_kappa, balanced_accuracy. Of masks dice, iou, dice_pooled, iou_pooled, surface_distance,
    hausdorff_95; of a teacher's vectors centred_cosine, r2, cosine, recall_at_1, chance_at_1, ...; of pairs of breasts
    these and median_rank, chance_median_rank, ipsilateral_auc, ipsilateral_auc_pooled; of two encoders cka,
    cka_debiased, cosine, rollout_share, rescued and lost (numbers of rows), .... Of risks c_index_harrell, c_index_uno,
    c_index_antolini, c_index_mirai, auc_ipcw, auc_mirai, calibration_gap (predicted minus observed), decile_recall; of
    risks recalibrated on validation brier_error_recalibrated, ...."""
    of: str
    """A finding, structure or teacher, what is found (text, view), what classes are of (density), or `macro`: the
    unweighted mean of those that can be scored."""
    value: float | None
    """None where the number is not defined; then `reason` says why."""
    low: float | None = None
    """Lower end of the interval."""
    high: float | None = None
    """Upper end of the interval."""
    num: int = 0
    """Rows (studies or views) with a known target; for `macro`, the findings that entered."""
    positives: int | None = None
    """Positive rows among them."""
    reason: str | None = None
    """Why there is no value, or why this finding does not enter the macro mean."""
    slice: str = "all"
    """Which part of the test rows, as `column=value`."""
    threshold: float | None = None
    """Score from which F1 says "present"; chosen on validation for the best F1."""


@dataclass(frozen=True, config=_STRICT)
class Hashes:
    """What the numbers were made from. Equal hashes and seed give equal numbers."""

    data: str
    """Digest of the cache."""
    split: str
    """Digest of which study is in which split."""
    weights: str
    """Digest of the encoder's weights; `pixels` where there is no encoder."""
    code: str
    """Digest of Hilum's own source files."""


@dataclass(frozen=True, config=_STRICT)
class Result:
    """The outcome of one evaluation of one encoder (or control) on one task with one seed."""

    encoder: str
    """Name of what was evaluated, as shown in tables."""
    task: str
    """Name of the task."""
    protocol: dict[str, Any]
    """How: probe or finetune, representation, chosen strength, label policies, crop, and so on."""
    seed: int
    estimates: list[Estimate]
    hashes: Hashes
    counts: dict[str, int]
    """Patients, studies and views in each part, as `test_patients`."""
    level: float
    """Level of the intervals, such as 0.95."""
    num_resamples: int
    """Bootstrap resamples behind each interval."""
    unit: Literal["patient"] = "patient"
    """What is drawn with replacement."""
    notes: tuple[str, ...] = ()
    """What a reader must know beside the numbers."""
    format: str = FORMAT

    def find(self, metric: str, of: str = "macro", slice: str = "all") -> Estimate:
        """The one estimate of that metric, finding and slice."""
        found = [e for e in self.estimates if (e.metric, e.of, e.slice) == (metric, of, slice)]
        assert len(found) == 1, f"{len(found)} estimates of {metric} of {of} in {slice}"
        return found[0]


_RESULT = TypeAdapter(Result)


def write_json(path: Path, content: Any) -> None:
    """JSON that appears whole or not at all; NaN is not JSON and raises ValueError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def dump_result(result: Result) -> dict[str, Any]:
    """The result as plain JSON values."""
    return _RESULT.dump_python(result, mode="json")


def write_result(path: Path, result: Result) -> Path:
    """Write `result` as JSON, atomically; a NaN within `protocol` becomes null."""
    write_json(path, dump_result(result))
    return path


def enclose_result(folder: Path, out: Path) -> dict[str, Any]:
    """The result of a cell as an entry of the summary in `out`: itself, and where it lies."""
    path = folder / "result.json"
    return {"path": path.relative_to(out).as_posix(), "result": dump_result(read_result(path))}


def read_result(path: Path) -> Result:
    """Read a result.json.

    Raises:
        UserError: the file is not JSON, of another version of the format, or lacks something.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); expected a result.json of hilum.") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: format {found!r}, expected {FORMAT!r}. Evaluate again with this version of Hilum.")
    try:
        return _RESULT.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']} (found {first['input']!r}).") from error


# What turns the images of a cache into frozen features, the choice among a study's many views included.
FEATURE_CODE = (
    "augment.py",
    "batch.py",
    "keyed_random.py",
    "loader.py",
    "model/**/*.py",
    "sampler.py",
    "evaluate/controls.py",
    "evaluate/features.py",
    "evaluate/subject.py",
    "evaluate/tokens.py",
    "evaluate/viewing.py",
)


@functools.cache
def hash_code(patterns: tuple[str, ...] = ("**/*.py",)) -> str:
    """Digest of the package's Python files, names included: of all, or of those that match one of the patterns."""
    root = Path(__file__).parents[1]
    files = sorted({file for pattern in patterns for file in root.glob(pattern)})
    return hash_parts(part for file in files for part in (file.relative_to(root).as_posix(), file.read_bytes()))


def to_number(value: float) -> float | None:
    """A plain float for JSON, None for NaN."""
    return None if np.isnan(value) else float(value)
