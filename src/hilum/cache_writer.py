"""Build a cache: the study table's images, decoded once, and the final table with sizes, hashes, groups and splits.

The views are cut into shards by their order in the table, whoever makes them: any number of workers writes the same
bytes. A finished shard is never made again while its checksum holds and its sources are unchanged, so that a killed
build continues. What comes after the shards (seconds) is done anew every time; index.json, written last, makes it a
cache. Where there is one already, new shards wait in a folder of their own until all are made and found good, so that a
build that fails (an archive not mounted, say) leaves the cache as it was.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from .atomic import remove_leftovers, tells_full_disk, write_atomic
from .cache import FORMAT, SPLITS, compute_digest, hash_file, name_shard
from .cache_pool import write_shards
from .cache_progress import CacheProgress
from .cache_records import hash_table, make_study_records, make_view_records, measure_pixels
from .cache_shard import PixelPolicy, ShardRecord, ShardTask, read_shard_record
from .errors import UserError
from .folder_lock import lock_folder
from .imaging.intensity import POLICIES
from .imaging.rejection import list_reasons
from .own_script import leave_if_imported
from .splits import SplitRule, assign_splits, group_patients, list_moved
from .study import VIEW, read_studies, write_studies
from .vocabulary import MODALITIES

# Few enough shards that a process can keep all of them mapped (one open file each), enough to share among workers.
_MIN_SHARD, _MAX_SHARDS = 64, 256
_NUM_NAMED = 10  # patients named in a message
_STAGING = ".building"  # new shards of a folder whose cache is still good
LOCK_PATIENCE = 2.0  # seconds; a build that was told to stop has nothing to save


@dataclass(frozen=True)
class Built:
    """What a build did: files it had to reject, and whether the cache is there or other workers make the rest."""

    num_rejected: int
    is_whole: bool


def build_cache(
    studies: Path,
    out: Path,
    *,
    workers: int = 1,
    short_side: int = 256,
    bits: Literal[8, 16] = 8,
    policy: str = "voi-1",
    modalities: Sequence[str] = MODALITIES,
    allow_burned_in: bool = False,
    shard_views: int | None = None,
    worker: str | None = None,
    progress: bool = True,
    file_timeout: float = 60.0,
    split_rule: SplitRule = "threshold",
    split_fractions: Mapping[str, float] | None = None,
) -> Built:
    """Make, continue or bring up to date the cache of a study table.

    Args:
        studies: the study table (Parquet).
        out: folder of the cache.
        workers: processes; 0 works in this one, without a time limit for a file.
        short_side, bits, policy: shorter side kept (never enlarged), bits per pixel, intensity policy.
        modalities: DICOM modalities that are taken; "" takes files whose header names none.
        allow_burned_in: also take DICOM files that say they have text burned in.
        shard_views: views in a shard; by default a power of two that gives at most 256 shards.
        worker: "i/n": make every n-th shard from the i-th (from 0) for a job array; the last to finish ends the build.
        file_timeout: seconds after which a file that is still being read is rejected.
        split_rule, split_fractions: for studies without an official split, see `splits.assign_splits`.

    Raises:
        UserError: settings that contradict the folder's, another build in it, an archive that is not there, nothing
            readable, splits that share pixels, a full disk. A cache that was there stays as it was.
    """
    leave_if_imported()
    share, num_shares = parse_share(worker)
    if policy not in POLICIES:
        raise UserError(f"There is no intensity policy {policy!r}. Choose --policy {' or '.join(POLICIES)}.")
    check_settings(workers, short_side, shard_views, file_timeout)
    frame = read_studies(studies)
    check_roots(studies, frame)
    # What is wrong with the splits is known before hours of decoding, but for what only the pixels can tell.
    assign_splits(group_patients(frame), split_rule, split_fractions)
    views = (
        frame.with_row_index("row").select("row", "dataset", "study", "root", "views").explode("views").unnest("views")
    )
    pixel_policy = PixelPolicy(policy, short_side, bits)
    claim_folder(out, pixel_policy)
    check_same_archive(out, frame)
    message = f"{out}: another `hilum cache` is writing this folder. Wait for it to end, or choose another --out."
    tasks = plan_shards(out, views, pixel_policy, shard_views)
    tasks = [replace(task, modalities=tuple(modalities), allow_burned_in=allow_burned_in) for task in tasks]
    mine = tasks[share::num_shares]

    with (
        lock_folder(out, message, patience=LOCK_PATIENCE, shared=worker is not None),
        nullcontext() if worker is None else lock_share(out, share, num_shares),
        CacheProgress(sum(len(task.paths) for task in mine), silent=not progress) as bar,
    ):
        done: dict[int, ShardRecord] = {}
        staged: set[int] = set()

        def find(task: ShardTask, *, is_mine: bool) -> None:
            for place in (stage(task), task):
                record = read_shard_record(place, check_bytes=is_mine)
                if record is not None and not (is_mine and record.given_up):
                    done[task.number] = record
                    staged.update([task.number] if place is not task else [])
                    return

        for task in mine:
            find(task, is_mine=True)
            bar.keep(len(task.paths) if task.number in done else 0)
        missing = [task for task in mine if task.number not in done]

        def finish(task: ShardTask, record: ShardRecord) -> None:
            done[task.number] = record
            bar.finish(len(task.paths))

        if missing and (out / "index.json").exists():
            (out / _STAGING).mkdir(exist_ok=True)
            missing = [stage(task) for task in missing]
            staged.update(task.number for task in missing)
        try:
            write_shards(missing, workers, file_timeout, finish, bar.report)
            for task in tasks:
                if task.number not in done:
                    find(task, is_mine=False)
            if len(done) < len(tasks):
                bar.say(f"{len(done)} of {len(tasks)} shards are there; the other workers of the array make the rest.")
                return Built(sum(len(done[task.number].rejected) for task in mine), is_whole=False)
            if num_shares == 1:  # in an array, another worker may be at the same point
                remove_leftovers(out)
            records = [done[task.number] for task in tasks]
            summary = finish_cache(out, frame, views, tasks, records, staged, pixel_policy, split_rule, split_fractions)
        except OSError as error:
            if not tells_full_disk(error):
                raise
            raise UserError(describe_full_disk(out, tasks, done)) from error
        bar.say(summary)
    return Built(sum(len(record.rejected) for record in records), is_whole=True)


def check_roots(studies: Path, frame: pl.DataFrame) -> None:
    """Refuse an archive that is not there before every one of its files is rejected for it."""
    for root in frame["root"].unique(maintain_order=True):
        folder = Path(root)
        if not folder.is_dir():
            found = "is not a folder" if folder.exists() else "does not exist"
        elif not os.access(folder, os.R_OK | os.X_OK):
            found = "may not be read by this user"
        elif next(folder.iterdir(), None) is None:
            found = "is empty"
        else:
            continue
        raise UserError(
            f"{root}, where {studies} has its images, {found}. Mount it or put it back there; if archive and table "
            "moved apart, make the table anew with `hilum ingest`."
        )


def stage(task: ShardTask) -> ShardTask:
    """The same shard, in the folder where it waits for the others."""
    return replace(task, out=task.out / _STAGING)


def unstage(out: Path, numbers: set[int]) -> None:
    """Move finished shards to their places. Another worker of an array may be at the same point."""
    for number in sorted(numbers):
        for place in (Path(name_shard(number)), Path(name_shard(number)).with_suffix(".json")):
            with suppress(FileNotFoundError):
                os.replace(out / _STAGING / place, out / place)  # noqa: PTH105 - atomic on every system
    shutil.rmtree(out / _STAGING, ignore_errors=True)  # with what a failed build left in it


def check_settings(workers: int, short_side: int, shard_views: int | None, file_timeout: float) -> None:
    """Refuse numbers that mean nothing, before anything is read."""
    counts = {"--workers": (workers, 0), "--short-side": (short_side, 1), "shard_views": (shard_views, 1)}
    for name, (value, least) in counts.items():
        if value is not None and value < least:
            raise UserError(f"{name} is {value}; it must be at least {least}.")
    if not file_timeout > 0:
        raise UserError(f"file_timeout is {file_timeout:g} s; it must be above 0.")


def parse_share(worker: str | None) -> tuple[int, int]:
    """(i, n) of "i/n"."""
    if worker is None:
        return 0, 1
    parts = worker.split("/")
    if len(parts) == 2 and all(part.isdecimal() for part in parts) and int(parts[0]) < int(parts[1]):
        return int(parts[0]), int(parts[1])
    raise UserError(f"--worker {worker!r} is not i/n with i from 0 to n-1, such as 0/4 for the first of four.")


def lock_share(out: Path, share: int, num_shares: int) -> AbstractContextManager[None]:
    """One process for each share of a job array."""
    worker = f"{share}/{num_shares}"
    message = f"{out}: another `hilum cache --worker {worker}` makes this share. Give every worker a number of its own."
    return lock_folder(out, message, patience=LOCK_PATIENCE, name=f".lock-{share}-of-{num_shares}")


def claim_folder(out: Path, policy: PixelPolicy) -> None:
    """Make the folder, or check that what is in it is a cache of the same policy."""
    settings = out / "settings.json"
    if settings.exists():
        found = json.loads(settings.read_bytes())
        if (found["format"], found["policy"]) != (FORMAT, policy.id):
            raise UserError(
                f"{out} holds a cache of policy {found['policy']} (format {found['format']}); asked for was "
                f"{policy.id} (format {FORMAT}). Choose another --out, or delete that folder."
            )
        return
    if out.exists() and (not out.is_dir() or any(not entry.name.endswith(".tmp") for entry in out.iterdir())):
        raise UserError(f"{out} exists and is not a cache. Choose an empty or new folder for --out.")
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(settings, json.dumps({"format": FORMAT, "policy": policy.id}))


def check_same_archive(out: Path, frame: pl.DataFrame) -> None:
    """Refuse to turn the cache of one archive into that of another; an archive may grow, shrink and be relabelled."""
    if not (out / "studies.parquet").exists():
        return
    before = pl.read_parquet(out / "studies.parquet", columns=["dataset", "study"])
    num_kept = len(before.join(frame, on=["dataset", "study"], how="semi"))
    names = [set(table["dataset"]) for table in (before, frame)]
    if num_kept == len(before) or (num_kept and names[0] == names[1]):
        return
    had, has = (", ".join(sorted(name)) for name in names)
    raise UserError(
        f"{out} holds the cache of another study table: {len(before):,} studies of {had}, {num_kept:,} of them among "
        f"the {len(frame):,} of {has} asked for. Choose another --out, or delete that folder."
    )


def plan_shards(out: Path, views: pl.DataFrame, policy: PixelPolicy, shard_views: int | None) -> list[ShardTask]:
    """Cut the table's views into shards, in order."""
    if shard_views is None:
        shard_views = _MIN_SHARD
        while shard_views * _MAX_SHARDS < len(views):
            shard_views *= 2
    names = views["path"].to_list()
    paths = [str(Path(root) / name) for root, name in zip(views["root"], names, strict=True)]
    return [
        ShardTask(out, number, policy, names[first : first + shard_views], paths[first : first + shard_views])
        for number, first in enumerate(range(0, len(views), shard_views))
    ]


