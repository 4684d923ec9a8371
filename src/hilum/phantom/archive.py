"""The phantom as an archive on disk: DICOM files, reports and tables, like one downloaded from elsewhere.

    phantom.json                                    seed, size and the hash of the phantom's settings
    files/p10/p10000000/s1000000000/1.dcm ...       one file per view
    files/p10/p10000000/s1000000000.txt             the report
    studies.csv                                     one row per study: labels, report, paths and positions of its views
    manifest.csv                                    one row per view: path, size, SHA-256
    paraphrases.csv                                 the same reports in words kept for testing (reports.py)
    masks/..., truth.csv, lesions.csv               with masks=True: what is in the body, for the phantom's own tests

With physiology=True (`hilum.phantom.physiology`) images show it, and there are beside these:

    ecg/p10/p10000000/s1000000000.hea, .dat         a 12-lead ECG, in WFDB format, of the studies that have one
    laboratory.csv                                  one row per study, a column for each of 50 items; blank: missing
    physiology.csv                                  with masks=True: causes, and the quantities of image and ECG

In `studies.csv`, `views` and `positions` list the views in order, joined by ";"; a blank label is "not mentioned".
With physiology, `ecg` is the header of the study's record or blank, and `extra_physiology:...` are the targets of
physiology, 1 or 0 whether or not anybody measured them. Writing again continues: files are complete or absent, and what
is there is kept if the settings agree.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from threadpoolctl import threadpool_limits

from hilum.atomic import remove_leftovers, write_atomic
from hilum.errors import UserError
from hilum.labels import FINDINGS
from hilum.phantom.clinic import find_severities, label_states, plan_studies, true_states
from hilum.phantom.dicom_file import encode_view, find_age, name_position
from hilum.phantom.freeze import hash_settings
from hilum.phantom.masks import name_structures
from hilum.phantom.physiology import body
from hilum.phantom.physiology.files import describe_laboratory, describe_physiology, describe_targets, write_ecg
from hilum.phantom.physiology.freeze import hash_physiology
from hilum.phantom.physiology.state import draw_physiology
from hilum.phantom.plan import StudyPlan
from hilum.phantom.render import render_masks, render_view
from hilum.phantom.reports import write_report

FORMAT_VERSION = 1
MIN_SIZE = 16
Plan = TypeVar("Plan")
Written = TypeVar("Written")


@dataclass(frozen=True)
class ViewFile:
    """A written view as the manifest lists it."""

    path: str  # relative to the archive
    num_bytes: int
    sha256: str


class SpeedColumn(ProgressColumn):
    """Views written each second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or task.finished_speed or 0.0:.1f} views/s")


def name_folder(plan: StudyPlan) -> str:
    """Folder of a study's images, relative to the archive; the report lies beside it, with the suffix .txt."""
    return f"files/{plan.patient[:3]}/{plan.patient}/{plan.study}"


def name_views(plan: StudyPlan) -> list[str]:
    """Paths of a study's images, relative to the archive; they do not tell the projection."""
    return [f"{name_folder(plan)}/{view + 1}.dcm" for view in range(len(plan.projections))]


def write_study(plan: StudyPlan, out: Path, size: int, masks: bool, physiology: bool = False) -> list[ViewFile]:
    """Write what is missing of one study: images, report and, if asked for, masks and ECG. Returns all its images."""
    folder = out / name_folder(plan)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    remove_leftovers(folder.parent, f"{plan.study}.txt")
    written = []
    for view, (name, projection) in enumerate(zip(name_views(plan), plan.projections, strict=True)):
        path = out / name
        if not path.exists():
            bodily = body.render_view(plan, draw_physiology(plan), projection, size) if physiology else None
            write_atomic(path, encode_view(plan, view, bodily or render_view(plan, projection, size)))
        content = path.read_bytes()
        written.append(ViewFile(name, len(content), hashlib.sha256(content).hexdigest()))
        if masks:
            _write_masks(plan, view, out, size, physiology)
    if physiology:
        write_ecg(plan, out)
    report = folder.parent / f"{plan.study}.txt"
    if not report.exists():
        write_atomic(report, _format_report(plan))
    return written


def _write_masks(plan: StudyPlan, view: int, out: Path, size: int, physiology: bool) -> None:
    """masks/<study>/<view>-<what>.png, white where it is; their list appears last and so says that all are there.
    A finding without a file is nowhere on the image."""
    folder = out / "masks" / plan.study
    done = folder / f"{view + 1}.json"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    names = {}
    projection = plan.projections[view]
    if physiology:
        masks = body.render_masks(plan, draw_physiology(plan), projection, size)
    else:
        masks = render_masks(plan, projection, size)
    for name, mask in name_structures(masks, plan, projection, size).items():
        names[name] = f"{view + 1}-{name.replace(' ', '-')}.png"
        png = io.BytesIO()
        Image.fromarray(mask).save(png, format="PNG")
        write_atomic(folder / names[name], png.getvalue())
    write_atomic(done, json.dumps(names, indent=1) + "\n")


def _format_report(plan: StudyPlan) -> str:
    report = write_report(plan, label_states(plan))
    return f"FINDINGS:\n{report['findings']}\n\nIMPRESSION:\n{report['impression']}\n"


def _describe_study(plan: StudyPlan, physiology: bool) -> dict[str, object]:
    states = label_states(plan)
    report = write_report(plan, states)
    return {
        "study": plan.study,
        "patient": plan.patient,
        "day": f"{plan.day:g}",
        "age": f"{find_age(plan):.1f}",
        "sex": plan.person.sex,
        "institution": plan.institution,
        "views": ";".join(name_views(plan)),
        "positions": ";".join(name_position(plan, projection) for projection in plan.projections),
        "report_file": f"{name_folder(plan)}.txt",
        **report,
        **{finding: "" if states[finding] is None else states[finding] for finding in FINDINGS},
        **(describe_targets(plan) if physiology else {}),
    }


