"""Files that would run something are refused by the name of what they call (`test_malicious_files.py`: they would)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch._utils
from layouts import malicious, mvmae
from layouts.sizes import TINY
from layouts.written import (
    FILES,
    Written,
    expect_refusal,
    one_each,
    run_import,
)


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        *(("with text", attack) for attack in malicious.ATTACKS),
        *((name, "os.system") for name in ("medical_mae", "crossmae weighted", "timm plain")),
    ],
)
def test_an_attack_is_refused_by_the_name_of_what_it_calls(
    name: str, attack: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    called, build = malicious.ATTACKS[attack]
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    malicious.put_in_front(FILES[name].put(tmp_path)[0], path, build(marker))
    expect_refusal(path, FILES[name].layout, capsys, called)
    assert not marker.exists()


@pytest.mark.parametrize("place", ["in hyper_parameters", "in the state", "beside it"])
def test_an_object_that_reduces_to_a_call_is_refused_wherever_it_is(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    state, touch = mvmae.draw_mvmae(TINY), malicious.Touch(marker)
    if place == "in hyper_parameters":
        mvmae.write_lightning(path, state, evaluator={"heads": [({"deep": touch},)]})
    elif place == "in the state":
        mvmae.write_lightning(path, state | {f"{mvmae.ENCODER}cls_token": touch})
    else:
        torch.save({"state_dict": state, "callbacks": touch}, path)
    expect_refusal(path, "mvmae", capsys, "system")
    assert not marker.exists()


@pytest.mark.parametrize("layout", ["mvmae", "timm"])
@pytest.mark.parametrize("write", [malicious.write_plain_pickle, malicious.write_old_format])
def test_malicious_files_of_older_formats_are_refused(
    write, layout: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    write(path, marker)
    expect_refusal(path, layout, capsys)
    assert not marker.exists()


@one_each
def test_no_module_is_imported_because_a_file_mentions_it(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class of an unknown project is replaced unseen, also where a module of that name could be found."""
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    malicious.plant_module(tmp_path / "planted", "torch_storage_planted", marker)
    monkeypatch.syspath_prepend(tmp_path / "planted")
    malicious.put_in_front(written.put(tmp_path)[0], path, malicious.mention("torch_storage_planted", "Rebuilt"))
    assert run_import(path, written.layout, tmp_path / "out.safetensors") in (0, 2)
    assert not marker.exists()
    assert "torch_storage_planted" not in sys.modules


@one_each
def test_a_file_changes_no_function_of_torch(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    attack = malicious.set_attribute("torch._utils", "_rebuild_tensor_v2", "altered")
    malicious.put_in_front(written.put(tmp_path)[0], path, attack)
    assert run_import(path, written.layout, tmp_path / "out.safetensors") in (0, 2)
    assert not hasattr(torch._utils._rebuild_tensor_v2, "altered")
