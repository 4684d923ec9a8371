"""What the physiology of a study leaves on disk: its ECG record, and its rows of the archive's tables."""

from __future__ import annotations

from pathlib import Path

from hilum.atomic import remove_leftovers, write_atomic
from hilum.phantom.physiology.ecg import draw_ecg
from hilum.phantom.physiology.laboratory import draw_laboratory, draw_ordered
from hilum.phantom.physiology.records import RECORDERS, encode_record
from hilum.phantom.physiology.state import draw_physiology
from hilum.phantom.plan import StudyPlan

# Of columns that are one task of labels (study.name_label_column, whose import would wait for polars).
TARGET_PREFIX = "extra_physiology:"


def name_ecg(plan: StudyPlan) -> str:
    """Path of the header of a study's ECG, relative to the archive."""
    return f"ecg/{plan.patient[:3]}/{plan.patient}/{plan.study}.hea"


def write_ecg(plan: StudyPlan, out: Path) -> None:
    """Write the study's record, if it has one and it is not there yet; the header appears last and says so."""
    physiology, path = draw_physiology(plan), out / name_ecg(plan)
    if path.exists() or not draw_ordered(plan, physiology)["ecg"]:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    header, samples = encode_record(plan.study, draw_ecg(physiology, plan.key), RECORDERS[plan.institution])
    for file, content in ((path.with_suffix(".dat"), samples), (path, header)):
        remove_leftovers(path.parent, file.name)
        write_atomic(file, content)


def describe_targets(plan: StudyPlan) -> dict[str, object]:
    """Further columns of `studies.csv`: the ECG's header (blank: none), and the targets, 1 or 0."""
    physiology = draw_physiology(plan)
    has_ecg = draw_ordered(plan, physiology)["ecg"]
    targets = {f"{TARGET_PREFIX}{name}": target for name, target in physiology.targets.items()}
    return {"ecg": name_ecg(plan) if has_ecg else "", **targets}


def describe_laboratory(plan: StudyPlan) -> dict[str, object]:
    """A row of `laboratory.csv`: study, patient, a column for each item number, blank where nothing was measured."""
    values = draw_laboratory(plan, draw_physiology(plan))
    known = {item: "" if value is None else f"{value:g}" for item, value in values.items()}
    return {"study": plan.study, "patient": plan.patient, **known}


def describe_physiology(plan: StudyPlan) -> dict[str, object]:
    """A row of `physiology.csv`: rhythm, causes, and the quantities of image and ECG that were planted."""
    physiology = draw_physiology(plan)
    groups = {"cause": physiology.causes, "image": physiology.image, "ecg": physiology.ecg}
    return {
        "study": plan.study,
        "rhythm": physiology.rhythm,
        **{f"{group} {name}": f"{value:.4f}" for group, values in groups.items() for name, value in values.items()},
    }
