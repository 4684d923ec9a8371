"""The malicious checkpoints by themselves: every attack is a live one, or surviving it would prove nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch._utils
from layouts import malicious, mvmae
from layouts.sizes import TINY


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    mvmae.write_lightning(tmp_path / "honest.ckpt", mvmae.draw_mvmae(TINY), project_objects=False)
    return tmp_path / "honest.ckpt"


@pytest.mark.parametrize("attack", malicious.ATTACKS)
def test_every_attack_runs_where_nobody_restrains_it(attack: str, honest: Path, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    malicious.put_in_front(honest, path, malicious.ATTACKS[attack][1](marker))
    assert not marker.exists()
    loaded = torch.load(path, weights_only=False)
    assert marker.exists()
    assert list(loaded["state_dict"]) == list(mvmae.list_shapes(TINY))  # and what was honest in it is still there


@pytest.mark.parametrize("nested", [False, True], ids=["at the top", "in hyper_parameters"])
def test_objects_that_reduce_to_a_call_run_where_nobody_restrains_them(nested: bool, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    state, touch = mvmae.draw_mvmae(TINY), malicious.Touch(marker)
    if nested:
        mvmae.write_lightning(path, state, project_objects=False, evaluator={"heads": [touch]})
    else:
        torch.save({"state_dict": state, "callbacks": touch}, path)
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("write", [malicious.write_plain_pickle, malicious.write_old_format])
def test_older_formats_run_where_nobody_restrains_them(write, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    write(path, marker)
    with path.open("rb") as file:
        if write is malicious.write_plain_pickle:
            import pickle

            pickle.load(file)
        else:
            torch.load(file, weights_only=False)
    assert marker.exists()


def test_a_planted_module_acts_when_it_is_imported(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    malicious.plant_module(tmp_path / "planted", "torch_storage_planted", marker)
    monkeypatch.syspath_prepend(tmp_path / "planted")
    malicious.put_in_front(honest, path, malicious.mention("torch_storage_planted", "Rebuilt"))
    torch.load(path, weights_only=False)
    assert marker.exists()
    del sys.modules["torch_storage_planted"]


def test_a_state_for_a_function_changes_that_function(honest: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    malicious.put_in_front(honest, path, malicious.set_attribute("torch._utils", "_rebuild_tensor_v2", "altered"))
    torch.load(path, weights_only=False)
    assert vars(torch._utils._rebuild_tensor_v2).pop("altered")
