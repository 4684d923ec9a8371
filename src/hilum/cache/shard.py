"""One shard of a cache: a fixed run of views, read, shrunk, quantised and written one after the other.

Beside shard-00000.bin stands shard-00000.json: what it was made from, a record of each image, what was rejected and
why, sha256. It is written after the shard, so a shard without it is not finished, and one whose checksum does not hold
or whose sources changed is made again. Runs in worker processes; imports neither torch nor polars.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from hilum.atomic import open_atomic, remove_leftovers, write_atomic
from hilum.checksums import hash_file
from hilum.imaging.array_row import hash_row, split_row
from hilum.imaging.mammography.framing import frame_mammogram
from hilum.imaging.read import GreyImage, read_image
from hilum.imaging.rejection import RejectedImage
from hilum.imaging.resize import quantize, resize_short_side
from hilum.vocabulary import MODALITIES

from .reader import name_shard

FileId = tuple[int, int, int]  # bytes, number in its file system, when it was last written (ns)

# Seconds by which the clocks of the machines that keep images and cache may differ.
CLOCK_SLACK = 3600.0


@dataclass(frozen=True)
class PixelPolicy:
    """What is done to every image of a cache."""

    intensity: str
    short_side: int
    bits: Literal[8, 16]
    frame: tuple[int, int] | None = None  # height and width that breasts are fitted into; None: by the short side

    @property
    def id(self) -> str:
        """For example "voi-1/short256/uint8" or "mammo-auto-1/frame1520x912/uint16"."""
        size = f"short{self.short_side}" if self.frame is None else f"frame{self.frame[0]}x{self.frame[1]}"
        return f"{self.intensity}/{size}/uint{self.bits}"


@dataclass(frozen=True)
class ShardTask:
    """A shard to be made. `names` are what the study table calls the files; `paths` where they are on this machine."""

    out: Path
    number: int
    policy: PixelPolicy
    names: list[str]
    paths: list[str]
    modalities: tuple[str, ...] = MODALITIES
    allow_burned_in: bool = False
    take: tuple[str, ...] = ()  # special mammograms that are taken too
    given_up: dict[int, str] = field(default_factory=dict)  # place -> why: files that hung or crashed the reader

    def hash_input(self) -> str:
        """Changes when the policy, what is taken or the name of a file does; not with the archive's folder."""
        made_from = [self.policy.id, [sorted(self.modalities), self.allow_burned_in], self.names]
        made_from += [sorted(self.take)] if self.take else []
        return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


@dataclass(frozen=True)
class BreastRecord:
    """What only the file of a mammogram tells; view and side by its header, "unknown" where it has none."""

    chest_wall: str  # side of the stored image it lies on, as seen
    kind: str
    laterality: str
    implant: bool
    spacing_mm: list[float] | None  # of the source, between rows and between columns
    area: int  # of the breast, in pixels of the source; 0: it was not found
    fault: str  # why the whole frame was kept then


@dataclass(frozen=True)
class ImageRecord:
    """One image in a shard; sums are of its quantised pixels, exact."""

    place: int  # within the shard's run of views
    offset: int
    height: int
    width: int
    affine: list[float]
    content_hash: str
    source_height: int
    source_width: int
    sum: int
    sum_of_squares: int
    breast: BreastRecord | None = None  # of mammograms


@dataclass(frozen=True)
class ShardRecord:
    """The content of shard-00000.json."""

    input: str
    bytes: int
    sha256: str
    images: list[ImageRecord]
    rejected: list[tuple[int, str]]  # place, reason
    sources: list[str | None]  # sha256 of each file's bytes; None: not to be read, or given up
    files: list[FileId | None]  # which file that was; None: none was there
    given_up: bool  # some file hung or crashed the reader: worth another try in the next run


def write_shard(task: ShardTask, report: Callable[[int], None] = lambda place: None) -> ShardRecord:
    """Make a shard and its record; `report(place)` is called before each file and, with their number, at the end."""
    remove_leftovers(task.out, f"shard-{task.number:05d}.*")  # of a killed run
    images, rejected, sources, files = [], [], [], []
    made_from = task.hash_input()
    digest, offset = hashlib.sha256(), 0
    with open_atomic(task.out / name_shard(task.number)) as shard:
        for place, path in enumerate(task.paths):
            report(place)
            files.append(identify_file(path))
            sources.append(None if place in task.given_up else _hash_source(path))
            try:
                if place in task.given_up:
                    raise RejectedImage(Path(path).name, task.given_up[place])
                pixels, record = read_record(task, place, offset)
            except RejectedImage as error:
                rejected.append((place, error.reason))
                continue
            raw = pixels.tobytes()
            shard.write(raw)
            digest.update(raw)
            offset += len(raw)
            images.append(record)
        report(len(task.paths))
    made = ShardRecord(made_from, offset, digest.hexdigest(), images, rejected, sources, files, bool(task.given_up))
    write_shard_record(task, made)
    return made


def write_shard_record(task: ShardTask, record: ShardRecord) -> None:
    """Put the record beside its shard."""
    write_atomic(_name_record(task.out, task.number), json.dumps(asdict(record)))


