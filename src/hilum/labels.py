"""Findings: one vocabulary, raw states kept, mapped to targets by a named policy; archives' own labels mapped into it.

Maps from an archive's own labels are tables in `label_maps/`, one row for each label with its findings (several are
joined by ";"), the reason and the kind of decision:

    finding       the label says that these findings are present
    says nothing  of any finding, present or absent
    normal        the study is read as normal
    unreadable    nothing can be said of the study: all its findings are blank and stay unknown under every policy

No Finding is never in a map. It is derived, so that it cannot contradict another label.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal, cast, get_args

import numpy as np
from jaxtyping import Bool, Float32

from hilum.errors import UserError

# The 14 CheXpert labels, alphabetical (Irvin et al. 2019; MVMAE section 4).
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
# What No Finding says is absent. A device is no disease: a normal chest may hold one.
DISEASES = tuple(finding for finding in FINDINGS if finding not in ("No Finding", "Support Devices"))

# Raw states: 1 present, 0 absent, -1 uncertain, blank (null in tables, NaN in arrays) not mentioned.
RAW_STATES = (1, 0, -1)

UncertainPolicy = Literal["zeros", "ones", "ignore", "soft"]
BlankPolicy = Literal["zeros", "ignore"]
SOFT_TARGET = 0.5  # of an uncertain state in a loss, by the policy `soft`


def binarize_states(
    raw: Float32[np.ndarray, "study finding"], uncertain: UncertainPolicy = "zeros", blank: BlankPolicy = "zeros"
) -> Float32[np.ndarray, "study finding"]:
    """Raw states (NaN = blank) to targets 0, 1 or NaN (= enters neither a loss nor a metric).

    The paper and its code use zeros for both (M 1.4: {1, 0, -1, blank} -> {1, 0, 0, 0}). An uncertain state under
    `soft` is NaN here, as there is no metric of a maybe; a loss takes SOFT_TARGET for it (`evaluate.task.Task.soft`).
    """
    target = raw.copy()
    target[raw == -1] = {"zeros": 0.0, "ones": 1.0, "ignore": np.nan, "soft": np.nan}[uncertain]
    if blank == "zeros":
        target[np.isnan(raw)] = 0.0
    return target


def mask_unsayable(
    target: Float32[np.ndarray, "study finding"], sayable: np.ndarray
) -> Float32[np.ndarray, "study finding"]:
    """NaN where the study's archive cannot say a finding at all: unknown, not negative.

    sayable: bool (study, finding).

    Example: ChestX-ray14 has no Enlarged Cardiomediastinum, Fracture or Support Devices.
    """
    return np.where(sayable, target, np.float32(np.nan))


Decision = Literal["finding", "says nothing", "normal", "unreadable"]


@dataclass(frozen=True)
class LabelMap:
    """What each label of an archive says of our findings."""

    name: str
    decisions: dict[str, Decision]
    positive: Bool[np.ndarray, "label finding"]  # rows in the order of `decisions`

    @functools.cached_property
    def sayable(self) -> Bool[np.ndarray, " finding"]:
        """Findings the archive can state: No Finding too where a label says normal."""
        says_normal = "normal" in self.decisions.values()
        return np.array(
            [says_normal if name == "No Finding" else self.positive[:, i].any() for i, name in enumerate(FINDINGS)]
        )

    def map_rows(self, labels: Sequence[Sequence[str]]) -> Float32[np.ndarray, "study finding"]:
        """Raw states of studies from their labels (spaces around them do not count, empty ones neither); NaN = blank.

        A finding that a label names is present. In a study that is labelled normal the other diseases are absent;
        elsewhere they are blank, as nobody said so. No Finding is present where a study is labelled normal and has none
        of the other 13, absent where it has one of the diseases, and blank otherwise (other labels only, or a device,
        which No Finding allows in some archives and forbids in others).

        Raises:
            UserError: a label the map does not decide.
        """
        place = {label: row for row, label in enumerate(self.decisions)}
        said = [(study, label.strip()) for study, names in enumerate(labels) for label in names]
        said = [(study, label) for study, label in said if label]
        if unknown := {label for _, label in said} - place.keys():
            raise UserError(f"{min(unknown)!r} is none of the {len(place)} labels that the map {self.name} decides.")
        owner = np.array([study for study, _ in said], dtype=np.int64)
        row = np.array([place[label] for _, label in said], dtype=np.int64)

        decided = np.array(list(self.decisions.values()))
        present = np.zeros((len(labels), len(FINDINGS)), dtype=bool)
        np.logical_or.at(present, owner, self.positive[row])
        normal, unreadable = np.zeros((2, len(labels)), dtype=bool)
        normal[owner[decided[row] == "normal"]] = True
        unreadable[owner[decided[row] == "unreadable"]] = True

        diseases = np.isin(FINDINGS, DISEASES)
        no_finding = FINDINGS.index("No Finding")
        state = np.where(present, np.float32(1), np.float32(np.nan))
        state[np.ix_(normal, diseases & self.sayable)] = present[np.ix_(normal, diseases & self.sayable)]
        if self.sayable[no_finding]:
            state[normal & ~present.any(axis=1), no_finding] = 1
            state[present[:, diseases].any(axis=1), no_finding] = 0
        state[unreadable] = np.nan
        return state

    def find_undecided(
        self, labels: Sequence[Sequence[str]], states: Float32[np.ndarray, "study finding"]
    ) -> Bool[np.ndarray, "study finding"]:
        """Blanks among `states` (of `map_rows`) that mean "not known" where others mean "not mentioned".

        All findings of a study that is unreadable or has no label, and a No Finding that the map left blank: a reader
        who wrote "scoliosis" mentioned no edema, but did not say whether the chest is normal.
        """
        kept = [{label.strip() for label in names} - {""} for names in labels]
        lost = [not names or any(self.decisions[name] == "unreadable" for name in names) for names in kept]
        is_no_finding = np.array(FINDINGS) == "No Finding"
        return np.isnan(states) & (np.array(lost, dtype=bool)[:, None] | is_no_finding)

    def map_labels(self, labels: Sequence[str]) -> dict[str, int | None]:
        """Raw states of one study: finding -> 1, 0, or None where nothing is said."""
        states = self.map_rows([labels])[0]
        return {
            finding: None if np.isnan(state) else int(state) for finding, state in zip(FINDINGS, states, strict=True)
        }


@functools.cache
def read_label_map(name: str) -> LabelMap:
    """The map `label_maps/<name>.csv`."""
    text = resources.files("hilum").joinpath("label_maps", f"{name}.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    decisions: dict[str, Decision] = {row["label"]: cast(Decision, row["decided"]) for row in rows}
    targets = [set(row["targets"].split(";")) - {""} for row in rows]
    assert len(decisions) == len(rows), f"{name}: a label twice"
    assert all(row["reason"] and row["decided"] in get_args(Decision) for row in rows), f"{name}: an undecided label"
    assert all((row["decided"] == "finding") == bool(said) for row, said in zip(rows, targets, strict=True)), name
    assert set().union(*targets) <= set(FINDINGS) - {"No Finding"}, f"{name}: an unknown target"
    return LabelMap(name, decisions, np.array([[finding in said for finding in FINDINGS] for said in targets]))


def map_openi(terms: Sequence[str]) -> dict[str, int | None]:
    """Open-i's manually assigned headings of a report ("Opacity/lung/base/left") to finding -> 1, 0 or None.

    The longest row of the map that the heading begins with decides it.
    """
    return read_label_map("openi_mesh").map_labels([find_heading(term) for term in terms])


def find_heading(term: str) -> str:
    """The row of Open-i's map that decides a heading; the heading itself where none does."""
    known = read_label_map("openi_mesh").decisions
    parts = [part.strip() for part in term.strip().split("/")]
    heads = ["/".join(parts[:num]) for num in range(len(parts), 0, -1)]
    found = next((head for head in heads if head in known), None)
    return found or term
