"""What stands beside an encoder in an evaluation of risk, and which of them are compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from hilum.evaluate.features import ViewFeatures
from hilum.evaluate.probe.protocol import Arm
from hilum.model.heads import Representation

from .follow_up import FollowUp

_NOT_READ = ("2x2", "4x4", "both")  # unless asked for: many numbers for few cancers


@dataclass(frozen=True)
class RiskArm:
    """What is read of an exam, under the name it has in tables."""

    name: str
    role: Literal["encoder", "untrained", "pixels", "table", "both"]
    features: ViewFeatures | None
    with_table: bool = False


def list_arms(embedded: Sequence[Arm], follow_up: FollowUp) -> list[RiskArm]:
    """Encoders, the first of them with the table, its controls, and the table alone, where there is any."""
    arms = [RiskArm(arm.name, arm.role, arm.features) for arm in embedded if arm.role != "shuffled"]
    if not follow_up.table_names:
        return arms
    table = " and ".join(follow_up.table_names)
    both = RiskArm(f"{arms[0].name} with {table}", "both", arms[0].features, True)
    return [*arms, both, RiskArm(table, "table", None, True)]


def choose_readings(arms: Sequence[Arm], asked: Representation | Literal["auto"]) -> tuple[Representation, ...]:
    """What is tried of every encoder alike."""
    if asked != "auto":
        return (asked,)
    offers = [arm.features.representations for arm in arms if arm.role != "pixels"]
    return tuple(name for name in offers[0] if name not in _NOT_READ and all(name in offer for offer in offers))


def pair_arms(arms: Sequence[RiskArm], there: Collection[str]) -> list[tuple[str, str]]:
    """Encoders with each other, with their controls and with the table; with the table added, with both parts of it.

    Of those whose names are `there`.
    """
    encoders = [arm.name for arm in arms if arm.role == "encoder"]
    controls = [arm.name for arm in arms if arm.role in ("untrained", "pixels", "table")]
    pairs = [*combinations(encoders, 2), *((one, other) for one in encoders for other in controls)]
    for both in (arm.name for arm in arms if arm.role == "both"):
        pairs += [(both, other) for other in (encoders[0], *(arm.name for arm in arms if arm.role == "table"))]
    return [pair for pair in pairs if all(name in there for name in pair)]