def read_record(task: ShardTask, place: int, offset: int) -> tuple[np.ndarray, ImageRecord]:
    """An image of the task as the cache keeps it; RejectedImage for whatever cannot be kept."""
    path, policy = task.paths[place], task.policy
    try:
        taken = {"modalities": task.modalities, "allow_burned_in": task.allow_burned_in, "take": task.take}
        grey = read_image(path, policy.intensity, **taken)
    except OSError as error:
        raise RejectedImage(Path(path).name, f"cannot be read ({error.strerror})") from error
    except RejectedImage:
        raise
    except Exception as error:
        # A reader's defect must not stop an archive. Where, not what: the message may quote the header.
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"defect of the reader: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        raise RejectedImage(Path(path).name, reason) from error
    small, affine, breast = fit_image(grey, policy)
    pixels = np.ascontiguousarray(quantize(small, policy.bits))
    if pixels.min() == pixels.max():
        raise RejectedImage(Path(path).name, f"blank: one grey value at {policy.bits} bits")
    # The source's own resolution and 8 bits: the same image is the same under any size and depth of a cache.
    source = quantize(grey.pixels, 8)
    content = hashlib.sha256(np.array(source.shape, "<i8").tobytes() + source.tobytes()).hexdigest()
    wide = pixels.astype(np.uint64)
    return pixels, ImageRecord(
        place=place,
        offset=offset,
        height=pixels.shape[0],
        width=pixels.shape[1],
        affine=affine.tolist(),
        content_hash=content,
        source_height=grey.source_size[0],
        source_width=grey.source_size[1],
        sum=int(wide.sum()),
        sum_of_squares=int((wide * wide).sum()),
        breast=breast,
    )


def fit_image(
    grey: GreyImage, policy: PixelPolicy
) -> tuple[Float32[np.ndarray, "height width"], Float32[np.ndarray, "6"], BreastRecord | None]:
    """An image at the size that is kept, and the affine back to its source; of a mammogram what its file tells."""
    if policy.frame is None:
        return *resize_short_side(grey.pixels, policy.short_side), None
    framed = frame_mammogram(grey.pixels, policy.intensity, policy.frame)
    spacing = None if grey.spacing_mm is None else list(grey.spacing_mm)
    tagged = grey.tagged
    facts = (grey.implant, spacing, framed.area, framed.fault)
    return framed.pixels, framed.affine, BreastRecord(framed.chest_wall, tagged.kind, tagged.laterality, *facts)


def read_shard_record(task: ShardTask, *, check_bytes: bool) -> ShardRecord | None:
    """The record of a finished shard, or None where it is missing, made from other input, or (checked) damaged.

    Where files had to be compared because they were moved or copied, a checked record names those now: the next build
    need not read them.
    """
    shard, beside = task.out / name_shard(task.number), _name_record(task.out, task.number)
    try:
        stored = json.loads(beside.read_bytes())
        made_at, size = beside.stat().st_mtime, shard.stat().st_size
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if stored["input"] != task.hash_input() or stored["bytes"] != size or "sources" not in stored:
        return None
    record = _read_record(stored)
    if not record.given_up and has_new_sources(task, record, made_at):
        return None
    if check_bytes and hash_file(shard) != record.sha256:
        return None
    if check_bytes and not record.given_up and (now := [identify_file(path) for path in task.paths]) != record.files:
        record = replace(record, files=now)
        write_shard_record(task, record)
    return record


def _read_record(stored: dict[str, Any]) -> ShardRecord:
    """A record as JSON has it; one of an earlier Hilum does not say which files it was made from."""
    files = stored.pop("files", [None] * len(stored["sources"]))
    return ShardRecord(
        images=[_restore_image(image) for image in stored.pop("images")],
        rejected=[(place, reason) for place, reason in stored.pop("rejected")],
        files=[None if file is None else (file[0], file[1], file[2]) for file in files],
        **stored,
    )


def _restore_image(stored: dict) -> ImageRecord:
    breast = stored.pop("breast", None)
    return ImageRecord(**stored, breast=None if breast is None else BreastRecord(**breast))


def _name_record(out: Path, number: int) -> Path:
    return (out / name_shard(number)).with_suffix(".json")


def has_new_sources(task: ShardTask, record: ShardRecord, made_at: float) -> bool:
    """Whether a file of the task is another than that of the same place the shard was made from.

    The very file that was read then (`identify_file`), which nobody touched since (`made_at`, seconds of the epoch), is
    the same, which costs one look at it. Any other is read and compared by its bytes, not decoded: one that was
    touched, copied or moved, and one of another archive that stands at the same place under the same name, however old
    it is. The change time counts too: a file cannot be given an older one.
    """
    for path, known, file in zip(task.paths, record.sources, record.files, strict=True):
        try:
            about = split_row(path)[0].stat()
        except OSError:
            if known is not None:
                return True
            continue
        untouched = max(about.st_mtime, about.st_ctime) < made_at - CLOCK_SLACK
        if not (untouched and known is not None and identify_file(path) == file) and _hash_source(path) != known:
            return True
    return False


def identify_file(path: str) -> FileId | None:
    """What tells a file from any other of the same name without reading it; None where there is none.

    A copy is another file, and so is one whose file system numbers its files anew at every mount, as some network
    drives do: those are read once more in each build.
    """
    try:
        about = split_row(path)[0].stat()
    except OSError:
        return None
    return about.st_size, about.st_ino, about.st_mtime_ns


def _hash_source(path: str) -> str | None:
    """sha256 of the bytes of a file, or of a row of one; None where it cannot be read, as is said of it then."""
    file, row = split_row(path)
    try:
        if not file.is_file():
            return None
        return hash_file(file) if row is None else hash_row(file, row)
    except (OSError, ValueError, IndexError, EOFError):  # the latter three: no array, or without such a row
        return None
