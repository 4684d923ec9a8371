"""Which column of a user's table means what: given by the user, or recognised by its usual name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hilum.errors import UserError
from hilum.labels import FINDINGS
from hilum.sources.breast_names import BREAST_NAMES, BREAST_PREFIX
from hilum.study import EXTRA_PREFIX

SECTION_PREFIX = "section_"

# Names that mean exactly a finding, and no part or cause of it.
SYNONYMS = {
    "Edema": ("oedema", "pulmonary_edema", "pulmonary_oedema", "lung_edema", "lung_oedema"),
    "Enlarged Cardiomediastinum": ("enlarged_cardiomediastinal_silhouette",),
    "Fracture": ("fractures",),
    "Lung Lesion": ("lung_lesions",),
    "Lung Opacity": ("lung_opacities", "lung_opacification"),
    "No Finding": ("no_findings",),
    "Pleural Effusion": ("effusion", "pleural_effusions"),
    "Support Devices": ("support_device",),
}

# Target -> usual names, compared without case, spaces and punctuation; the first that a table has is taken.
USUAL_NAMES = {
    "dataset": ("dataset",),
    "patient": (
        *("patient_id", "patient", "subject_id", "subject", "pid", "patient_number", "patient_no", "patient_key"),
        *(
            "mrn",
            "patient_mrn",
            "medical_record_number",
            "medical_record_no",
            "empi",
            "empi_anon",
            "person_id",
            "case_id",
        ),
    ),
    "group": ("patient_group",),
    "study": (
        "study_id",
        "study",
        "study_instance_uid",
        "study_uid",
        "accession_number",
        "accession",
        "exam_id",
        "exam",
    ),
    "image": ("path", "image_path", "file_path", "image", "images", "filename", "filenames", "image_index", "views"),
    "view": ("view_position", "view_positions", "view", "projection", "position", "positions", "AP/PA"),
    "kind": ("view_group", "view_kind", "kind", "Frontal/Lateral"),
    "laterality": ("image_laterality", "laterality", "side"),
    "day": ("day", "study_day", "offset_days", "days"),
    "date": ("study_date", "date", "StudyDate_DICOM"),
    "age": ("age", "patient_age", "age_years"),
    "time": (),  # of the study, to the minute, where laboratory values are found by it
    "ecg": ("ecg", "ecg_path", "ecg_file"),
    "sex": ("sex", "patient_sex", "gender", "patient_gender", "PatientSex_DICOM"),
    "split": ("split", "subset", "partition"),
    **{
        f"{SECTION_PREFIX}{section}": names
        for section, names in {
            "findings": ("findings",),
            "impression": ("impression",),
            "report": ("report", "report_text", "radiology_report", "text"),
            "indication": ("indication",),
            "history": ("history", "clinical_history"),
            "comparison": ("comparison",),
            "technique": ("technique",),
        }.items()
    },
    **{finding: (finding, *SYNONYMS.get(finding, ())) for finding in FINDINGS},
    **{
        f"{EXTRA_PREFIX}{name}": (name, f"{EXTRA_PREFIX}{name}")
        for name in ("institution", "site", "hospital", "vendor", "manufacturer", "scanner")
    },
}


@dataclass(frozen=True)
class Column:
    """A column of the user's table and how it came to its meaning."""

    name: str
    given: bool  # by the user; otherwise recognised
    negative: bool = False  # counts backwards ("day=-admission_offset")


def choose_columns(names: Sequence[str], given: Mapping[str, str], source: str) -> dict[str, Column]:
    """target -> column, for every target that `given` names or whose usual name is among `names`.

    `given` maps a target to a column; an empty column switches a target off. Besides the targets of USUAL_NAMES it may
    name any report section ("section_conclusion=..."), any label of a breast ("breast_mass=...") and any further column
    to keep ("extra_ward=..."). Columns of breasts and their findings are recognised beside one of laterality.
    """
    chosen: dict[str, Column] = {}
    switched_off = set()
    for wanted, column in given.items():
        target = _find_target(wanted)
        if not column:
            switched_off.add(target)
            continue
        negative = target == "day" and column.startswith("-") and column not in names
        column = column[1:] if negative else column
        if column not in names:
            raise UserError(
                f"{source} has no column '{column}' for {wanted}.{suggest(column, names)} {list_columns(names)}"
            )
        chosen[target] = Column(column, given=True, negative=negative)
    plain = {}
    for name in names:
        plain.setdefault(_plain(name), name)
        if name.startswith(EXTRA_PREFIX) and name not in switched_off:
            chosen.setdefault(name, Column(name, given=False))
    for target, usual in USUAL_NAMES.items():
        found = next((plain[_plain(name)] for name in usual if _plain(name) in plain), None)
        if found is not None and target not in chosen and target not in switched_off:
            chosen[target] = Column(found, given=False)
    if "laterality" in chosen:
        used = {column.name for column in chosen.values()}
        for target, usual in BREAST_NAMES.items():
            found = next((plain[_plain(name)] for name in usual if _plain(name) in plain), None)
            if found is not None and found not in used and target not in chosen and target not in switched_off:
                chosen[target] = Column(found, given=False)
    if "image" not in chosen:
        raise UserError(
            f"{source} has no column of image paths: name it with --columns image=COLUMN. "
            f"Looked for {', '.join(USUAL_NAMES['image'][:6])}, ... {list_columns(names)}"
        )
    return chosen


def suggest(word: str, known: Sequence[str]) -> str:
    """ " Did you mean 'x'?" for the closest known word, compared without case and punctuation; or nothing."""
    plain = {_plain(name): name for name in known}
    close = difflib.get_close_matches(_plain(word), plain, n=1)
    return f" Did you mean '{plain[close[0]]}'?" if close else ""


def hint_targets(unused: Sequence[str], chosen: Mapping[str, Column]) -> list[tuple[str, str]]:
    """(column, target) for columns of no use whose names come near a target that no column has, or begin it."""
    free = {_plain(name): target for target, usual in USUAL_NAMES.items() if target not in chosen for name in usual}
    hints = []
    for column in unused:
        word = _plain(column)
        begun = [name for name in free if len(word) >= 8 and name.startswith(word)]
        close = begun or (difflib.get_close_matches(word, free, n=1, cutoff=0.8) if len(word) >= 4 else [])
        hints.extend([(column, free[close[0]])] if close else [])
    return hints


def list_columns(names: Sequence[str], num_named: int = 12) -> str:
    return f"Its columns: {', '.join(names[:num_named])}{', ...' if len(names) > num_named else ''}."


def _find_target(wanted: str) -> str:
    if wanted.startswith((EXTRA_PREFIX, SECTION_PREFIX, BREAST_PREFIX)) and re.fullmatch(r"\w+", wanted):
        return wanted
    plain = {_plain(target): target for target in (*BREAST_NAMES, *USUAL_NAMES)}
    plain |= {_plain(target.removeprefix(SECTION_PREFIX)): target for target in USUAL_NAMES if SECTION_PREFIX in target}
    if _plain(wanted) not in plain:
        targets = [name for name in USUAL_NAMES if name not in FINDINGS]
        raise UserError(
            f"--columns cannot set '{wanted}'.{suggest(wanted, list(USUAL_NAMES))} It sets {', '.join(targets)}, "
            f"the 14 findings, section_NAME for report text and extra_NAME for anything to keep; of mammograms also "
            f"{', '.join(BREAST_NAMES)} and breast_NAME."
        )
    return plain[_plain(wanted)]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower())
