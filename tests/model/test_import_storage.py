"""Files of every layout are the same however they are stored: halves, shared storages, a GPU, old formats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch._utils
from layouts import storages
from layouts.written import (
    FILES,
    Written,
    expect_refusal,
    import_encoder,
    load_tensors,
    one_each,
    run_import,
)

from hilum.model.weights import load_encoder


@one_each
def test_half_precision_files_are_read(written: Written, tmp_path: Path) -> None:
    halves = {name: value.half() for name, value in written.draw().items()}
    path, _ = written.put(tmp_path, halves)
    half = import_encoder(path, written.layout)[0].state_dict()
    path, _ = written.put(tmp_path, {name: value.float() for name, value in halves.items()})
    whole = import_encoder(path, written.layout)[0].state_dict()
    assert all(value.dtype == torch.float32 for value in half.values())
    assert all(torch.equal(half[name], value) for name, value in whole.items())


@pytest.mark.parametrize("name", ["with text", "medical_mae"])
def test_however_tensors_are_stored_they_are_the_same(name: str, tmp_path: Path) -> None:
    path, state = FILES[name].put(tmp_path)
    wanted = load_tensors(path, FILES[name].layout)
    for storage, store in storages.STORAGES.items():
        path, _ = FILES[name].put(tmp_path, store(state))
        found = load_tensors(path, FILES[name].layout)
        assert all(torch.equal(found[key], value) for key, value in wanted.items()), storage


@pytest.mark.parametrize("name", ["with text", "medical_mae"])  # as the two ways of writing
def test_files_saved_on_a_gpu_are_read_without_one(name: str, tmp_path: Path) -> None:
    written = FILES[name]
    path, _ = written.put(tmp_path)
    wanted = load_tensors(path, written.layout)
    storages.move_to_gpu(path, tmp_path / "gpu.pth")
    found = load_tensors(tmp_path / "gpu.pth", written.layout)
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


@pytest.mark.parametrize(("name", "key"), [("with text", "state_dict"), ("mae encoder", "model")])
def test_files_of_before_2020_are_read_or_refused_in_plain_words(
    name: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, state = FILES[name].put(tmp_path)
    wanted = load_tensors(path, FILES[name].layout)
    old, out = tmp_path / "old.pth", tmp_path / "out.safetensors"
    storages.write_old_format(old, state, key)
    if run_import(old, FILES[name].layout, out) == 0:
        found = load_encoder(out)[0].state_dict()
        assert all(torch.equal(found[key], value) for key, value in wanted.items())
    else:
        expect_refusal(old, FILES[name].layout, capsys, ("format", "torch.save"))
