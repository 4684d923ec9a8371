"""What the tables of an archive say of an exam: VinDr-Mammo's columns (L 4.1), RSNA's (L 4.2), and our own.

VinDr and RSNA hold each woman's last exam, VinDr one image of each view, as those archives do. `findings.csv` has what
the reader saw; `truth.csv` has what was planted, seen or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hilum.phantom.breast.detector import DETECTORS
from hilum.phantom.breast.dicom_file import choose_form, choose_machine
from hilum.phantom.breast.hazard import DAYS, Outcome
from hilum.phantom.breast.plan import LATERALITIES, PROJECTIONS, ExamPlan, Laterality, Projection, ViewPlan
from hilum.phantom.breast.reader import BreastReading, Read
from hilum.phantom.dice import Dice, make_key

Row = dict[str, object]
Box = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in stored pixels
TEST_SHARE = 0.2
FOLLOW_UP_NEVER = 100  # Mirai's years_to_cancer of a woman who never got it (L 3.4)
VINDR_NAMES = {
    "mass": "Mass",
    "calcification": "Suspicious Calcification",
    "architectural distortion": "Architectural Distortion",
    "asymmetry": "Asymmetry",
    "focal asymmetry": "Focal Asymmetry",
    "developing asymmetry": "Focal Asymmetry",  # VinDr has no name for it
    "global asymmetry": "Global Asymmetry",
    "skin thickening": "Skin Thickening",
    "skin retraction": "Skin Retraction",
    "nipple retraction": "Nipple Retraction",
    "lymph node": "Suspicious Lymph Node",
}


@dataclass(frozen=True)
class ImageFile:
    """One written image."""

    view: ViewPlan
    path: str  # relative to the archive
    rows: int
    cols: int
    pixel_mm: float
    mirrored: bool
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class ExamRecord:
    """One exam as written and read."""

    exam: ExamPlan
    prior: ExamPlan | None
    images: tuple[ImageFile, ...]
    reading: tuple[BreastReading, ...]
    boxes: Mapping[tuple[Laterality, int, Projection], Box]  # of each planted finding by its place in the exam's list
    masks: Mapping[tuple[Laterality, int, Projection], str]  # its PNG, where masks were asked for
    report: Mapping[str, str]


def _hexadecimal(*parts: object) -> str:
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def name_vindr(exam: ExamPlan, view: ViewPlan) -> tuple[str, str, str]:
    """study_id, series_id, image_id."""
    study = _hexadecimal("breast study", exam.key)
    return (
        study,
        _hexadecimal("breast series", exam.key, view.laterality),
        _hexadecimal("breast image", exam.key, *_key(view)),
    )


def name_rsna(exam: ExamPlan, view: ViewPlan) -> tuple[str, str]:
    """patient_id, image_id: whole numbers."""
    number = make_key(
        "breast image", exam.key, LATERALITIES.index(view.laterality), PROJECTIONS.index(view.projection), view.repeat
    )
    return exam.patient, str(number % 2**40)


def _key(view: ViewPlan) -> tuple[str, str, int]:
    return view.laterality, view.projection, view.repeat


def choose_split(exam: ExamPlan) -> str:
    """ "training" or "test", by woman."""
    return "test" if Dice("breast split", exam.woman.key).happens(TEST_SHARE) else "training"


def _breast(record: ExamRecord, laterality: Laterality) -> BreastReading:
    return record.reading[LATERALITIES.index(laterality)]


def _vindr_start(record: ExamRecord, image: ImageFile) -> Row:
    study, series, name = name_vindr(record.exam, image.view)
    return {
        "study_id": study,
        "series_id": series,
        "image_id": name,
        "laterality": image.view.laterality,
        "view_position": image.view.projection,
        "height": image.rows,
        "width": image.cols,
        "breast_birads": f"BI-RADS {_breast(record, image.view.laterality).assessment}",
        "breast_density": f"DENSITY {record.exam.woman.density.upper()}",
    }


def list_vindr_images(record: ExamRecord) -> Iterator[Row]:
    """Rows of breast-level_annotations.csv."""
    for image in record.images:
        if image.view.repeat == 0:
            yield {**_vindr_start(record, image), "split": choose_split(record.exam)}


def list_vindr_findings(record: ExamRecord) -> Iterator[Row]:
    """Rows of finding_annotations.csv: one per box of a finding of BI-RADS 3 or more, else one "No Finding"."""
    split = choose_split(record.exam)
    for image in record.images:
        if image.view.repeat:
            continue
        start = _vindr_start(record, image)
        found = list(_find_boxes(record, image.view))
        corners = ("xmin", "ymin", "xmax", "ymax")
        if not found:
            yield {
                **start,
                "finding_categories": "['No Finding']",
                "finding_birads": "",
                **dict.fromkeys(corners, ""),
                "split": split,
            }
        for read, box in found:
            yield {
                **start,
                "finding_categories": f"['{VINDR_NAMES[read.kind]}']",
                "finding_birads": f"BI-RADS {read.birads}",
                **{name: f"{value:.4f}" for name, value in zip(corners, box, strict=True)},
                "split": split,
            }


def _find_boxes(record: ExamRecord, view: ViewPlan) -> Iterator[tuple[Read, Box]]:
    """Findings of BI-RADS 3 or more that were seen on a view, with their boxes."""
    for read in _breast(record, view.laterality).findings:
        place = view.laterality, find_index(record.exam, view.laterality, read), view.projection
        if read.birads >= 3 and view.projection in read.views and place in record.boxes:
            yield read, record.boxes[place]


def find_index(exam: ExamPlan, laterality: Laterality, read: Read) -> int:
    """The finding's place in the exam's list."""
    return [finding.key for finding in exam.findings[laterality]].index(read.finding.key)


def has_cancer(exam: ExamPlan, laterality: Laterality) -> bool:
    """Whether the breast has cancer on its woman's last exam, and this is it."""
    return exam.is_last and any(finding.malignant for finding in exam.findings[laterality])


