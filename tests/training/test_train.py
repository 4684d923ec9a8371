"""Runs that end, that are killed and continued, that are refused; one process and two."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hilum.cache import Cache
from hilum.config import Config, PooledAlignment, WeightConfig, dump_config, load_config
from hilum.errors import UserError
from hilum.loader import StudyLoader
from hilum.model.weights import load_encoder
from hilum.training.checkpoint import list_checkpoints, load_latest_checkpoint, save_checkpoint
from hilum.training.pretrain import pretrain
from tiny_runs import build_tiny, drop_timings, hash_weights, make_tiny_cache, read_metrics, start_run
from toy_archive import make_cache


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_tiny_cache(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def finished(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """An uninterrupted run of 12 steps, and its config."""
    config = build_tiny()
    return config, pretrain(config, cache.path, tmp_path_factory.mktemp("runs") / "finished")


def test_a_run_leaves_all_that_its_folder_promises(finished: tuple[Config, Path], cache: Cache):
    config, out = finished
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "config.json", "environment.json", "pretraining.json", "metrics.jsonl", "checkpoints", "reconstructions",
        "weights.safetensors",
    }  # fmt: skip
    assert load_config(out / "config.json") == config
    encoder, about = load_encoder(out / "weights.safetensors")
    assert encoder.config == config.encoder
    assert about["mean"] == cache.mean
    assert about["data_digest"] == cache.digest
    assert about["image_policy"] == cache.policy
    assert about["pretraining"]["datasets"] == ["toy"]
    trained = load_latest_checkpoint(out / "checkpoints")
    assert trained is not None
    assert torch.equal(encoder.norm.weight, trained.weights["encoder.norm.weight"])
    text = (out / "environment.json").read_text()
    assert str(Path.home()) not in text
    assert json.loads(text)["sessions"][0]["torch"] == torch.__version__.split("+")[0]


def test_what_was_trained_on_is_the_training_split_and_nothing_else(finished: tuple[Config, Path], cache: Cache):
    seen = json.loads((finished[1] / "pretraining.json").read_text())
    hashes = {
        split: {
            bytes(cache.views["content_hash"][view]).hex()
            for view in np.flatnonzero(np.isin(cache.views["study"], cache.rows(split)))
        }
        for split in ("train", "val", "test")
    }
    assert set(seen["images"]) == hashes["train"]
    assert not set(seen["images"]) & (hashes["val"] | hashes["test"])
    assert (seen["num_studies"], seen["num_groups"]) == (18, 9)


def test_every_line_of_the_log_says_what_was_done_and_how_fast(finished: tuple[Config, Path]):
    config, out = finished
    lines = read_metrics(out)
    assert [line["step"] for line in lines] == [1, 2, 4, 6, 8, 10, 12]
    for line in lines:
        assert {"epoch", "progress", "lr", "loss", "gradient_norm", "views_per_second", "data_wait", "seconds"} <= set(
            line
        )
        for name in config.terms:
            assert {f"{name}/loss", f"{name}/weight"} <= set(line)
        assert line["loss"] == pytest.approx(
            sum(line[f"{name}/loss"] * line[f"{name}/weight"] for name in config.terms), rel=0.05, abs=0.01
        )
        measured = {"alignment/gradient_ratio", "features/effective_rank", "features/std", "features/retrieval"}
        assert (measured <= set(line)) == (line["step"] in (1, 2, 4, 8, 12))
    assert [line["step"] for line in lines if "val/reconstruction" in line] == [2, 4, 6, 8, 10, 12]
    assert lines[-1]["reconstruction/loss"] < lines[0]["reconstruction/loss"]


def test_pictures_show_visible_patches_as_they_are(finished: tuple[Config, Path]):
    _, out = finished
    paths = sorted((out / "reconstructions").iterdir())
    assert [path.name for path in paths] == ["step-00000000.npz", "step-00000006.npz", "step-00000012.npz"]
    first, last = (np.load(path) for path in (paths[0], paths[-1]))
    assert np.array_equal(first["original"], last["original"])
    assert np.array_equal(first["mask"], last["mask"])
    assert first["mask"].mean() == 1 - 4 / 16
    hidden = first["mask"].repeat(8, axis=1).repeat(8, axis=2)
    for picture in (first, last):
        assert np.array_equal(picture["prediction"][~hidden], picture["original"][~hidden])
        assert np.array_equal(picture["input"][~hidden], picture["original"][~hidden])
        assert (picture["input"][hidden] == 127).all()
    assert not np.array_equal(first["prediction"][hidden], last["prediction"][hidden])
    assert first["original"].std() > 20


@pytest.mark.parametrize("recipe", ["mvmae", "mvmae_v2t", "independent"])
@pytest.mark.parametrize("preset", ["paper", "code", "hilum"])
def test_every_recipe_trains_and_replays(recipe: str, preset, cache: Cache, tmp_path: Path):
    config = build_tiny(recipe, preset, epochs=1.0)
    out = pretrain(config, cache.path, tmp_path / "run")
    again = pretrain(load_config(out / "config.json"), cache.path, tmp_path / "again")
    assert hash_weights(out) == hash_weights(again)
    assert drop_timings(read_metrics(out)) == drop_timings(read_metrics(again))


def test_accumulation_changes_nothing_but_rounding(cache: Cache, tmp_path: Path):
    """Also the weight that follows from gradient norms; of a term that compares across a batch it would not hold."""
    config = build_tiny()
    pooled = PooledAlignment(projector=(16, 8), weight=WeightConfig(ramp="cosine", gradient_ratio=0.1))
    config = replace(config, terms={**config.terms, "alignment": pooled})
    parts = replace(config, optim=replace(config.optim, accumulate=3))
    whole, split = (pretrain(one, cache.path, tmp_path / name) for name, one in (("whole", config), ("split", parts)))
    check_equal_but_rounding(whole, split)


def check_equal_but_rounding(one: Path, other: Path, tolerance: float = 2e-5) -> None:
    for line, same in zip(read_metrics(one), read_metrics(other), strict=True):
        assert set(line) == set(same)
        for name in set(line) - {"views_per_second", "data_wait", "seconds", "memory_mib"}:
            assert same[name] == pytest.approx(line[name], rel=1e-4, abs=1e-5), name
    weights, others = (load_file(out / "weights.safetensors") for out in (one, other))
    for name, value in weights.items():
        if name.endswith("k_norm.bias"):
            continue  # adds the same to all scores of a query, so its gradient is rounding, and Adam blows that up
        torch.testing.assert_close(others[name], value, rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize(("matrices", "tolerance"), [("adamw", 2e-5), ("muon", 1e-4)])  # muon's products are bfloat16
def test_two_processes_are_one(matrices, tolerance: float, cache: Cache, tmp_path: Path):
    """The processes hold unequal numbers of pairs; every term pulls as hard as reconstruction, or harder."""
    config = build_tiny(epochs=2.0)
    config = replace(config, optim=replace(config.optim, matrices=matrices))
    alignment = replace(config.terms["alignment"], weight=WeightConfig(value=1.0))
    config = replace(
        config, terms={**config.terms, "alignment": alignment}, data=replace(config.data, views_per_step=7)
    )
    shares = [
        StudyLoader(cache, cache.rows("train"), views_per_step=7, seed=0, multi_view_floor=0.5, rank=rank, world_size=2)
        for rank in (0, 1)
    ]
    steps = list(zip(*(islice(share.iterate(), 5) for share in shares), strict=True))
    pairs = [[len(step.micro_batches[0].pairs()[0]) for step in both] for both in steps]
    assert any(one != other for one, other in pairs)
    two = replace(config, run=replace(config.run, devices=2))
    outs = [pretrain(one, cache.path, tmp_path / f"{one.run.devices}") for one in (config, two)]
    check_equal_but_rounding(*outs, tolerance)


def test_processes_that_torchrun_starts_are_the_same_run(cache: Cache, finished: tuple[Config, Path], tmp_path: Path):
    config, straight = finished
    two = replace(config, run=replace(config.run, devices=2))
    (tmp_path / "two.json").write_text(dump_config(two))
    hilum = ["-m", "hilum", "pretrain", tmp_path / "two.json", "--data", cache.path, "--out", tmp_path / "run"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, *hilum], check=True, timeout=120)
    assert json.loads((tmp_path / "run" / "environment.json").read_bytes())["sessions"][0]["processes"] == 2
    check_equal_but_rounding(straight, tmp_path / "run")


def test_machines_that_nobody_told_of_each_other_are_refused(cache: Cache, tmp_path: Path):
    with pytest.raises(UserError, match=r"run.num_nodes=2: the machines must be told.*torchrun --nnodes 2"):
        pretrain(build_tiny(num_nodes=2), cache.path, tmp_path / "run")


def test_an_error_of_a_spawned_process_reaches_the_user(cache: Cache, tmp_path: Path):
    config = replace(build_tiny(devices=2), data=replace(build_tiny().data, views_per_step=3))
    with pytest.raises(UserError, match="cannot be dealt to 2 processes"):
        pretrain(config, cache.path, tmp_path / "run")


@pytest.fixture(scope="module")
def run_long(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Config, Path]]:
    """An uninterrupted run of 36 steps (or more) in a precision, and its config: it is killed far from its end."""
    runs: dict[tuple[str, float, str], tuple[Config, Path]] = {}

    def get(precision: str, epochs: float = 12.0, matrices: Literal["adamw", "muon"] = "adamw") -> tuple[Config, Path]:
        if (precision, epochs, matrices) not in runs:
            config = build_tiny(epochs=epochs, precision=precision, checkpoint_every=24)
            config = replace(config, optim=replace(config.optim, matrices=matrices))
            out = pretrain(config, cache.path, tmp_path_factory.mktemp("runs") / precision)
            runs[precision, epochs, matrices] = config, out
        return runs[precision, epochs, matrices]

    return get


class Start:
    """One start of a run in a process of its own, watched by what this start, and no earlier one, writes."""

    def __init__(self, config: Config, cache: Cache, out: Path) -> None:
        self._metrics, self._checkpoints = out / "metrics.jsonl", out / "checkpoints"
        self._file_before = self._metrics.stat().st_ino if self._metrics.exists() else None
        self._half_written_before = self._list_half_written()
        saved = list_checkpoints(self._checkpoints)
        self._done_before = int(saved[-1].name.removeprefix("step-")) if saved else 0
        self.process = start_run(config, cache, out, resume=out.exists())

    def count_lines(self) -> int:
        """Lines of the log that this start wrote: it first replaces the file by one with the lines it keeps."""
        if not self._metrics.exists() or self._metrics.stat().st_ino == self._file_before:
            return 0
        whole = [line for line in self._metrics.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return sum(json.loads(line)["step"] > self._done_before for line in whole)

    def wait_for_lines(self, number: int) -> None:
        while self.process.is_alive() and self.count_lines() < number:
            time.sleep(0.002)

    def wait_for_a_save(self) -> None:
        """Until `save_checkpoint` has a folder under a name that does not last."""
        while self.process.is_alive() and not self._list_half_written() - self._half_written_before:
            time.sleep(0.0005)

    def kill(self) -> bool:
        """Kill it, and say whether it was within `save_checkpoint`: the folder is then still half-written."""
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL, "it ended before it was killed: this trial proved nothing"
        return bool(self._list_half_written() - self._half_written_before)

    def _list_half_written(self) -> set[str]:
        return {path.name for path in self._checkpoints.glob(".step-*.tmp")}


def finish_after_kills(config: Config, cache: Cache, out: Path, kill_after_lines: list[int], seed: int) -> int:
    """Kill a run at random moments after so many lines of each start, then within a save, then let it end.

    Returns:
        The number of kills that fell into `save_checkpoint`, at least 1.
    """
    chance, num_in_save = random.Random(seed), 0
    for lines in kill_after_lines:
        start = Start(config, cache, out)
        start.wait_for_lines(lines)
        time.sleep(chance.random() * 0.03)
        num_in_save += start.kill()
    for _ in range(5):  # a save takes milliseconds: one may be over before the kill arrives
        start = Start(config, cache, out)
        start.wait_for_lines(1)
        start.wait_for_a_save()
        if start.kill():
            num_in_save += 1
            break
    else:
        pytest.fail("none of five kills fell into a save")
    process = start_run(config, cache, out, resume=True)
    process.join()
    assert process.exitcode == 0
    return num_in_save


def check_equal(one: Path, other: Path) -> None:
    assert hash_weights(one) == hash_weights(other)
    assert drop_timings(read_metrics(one)) == drop_timings(read_metrics(other))


@pytest.mark.parametrize(("precision", "matrices"), [("32-true", "adamw"), ("bf16-mixed", "muon")])
def test_a_run_killed_and_continued_ends_with_the_same_bits(
    precision, matrices, cache: Cache, run_long, tmp_path: Path
):
    config, straight = run_long(precision, matrices=matrices)
    often = replace(config, run=replace(config.run, checkpoint_every=1))
    assert finish_after_kills(often, cache, tmp_path / "run", [2], seed=len(precision)) >= 1
    check_equal(tmp_path / "run", straight)


@pytest.mark.soak
@pytest.mark.parametrize("attempt", range(20))
def test_twenty_kills_change_no_bit(attempt: int, cache: Cache, run_long, tmp_path: Path):
    config, straight = run_long("32-true", epochs=24.0)
    often = replace(config, run=replace(config.run, checkpoint_every=1 + attempt % 3))
    assert finish_after_kills(often, cache, tmp_path / "run", [attempt % 7, 3 + attempt % 4], seed=attempt) >= 1
    check_equal(tmp_path / "run", straight)


@pytest.mark.soak
@pytest.mark.parametrize("first", [1, 2])
def test_a_run_continues_with_another_number_of_processes(first: int, cache: Cache, finished, tmp_path: Path):
    config, straight = finished
    out = tmp_path / "run"
    start = Start(replace(config, run=replace(config.run, devices=first, checkpoint_every=1)), cache, out)
    start.wait_for_lines(3)
    start.kill()  # with two processes: the one that started them, and they notice
    pretrain(replace(config, run=replace(config.run, devices=3 - first)), cache.path, out, resume=True)
    check_equal_but_rounding(straight, out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_stops(number: signal.Signals, cache: Cache, run_long, tmp_path: Path):
    config, straight = run_long("32-true")
    rarely = replace(config, run=replace(config.run, checkpoint_every=None, checkpoint_minutes=60.0))
    start = Start(rarely, cache, tmp_path / "run")
    start.wait_for_lines(2)
    os.kill(start.process.pid, number)
    start.process.join()
    assert start.process.exitcode == 128 + number
    (saved,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert 2 <= int(saved.name[5:]) < 36
    pretrain(rarely, cache.path, tmp_path / "run", resume=True)
    assert hash_weights(tmp_path / "run") == hash_weights(straight)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_good_checkpoint(cache: Cache, tmp_path: Path):
    config = build_tiny(checkpoint_every=1)
    config = replace(config, optim=replace(config.optim, lr=1e36, warmup=0.0, clip_norm=None))
    with pytest.raises(
        UserError, match=r"step \d+: the loss of reconstruction is (nan|inf).*step-0000000\d, is kept"
    ) as stop:
        pretrain(config, cache.path, tmp_path / "run")
    step = int(re.search(r"step (\d+)", str(stop.value)).group(1))
    kept = load_latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert kept is not None
    assert kept.step == step - 1
    assert all(value.isfinite().all() for value in kept.weights.values())
    assert read_metrics(tmp_path / "run")[-1]["step"] <= kept.step
    assert not (tmp_path / "run" / "weights.safetensors").exists()


ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from tiny_runs import build_tiny
from hilum.errors import UserError
from hilum.training.pretrain import pretrain
try:
    pretrain(build_tiny(keep_checkpoints=9, checkpoint_every=1), Path(sys.argv[1]), Path(sys.argv[2]) / "run")
except UserError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.soak
@pytest.mark.parametrize("size", ["430k", "500k"])  # full at one file, and at another
def test_a_full_disk_is_said_and_leaves_whole_checkpoints(size: str, cache: Cache, tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = (
        f'mount -t tmpfs -o size={size} none "$1" || exit 77; shift; "$@"; code=$?; cp -r "$0" "$0-copy"; exit $code'
    )
    command = ["unshare", "-rm", "sh", "-c", mount, disk, disk, sys.executable, "-c", ON_A_SMALL_DISK, cache.path, disk]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no right to mount a small disk")
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in done.stdout
    saved = load_latest_checkpoint(tmp_path / "disk-copy" / "run" / "checkpoints")
    assert saved is not None
    assert not list((tmp_path / "disk-copy" / "run" / "checkpoints").glob("damaged*"))


def test_folders_that_do_not_fit_are_refused(cache: Cache, finished: tuple[Config, Path], tmp_path: Path):
    config, out = finished
    before = hash_weights(out)
    with pytest.raises(UserError, match="Add --resume"):
        pretrain(config, cache.path, out)
    other = replace(config, seed=1, optim=replace(config.optim, lr=1e-3))
    with pytest.raises(UserError, match=r"other settings: seed: was 0, now 1; optim.lr: was 0.00015, now 0.001"):
        pretrain(other, cache.path, out, resume=True)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"other files \(thesis.txt\)"):
        pretrain(config, cache.path, tmp_path)
    assert hash_weights(out) == before


def test_a_checkpoint_of_an_earlier_version_is_refused_in_words(finished: tuple[Config, Path], cache: Cache, tmp_path):
    config, straight = finished
    shutil.copytree(straight, tmp_path / "run")
    (tmp_path / "run" / "weights.safetensors").unlink()
    last = load_latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert last is not None
    last.state["optimizer"] = last.state.pop("optimizers")[0]
    save_checkpoint(tmp_path / "run" / "checkpoints", last._replace(step=last.step + 1))
    with pytest.raises(UserError, match=r"written by an earlier Hilum.*or start a new run"):
        pretrain(config, cache.path, tmp_path / "run", resume=True)


@pytest.mark.parametrize("preset", ["paper", "code", "hilum"])
def test_studies_without_a_second_view_are_said_to_teach_no_alignment(
    preset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    single = make_cache(tmp_path, [1] * 12, split=["train"] * 12)
    config = build_tiny("mvmae", preset, epochs=1.0)
    config = replace(config, data=replace(config.data, multi_view_floor=0.0))
    pretrain(config, single.path, tmp_path / "run")
    said = "warning: no study of the training split has two views, so terms.alignment will teach nothing"
    assert said in capfd.readouterr().err
    alone = build_tiny("independent", preset, epochs=1.0)
    pretrain(replace(alone, data=config.data), single.path, tmp_path / "alone")
    assert "warning" not in capfd.readouterr().err


def test_another_cache_is_refused(finished: tuple[Config, Path], tmp_path: Path):
    config, out = finished
    (tmp_path / "more").mkdir()
    other = make_cache(tmp_path / "more", [2] * 20, seed=3, split=["train"] * 20)
    with pytest.raises(UserError, match="another cache"):
        pretrain(config, other.path, out, resume=True)


def test_a_finished_run_continued_is_left_as_it_is(finished: tuple[Config, Path], cache: Cache):
    config, out = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "weights.safetensors", out / "config.json")}
    assert pretrain(config, cache.path, out, resume=True) == out
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_images_are_not_enlarged_silently(cache: Cache, tmp_path: Path):
    config = build_tiny()
    with pytest.raises(UserError, match="96 px"):
        pretrain(replace(config, encoder=replace(config.encoder, image_size=96)), cache.path, tmp_path / "run")
