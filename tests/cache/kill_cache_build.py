"""Program of test_cache_kills.py: build a cache again and again, each time killed at a later write, and continue it.

Then two of its images change, and the same is done with the finished cache brought up to date.

Usage: kill_cache_build.py STUDIES.parquet FOLDER REFERENCE EVERY. Prints the number of kills survived, of each kind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import PIL.ImageOps

from hilum.cache import Cache
from hilum.cache import shard as cache_shard
from hilum.cache.writer import build_cache
from hilum.errors import UserError


def kill_at(moment: int) -> None:
    """SIGKILL this process at the given moment: before a flush, before and after a rename, before an image."""
    count = 0

    def watch(function: Callable, *, after: bool = False) -> Callable:
        def call(*args, **kwargs):
            step()
            result = function(*args, **kwargs)
            if after:
                step()
            return result

        return call

    def step() -> None:
        nonlocal count
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    os.fsync = watch(os.fsync)
    os.replace = watch(os.replace, after=True)
    cache_shard.read_record = watch(cache_shard.read_record)


def run(work: Callable[[], None]) -> int:
    """Exit status of `work` in a process of its own; as after a kill, nothing of it survives but its files."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def read_folder(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main(studies: Path, folder: Path, reference: Path, every: int) -> None:
    def build(out: Path, moment: int | None = None) -> Callable[[], None]:
        def work() -> None:
            if moment is not None:
                kill_at(moment)
            build_cache(studies, out, workers=0, short_side=64, shard_views=4, progress=False)

        return work

    assert run(build(reference)) == 0
    expected = read_folder(reference)
    moment = 0
    while True:
        out = folder / f"killed-{moment}"
        status = run(build(out, moment))
        if status == 0:
            break
        assert status == signal.SIGKILL, status
        with contextlib.suppress(UserError):  # unfinished; or killed after the last rename, and sound
            assert Cache.open(out).verify() == []
        finished = {path: path.stat().st_mtime_ns for path in out.glob("shard-*.json")}
        assert run(build(out)) == 0
        assert read_folder(out) == expected, f"killed at {moment}: another cache"
        assert all(path.stat().st_mtime_ns == time for path, time in finished.items()), (
            "a finished shard was made again"
        )
        shutil.rmtree(out)
        moment += every
    num_built = len(range(0, moment, every))

    for path in sorted(studies.parent.rglob("*.png"))[::9][:2]:
        image = PIL.Image.open(path)
        PIL.ImageOps.flip(image).save(path)
    assert run(build(folder / "changed")) == 0
    after = read_folder(folder / "changed")
    assert sum(after[name] != expected[name] for name in after if name.endswith(".bin")) == 2
    moment = 0
    while True:
        out = folder / f"updated-{moment}"
        shutil.copytree(reference, out)
        status = run(build(out, moment))
        if status == 0:
            break
        assert status == signal.SIGKILL, status
        if (out / "index.json").exists():  # the cache as it was, or as it is to be; else it says that it is unfinished
            assert Cache.open(out).verify() == []
            kept = {name: content for name, content in read_folder(out).items() if name in expected}
            assert kept in (expected, after), f"killed at {moment}: a mixture of two caches"
        assert run(build(out)) == 0
        assert read_folder(out) == after, f"killed at {moment}: another cache"
        shutil.rmtree(out)
        moment += every
    print(num_built, len(range(0, moment, every)))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]), every=int(sys.argv[4]))