def finish_cache(
    out: Path,
    frame: pl.DataFrame,
    views: pl.DataFrame,
    tasks: list[ShardTask],
    records: list[ShardRecord],
    staged: set[int],
    policy: PixelPolicy,
    split_rule: SplitRule,
    split_fractions: Mapping[str, float] | None,
) -> str:
    """From finished shards to a cache: table, records, index. Returns what to tell the user.

    What can be refused is refused first; only then the shards of `staged` take their places and an older index goes.
    """
    first = np.cumsum([0, *(len(task.paths) for task in tasks)])
    kept_row = np.array(
        [first[number] + image.place for number, made in enumerate(records) for image in made.images], np.int64
    )
    images = [image for made in records for image in made.images]
    shard = np.repeat(np.arange(len(records)), [len(made.images) for made in records])
    rejected = {
        int(first[number]) + place: reason for number, made in enumerate(records) for place, reason in made.rejected
    }
    if not images:
        example = f"{views['path'][0]}: {rejected[0]}"
        raise UserError(
            f"None of the {len(views):,} images could be read. The first: {example}. Is the folder complete?"
        )

    kept = views[kept_row].with_columns(
        width=pl.Series([image.source_width for image in images], dtype=pl.Int32),
        height=pl.Series([image.source_height for image in images], dtype=pl.Int32),
        content_hash=pl.Series([image.content_hash for image in images]),
    )
    columns = list(VIEW.to_schema())
    lists = kept.group_by("row", maintain_order=True).agg(pl.struct(columns).alias("views"))
    table = frame.with_row_index("row").drop("views").join(lists, on="row", how="inner", maintain_order="left")
    table = table.select(frame.columns)
    table = assign_splits(group_patients(table), split_rule, split_fractions)

    moved = describe_moved(out, table)

    (out / "index.json").unlink(missing_ok=True)  # what it describes is about to change
    unstage(out, staged)
    num_dropped = write_rejected(out, frame, views, rejected, set(lists["row"]))
    study_records, datasets = make_study_records(table)
    view_records = make_view_records(kept, images, shard, policy.bits)
    for name, array in (("studies.npy", study_records), ("views.npy", view_records)):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_atomic(out / name, buffer.getvalue())
    write_studies(table, out / "studies.parquet")
    for extra in sorted(out.glob("shard-?????.*")):
        if int(extra.stem[6:]) >= len(tasks):
            extra.unlink(missing_ok=True)  # of a table that was longer; another worker of an array may be as far

    is_train = (study_records["split"] == SPLITS.index("train"))[view_records["study"]]
    mean, std = measure_pixels(
        [image for image, train in zip(images, is_train, strict=True) if train] or images, policy.bits
    )
    files = ("studies.npy", "views.npy", "studies.parquet", "rejected.parquet")
    index: dict[str, Any] = {
        "format": FORMAT,
        "policy": policy.id,
        "short_side": policy.short_side,
        "num_studies": len(study_records),
        "num_views": len(view_records),
        "mean": mean,
        "std": std,
        "datasets": datasets,
        "table": hash_table(table),
        "shards": [{"bytes": made.bytes, "sha256": made.sha256} for made in records],
        "files": {name: {"bytes": (out / name).stat().st_size, "sha256": hash_file(out / name)} for name in files},
    }
    write_atomic(out / "index.json", json.dumps({**index, "digest": compute_digest(index)}, indent=1))
    text = f"{len(view_records):,} views of {len(study_records):,} studies"
    if rejected:
        text += f"; {len(rejected):,} files rejected"
        text += f", {num_dropped:,} studies left without a view" if num_dropped else ""
        text += f", all in {out / 'rejected.parquet'}:\n" + "\n".join(
            list_reasons((views["path"][row], reason) for row, reason in sorted(rejected.items()))
        )
    return text + moved


