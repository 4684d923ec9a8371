"""Which of the four controls stand beside a distilled arm (P 7.4, P 12-17): what else could have made its gain.

What an arm is, is told by the settings of its runs, not by its name: it is distilled if it starts from another encoder
and learns from its studies' own teachers. A control of it starts from the same weights, learns from the same images
for as many steps and draws as many of them, and differs in what teaches it: nothing else of the encoder is trained, and
vectors that are another patient's or noise stand for as many teachers and are learned by the same settings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hilum.config import Config, ImageContrast, Reconstruction, find_teacher_terms, load_config
from hilum.evaluate.paper.entrants import Entrant, find_run, group_methods
from hilum.evaluate.paper.index import FINETUNE, PROBE, Suite
from hilum.evaluate.paper.parts import POOLED
from hilum.evaluate.paper.table import SuiteTable, find_estimate, format_percent
from hilum.evaluate.result import Estimate
from hilum.training.run_folder import read_metrics

Role = Literal["distilled", "shuffled", "continued", "random", "images"]
# What each control of a distilled arm is called, and what makes it.
CONTROLS: dict[Role, tuple[str, str]] = {
    "shuffled": ("shuffled pairs", "its command with --teachers.pairs shuffled"),
    "continued": ("continued MAE", "hilum pretrain mae --init its start --optim.steps as many"),
    "random": ("random-vector teachers", "its command with --teachers.pairs random --teachers.scaling raw"),
    "images": ("image-only contrast", "hilum pretrain image_contrast --init its start --optim.steps as many"),
}
SLACK = 0.05  # by which equal lengths may differ: epochs are rounded to steps, presets' steps are of 500 or 512 images


@dataclass(frozen=True)
class Origin:
    """What a run is, and what its controls must share with it."""

    role: Role
    start: str  # hash of the weights it began with
    images: str  # what names the images it learned from; "" where its record does not
    config: Config
    length: tuple[int, int] | None = None  # steps taken, images drawn; None where its record does not say

    def begins_like(self, other: Origin) -> bool:
        """From the same weights, on the same images."""
        return (self.start, self.images) == (other.start, other.images)

    def is_control_of(self, arm: Origin) -> bool:
        """Whether a control and a distilled arm begin alike, and differ only in what this control is there for."""
        one, two = self.config, arm.config
        alike = self.begins_like(arm)
        if self.role in ("shuffled", "random"):
            alike &= is_trained_alike(one, two) and one.teachers.hash_tables() == two.teachers.hash_tables()
        if self.role == "shuffled":
            alike &= one.teachers.scaling == two.teachers.scaling
        if self.role == "images":
            alike &= one.adapter == two.adapter
        return alike

    def lasts_like(self, other: Origin) -> bool:
        """As many steps, of as many images in all; what is not on record is not held against a run."""
        if self.length is None or other.length is None:
            return True
        return all(abs(one - two) <= SLACK * max(one, two) for one, two in zip(self.length, other.length, strict=True))


def is_trained_alike(one: Config, two: Config) -> bool:
    """Whether two runs differ in nothing but their teachers, seed, length and what has no part in the result."""
    length = {name: getattr(two.optim, name) for name in ("steps", "epochs", "accumulate")}
    same = replace(
        one, recipe=two.recipe, preset=two.preset, seed=two.seed, teachers=two.teachers, run=two.run,
        initial_weights=two.initial_weights, data=replace(one.data, leave_out=two.data.leave_out),
        optim=replace(one.optim, **length),
    )  # fmt: skip
    return same == two


def tell_role(config: Config) -> Role | None:
    """Distilled, one of the controls, or neither."""
    if config.initial_weights is None:
        return None
    if find_teacher_terms(config):
        roles: dict[str, Role] = {"own": "distilled", "shuffled": "shuffled", "random": "random"}
        return roles[config.teachers.pairs]
    terms = list(config.terms.values())
    if any(isinstance(term, ImageContrast) for term in terms):
        return "images"
    return "continued" if any(isinstance(term, Reconstruction) for term in terms) else None


def find_origin(entrant: Entrant) -> Origin | None:
    """Of an entrant's run; None where it has no record, or is neither distilled nor a control."""
    folder = find_run(entrant)
    if folder is None or not (folder / "config.json").is_file():
        return None
    config = load_config(folder / "config.json")
    role = tell_role(config)
    if role is None or config.initial_weights is None:
        return None
    record = folder / "pretraining.json"
    seen: dict[str, Any] = json.loads(record.read_bytes()) if record.is_file() else {}
    images = f"{seen['data_digest']} {' '.join(sorted(seen['datasets']))}" if "data_digest" in seen else ""
    return Origin(role, config.initial_weights.sha256, images, config, measure_length(folder, config))


def measure_length(folder: Path, config: Config) -> tuple[int, int] | None:
    """Steps that a run took and images that it drew in them, of which a step shows each `data.looks` times."""
    lines = read_metrics(path) if (path := folder / "metrics.jsonl").is_file() else []
    if not lines:
        return None
    return lines[-1]["step"], lines[-1]["step"] * config.data.views_per_step // config.data.looks


