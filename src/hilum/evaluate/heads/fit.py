"""The heads that can be put on frozen features, under one form: rows and settings in, one fitted head a setting out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hilum.errors import UserError
from hilum.evaluate.fusion import Fusion
from hilum.evaluate.rows import Rows, TrainOn

from .attentive import RATES, AttentiveProbe, fit_attentive
from .knn import NEIGHBOURS, NeighbourVote, fit_neighbours
from .linear import STRENGTHS, LinearProbe, fit_probes
from .released import RELEASED, SGD_PARITY, ReleasedProbe, fit_released

Head = Literal["linear", "knn", "attentive", "released", "sgd-parity"]


FittedHead = (
    LinearProbe | NeighbourVote | AttentiveProbe | ReleasedProbe
)  # each has `fusion` and `score_rows(rows, keep)`


@dataclass(frozen=True)
class HeadKind:
    """What a head is called, and what of it validation chooses among which values."""

    title: str
    setting: str
    tried: tuple[float, ...]
    train_on: TrainOn = "study"


HEADS: dict[Head, HeadKind] = {
    "linear": HeadKind("linear probe", "strength", STRENGTHS),
    "knn": HeadKind("nearest neighbours", "neighbours", NEIGHBOURS),
    "attentive": HeadKind("attentive probe", "rate", RATES),
    "released": HeadKind("linear probe as released", "epoch", RELEASED.choices, train_on="view"),
    "sgd-parity": HeadKind("linear probe as Mammo-CLIP's", "epoch", SGD_PARITY.choices, train_on="view"),
}
TRAINED_WITH = {"released": RELEASED, "sgd-parity": SGD_PARITY}  # heads that are trained as released code does


def could_go_further(head: Head, setting: float, num_rows: int) -> bool:
    """Whether values beyond a setting at the edge of those tried would mean anything: there are no fewer neighbours
    than one, and no more than training rows; and released schedules end where they end."""
    return head not in TRAINED_WITH and (head != "knn" or 1 < setting < num_rows)


def fit_head(
    head: Head,
    rows: Rows,
    settings: Sequence[float],
    train_on: TrainOn = "study",
    fusion: Fusion = "mean_logit",
    *,
    weighted: bool = False,
    seed: int = 0,
) -> Sequence[FittedHead]:
    """One fitted head for each of the settings, which are those of the head's kind.

    Raises:
        UserError: positives weighted, or views trained or fused, where the head knows no such thing.
    """
    match head:
        case "linear":
            return fit_probes(rows, settings, train_on, fusion, weighted=weighted)
        case "attentive":
            return fit_attentive(rows, settings, train_on, fusion, weighted=weighted, seed=seed)
        case "released":
            if weighted:
                raise UserError("The released probe weighs no positives: leave --rare away.")
            return fit_released(rows, settings, train_on, fusion, seed=seed)
        case "sgd-parity":
            if weighted:
                raise UserError("The head sgd-parity weighs all positives by itself: leave --rare away.")
            return fit_released(rows, settings, train_on, fusion, seed=seed, how=SGD_PARITY)
        case "knn":
            if weighted or train_on != "study" or fusion != "mean_logit":
                raise UserError(
                    "Nearest neighbours vote for studies by the mean of their views: there is no loss whose positives "
                    "could be weighted (--rare), and nothing to fuse. Take the linear or the attentive head for that."
                )
            return fit_neighbours(rows, settings)