def describe_moved(out: Path, table: pl.DataFrame) -> str:
    """For the user: who is in another split than in the cache that was in this folder, and why; "" where nobody is.

    More studies move nobody but patients newly joined into one group. The full list goes to moved.parquet before the
    older table is replaced, so that a kill in between does not lose it.
    """
    if not (out / "studies.parquet").exists():
        return ""
    moved = list_moved(pl.read_parquet(out / "studies.parquet"), table)
    if moved.is_empty():
        return ""
    buffer = io.BytesIO()
    moved.write_parquet(buffer)
    write_atomic(out / "moved.parquet", buffer.getvalue())
    joined = int(moved.select((pl.col("old_group") != pl.col("new_group")).sum()).item())
    lines = [
        f"{dataset}/{patient}: {before} -> {after}{f', now one person with {new}' if new != old else ''}"
        for dataset, patient, before, after, old, new in moved.head(_NUM_NAMED).iter_rows()
    ]
    if len(moved) > len(lines):
        lines.append(f"and {len(moved) - len(lines):,} more")
    return (
        f"\n{len(moved):,} patients are in another split than before ({joined:,} newly joined with others by shared "
        f"pixels, files or studies; all in {out / 'moved.parquet'}):\n  " + "\n  ".join(lines)
    )


def write_rejected(
    out: Path, frame: pl.DataFrame, views: pl.DataFrame, rejected: dict[int, str], kept_studies: set[int]
) -> int:
    """Write rejected.parquet: a row per rejected file, then a row without a path per study that lost all its views."""
    files = views[np.array(sorted(rejected), np.int64)].select("dataset", "study", "path")
    files = files.with_columns(reason=pl.Series([rejected[row] for row in sorted(rejected)], dtype=pl.String))
    lost = frame.with_row_index("row").filter(~pl.col("row").is_in(list(kept_studies))).select("dataset", "study")
    lost = lost.with_columns(
        path=pl.lit(None, pl.String), reason=pl.lit("study dropped: none of its views could be read")
    )
    buffer = io.BytesIO()
    pl.concat([files, lost]).write_parquet(buffer)
    write_atomic(out / "rejected.parquet", buffer.getvalue())
    return len(lost)


def describe_full_disk(out: Path, tasks: list[ShardTask], done: dict[int, ShardRecord]) -> str:
    """What to tell the user whose disk ran full."""
    free = shutil.disk_usage(out).free
    num_left = sum(len(task.paths) for task in tasks if task.number not in done)
    num_made, num_bytes = sum(len(made.images) for made in done.values()), sum(made.bytes for made in done.values())
    # Before the first shard is made: a square of the size that is kept.
    short_side, bits = tasks[0].policy.short_side, tasks[0].policy.bits
    per_view = num_bytes / num_made if num_made else short_side**2 * bits / 8
    return (
        f"{out}: the disk is full. {num_left:,} images are left, which need about {format_bytes(num_left * per_view)}; "
        f"{format_bytes(free)} are free. The {len(done)} finished of {len(tasks)} shards are kept: make room, or move "
        "the folder to a larger disk, and run the same command again."
    )


def format_bytes(count: float) -> str:
    """1.5 GB, 20 MB, 3 kB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
