from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hilum.atomic import make_folder_atomic, open_atomic, write_atomic
from hilum.cache import SPLITS, Cache, hash_file
from hilum.cache_shard import CLOCK_SLACK, PixelPolicy, ShardTask, has_new_sources
from hilum.cache_writer import build_cache
from hilum.config import EncoderConfig
from hilum.errors import UserError
from hilum.folder_lock import lock_folder
from hilum.imaging.read import read_image
from hilum.imaging.resize import quantize, resize_short_side
from hilum.side_table import read_side_table, write_side_table
from hilum.study import read_studies, write_studies
from hilum.vocabulary import VIEW_KINDS
from toy_archive import make_cache, write_archive

VIEWS = [1, 2, 3, 1, 2, 1, 1, 2]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("cache") / "archive", VIEWS, sides=(70, 200))


def build(table: Path, out: Path, **settings) -> Cache:
    build_cache(table, out, **{"workers": 0, "short_side": 64, "shard_views": 4, "progress": False, **settings})
    return Cache.open(out)


def read_folder(folder: Path) -> dict[str, bytes]:
    """What a build wrote, but for locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run_program(code: str, *arguments: object, **how) -> subprocess.CompletedProcess[str]:
    """A program in a file of its own, as worker processes need it."""
    how = {"capture_output": True, "text": True, "timeout": 300, **how}
    return subprocess.run([sys.executable, code, *map(str, arguments)], check=False, **how)


def test_every_image_is_there_with_what_must_be_known_of_it(archive: Path, tmp_path: Path) -> None:
    cache = build(archive, tmp_path / "cache")
    table = read_studies(archive)
    files = [(row["root"], view) for row in table.iter_rows(named=True) for view in row["views"]]
    assert len(cache.views) == sum(VIEWS) == len(files)
    sums = []
    for number, (root, view) in enumerate(files):
        grey = read_image(Path(root) / view["path"])
        small, affine = resize_short_side(grey.pixels, 64)
        np.testing.assert_array_equal(cache.image(number), quantize(small, 8))
        np.testing.assert_array_equal(cache.views["affine"][number], affine)
        assert VIEW_KINDS[cache.views["view_kind"][number]] == view["kind"]
        if cache.studies["split"][cache.views["study"][number]] == SPLITS.index("train"):
            sums.append(cache.image(number).ravel())
    np.testing.assert_array_equal(cache.studies["num_views"], VIEWS)
    np.testing.assert_array_equal(cache.studies["first_view"], np.cumsum(VIEWS) - VIEWS)
    np.testing.assert_array_equal(cache.views["study"], np.repeat(np.arange(len(VIEWS)), VIEWS))
    pixels = np.concatenate(sums).astype(np.float64) / 255
    np.testing.assert_allclose([cache.mean, cache.std], [pixels.mean(), pixels.std()], rtol=1e-12)
    final = cache.table()
    assert final["study"].to_list() == table["study"].to_list()
    first = final["views"][0][0]
    with Image.open(Path(files[0][0]) / first["path"]) as image:
        assert (first["width"], first["height"]) == image.size
    assert bytes.fromhex(first["content_hash"]) == cache.views["content_hash"][0].tobytes()
    assert sorted(np.concatenate([cache.rows(split) for split in SPLITS])) == list(range(len(VIEWS)))
    # Two studies a patient: the same number, the same split.
    assert (cache.studies["patient"][0::2] == cache.studies["patient"][1::2]).all()
    assert (cache.studies["split"][0::2] == cache.studies["split"][1::2]).all()
    assert cache.policy == "voi-1/short64/uint8"
    assert cache.verify() == []


def test_the_bytes_do_not_depend_on_who_works(archive: Path, tmp_path: Path) -> None:
    expected = read_folder(build(archive, tmp_path / "alone").path)
    assert len([name for name in expected if name.endswith(".bin")]) == 4
    assert read_folder(build(archive, tmp_path / "pool", workers=2).path) == expected
    for share in ("2/3", "0/3"):
        options = {"workers": 0, "short_side": 64, "shard_views": 4, "progress": False}
        assert not build_cache(archive, tmp_path / "array", worker=share, **options).is_whole
        with pytest.raises(UserError, match="unfinished cache"):
            Cache.open(tmp_path / "array")
    assert read_folder(build(archive, tmp_path / "array", worker="1/3").path) == expected


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.soak)])
def test_a_kill_at_any_write_loses_nothing(archive: Path, tmp_path: Path, every: int) -> None:
    shutil.copytree(archive.parent, tmp_path / "archive")
    program = Path(__file__).with_name("kill_cache_build.py")
    arguments = (tmp_path / "archive" / archive.name, tmp_path, tmp_path / "reference", every)
    done = run_program(str(program), *arguments, timeout=300 if every > 1 else 3000)
    assert done.returncode == 0, done.stderr
    num_built, num_updated = map(int, done.stdout.split())
    assert num_built >= 60 // every
    assert num_updated >= 20 // every


def test_a_script_that_its_workers_import_is_told_so(archive: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import sys
            from pathlib import Path
            from hilum.cache_writer import build_cache
            build_cache(Path(sys.argv[1]), Path(sys.argv[2]), workers=2, short_side=64, progress=False)
        """)
    )
    done = run_program(str(program), archive, tmp_path / "cache")
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.strip().splitlines()[-1] == (
        f"hilum.errors.UserError: {program}: calls build_cache while it is imported, and every worker process imports "
        'it. Put the call under `if __name__ == "__main__":`.'
    )


