"""From finished shards to a cache: the final table with sizes, hashes, groups and splits, the records, the index."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int64

from hilum.atomic import write_atomic
from hilum.checksums import hash_file
from hilum.errors import UserError
from hilum.imaging.rejection import list_reasons
from hilum.splits import list_moved
from hilum.study import VIEW, write_studies
from hilum.wording import say_count

from .notices import describe_notices, list_notices
from .reader import FORMAT, SPLITS, compute_digest
from .records import hash_table, make_breast_records, make_study_records, make_view_records, measure_pixels
from .shard import ImageRecord, PixelPolicy
from .staging import ShardSet

_NUM_NAMED = 10  # patients named in a message


def finish_cache(
    shards: ShardSet,
    frame: pl.DataFrame,
    views: pl.DataFrame,
    policy: PixelPolicy,
    split: Callable[[pl.DataFrame], pl.DataFrame],
) -> str:
    """Write what is beside the shards, and index.json last. Returns what to tell the user.

    What can be refused is refused first; only then the new shards take their places and an older index goes.

    Args:
        frame, views: the study table, and a row for each of its views in the order of the shards.
        split: sets groups and splits of the table of what could be read.
    """
    out, images = shards.out, join_shards(shards)
    check_readable(views, images)
    kept = fill_views(views, images)
    table = split(nest_views(frame, kept))
    moved = describe_moved(out, table)

    (out / "index.json").unlink(missing_ok=True)  # what it describes is about to change
    shards.unstage()
    num_dropped = write_rejected(out, frame, views, images.rejected, set(kept["row"]))
    studies, datasets = make_study_records(table)
    records = make_view_records(kept, images.records, images.shard, policy.bits)
    write_array(out / "studies.npy", studies)
    write_array(out / "views.npy", records)
    notices = "" if policy.frame is None else write_breasts(out, kept, images.records)
    write_studies(table, out / "studies.parquet")
    remove_surplus(shards)
    is_train = (studies["split"] == SPLITS.index("train"))[records["study"]]
    mean, std = measure_pixels(
        [image for image, train in zip(images.records, is_train, strict=True) if train] or images.records, policy.bits
    )
    counted = {"num_studies": len(studies), "num_views": len(records), "mean": mean, "std": std, "datasets": datasets}
    write_index(shards, policy, {**counted, "table": hash_table(table)})
    text = f"{say_count(len(records), 'view')} of {say_count(len(studies), 'study', 'studies')}"
    return text + describe_rejected(out, views, images.rejected, num_dropped) + notices + moved


def write_breasts(out: Path, kept: pl.DataFrame, records: list[ImageRecord]) -> str:
    """breasts.npy and notices.parquet; returns what to tell the user."""
    breasts = [record.breast for record in records if record.breast is not None]
    assert len(breasts) == len(records), "a mammogram without its record"
    write_array(out / "breasts.npy", make_breast_records(breasts))
    notices = list_notices(kept, breasts)
    write_table(out / "notices.parquet", notices)
    return describe_notices(out, notices)


@dataclass(frozen=True)
class Images:
    """What the shards hold, in order."""

    row: Int64[np.ndarray, " image"]  # of the table of views
    records: list[ImageRecord]
    shard: Int64[np.ndarray, " image"]  # number of the one it is in
    rejected: dict[int, str]  # row of the table of views -> why its file is not among them


def join_shards(shards: ShardSet) -> Images:
    """The images of all shards; a shard holds a run of views."""
    first = np.cumsum([0, *(len(task.paths) for task in shards.tasks)])
    row, shard, records, rejected = [], [], [], {}
    for number, made in enumerate(shards.records):
        row += [first[number] + image.place for image in made.images]
        shard += [number] * len(made.images)
        records += made.images
        rejected |= {int(first[number]) + place: reason for place, reason in made.rejected}
    return Images(np.array(row, np.int64), records, np.array(shard, np.int64), rejected)


def check_readable(views: pl.DataFrame, images: Images) -> None:
    """Refuse a cache of nothing."""
    if not images.records:
        example = f"{views['path'][0]}: {images.rejected[0]}"
        raise UserError(
            f"None of the {len(views):,} images could be read. The first: {example}. Is the folder complete?"
        )


def fill_views(views: pl.DataFrame, images: Images) -> pl.DataFrame:
    """The views that could be read, with what only their pixels tell: size and content hash."""
    return views[images.row].with_columns(
        width=pl.Series([image.source_width for image in images.records], dtype=pl.Int32),
        height=pl.Series([image.source_height for image in images.records], dtype=pl.Int32),
        content_hash=pl.Series([image.content_hash for image in images.records]),
    )


def nest_views(frame: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """The study table with these views; studies without any are left out."""
    lists = kept.group_by("row", maintain_order=True).agg(pl.struct(list(VIEW.to_schema())).alias("views"))
    table = frame.with_row_index("row").drop("views").join(lists, on="row", how="inner", maintain_order="left")
    return table.select(frame.columns)


def write_table(path: Path, table: pl.DataFrame) -> None:
    """A table as a Parquet file that appears whole or not at all."""
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    write_atomic(path, buffer.getvalue())


def write_array(path: Path, array: np.ndarray) -> None:
    """An array as an .npy file that appears whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def remove_surplus(shards: ShardSet) -> None:
    """Remove shards of a table that was longer; another worker of an array may be as far."""
    for extra in sorted(shards.out.glob("shard-?????.*")):
        if int(extra.stem[6:]) >= len(shards.tasks):
            extra.unlink(missing_ok=True)