def list_rsna_images(record: ExamRecord) -> Iterator[Row]:
    """Rows of train.csv. Site 2 records no density and, as much of RSNA, not every BI-RADS."""
    exam = record.exam
    site = DETECTORS[exam.institution].site
    dice = Dice("breast rsna", exam.woman.key)
    no_age, no_birads = dice.happens(0.003), dice.happens(0.25 if site == 1 else 0.8)
    for image in record.images:
        breast = _breast(record, image.view.laterality)
        cancer = has_cancer(exam, image.view.laterality)
        invasive = cancer and Dice("breast invasive", exam.woman.key).happens(0.72)
        recalled = breast.assessment >= 3
        biopsy = cancer or breast.assessment >= 4
        patient, name = name_rsna(exam, image.view)
        yield {
            "site_id": site,
            "patient_id": patient,
            "image_id": name,
            "laterality": image.view.laterality,
            "view": image.view.projection,
            "age": "" if no_age else f"{exam.age:.1f}",
            "cancer": int(cancer),
            "biopsy": int(biopsy),
            "invasive": int(invasive),
            "BIRADS": "" if no_birads else "0.0" if recalled else f"{float(breast.assessment)}",
            "implant": int(exam.woman.implant),
            "density": exam.woman.density.upper() if site == 1 else "",
            "machine_id": choose_machine(exam)[0],
            "difficult_negative_case": recalled and not cancer,
        }


def list_images(record: ExamRecord) -> Iterator[Row]:
    """Rows of images.csv."""
    for image in record.images:
        yield {
            "patient_id": record.exam.patient,
            "exam_id": record.exam.exam,
            "laterality": image.view.laterality,
            "view": image.view.projection,
            "repeat": image.view.repeat,
            "path": image.path,
            "rows": image.rows,
            "columns": image.cols,
            "pixel_mm": f"{image.pixel_mm:.5f}",
            "mirrored": int(image.mirrored),
            "form": choose_form(record.exam),
            "bytes": image.num_bytes,
            "sha256": image.sha256,
        }


def list_breasts(record: ExamRecord) -> Iterator[Row]:
    """Rows of breasts.csv: one per woman, exam and side (L 2.2), with the outcome that no text may name."""
    exam = record.exam
    for breast in record.reading:
        found = exam.findings[breast.laterality]
        yield {
            "patient_id": exam.patient,
            "exam_id": exam.exam,
            "laterality": breast.laterality,
            "dataset": "breast-phantom",
            "day": f"{exam.day:g}",
            "age": f"{exam.age:.1f}",
            "institution": exam.institution,
            "implant": int(exam.woman.implant),
            "assessment": breast.assessment,
            "density": exam.woman.density,
            "split": choose_split(exam),
            "is_last": int(exam.is_last),
            "pathology": "malignant"
            if has_cancer(exam, breast.laterality)
            else "benign"
            if breast.assessment >= 4
            else "",
            "num_findings": len(breast.findings),
            "num_missed": len(found) - len(breast.findings),
        }