def test_a_killed_pool_continues(archive: Path, tmp_path: Path) -> None:
    """The whole process group, at an arbitrary moment, with workers in the middle of files."""
    expected = read_folder(build(archive, tmp_path / "reference").path)
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import sys, time
            from pathlib import Path
            from hilum import cache_shard
            read = cache_shard.read_record
            def read_slowly(*args):
                time.sleep(0.05)
                return read(*args)
            cache_shard.read_record = read_slowly
            if __name__ == "__main__":
                from hilum.cache_writer import build_cache
                studies, out = map(Path, sys.argv[1:])
                build_cache(studies, out, workers=2, short_side=64, shard_views=4, progress=False)
        """)
    )
    out = tmp_path / "cache"
    process = subprocess.Popen([sys.executable, program, archive, out], start_new_session=True)
    begin = time.monotonic()
    while not list(out.glob("shard-*.json")) and time.monotonic() - begin < 120:
        time.sleep(0.02)
    os.killpg(process.pid, 9)
    process.wait()
    assert list(out.glob("shard-*.json"))
    assert not (out / "index.json").exists()
    assert read_folder(build(archive, out).path) == expected


def test_bad_files_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", [2, 1, 1, 2, 1, 1])
    names = [f"toy-{number:03d}-0.png" for number in range(6)]
    root = table.parent
    (root / names[0]).write_text("This is no image.")
    (root / names[1]).unlink()
    (root / names[3]).write_bytes((root / names[3]).read_bytes()[:60])
    Image.new("L", (80, 80), 7).save(root / names[4])
    cache_path = tmp_path / "cache"
    settings = {"workers": 0, "short_side": 64, "progress": False}
    assert build_cache(table, cache_path, **settings).num_rejected == 4
    cache = Cache.open(cache_path)
    rejected = pl.read_parquet(cache_path / "rejected.parquet")
    files = rejected.filter(pl.col("path").is_not_null())
    assert files["path"].to_list() == [names[0], names[1], names[3], names[4]]
    assert "does not exist" in files["reason"][1]
    assert "blank" in files["reason"][3]
    lost = rejected.filter(pl.col("path").is_null())
    assert lost["study"].to_list() == ["s001", "s004"]
    assert lost["reason"].unique().to_list() == ["study dropped: none of its views could be read"]
    assert cache.table()["study"].to_list() == ["s000", "s002", "s003", "s005"]
    np.testing.assert_array_equal(cache.studies["num_views"], [1, 1, 1, 1])
    assert cache.table()["views"][0][0]["path"] == "toy-000-1.png"
    # A file that is mended is read in the next run.
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)).save(root / names[1])
    assert build_cache(table, cache_path, **settings).num_rejected == 3
    assert Cache.open(cache_path).table()["study"].to_list() == ["s000", "s001", "s002", "s003", "s005"]


def test_files_that_hang_or_crash_their_reader_cost_only_themselves(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", [1] * 8)
    (table.parent / "toy-002-0.png").unlink()
    os.mkfifo(table.parent / "toy-002-0.png")  # reading it waits for a writer that never comes
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import os, signal, sys
            from pathlib import Path
            from hilum import cache_shard
            read = cache_shard.read_image
            def read_or_crash(path, policy, **taken):
                if path.endswith("toy-005-0.png"):
                    os.kill(os.getpid(), signal.SIGSEGV)
                return read(path, policy, **taken)
            cache_shard.read_image = read_or_crash
            if __name__ == "__main__":
                from hilum.cache_writer import build_cache
                built = build_cache(Path(sys.argv[1]), Path(sys.argv[2]), workers=2, short_side=64, shard_views=4,
                                    progress=False, file_timeout=1.5)
                sys.exit(built.num_rejected)
        """)
    )
    done = run_program(str(program), table, tmp_path / "cache")
    assert done.returncode == 2, done.stderr
    rejected = pl.read_parquet(tmp_path / "cache" / "rejected.parquet").filter(pl.col("path").is_not_null())
    assert dict(rejected.select("path", "reason").iter_rows()) == {
        "toy-002-0.png": "took longer than 1.5 s to read",
        "toy-005-0.png": "crashed its reader twice",
    }
    assert len(Cache.open(tmp_path / "cache").views) == 6
    # Both are tried again in the next run.
    (table.parent / "toy-002-0.png").unlink()
    shutil.copy(table.parent / "toy-001-0.png", table.parent / "toy-002-0.png")
    assert len(build(table, tmp_path / "cache").views) == 8


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", [1, 1])
    for path in table.parent.glob("*.png"):
        path.unlink()
    with pytest.raises(
        UserError, match=r"None of the 2 images could be read. The first: toy-000-0.png: .*does not exist"
    ):
        build(table, tmp_path / "cache")