def write_index(shards: ShardSet, policy: PixelPolicy, counted: dict[str, Any]) -> None:
    """index.json, which makes the folder a cache."""
    out, files = shards.out, ["studies.npy", "views.npy", "studies.parquet", "rejected.parquet"]
    framed: dict[str, Any] = {}
    if policy.frame is not None:
        files += ["breasts.npy", "notices.parquet"]
        framed = {"frame": list(policy.frame)}
    index: dict[str, Any] = {
        "format": FORMAT,
        "policy": policy.id,
        "short_side": policy.short_side,
        **framed,
        **counted,
        "shards": [{"bytes": made.bytes, "sha256": made.sha256} for made in shards.records],
        "files": {name: {"bytes": (out / name).stat().st_size, "sha256": hash_file(out / name)} for name in files},
    }
    write_atomic(out / "index.json", json.dumps({**index, "digest": compute_digest(index)}, indent=1))


def describe_rejected(out: Path, views: pl.DataFrame, rejected: dict[int, str], num_dropped: int) -> str:
    """For the user: how many files and studies are missing, and why; "" where none is."""
    if not rejected:
        return ""
    text = f"; {say_count(len(rejected), 'file')} rejected"
    text += f", {say_count(num_dropped, 'study', 'studies')} left without a view" if num_dropped else ""
    reasons = list_reasons((views["path"][row], reason) for row, reason in sorted(rejected.items()))
    return text + f", all in {out / 'rejected.parquet'}:\n" + "\n".join(reasons)


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
    write_table(out / "moved.parquet", moved)
    joined = int(moved.select((pl.col("old_group") != pl.col("new_group")).sum()).item())
    lines = [
        f"{dataset}/{patient}: {before} -> {after}{f', now one person with {new}' if new != old else ''}"
        for dataset, patient, before, after, old, new in moved.head(_NUM_NAMED).iter_rows()
    ]
    if len(moved) > len(lines):
        lines.append(f"and {len(moved) - len(lines):,} more")
    return (
        f"\n{say_count(len(moved), 'patient')} moved to another split than before ({joined:,} newly joined with others "
        f"by shared pixels, files or studies; all in {out / 'moved.parquet'}):\n  " + "\n  ".join(lines)
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
    write_table(out / "rejected.parquet", pl.concat([files, lost]))
    return len(lost)
