"""The breast phantom as archives on disk: DICOM files, and tables as VinDr-Mammo, RSNA and we have them.

    phantom.json                                     seed, size, enrichment and the hash of the settings
    images/e1234500/L_CC.dcm ...                     all exposures of all exams (L_CC_2: the second of a view)
    reports/e1234500.txt                             the radiologist's report
    exams.csv, images.csv, breasts.csv, findings.csv our own tables: one row per exam, image, breast, finding seen
    outcomes.csv                                     follow-up from each exam, and the true risk without cancer
    follow_up.csv                                    one row per image, as `hilum ingest table` reads it
    truth.csv                                        all that was planted, seen or not
    masks/e1234500/L_CC-0-mass.png                   with masks=True: where each planted finding is, white
    vindr/                                           breast-level_annotations.csv, finding_annotations.csv, images/...
    rsna/                                            train.csv, train_images/...

VinDr and RSNA have one exam of each woman, her last; their images are the same files again (hard links). Writing again
continues: files are complete or absent, and what is there is kept if the settings agree. `exams.csv` comes last.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Bool
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hilum.atomic import remove_leftovers, write_atomic
from hilum.errors import UserError
from hilum.phantom.archive import SpeedColumn, claim_folder, map_in_order, write_table
from hilum.phantom.breast import tables
from hilum.phantom.breast.clinic import plan_women
from hilum.phantom.breast.detector import acquire, is_mirrored, orient
from hilum.phantom.breast.dicom_file import encode_view
from hilum.phantom.breast.freeze import hash_breast
from hilum.phantom.breast.hazard import Outcome
from hilum.phantom.breast.lesions import draw_finding, is_shown
from hilum.phantom.breast.plan import ExamPlan, Laterality, Projection, ViewPlan
from hilum.phantom.breast.reader import read_exam
from hilum.phantom.breast.reports import format_report, write_report
from hilum.phantom.breast.shape import compress, find_distance
from hilum.phantom.breast.tissue import build_tissue
from hilum.phantom.dice import Dice

FORMAT_VERSION = 1
MIN_SIZE = 64
Visit = tuple[ExamPlan, ExamPlan | None]  # an exam and the one before it


def name_image(exam: ExamPlan, view: ViewPlan) -> str:
    """Path of an exposure, relative to the archive."""
    again = f"_{view.repeat + 1}" if view.repeat else ""
    return f"images/{exam.exam}/{view.laterality}_{view.projection}{again}.dcm"


def find_regions(exam: ExamPlan, view: ViewPlan, size: int) -> dict[int, Bool[np.ndarray, "row col"]]:
    """Where findings of the breast are on the stored image, by their place in the exam's list; others are absent."""
    pose = compress(exam, view)
    frame = pose.frame(size)
    shown = [place for place, finding in enumerate(exam.findings[view.laterality]) if is_shown(finding, pose, frame)]
    if not shown:
        return {}
    tissue, breast = build_tissue(exam.woman, view.laterality), find_distance(pose, frame) > 0
    regions = {}
    for place in shown:
        region = draw_finding(exam.findings[view.laterality][place], pose, frame, tissue).region & breast
        if region.any():
            regions[place] = np.ascontiguousarray(orient(region, exam, view))
    return regions


def find_box(region: Bool[np.ndarray, "row col"], key: int) -> tables.Box:
    """A reader's box around a region: a little wider on each side, never quite the same."""
    rows, cols = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    dice = Dice("breast box", key)
    wide, high = cols[-1] + 1 - cols[0], rows[-1] + 1 - rows[0]
    left, right = (dice.draw_between(0.02, 0.14) * wide for _ in range(2))
    up, down = (dice.draw_between(0.02, 0.14) * high for _ in range(2))
    return (
        max(float(cols[0] - left), 0.0),
        max(float(rows[0] - up), 0.0),
        min(float(cols[-1] + 1 + right), float(region.shape[1])),
        min(float(rows[-1] + 1 + down), float(region.shape[0])),
    )


def write_exam(visit: Visit, out: Path, size: int, masks: bool) -> tables.ExamRecord:
    """Write what is missing of one exam, and read it."""
    exam, prior = visit
    folder = out / "images" / exam.exam
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    images = tuple(_write_image(exam, view, out, size) for view in exam.views)
    boxes: dict[tuple[Laterality, int, Projection], tables.Box] = {}
    names: dict[tuple[Laterality, int, Projection], str] = {}
    for view in exam.views:
        if view.repeat:
            continue
        for place, region in find_regions(exam, view, size).items():
            finding = exam.findings[view.laterality][place]
            where = view.laterality, place, view.projection
            boxes[where] = find_box(region, finding.key)
            if masks:
                names[where] = _write_mask(
                    region, f"{exam.exam}/{view.laterality}_{view.projection}-{place}-{finding.kind}", out
                )
    reading = read_exam(exam, prior)
    report = write_report(exam, prior, reading)
    path = out / "reports" / f"{exam.exam}.txt"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        write_atomic(path, format_report(report))
    return tables.ExamRecord(exam, prior, images, reading, boxes, names, report)


