from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hilum.cache.shard import (
    CLOCK_SLACK,
    FileId,
    PixelPolicy,
    ShardRecord,
    ShardTask,
    has_new_sources,
    identify_file,
)
from hilum.checksums import hash_file
from hilum.errors import UserError
from hilum.folder_lock import lock_folder
from hilum.study import read_studies, write_studies
from toy_archive import write_archive
from toy_cache import VIEWS, build, read_folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("cache") / "archive", VIEWS, sides=(70, 200))


def test_the_cache_of_another_table_is_not_replaced(archive: Path, tmp_path: Path) -> None:
    cache = build(archive, tmp_path / "cache")
    before = read_folder(cache.path)
    frame = read_studies(archive)
    other = frame.with_columns(dataset=pl.lit("other"))
    salted = frame.with_columns(study=pl.format("again-{}", "study"))
    for number, (table, said) in enumerate(
        [(other, f"0 of them among the {len(frame)} of other asked for"), (salted, f"{len(frame)} of toy asked for"),
         (pl.concat([frame.head(2), other]), "2 of them among")]
    ):  # fmt: skip
        write_studies(table, tmp_path / f"{number}.parquet")
        with pytest.raises(
            UserError, match=rf"cache holds the cache of another study table: .*{said}.* Choose another"
        ):
            build(tmp_path / f"{number}.parquet", cache.path)
    assert read_folder(cache.path) == before
    write_studies(pl.concat([frame, other.tail(2)]), tmp_path / "both.parquet")  # a second archive may join
    assert build(tmp_path / "both.parquet", cache.path).datasets == ("other", "toy")


def test_a_second_build_of_a_folder_is_refused_and_workers_of_an_array_are_not(archive: Path, tmp_path: Path) -> None:
    out = build(archive, tmp_path / "cache").path
    leftover = out / f".shard-00000.bin.{'0' * 12}.tmp"  # of the one at work
    leftover.write_bytes(b"half")
    with lock_folder(out, "", patience=0.0), pytest.raises(UserError, match="another `hilum cache` is writing this"):
        build(archive, out)
    with lock_folder(out, "", patience=0.0, shared=True):
        build(archive, out, worker="0/2")
        with pytest.raises(UserError, match="another `hilum cache` is writing this"):
            build(archive, out)
        assert leftover.exists()
    with lock_folder(out, "", patience=0.0, name=".lock-0-of-2"):
        build(archive, out, worker="1/2")
        with pytest.raises(UserError, match="another `hilum cache --worker 0/2` makes this share"):
            build(archive, out, worker="0/2")
    build(archive, out)
    assert not leftover.exists()


def test_who_moves_to_another_split_because_of_new_studies_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_archive(tmp_path / "archive", [1] * 24)
    frame = read_studies(table)
    write_studies(frame.head(22), table)
    before = build(table, tmp_path / "cache", progress=True)
    split = dict(before.table().select("patient", "split").iter_rows())
    # A newcomer has the image of two patients of different splits: they are one person now.
    first, other = next((one, two) for one in split for two in split if one < two and split[one] != split[two])
    own = dict(frame.select("patient", "study").iter_rows())
    for patient, new in ((first, "toy-022-0.png"), (other, "toy-023-0.png")):
        shutil.copy(table.parent / f"toy-{own[patient][1:]}-0.png", table.parent / new)
    write_studies(frame, table)
    capsys.readouterr()
    after = build(table, before.path, progress=True)
    said = capsys.readouterr().err
    assert "1 patient moved to another split than before (1 newly joined" in said
    assert f"toy/{other}: {split[other]} -> {split[first]}, now one person with {first}" in said
    moved = pl.read_parquet(after.path / "moved.parquet")
    assert moved["patient"].to_list() == [other]
    build(table, before.path, progress=True)
    assert "another split" not in capsys.readouterr().err


