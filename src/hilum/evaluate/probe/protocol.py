"""How arms are probed, all alike: head, labels, splits or folds, and what is read of the views of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hilum.errors import UserError
from hilum.evaluate.features import ViewFeatures
from hilum.evaluate.fusion import Rare
from hilum.evaluate.heads.fit import Head
from hilum.evaluate.scoring.metrics import MIN_POSITIVES
from hilum.evaluate.tokens import note_regions
from hilum.model.heads import NUM_VECTORS, Representation

from .run import Reading


@dataclass(frozen=True)
class Arm:
    """Features under the name they have in tables, and what they are there for."""

    name: str
    role: Literal["encoder", "untrained", "pixels", "shuffled"]
    features: ViewFeatures
    method: str | None = None
    """Arms of one method differ in the seed of their pretraining; the method is judged by the mean of their metrics."""


@dataclass(frozen=True)
class ProbeProtocol:
    """What can be chosen about a probe report.

    Raises:
        UserError: a count below 1, or settings that do not go together.
    """

    representation: Representation | Literal["auto"] = "auto"
    """What is read of a view; auto: for each arm, and in cross-validation for each fold, what is best on studies that
    it is not scored on."""
    head: Head = "linear"
    """What is fitted to it; attentive: reads the patch tokens (or regions, where tokens would be too many)."""
    rare: Rare = "as-is"
    """weighted: positives of rare findings count more in training, see `fusion.weigh_positives`."""
    crossval: bool = False
    """Repeated cross-validation by patient over the whole cache, for archives too small to split."""
    num_repeats: int = 3
    """Rounds of folds in cross-validation."""
    counts: Sequence[int] | None = None
    """Label counts of the efficiency curve; round numbers up to all where not given."""
    num_seeds: int = 5
    """Draws of the labelled patients for each of them."""
    min_positives: int = MIN_POSITIVES
    """Rows of each class that a finding needs to enter the macro mean."""

    def __post_init__(self) -> None:
        check_counts(num_seeds=self.num_seeds, num_repeats=self.num_repeats)
        if self.head == "attentive" and self.representation != "auto":
            raise UserError(
                f"--representation {self.representation} is for --head linear and knn: the attentive head reads patch "
                "tokens."
            )
        if self.head == "knn" and self.rare == "weighted":
            raise UserError("--rare weighted is for --head linear and attentive: neighbours vote, they have no loss.")
        if self.head == "sgd-parity" and (self.crossval or self.rare == "weighted"):
            flag = "--crossval" if self.crossval else "--rare"
            raise UserError(
                f"{flag} is for other heads: sgd-parity repeats a protocol, of one split and with its own weights."
            )

    @property
    def fit(self) -> dict[str, Any]:
        """What every probe is fitted with."""
        return {"head": self.head, "weighted": self.rare == "weighted"}


def check_counts(**counts: int) -> None:
    """Refuse numbers below 1, by their names."""
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} is {count}: expected at least 1.")


def choose_reading(arms: Sequence[Arm], protocol: ProbeProtocol) -> tuple[Reading, tuple[str, ...]]:
    """What is read of all encoders alike, and what a reader must know of that."""
    encoders = [arm for arm in arms if arm.role != "pixels"]
    if protocol.head == "attentive":
        without = [arm.name for arm in encoders if arm.features.tokens is None]
        return "tokens", (note_regions(without),) if without else ()
    if protocol.representation != "auto":
        return protocol.representation, ()
    offers = [arm.features.representations for arm in encoders]
    common = tuple(name for name in NUM_VECTORS if all(name in offer for offer in offers))
    left_out = [name for name in NUM_VECTORS if name not in common]
    notes = []
    if regions := ", ".join(name for name in left_out if name in ("2x2", "4x4")):
        why = "No places, or too large" if any("max" in offer for offer in offers) else "Too large"
        notes.append(f"{why} to be tried as features here: regions of {regions}.")
    if "max" in left_out and any("max" in offer for offer in offers):
        notes.append("Not read of any encoder, since not all here are convolutional: max.")
    if whole := ", ".join(name for name in left_out if name in ("class", "both")):
        notes.append(f"Not read of any encoder, since one here has no class token: {whole}.")
    return common, tuple(notes)
