"""What frozen image features tell of ECG and laboratory values: ridge regression to a teacher's vectors (P 3.4).

The paper calls it zero-shot alignment; it is a probe fitted on training pairs. A ridge regression goes from
standardised features to the teacher's raw vectors, its penalty chosen by the centred cosine on validation, and beside
it stands the paper's fixed penalty of 10. The headline is the centred cosine with R2 (P 12-19). Controls: the same
probe fitted to shuffled pairs, and a constant, the mean of the training vectors, which is what a raw cosine of an
anisotropic teacher mostly measures.

Everything is of rows that have both: absent means no row. Intervals are by patient and differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from hilum.checksums import hash_parts
from hilum.errors import UserError
from hilum.evaluate.heads.ridge import RidgeFit, fit_ridge
from hilum.evaluate.result import Estimate
from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES
from hilum.evaluate.scoring.dealing import can_deal, deal
from hilum.evaluate.scoring.intervals import Weighted, count_once, estimate_weighted
from hilum.evaluate.scoring.ranking import TOPS
from hilum.evaluate.slices import withhold_of_few

from .alignment_metrics import (
    measure_constant_floor,
    measure_pairwise_cosine,
    resample_centred_cosine,
    resample_cosine,
    resample_r2,
    resample_random_cosine,
)
from .retrieval import retrieve_both_ways

ALPHAS = tuple(10.0**power for power in range(-1, 7))
PAPER_ALPHA = 10.0
Arm = Literal["chosen", "paper", "shuffled", "constant"]
SLICES: dict[Arm, str] = {
    "chosen": "penalty chosen on validation",
    "paper": f"penalty {PAPER_ALPHA:g}",
    "shuffled": "shuffled pairs",
    "constant": "constant answer",
}
METRICS = {
    "centred_cosine": resample_centred_cosine,
    "r2": resample_r2,
    "cosine": resample_cosine,
}


@dataclass(frozen=True)
class Pairs:
    """Rows of one split that have an image and a teacher's vector."""

    features: Float[np.ndarray, "row dim"]  # frozen, of the image side
    teacher: Float[np.ndarray, "row out"]  # raw, as the teacher gave it
    patient: Int[np.ndarray, " row"]


@dataclass(frozen=True)
class Predictions:
    """What a probe said of the test rows: kept, so that two encoders can be paired at any later time."""

    teacher: Float[np.ndarray, "row out"]
    predicted: Float[np.ndarray, "row out"]
    patient: Int[np.ndarray, " row"]


@dataclass(frozen=True)
class AlignmentProbe:
    """The fitted probe of one teacher, its controls, and how its penalty was chosen."""

    teacher: str  # such as "ecg" or "labs"
    said: dict[Arm, Predictions]  # of the test rows
    alpha: float
    tried: dict[float, float]  # penalty -> centred cosine on validation
    training_mean: Float[np.ndarray, " out"]
    counts: dict[str, int]  # rows and patients of each split
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> str:
        """Digest of the test rows: numbers of two encoders are paired on the same ones."""
        return hash_parts([self.said["chosen"].patient, self.said["chosen"].teacher])

    @property
    def protocol(self) -> dict[str, Any]:
        """How, for a record of the result."""
        return {
            "kind": "alignment probe",
            "teacher": self.teacher,
            "chosen_alpha": self.alpha,
            "paper_alpha": PAPER_ALPHA,
            "validation_centred_cosine_tried": {f"{alpha:g}": value for alpha, value in self.tried.items()},
            "teacher_pairwise_cosine": measure_pairwise_cosine(self.said["chosen"].teacher),
            "best_constant_cosine": measure_constant_floor(self.said["chosen"].teacher),
        }


def probe_alignment(
    train: Pairs, val: Pairs, test: Pairs, *, teacher: str, alphas: Sequence[float] = ALPHAS, seed: int = 0
) -> AlignmentProbe:
    """Fit on training pairs, choose the penalty on validation pairs, and say what it and its controls say of test.

    Args:
        teacher: name of the vectors in tables.
        alphas: penalties to choose among, on the scale of `fit_ridge`: a sum over rows stands before them.
        seed: of the shuffled pairs, whose penalty is chosen on validation pairs shuffled alike.

    Raises:
        UserError: a split without rows, or patients in two splits, or one patient with most rows, so that pairs cannot
            be shuffled.
    """
    splits = {"training": train, "validation": val, "test": test}
    _check_pairs(splits, teacher)
    fits = fit_ridge(train.features, train.teacher, [*alphas, PAPER_ALPHA])
    best, tried = _choose(fits[:-1], val)
    wrong = {name: _shuffle(pairs, seed) for name, pairs in list(splits.items())[:2]}
    other_fits = fit_ridge(wrong["training"].features, wrong["training"].teacher, alphas)
    other = other_fits[_choose(other_fits, wrong["validation"])[0]]
    mean = train.teacher.astype(np.float64).mean(axis=0)
    answers: dict[Arm, np.ndarray] = {
        "chosen": fits[best].predict(test.features),
        "paper": fits[-1].predict(test.features),
        "shuffled": other.predict(test.features),
        "constant": np.broadcast_to(mean, test.teacher.shape).copy(),
    }
    return AlignmentProbe(
        teacher=teacher,
        said={arm: Predictions(test.teacher, answer, test.patient) for arm, answer in answers.items()},
        alpha=fits[best].alpha,
        tried=tried,
        training_mean=mean,
        counts={f"{name}_rows": len(pairs.patient) for name, pairs in splits.items()}
        | {f"{name}_patients": len(np.unique(pairs.patient)) for name, pairs in splits.items()},
        seed=seed,
        notes=_note_edge(fits[best].alpha, alphas, len(train.patient)),
    )


