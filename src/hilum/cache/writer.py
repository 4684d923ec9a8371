"""Build a cache: the study table's images, decoded once, and the final table with sizes, hashes, groups and splits.

The views are cut into shards by their order in the table, whoever makes them: any number of workers writes the same
bytes. A finished shard is never made again while its checksum holds and its sources are unchanged, so that a killed
build continues. What comes after the shards (`finish.py`, seconds) is done anew every time; index.json, written
last, makes it a cache. Where there is one already, new shards wait in a folder of their own until all are made and
found good (`staging.py`), so that a build that fails (an archive not mounted, say) leaves the cache as it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from hilum.atomic import remove_leftovers, write_atomic
from hilum.errors import UserError
from hilum.folder_lock import lock_folder
from hilum.imaging.intensity import POLICIES, is_mammographic
from hilum.imaging.mammography.frame import FRAME
from hilum.imaging.mammography.gate import SPECIAL
from hilum.imaging.quality import MIN_SHORT_SIDE
from hilum.splits import SplitRule, assign_splits, group_patients
from hilum.study import read_studies
from hilum.vocabulary import MODALITIES
from hilum.worker_imports import leave_if_imported

from .finish import finish_cache
from .pool import write_shards
from .progress import CacheProgress
from .reader import FORMAT
from .shard import PixelPolicy, ShardRecord, ShardTask
from .staging import ShardSet

# Few enough shards that a process can keep all of them mapped (one open file each), enough to share among workers.
_MIN_SHARD, _MAX_SHARDS = 64, 256
DEFAULT_SHORT_SIDE = 256
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
    short_side: int = DEFAULT_SHORT_SIDE,
    bits: Literal[8, 16] = 8,
    policy: str = "voi-1",
    modalities: Sequence[str] = MODALITIES,
    allow_burned_in: bool = False,
    frame: tuple[int, int] | None = None,
    take: Sequence[str] = (),
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
        frame: of a policy of mammograms, height and width that breasts are fitted into; default 1520 x 912.
        take: special mammograms that are taken too, see `imaging.mammography.gate.SPECIAL`.
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
    pixel_policy = choose_pixels(policy, short_side, bits, frame, take)
    table = read_studies(studies)
    check_roots(studies, table)

    def split(unsplit: pl.DataFrame) -> pl.DataFrame:
        return assign_splits(group_patients(unsplit), split_rule, split_fractions)

    split(table)  # what is wrong with it is known before hours of decoding, but for what only the pixels can tell
    claim_folder(out, pixel_policy)
    check_same_archive(out, table)
    views = list_views(table)
    if pixel_policy.frame is not None:
        check_breasts(studies, views)
    taken = {"modalities": tuple(modalities), "allow_burned_in": allow_burned_in, "take": tuple(take)}
    shards = ShardSet(out, plan_shards(out, views, pixel_policy, shard_views, **taken))
    mine = shards.tasks[share::num_shares]
    message = f"{out}: another `hilum cache` is writing this folder. Wait for it to end, or choose another --out."
    with (
        lock_folder(out, message, patience=LOCK_PATIENCE, shared=worker is not None),
        nullcontext() if worker is None else lock_share(out, share, num_shares),
        CacheProgress(sum(len(task.paths) for task in mine), silent=not progress) as bar,
        shards.explain_full_disk(),
    ):
        make_shards(shards, mine, workers, file_timeout, bar)
        for task in shards.missing:
            shards.find(task, is_mine=False)
        if shards.missing:
            bar.say(
                f"{len(shards.done)} of {len(shards.tasks)} shards are there; the other workers of the array make the "
                "rest."
            )
            return Built(sum(len(shards.done[task.number].rejected) for task in mine), is_whole=False)
        if num_shares == 1:  # in an array, another worker may be at the same point
            remove_leftovers(out)
        bar.say(finish_cache(shards, table, views, pixel_policy, split))
    return Built(sum(len(record.rejected) for record in shards.records), is_whole=True)


def make_shards(
    shards: ShardSet, mine: Sequence[ShardTask], workers: int, file_timeout: float, bar: CacheProgress
) -> None:
    """Make those of one's own share that are not there."""
    for task in mine:
        bar.keep(len(task.paths) if shards.find(task, is_mine=True) else 0)

    def finish(task: ShardTask, record: ShardRecord) -> None:
        shards.done[task.number] = record
        bar.finish(len(task.paths))

    missing = shards.stage([task for task in mine if task.number not in shards.done])
    write_shards(missing, workers, file_timeout, finish, bar.report)


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


def choose_pixels(
    policy: str, short_side: int, bits: Literal[8, 16], frame: tuple[int, int] | None, take: Sequence[str]
) -> PixelPolicy:
    """What is done to each image; settings that would have no effect under the policy are refused."""
    if unknown := sorted(set(take) - set(SPECIAL)):
        raise UserError(f"--take {unknown[0]}: expected {', '.join(SPECIAL)}.")
    if not is_mammographic(policy):
        if frame is not None or take:
            name = "--take" if frame is None else "--frame"
            raise UserError(f"{name} is for mammograms and has no effect under --policy {policy}: choose mammo-auto-1.")
        return PixelPolicy(policy, short_side, bits)
    if short_side != DEFAULT_SHORT_SIDE:
        raise UserError(f"--short-side has no effect under --policy {policy}, which fits breasts into --frame.")
    height, width = frame or FRAME
    if min(height, width) < MIN_SHORT_SIDE:
        raise UserError(f"--frame {height} {width}: height and width must be at least {MIN_SHORT_SIDE} pixels.")
    return PixelPolicy(policy, min(height, width), bits, (height, width))


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


def list_views(frame: pl.DataFrame) -> pl.DataFrame:
    """A row for each view of a study table, with the row of its study."""
    table = frame.with_row_index("row").select("row", "dataset", "study", "root", "views")
    return table.explode("views").unnest("views")


def check_breasts(studies: Path, views: pl.DataFrame) -> None:
    """Refuse to frame chests as if they were breasts; views that nobody named may be either."""
    chests = views.filter(pl.col("kind").is_in(("frontal", "lateral")))
    if len(chests):
        kinds = ", ".join(chests["kind"].unique().sort())
        raise UserError(
            f"{studies}: {len(chests):,} of {len(views):,} views are {kinds} ({chests['path'][0]}, ...), no mammogram. "
            "Choose another --policy, or ingest mammograms into a table of their own."
        )


def plan_shards(
    out: Path, views: pl.DataFrame, policy: PixelPolicy, shard_views: int | None, **taken: Any
) -> list[ShardTask]:
    """Cut the table's views into shards, in order; `taken` says which files are, see `ShardTask`."""
    if shard_views is None:
        shard_views = _MIN_SHARD
        while shard_views * _MAX_SHARDS < len(views):
            shard_views *= 2
    names = views["path"].to_list()
    paths = [str(Path(root) / name) for root, name in zip(views["root"], names, strict=True)]
    parts = [slice(first, first + shard_views) for first in range(0, len(views), shard_views)]
    return [ShardTask(out, number, policy, names[part], paths[part], **taken) for number, part in enumerate(parts)]