def test_new_labels_or_studies_do_not_decode_what_is_done(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive.parent, tmp_path / "archive")
    table = tmp_path / "archive" / archive.name
    before = build(table, tmp_path / "cache")
    made = {path.name: path.stat().st_mtime_ns for path in before.path.glob("shard-*.bin")}
    write_studies(read_studies(table).with_columns(Edema=pl.lit(1, pl.Int8)), table)
    relabelled = build(table, before.path)
    assert {path.name: path.stat().st_mtime_ns for path in before.path.glob("shard-*.bin")} == made
    assert relabelled.digest != before.digest
    write_studies(read_studies(table).head(4), table)
    shorter = build(table, before.path)
    assert (shorter.path / "shard-00000.bin").stat().st_mtime_ns == made["shard-00000.bin"]
    assert sorted(path.name for path in shorter.path.glob("shard-*")) == [
        "shard-00000.bin", "shard-00000.json", "shard-00001.bin", "shard-00001.json",
    ]  # fmt: skip
    # A study's key is its own, whoever else is there.
    np.testing.assert_array_equal(shorter.studies["key"], before.studies["key"][:4])


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_file_replaced_by_one_of_its_size_is_read_again(tmp_path: Path, keep_times: bool) -> None:
    table = write_archive(tmp_path / "archive", [1] * 8)
    rng = np.random.default_rng(0)
    frame = read_studies(table)
    paths = [f"toy-{number:03d}.pgm" for number in range(8)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (300, 300), dtype=np.uint8)).save(table.parent / path)
    views = [[{**study[0], "path": path}] for study, path in zip(frame["views"].to_list(), paths, strict=True)]
    write_studies(frame.with_columns(views=pl.Series(views, dtype=frame.schema["views"])), table)
    before = build(table, tmp_path / "cache")
    image, made = before.image(2).copy(), (before.path / "shard-00001.bin").stat().st_mtime_ns
    changed = table.parent / paths[2]
    about = changed.stat()
    whole = bytearray(changed.read_bytes())
    whole[40_000:50_000] = bytes(10_000)  # blackened in the middle, as a name burned into the pixels is
    changed.write_bytes(whole)
    assert changed.stat().st_size == about.st_size
    if keep_times:
        os.utime(changed, ns=(about.st_atime_ns, about.st_mtime_ns))
    after = build(table, before.path)
    assert not np.array_equal(after.image(2), image)
    assert (after.path / "shard-00001.bin").stat().st_mtime_ns == made


def test_files_untouched_since_are_not_read_and_others_are_compared(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive.parent, tmp_path / "archive")
    path = next((tmp_path / "archive").glob("*.png"))
    task = ShardTask(tmp_path, 0, PixelPolicy("voi-1", 64, 8), [path.name, "lost"], [str(path), str(path) + "-lost"])
    changed, file = path.stat().st_ctime, identify_file(str(path))

    def is_new(sources: list[str | None], made_at: float, file: FileId | None = file) -> bool:
        return has_new_sources(task, ShardRecord("", 0, "", [], [], sources, [file, None], False), made_at)

    assert not is_new([hash_file(path), None], changed)
    assert is_new(["0" * 64, None], changed + CLOCK_SLACK - 10)
    assert not is_new(["0" * 64, None], changed + CLOCK_SLACK + 10)  # older than the shard: not opened
    assert is_new([hash_file(path), "0" * 64], changed)  # was there
    assert is_new([None, None], changed + CLOCK_SLACK + 10)  # was not
    assert file is not None
    for other in (None, *(tuple(part + (at == place) for at, part in enumerate(file)) for place in range(3))):
        assert is_new(["0" * 64, None], changed + CLOCK_SLACK + 10, other), "as old, but another file"
        assert not is_new([hash_file(path), None], changed + CLOCK_SLACK + 10, other), "its bytes are the same"


def test_another_archive_with_the_same_names_and_old_times_is_read(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both archives lay there long before the cache was built."""
    other = write_archive(tmp_path / "other" / "archive", VIEWS, sides=(70, 200), seed=1)
    monkeypatch.setattr("hilum.cache.shard.CLOCK_SLACK", -CLOCK_SLACK)
    before = build(archive, tmp_path / "cache")
    expected = build(other, tmp_path / "expected")
    assert before.digest != expected.digest
    assert build(other, before.path).digest == expected.digest


def test_a_moved_archive_is_compared_once_and_not_decoded(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.cache.shard.CLOCK_SLACK", -CLOCK_SLACK)
    before = build(archive, tmp_path / "cache")
    made = {path.name: path.stat().st_mtime_ns for path in before.path.glob("shard-*.bin")}
    shutil.copytree(archive.parent, tmp_path / "moved")
    moved = tmp_path / "moved" / archive.name
    opened: list[Path] = []

    def hash_and_note(path: Path) -> str:
        opened.append(path)
        return hash_file(path)

    monkeypatch.setattr("hilum.cache.shard.hash_file", hash_and_note)
    for num_read in (sum(VIEWS), 0):
        opened.clear()
        assert build(moved, before.path).digest == before.digest
        assert sum(path.suffix == ".png" for path in opened) == num_read
    assert {path.name: path.stat().st_mtime_ns for path in before.path.glob("shard-*.bin")} == made


def test_a_cache_and_its_digest_move_with_the_archive(archive: Path, tmp_path: Path) -> None:
    here = build(archive, tmp_path / "cache")
    shutil.copytree(archive.parent, tmp_path / "far" / "away" / "archive")
    there = build(tmp_path / "far" / "away" / "archive" / archive.name, tmp_path / "elsewhere")
    assert here.digest == there.digest