def _describe_truth(plan: StudyPlan) -> dict[str, object]:
    severities = find_severities(plan)
    diseases = [finding for finding in FINDINGS if finding != "No Finding"]
    return {
        "study": plan.study,
        "projections": ";".join(plan.projections),
        **true_states(plan),
        **{f"{finding} severity": severities.get(finding, 0.0) for finding in diseases},
    }


def _describe_views(plan: StudyPlan, files: Sequence[ViewFile]) -> Iterator[dict[str, object]]:
    for projection, file in zip(plan.projections, files, strict=True):
        position = name_position(plan, projection)
        yield {
            "path": file.path,
            "study": plan.study,
            "patient": plan.patient,
            "position": position,
            "bytes": file.num_bytes,
            "sha256": file.sha256,
        }


def _describe_lesions(plan: StudyPlan) -> Iterator[dict[str, object]]:
    for index, lesion in enumerate(plan.lesions):
        yield {
            "study": plan.study,
            "lesion": index,
            "finding": lesion.finding,
            "kind": lesion.kind,
            "side": lesion.side,
            "zone": lesion.zone,
            "severity": lesion.severity,
        }


def write_table(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """A CSV file, in one piece; the first row names the columns."""
    text = io.StringIO()
    writer = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    write_atomic(path, text.getvalue())


def claim_folder(out: Path, settings: dict[str, object], counted: str, number: int) -> None:
    """Say in phantom.json what lies here, or refuse to mix it with what does already.

    Args:
        out: Folder of the archive, made where needed.
        settings: What its bytes depend on; a setting that is None is not written.
        counted: What an archive can get more of, "studies" or "patients".
        number: How many are asked for.
    """
    path = out / "phantom.json"
    if path.exists():
        found = json.loads(path.read_text("utf-8"))
        for name, value in settings.items():
            if found.get(name) != value:
                raise UserError(
                    f"{path} was made with {name} {found.get(name)}, asked for is {value}: write to another folder."
                )
        if found[counted] > number:
            raise UserError(
                f"{path} holds {found[counted]} {counted}, asked for are {number}: "
                "ask for at least as many, or write to another folder."
            )
    elif out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no phantom.json: write the phantom to a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    written = {name: value for name, value in settings.items() if value is not None}
    write_atomic(path, json.dumps({**written, counted: number}, indent=1) + "\n")


def write_archive(
    out: Path,
    num_studies: int,
    *,
    seed: int = 0,
    size: int = 256,
    workers: int = 1,
    masks: bool = False,
    physiology: bool = False,
    progress: bool = True,
) -> None:
    """Write an archive of `num_studies` phantom studies whose images have `size` pixels on their longer side.

    With `physiology`, images show the planted physiology, and ECGs and laboratory values are written beside them.
    The bytes depend on the seed, the size and the phantom's settings, not on `workers` or on interruptions; asking for
    more studies later adds to the archive. Raises UserError if `out` holds something else.
    """
    if num_studies < 1 or size < MIN_SIZE or workers < 1:
        raise UserError(
            f"{num_studies} studies of {size} pixels by {workers} processes: "
            f"needs at least 1 study, {MIN_SIZE} pixels and 1 process."
        )
    settings = {"format": FORMAT_VERSION, "seed": seed, "size": size, "settings": hash_settings()}
    claim_folder(out, {**settings, "physiology": hash_physiology() if physiology else None}, "studies", num_studies)
    plans = plan_studies(num_studies, seed)
    num_views = [sum(not (out / name).exists() for name in name_views(plan)) for plan in plans]
    write = functools.partial(write_study, out=out, size=size, masks=masks, physiology=physiology)
    files: list[list[ViewFile]] = []
    columns = (
        TextColumn("phantom"),
        BarColumn(),
        MofNCompleteColumn(),
        SpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("views", total=sum(num_views))
        for written, missing in zip(map_in_order(write, plans, workers), num_views, strict=True):
            files.append(written)
            bar.advance(task, missing)

    views = zip(plans, files, strict=True)
    write_table(out / "manifest.csv", (row for plan, written in views for row in _describe_views(plan, written)))
    write_table(
        out / "paraphrases.csv",
        ({"study": plan.study, **write_report(plan, label_states(plan), "test")} for plan in plans),
    )
    if masks:
        write_table(out / "truth.csv", map(_describe_truth, plans))
        write_table(out / "lesions.csv", (row for plan in plans for row in _describe_lesions(plan)))
    if physiology:
        write_table(out / "laboratory.csv", map(describe_laboratory, plans))
    if physiology and masks:
        write_table(out / "physiology.csv", map(describe_physiology, plans))
    # Last: an archive with it is complete.
    write_table(out / "studies.csv", (_describe_study(plan, physiology) for plan in plans))


def map_in_order(function: Callable[[Plan], Written], plans: Sequence[Plan], workers: int) -> Iterator[Written]:
    """`map` over processes. Fresh ones (spawn), because a fork of a process with threads can hang."""
    if workers == 1:
        with threadpool_limits(1):  # as the workers, below
            yield from map(function, plans)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        try:
            yield from pool.map(function, plans)
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    # Ctrl-C reaches the whole group; only the first process answers it, the others end with the study they are writing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)  # processes already fill the cores, and sums in one order give the same bytes everywhere