def list_findings(record: ExamRecord) -> Iterator[Row]:
    """Rows of findings.csv: what the reader saw, plainly benign findings as well."""
    for breast in record.reading:
        for read in breast.findings:
            finding = read.finding
            index = find_index(record.exam, breast.laterality, read)
            yield {
                "patient_id": record.exam.patient,
                "exam_id": record.exam.exam,
                "laterality": breast.laterality,
                "finding": index,
                "kind": read.kind,
                "shape": finding.shape if read.kind == "mass" else "",
                "margin": finding.margin if read.kind == "mass" else "",
                "mass_density": finding.density if read.kind == "mass" else "",
                "morphology": finding.morphology,
                "distribution": finding.distribution,
                "size_mm": f"{finding.size:.1f}",
                "finding_birads": read.birads,
                "views": ";".join(read.views),
                "quadrant": read.quadrant,
                "depth": read.depth,
                "prior": read.prior,
                "confidence": f"{read.confidence:.2f}",
                **_list_boxes(record, breast.laterality, index, read.views),
            }


def _list_boxes(record: ExamRecord, laterality: Laterality, index: int, views: Sequence[Projection]) -> Row:
    row: Row = {}
    for projection in PROJECTIONS:
        box = record.boxes.get((laterality, index, projection)) if projection in views else None
        row[f"{projection.lower()}_box"] = "" if box is None else " ".join(f"{value:.1f}" for value in box)
        mask = record.masks.get((laterality, index, projection), "") if projection in views else ""
        row[f"{projection.lower()}_mask"] = mask
    return row


def list_truth(record: ExamRecord) -> Iterator[Row]:
    """Rows of truth.csv: everything planted, with its place in the breast (mm; x to the nipple, y outwards, z up)."""
    for breast in record.reading:
        seen = {read.finding.key: read.views for read in breast.findings}
        for index, finding in enumerate(record.exam.findings[breast.laterality]):
            shown = [projection for projection in PROJECTIONS if (breast.laterality, index, projection) in record.boxes]
            yield {
                "exam_id": record.exam.exam,
                "laterality": breast.laterality,
                "finding": index,
                "kind": finding.kind,
                "x": finding.place[0],
                "y": finding.place[1],
                "z": finding.place[2],
                "size_mm": finding.size,
                "strength": finding.strength,
                "malignant": int(finding.malignant),
                "shape": finding.shape,
                "margin": finding.margin,
                "mass_density": finding.density,
                "morphology": finding.morphology,
                "distribution": finding.distribution,
                "only": finding.only,
                "shown": ";".join(shown),
                "seen": ";".join(seen.get(finding.key, ())),
                **_list_boxes(record, breast.laterality, index, PROJECTIONS),
            }


def list_follow_up(record: ExamRecord, outcome: Outcome) -> Iterator[Row]:
    """Rows of follow_up.csv: one per image, as `hilum ingest table` reads them."""
    exam, days = record.exam, round(record.exam.before_last) + outcome.days
    for image in record.images:
        side = image.view.laterality
        yield {
            "patient_id": exam.patient,
            "exam_id": exam.exam,
            "path": image.path,
            "laterality": side,
            "view": image.view.projection,
            "day": f"{exam.day:g}",
            "age": f"{exam.age:.1f}",
            "institution": exam.institution,
            "birads": _breast(record, side).assessment,
            "density": exam.woman.density,
            "cancer": int(has_cancer(exam, side)),
            "years_to_cancer": f"{days / DAYS:.4f}" if outcome.event and outcome.laterality == side else "",
            "years_to_last_followup": f"{days / DAYS:.4f}",
        }


def list_outcome(record: ExamRecord, outcome: Outcome) -> Row:
    """A row of outcomes.csv: days from this exam, and Mirai's whole years (L 3.4)."""
    days = round(record.exam.before_last) + outcome.days
    return {
        "patient_id": record.exam.patient,
        "exam_id": record.exam.exam,
        "is_last": int(record.exam.is_last),
        "days": days,
        "event": int(outcome.event),
        "cancer_laterality": outcome.laterality if outcome.event else "",
        "years_to_cancer": int(days / DAYS) if outcome.event else FOLLOW_UP_NEVER,
        "years_to_last_followup": int(days / DAYS),
        "split_group": {"training": "train", "test": "test"}[choose_split(record.exam)],
        "true_risk": "" if outcome.days == 0 else f"{outcome.risk:.5f}",
        "true_rate": "" if outcome.days == 0 else f"{outcome.rate:.6f}",
    }


def list_exam(record: ExamRecord) -> Row:
    """A row of exams.csv, the report's sections with it."""
    exam = record.exam
    return {
        "patient_id": exam.patient,
        "exam_id": exam.exam,
        "day": f"{exam.day:g}",
        "age": f"{exam.age:.1f}",
        "institution": exam.institution,
        "prior_exam_id": record.prior.exam if record.prior else "",
        "num_images": len(record.images),
        **record.report,
    }
