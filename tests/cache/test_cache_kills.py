from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import polars as pl
import pytest

from hilum.atomic import make_folder_atomic, open_atomic, write_atomic
from hilum.cache import Cache
from hilum.errors import UserError
from hilum.study import read_studies, write_studies
from toy_archive import write_archive
from toy_cache import VIEWS, build, read_folder, run_program


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("cache") / "archive", VIEWS, sides=(70, 200))


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


def test_a_killed_pool_continues(archive: Path, tmp_path: Path) -> None:
    """The whole process group, at an arbitrary moment, with workers in the middle of files."""
    expected = read_folder(build(archive, tmp_path / "reference").path)
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import sys, time
            from pathlib import Path
            from hilum.cache import shard as cache_shard
            read = cache_shard.read_record
            def read_slowly(*args):
                time.sleep(0.05)
                return read(*args)
            cache_shard.read_record = read_slowly
            if __name__ == "__main__":
                from hilum.cache.writer import build_cache
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


def test_files_that_hang_or_crash_their_reader_cost_only_themselves(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", [1] * 8)
    (table.parent / "toy-002-0.png").unlink()
    os.mkfifo(table.parent / "toy-002-0.png")  # reading it waits for a writer that never comes
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import os, signal, sys
            from pathlib import Path
            from hilum.cache import shard as cache_shard
            read = cache_shard.read_image
            def read_or_crash(path, policy, **taken):
                if path.endswith("toy-005-0.png"):
                    os.kill(os.getpid(), signal.SIGSEGV)
                return read(path, policy, **taken)
            cache_shard.read_image = read_or_crash
            if __name__ == "__main__":
                from hilum.cache.writer import build_cache
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
            from hilum.cache.writer import build_cache
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