def _write_image(exam: ExamPlan, view: ViewPlan, out: Path, size: int) -> tables.ImageFile:
    name = name_image(exam, view)
    path = out / name
    if not path.exists():
        write_atomic(path, encode_view(exam, view, acquire(exam, view, size)))
    content = path.read_bytes()
    header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
    if exam.is_last:
        _link_image(exam, view, path, out)
    return tables.ImageFile(
        view, name, header.Rows, header.Columns, float(header.PixelSpacing[0]), is_mirrored(exam, view), len(content),
        hashlib.sha256(content).hexdigest(),
    )  # fmt: skip


def _link_image(exam: ExamPlan, view: ViewPlan, path: Path, out: Path) -> None:
    """The same file under its names in VinDr's and RSNA's layouts; a copy where the disk knows no hard links."""
    patient, image = tables.name_rsna(exam, view)
    others = [out / "rsna" / "train_images" / patient / f"{image}.dcm"]
    if view.repeat == 0:
        study, _, image = tables.name_vindr(exam, view)
        others.append(out / "vindr" / "images" / study / f"{image}.dicom")
    for other in others:
        if other.exists():
            continue
        other.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, other)
        except OSError:
            shutil.copyfile(path, other)


def _write_mask(region: np.ndarray, name: str, out: Path) -> str:
    name = f"masks/{name.replace(' ', '-')}.png"
    path = out / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        png = io.BytesIO()
        Image.fromarray(region).save(png, format="PNG")
        write_atomic(path, png.getvalue())
    return name


def write_archive(
    out: Path,
    num_women: int,
    *,
    seed: int = 0,
    size: int = 760,
    workers: int = 1,
    masks: bool = False,
    enrichment: float = 1.0,
    progress: bool = True,
) -> None:
    """Write all exams of `num_women` women; images have `size` rows and 0.6 times as many columns.

    The bytes depend on the seed, the size, the enrichment and the settings, not on `workers` or on interruptions; more
    women later add to the archive. Raises UserError if `out` holds something else.
    """
    if num_women < 1 or size < MIN_SIZE or workers < 1 or not 0 < enrichment <= 20:
        raise UserError(
            f"{num_women} patients of {size} rows by {workers} processes, enriched {enrichment:g} times: needs at "
            f"least 1 patient, {MIN_SIZE} rows, 1 process, and an enrichment over 0 and up to 20."
        )
    settings = {"seed": seed, "size": size, "enrichment": enrichment, "settings": hash_breast()}
    claim_folder(out, {"format": FORMAT_VERSION, "kind": "breast", **settings}, "patients", num_women)
    women = plan_women(num_women, seed, enrichment)
    visits: list[Visit] = [
        (exam, exams[number - 1] if number else None) for exams, _ in women for number, exam in enumerate(exams)
    ]
    outcomes = {exams[0].patient: outcome for exams, outcome in women}
    columns = TextColumn("phantom"), BarColumn(), MofNCompleteColumn(), SpeedColumn(), TimeRemainingColumn(compact=True)
    records = []
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("views", total=sum(len(exam.views) for exam, _ in visits))
        for record in map_in_order(functools.partial(write_exam, out=out, size=size, masks=masks), visits, workers):
            records.append(record)
            bar.advance(task, len(record.images))
    _write_tables(out, records, outcomes)


def _write_tables(out: Path, records: list[tables.ExamRecord], outcomes: dict[str, Outcome]) -> None:
    def rows(describe, only_last: bool = False) -> Iterable[tables.Row]:
        return (row for record in records if record.exam.is_last or not only_last for row in describe(record))

    write_table(out / "vindr" / "breast-level_annotations.csv", rows(tables.list_vindr_images, True))
    write_table(out / "vindr" / "finding_annotations.csv", rows(tables.list_vindr_findings, True))
    write_table(out / "rsna" / "train.csv", rows(tables.list_rsna_images, True))
    write_table(out / "images.csv", rows(tables.list_images))
    write_table(out / "breasts.csv", rows(tables.list_breasts))
    write_table(out / "findings.csv", rows(tables.list_findings))
    write_table(out / "truth.csv", rows(tables.list_truth))
    write_table(
        out / "outcomes.csv", (tables.list_outcome(record, outcomes[record.exam.patient]) for record in records)
    )
    write_table(
        out / "follow_up.csv",
        (row for record in records for row in tables.list_follow_up(record, outcomes[record.exam.patient])),
    )
    write_table(out / "exams.csv", map(tables.list_exam, records))  # last: an archive with it is complete