@pytest.mark.parametrize("how", ["moved", "not mounted", "emptied", "leaking"])
def test_a_build_that_fails_leaves_the_cache_that_was_there(tmp_path: Path, how: str) -> None:
    table = write_archive(tmp_path / "archive", [1] * 12)
    (table.parent / "toy-003-0.png").write_text("no picture\n")
    shutil.move(table, tmp_path / "studies.parquet")
    table = tmp_path / "studies.parquet"
    write_studies(read_studies(table).with_columns(root=pl.lit(str(tmp_path / "archive"))), table)
    cache = build(table, tmp_path / "cache")
    before = read_folder(cache.path)
    if how == "leaking":  # known only once the pixels are read
        shutil.copy(tmp_path / "archive" / "toy-000-0.png", tmp_path / "archive" / "toy-011-0.png")
        frame = read_studies(table)
        write_studies(frame.with_columns(split=pl.Series(["train"] * 10 + ["test"] * 2)), table)
        said = "Leak"
    else:
        shutil.move(tmp_path / "archive", tmp_path / "elsewhere")
        said = "archive, where .*studies.parquet has its images, does not exist. Mount it"
    if how in ("not mounted", "emptied"):
        (tmp_path / "archive").mkdir()
        said = "archive, where .*studies.parquet has its images, is empty. Mount it"
    if how == "emptied":
        (tmp_path / "archive" / "lost+found").mkdir()
        said = "None of the 12 images could be read"
    with pytest.raises(UserError, match=said):
        build(table, cache.path)
    after = {name: content for name, content in read_folder(cache.path).items() if not name.startswith(".building")}
    assert after == before
    assert not Cache.open(cache.path).verify()
    if how != "leaking":
        shutil.rmtree(tmp_path / "archive", ignore_errors=True)
        shutil.move(tmp_path / "elsewhere", tmp_path / "archive")
        made = (cache.path / "shard-00000.bin").stat().st_mtime_ns
        assert read_folder(build(table, cache.path).path) == before
        assert (cache.path / "shard-00000.bin").stat().st_mtime_ns == made


