"""A checkpoint is there whole or not at all, whenever its writer dies; nothing in it can run code."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from hilum.training.checkpoint import Checkpoint, list_checkpoints, load_latest_checkpoint, save_checkpoint
from tiny_runs import start_process


def make_checkpoint(step: int, size: int = 8) -> Checkpoint:
    weights = {"a.weight": torch.full((size, 3), float(step)), "b": torch.arange(5)}
    return Checkpoint(step, weights, {"step": step, "mean": torch.full((size,), step + 0.5), "weights": {"x": 0.25}})


def test_what_is_read_is_what_was_saved(tmp_path: Path):
    for step in (5, 10):
        save_checkpoint(tmp_path, make_checkpoint(step))
    found = load_latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 10
    assert torch.equal(found.weights["a.weight"], torch.full((8, 3), 10.0))
    assert torch.equal(found.weights["b"], torch.arange(5))
    assert found.state["weights"] == {"x": 0.25}
    assert torch.equal(found.state["mean"], torch.full((8,), 10.5))


def test_no_folder_and_empty_folder_hold_no_checkpoint(tmp_path: Path):
    assert load_latest_checkpoint(tmp_path) is None
    assert load_latest_checkpoint(tmp_path / "absent") is None


def test_the_last_and_those_to_keep_stay(tmp_path: Path):
    for step in range(1, 7):
        save_checkpoint(tmp_path, make_checkpoint(step), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000004", "step-00000005", "step-00000006"]
    assert len(list(tmp_path.iterdir())) == 3


def test_unfinished_folders_are_ignored_and_removed(tmp_path: Path):
    save_checkpoint(tmp_path, make_checkpoint(5))
    leftover = tmp_path / ".step-00000010.0123456789ab.tmp"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    found = load_latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 5
    assert not leftover.exists()


@pytest.mark.parametrize("damage", ["model.safetensors", "state.pt", "checksums.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_passed_over_and_kept_aside(tmp_path: Path, damage: str, how: str):
    save_checkpoint(tmp_path, make_checkpoint(5))
    file = save_checkpoint(tmp_path, make_checkpoint(10)) / damage
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "remove":
        file.unlink()
    else:
        file.write_bytes(content if how == "flip" else content[:-10])
    found = load_latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 5
    assert (tmp_path / "damaged-step-00000010").is_dir()


def test_a_state_that_would_run_code_is_refused(tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return os.system, ("true",)

    save_checkpoint(tmp_path, Checkpoint(5, {"b": torch.arange(5)}, {"trap": Trap()}))
    with pytest.raises(Exception, match=r"(?i)weights_only|unsupported"):
        load_latest_checkpoint(tmp_path)


def write_without_pause(folder: Path) -> None:
    torch.set_num_threads(1)
    for step in range(1, 100_000):
        weights = {"w": torch.full((40_000,), float(step))}
        save_checkpoint(folder, Checkpoint(step, weights, {"m": torch.full((40_000,), step + 0.5)}), keep=1)
        (folder.parent / "said").write_text(str(step))


def kill_a_writer(folder: Path, seconds: float) -> int:
    """Start a process that saves without pause, kill it after a moment; returns the last step it said was saved."""
    writer = start_process(write_without_pause, folder)
    while not list_checkpoints(folder):
        assert writer.is_alive()
        time.sleep(0.001)
    time.sleep(seconds)
    writer.kill()
    writer.join()
    return int((folder.parent / "said").read_text() or 0) if (folder.parent / "said").exists() else 0


def check_after_kill(folder: Path, said: int) -> None:
    found = load_latest_checkpoint(folder)
    assert found is not None
    assert found.step >= said
    assert torch.equal(found.weights["w"], torch.full((40000,), float(found.step)))
    assert torch.equal(found.state["m"], torch.full((40000,), found.step + 0.5))
    # At most what is kept, and what a removal was in the middle of.
    assert len(list_checkpoints(folder)) <= 3
    assert not list(folder.glob(".*"))


def test_a_killed_writer_leaves_a_whole_checkpoint(tmp_path: Path):
    folder = tmp_path / "checkpoints"
    check_after_kill(folder, kill_a_writer(folder, 0.1))


@pytest.mark.soak
@pytest.mark.parametrize("attempt", range(40))
def test_forty_killed_writers_leave_whole_checkpoints(tmp_path: Path, attempt: int):
    folder = tmp_path / "checkpoints"
    check_after_kill(folder, kill_a_writer(folder, 0.0073 * attempt))