def estimate_alignment(
    probe: AlignmentProbe,
    *,
    candidates: Bool[np.ndarray, "row row"] | None = None,
    tops: Sequence[int] = TOPS,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """Centred cosine, R2 and raw cosine of every arm, what wrong pairs score, and retrieval by the chosen probe.

    Retrieval compares prediction and teacher less the mean of the training vectors, in both directions. Of fewer than
    LEAST_ROWS rows there is no number but the reason: it would be of those rows, not of the encoder.

    Args:
        candidates: of the test rows, see `retrieve_both_ways`; retrieval among these stands beside that among all.
    """
    rules: dict[str, Any] = {"of": probe.teacher, "num_resamples": num_resamples, "seed": seed}
    estimates: list[Estimate] = []
    for arm, said in probe.said.items():
        estimates += [
            estimate_weighted(_weigh(metric, said), said.patient, metric=metric, slice=SLICES[arm], **rules)
            for metric in METRICS
        ]
    chosen = probe.said["chosen"]
    for metric, center in (("random_pair_cosine", 0.0), ("random_pair_centred_cosine", chosen.teacher.mean(axis=0))):
        number = partial(resample_random_cosine, chosen.teacher - center, chosen.predicted - center, chosen.patient)
        estimates.append(
            estimate_weighted(
                number, chosen.patient, metric=metric, slice=SLICES["chosen"], undefined="one patient only", **rules
            )
        )
    moved = chosen.predicted - probe.training_mean, chosen.teacher - probe.training_mean, chosen.patient
    how: dict[str, Any] = {"name": probe.teacher, "tops": tops, "num_resamples": num_resamples, "seed": seed}
    estimates += retrieve_both_ways(*moved, **how)
    if candidates is not None:
        estimates += retrieve_both_ways(*moved, candidates=candidates, **how)
    return [withhold_of_few(estimate) for estimate in estimates]


def _weigh(metric: str, said: Predictions) -> Weighted:
    return partial(METRICS[metric], said.teacher, said.predicted)


def _choose(fits: Sequence[RidgeFit], val: Pairs) -> tuple[int, dict[float, float]]:
    """Place of the penalty with the best centred cosine on these rows (the larger of equals), and all of them."""
    once = count_once(len(val.patient))
    values = [float(resample_centred_cosine(val.teacher, fit.predict(val.features), once)[0]) for fit in fits]
    best = max(range(len(fits)), key=lambda place: (values[place], fits[place].alpha))
    return best, {fit.alpha: value for fit, value in zip(fits, values, strict=True)}


def _note_edge(alpha: float, alphas: Sequence[float], num_rows: int) -> tuple[str, ...]:
    """What to say of a penalty at the edge of those tried; a lower one than a thousandth of a row each is none."""
    goes_lower = alpha == min(alphas) and alpha > 1e-3 * num_rows
    if len(alphas) > 1 and (alpha == max(alphas) or goes_lower):
        return (f"The chosen penalty {alpha:g} is at the edge of those tried.",)
    return ()


def _shuffle(pairs: Pairs, seed: int) -> Pairs:
    """The same images with the vectors of other patients."""
    return replace(pairs, teacher=pairs.teacher[deal(pairs.patient, seed)])


def _check_pairs(splits: dict[str, Pairs], teacher: str) -> None:
    for name, pairs in splits.items():
        assert len(pairs.features) == len(pairs.teacher) == len(pairs.patient), name
        if not len(pairs.patient):
            raise UserError(f"No {name} row has both an image and a vector of {teacher}: alignment needs some in each.")
        for what, values in (("features", pairs.features), ("vectors", pairs.teacher)):
            if not np.isfinite(values).all():
                raise UserError(
                    f"The {name} {what} of {teacher} hold numbers that are not finite (the first in row "
                    f"{int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])}). Leave such rows out."
                )
        if name != "test" and not can_deal(pairs.patient):
            raise UserError(
                f"One patient has more than half of the {len(pairs.patient)} {name} rows of {teacher}: pairs cannot be "
                "shuffled. More patients are needed."
            )
    names = list(splits)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            shared = np.intersect1d(splits[first].patient, splits[second].patient)
            if len(shared):
                raise UserError(
                    f"{len(shared)} patients are in {first} and in {second} rows of {teacher}. Split by patient."
                )