def test_a_full_disk_says_what_is_needed_and_keeps_finished_shards(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive.parent, tmp_path / "archive")
    disk = tmp_path / "disk"
    disk.mkdir()
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import shutil, sys
            from pathlib import Path
            from hilum.cache_writer import build_cache
            from hilum.errors import UserError
            if __name__ == "__main__":
                try:
                    build_cache(Path(sys.argv[1]), Path(sys.argv[2]) / "cache", workers=int(sys.argv[4]), short_side=64,
                                shard_views=4, progress=False)
                finally:
                    shutil.copytree(Path(sys.argv[2]) / "cache", sys.argv[3])
        """)
    )
    mount = 'mount -t tmpfs -o size=72k none "$1" || exit 77; shift; exec "$@"'
    table, saved = tmp_path / "archive" / archive.name, tmp_path / "saved"
    inside = [sys.executable, program, table, disk, saved, "0"]
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", disk, *inside]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no user namespaces here: a small disk cannot be mounted")
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(f"hilum.errors.UserError: {disk / 'cache'}: the disk is full. "), done.stderr
    assert "images are left, which need about" in message
    assert "finished of 4 shards are kept" in message
    kept = {path.name: path.stat().st_mtime_ns for path in saved.glob("shard-*.bin")}
    assert kept
    build(table, saved)
    assert all((saved / name).stat().st_mtime_ns == when for name, when in kept.items())


def test_rejected_files_are_named_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_archive(tmp_path / "archive", [1] * 6)
    for number in (1, 3):
        (table.parent / f"toy-00{number}-0.png").write_text("a letter, not a picture\n" * 9)
    (table.parent / "toy-004-0.png").unlink()
    build(table, tmp_path / "cache", progress=True)
    said = capsys.readouterr().err.splitlines()
    assert said[-4].startswith("3 views of 3 studies; 3 files rejected, 3 studies left without a view, all in ")
    assert said[-3:] == [
        "  2: toy-001-0.png, ...: not an image: a text file",
        "  1: toy-004-0.png: the file does not exist",
        "  Mend these files and run the same command again, or go on without them.",
    ]


def test_settings_that_contradict_the_folder(archive: Path, tmp_path: Path) -> None:
    build(archive, tmp_path / "cache")
    with pytest.raises(UserError, match=r"policy voi-1/short64/uint8 .* asked for was voi-1/short96/uint16"):
        build(archive, tmp_path / "cache", short_side=96, bits=16)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("dear to its writer")
    with pytest.raises(UserError, match="exists and is not a cache"):
        build(archive, tmp_path / "other")
    with pytest.raises(UserError, match="no intensity policy 'bright'"):
        build(archive, tmp_path / "new", policy="bright")
    for share in ("4/4", "1", "-1/4", "a/b"):
        with pytest.raises(UserError, match="is not i/n with i from 0 to n-1"):
            build(archive, tmp_path / "new", worker=share)
    for settings, said in (
        ({"split_fractions": {"train": 0.8, "val": 0.2, "test": 0.2}}, "add up to 1"),
        ({"split_fractions": {"train": 1.0, "dev": 0.0}}, "no split dev"),
        ({"short_side": 0}, "--short-side is 0; it must be at least 1"),
        ({"workers": -1}, "--workers is -1"),
        ({"file_timeout": 0.0}, "above 0"),
    ):
        with pytest.raises(UserError, match=said):
            build(archive, tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


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


def test_a_patient_in_two_official_splits_is_said_before_any_image_is_read(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", [1] * 4, split=["train", "test", "train", "train"])
    with pytest.raises(UserError, match=r"Leak: 1 patient \(toy-p000\) in both train and test"):
        build(table, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


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


def test_what_is_wrong_with_a_cache_is_said(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no cache \(index.json is missing\)"):
        Cache.open(tmp_path)
    cache = build(archive, tmp_path / "cache")
    shard = cache.path / "shard-00001.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert Cache.open(cache.path).verify() == ["shard-00001.bin is not what was written (sha256 differs)"]
    assert read_folder(build(archive, cache.path).path)["shard-00001.bin"] == whole  # made again
    shard.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=rf"shard-00001.bin: has {len(whole) - 1} bytes, index.json says {len(whole)}"):
        Cache.open(cache.path)
    assert read_folder(build(archive, cache.path).path)["shard-00001.bin"] == whole  # made again
    index = json.loads((cache.path / "index.json").read_text())
    (cache.path / "index.json").write_text(json.dumps({**index, "mean": 0.5}))
    assert Cache.open(cache.path).verify() == ["index.json was changed (digest differs)"]
    (cache.path / "index.json").write_text(json.dumps({**index, "format": 0}))
    with pytest.raises(UserError, match="cache format 0, this Hilum reads 1"):
        Cache.open(cache.path)


def test_the_same_pixels_in_two_official_splits_are_an_error_and_join_patients_otherwise(tmp_path: Path) -> None:
    splits = ["train", "train", "val", "val", "test", "test"]
    table = write_archive(tmp_path / "archive", [1] * 6, split=splits)
    shutil.copy(table.parent / "toy-000-0.png", table.parent / "toy-005-0.png")
    with pytest.raises(UserError, match="Leak"):
        build(table, tmp_path / "official")
    write_studies(read_studies(table).with_columns(split=pl.lit(None, pl.String)), table)
    cache = build(table, tmp_path / "free")
    assert cache.studies["patient"][0] == cache.studies["patient"][5]
    assert len(np.unique(cache.studies["patient"])) == 2
    assert cache.studies["split"][0] == cache.studies["split"][5]


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
    assert "1 patients are in another split than before (1 newly joined" in said
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


def test_files_untouched_since_are_not_read_and_touched_ones_are_compared(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive.parent, tmp_path / "archive")
    path = next((tmp_path / "archive").glob("*.png"))
    task = ShardTask(tmp_path, 0, PixelPolicy("voi-1", 64, 8), [path.name, "lost"], [str(path), str(path) + "-lost"])
    changed = path.stat().st_ctime
    assert not has_new_sources(task, [hash_file(path), None], changed)
    assert has_new_sources(task, ["0" * 64, None], changed + CLOCK_SLACK - 10)
    assert not has_new_sources(task, ["0" * 64, None], changed + CLOCK_SLACK + 10)  # older than the shard: not opened
    assert has_new_sources(task, [hash_file(path), "0" * 64], changed)  # was there
    assert has_new_sources(task, [None, None], changed + CLOCK_SLACK + 10)  # was not


def test_a_cache_and_its_digest_move_with_the_archive(archive: Path, tmp_path: Path) -> None:
    here = build(archive, tmp_path / "cache")
    shutil.copytree(archive.parent, tmp_path / "far" / "away" / "archive")
    there = build(tmp_path / "far" / "away" / "archive" / archive.name, tmp_path / "elsewhere")
    assert here.digest == there.digest


def test_sixteen_bits_and_small_images_are_kept_as_they_are(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [1, 1], bits=16, short_side=300)
    assert cache.image(0).dtype == np.uint16
    table = cache.table()
    assert cache.image(0).shape == (table["views"][0][0]["height"], table["views"][0][0]["width"])
    assert 0 < cache.mean < 1
    with pytest.raises(UserError, match="images of 448 px wanted, but the cache keeps a short side of 300 px"):
        cache.check_encoder(EncoderConfig(image_size=448))
    cache.check_encoder(EncoderConfig(image_size=300))


def test_views_of_a_kind_that_the_encoder_has_no_vector_for_are_refused(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", [1, 1, 2])
    frame = read_studies(table)
    write_studies(frame.with_columns(views=rename_kinds(frame["views"], {"lateral": "mlo"})), table)
    cache = build(table, tmp_path / "cache")
    with pytest.raises(UserError, match=r"1 views are mlo .*study toy/s002\); .* lateral, unknown only\. Pretrain one"):
        cache.check_encoder(EncoderConfig(image_size=64))
    cache.check_encoder(EncoderConfig(image_size=64, num_view_kinds=5))
    cache.check_encoder(EncoderConfig(image_size=64, view_embedding=False))


def rename_kinds(views: pl.Series, names: dict[str, str]) -> pl.Series:
    renamed = [[{**view, "kind": names.get(view["kind"], view["kind"])} for view in study] for study in views]
    return pl.Series("views", renamed, dtype=views.dtype)


def test_side_tables_are_found_by_what_made_them(archive: Path, tmp_path: Path) -> None:
    cache = build(archive, tmp_path / "cache")
    arrays = {"features": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), "row": np.arange(4)}
    path = write_side_table(cache, "features", arrays, {"weights": "abc", "layer": 3})
    stored = read_side_table(cache, "features", {"layer": 3, "weights": "abc"})
    assert stored is not None
    assert stored.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(stored[name], array)
    assert read_side_table(cache, "features", {"weights": "abd", "layer": 3}) is None
    assert read_side_table(cache, "targets", {"weights": "abc", "layer": 3}) is None
    write_studies(read_studies(archive).with_columns(Edema=pl.lit(1, pl.Int8)), tmp_path / "relabelled.parquet")
    other = build(tmp_path / "relabelled.parquet", cache.path)
    assert read_side_table(other, "features", {"weights": "abc", "layer": 3}) is None
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="not a readable side table"):
        read_side_table(cache, "features", {"weights": "abc", "layer": 3})


def test_an_interrupted_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_atomic(path, "old")
    with pytest.raises(ZeroDivisionError), open_atomic(path) as file:
        file.write(b"new" + bytes(file.write(b"half") // 0))
    assert path.read_text() == "old"
    folder = tmp_path / "step-1"
    with pytest.raises(ZeroDivisionError), make_folder_atomic(folder) as work:
        (work / "half").write_text(str(1 // 0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]
    with make_folder_atomic(folder) as work:
        (work / "nested").mkdir()
        (work / "nested" / "file").write_text("whole")
    assert (folder / "nested" / "file").read_text() == "whole"
    with pytest.raises(OSError, match=r"not empty|exists"), make_folder_atomic(folder):
        pass