def match_controls(entrants: Sequence[Entrant]) -> list[dict[str, Any]]:
    """For each distilled arm, `method`, `controls`: role -> the arms that play it, none where it is missing, `length`
    (steps, images) and `unequal`: role -> {arm: length} of those that would play it had they been as long.

    An arm plays a role if each of its runs does, and stands beside a distilled arm if some runs of both began with the
    same weights, learned from the same images in the same way (see `Origin.is_control_of`) and lasted as long.
    """
    origins = {
        method: [find_origin(entrant) for entrant in members] for method, members in group_methods(entrants).items()
    }
    known = {
        method: [origin for origin in found if origin is not None]
        for method, found in origins.items()
        if None not in found
    }
    roles = {method: found[0].role for method, found in known.items() if len({one.role for one in found}) == 1}
    return [
        {
            "method": arm,
            "length": known[arm][0].length,
            "controls": {role: _find_controls(known, roles, arm, role, equal=True) for role in CONTROLS},
            "unequal": {
                role: {other: known[other][0].length for other in found}
                for role in CONTROLS
                if (found := _find_controls(known, roles, arm, role, equal=False))
            },
        }
        for arm, role in roles.items()
        if role == "distilled"
    ]


def _find_controls(
    known: dict[str, list[Origin]], roles: dict[str, Role], arm: str, role: Role, *, equal: bool
) -> list[str]:
    """Arms of a role that are controls of this one and last as long, or those that would be and do not."""
    found = []
    for other in (method for method, played in roles.items() if played == role):
        alike = [(one, two) for one in known[other] for two in known[arm] if one.is_control_of(two)]
        if alike and any(one.lasts_like(two) for one, two in alike) == equal:
            found.append(other)
    return found


def list_unequal_controls(matched: Sequence[dict[str, Any]]) -> list[str]:
    """A note for each arm that is no control of a distilled one because it was trained for longer or shorter."""
    return [
        f"{other} is no control ({CONTROLS[role][0]}) of {entry['method']}: it took {_say_length(length)}, "
        f"{entry['method']} {_say_length(entry['length'])}. Train it as long (--optim.steps)."
        for entry in matched
        for role, arms in entry["unequal"].items()
        for other, length in arms.items()
    ]


def _say_length(length: tuple[int, int]) -> str:
    return f"{length[0]:,} steps of {length[1]:,} images in all"


def list_missing_controls(matched: Sequence[dict[str, Any]]) -> list[str]:
    """One note for all distilled arms that lack the same controls."""
    lacking: dict[tuple[Role, ...], list[str]] = {}
    for entry in matched:
        if missing := tuple(role for role in CONTROLS if not entry["controls"][role]):
            lacking.setdefault(missing, []).append(entry["method"])
    return [
        f"A gain of {', '.join(arms)} may have other reasons than the teachers: {len(missing)} of {len(CONTROLS)} "
        f"control arms from the same start on the same images, trained as long, are missing: "
        f"{'; '.join(f'{title} ({how})' for title, how in (CONTROLS[role] for role in missing))}."
        for missing, arms in lacking.items()
    ]


def tabulate_controls(suite: Suite) -> list[SuiteTable]:
    """Beside each distilled arm's gain over the first arm that of its controls, or that there is none."""
    tables = []
    first = suite.index["first"]
    for kind in (PROBE, FINETUNE):
        rows = []
        for entry in suite.index.get("controls", ()):
            if (kind, entry["method"], first) in suite.differences:
                cells = (_show_control(suite, kind, arms) for arms in entry["controls"].values())
                rows.append([entry["method"], _show_gain(suite, kind, entry["method"]), *cells])
        columns = ["", f"minus {first}", *(title for title, _ in CONTROLS.values())]
        caption = (
            f"Macro AUROC of each distilled arm minus that of {first}, in percentage points, paired by patient, and "
            "what its controls gain from the same start on the same images in as many steps; of several of a kind the "
            "best. What a control gains too is not the teachers' doing."
        )
        if rows:
            tables.append(SuiteTable(f"Gain and controls, {suite.title(kind)}", columns, rows, caption))
    return tables


def _show_control(suite: Suite, kind: str, arms: Sequence[str]) -> str:
    values = {arm: _find_gain(suite, kind, arm).value for arm in arms}
    scored = {arm: value for arm, value in values.items() if value is not None}
    if not arms:
        return "missing"
    return "-" if not scored else _show_gain(suite, kind, max(scored, key=lambda arm: scored[arm]))


def _show_gain(suite: Suite, kind: str, arm: str) -> str:
    return format_percent(_find_gain(suite, kind, arm), sign=True)


def _find_gain(suite: Suite, kind: str, arm: str) -> Estimate:
    result = suite.differences.get((kind, arm, suite.index["first"]))
    return Estimate("auroc", "macro", None) if result is None else find_estimate(result, "auroc", "macro", POOLED)
