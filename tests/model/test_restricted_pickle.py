"""Checkpoints of strangers: their tensors come out, and nothing of theirs is run."""

from __future__ import annotations

import argparse
import enum
import io
import os
import pathlib
import pickle
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hilum.errors import UserError
from hilum.model.checkpoint_file import read_state


@pytest.fixture
def project() -> Iterator[types.ModuleType]:
    """A module that exists while a file is written, and not when it is read."""
    module = types.ModuleType("strange_project")
    code = (
        "import enum\n"
        "class Evaluator:\n    def __init__(self): self.tasks = [1]; self.head = {'a': 2}\n"
        "class Settings(dict): pass\n"
        "class Mode(enum.Enum): MEAN = 'mean'\n"
        "def anneal(step): return step\n"
    )
    exec(code, module.__dict__)
    for value in module.__dict__.values():
        if getattr(value, "__module__", None) == "builtins":
            value.__module__ = "strange_project"
    sys.modules["strange_project"] = module
    yield module
    sys.modules.pop("strange_project", None)


def make_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    base = torch.randn(6, 8)
    return {
        "whole": base,
        "transposed": base.T,  # shares its storage, other strides
        "row": base[2:4, ::2],  # an offset
        "half": torch.randn(3).half(),
        "brain": torch.randn(3).bfloat16(),
        "counts": torch.arange(4),
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "learned": torch.nn.Parameter(torch.randn(2)),
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("place", ["state_dict", "model", None])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_plain_checkpoints_are_read(place: str | None, legacy: bool, tmp_path: Path) -> None:
    state = make_state()
    tree = OrderedDict(state) if place is None else {place: OrderedDict(state), "epoch": 3, "optimizer": {"lr": 0.1}}
    torch.save(tree, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert_same(read_state(tmp_path / "a.pth"), state)


def test_safetensors_are_read_and_the_prefix_of_distributed_training_goes(tmp_path: Path) -> None:
    save_file({f"module.{name}": torch.ones(2) for name in "ab"}, tmp_path / "a.bin")
    assert_same(read_state(tmp_path / "a.bin"), {"a": torch.ones(2), "b": torch.ones(2)})


def test_objects_of_an_unknown_project_are_left_empty(project: Any, tmp_path: Path) -> None:
    """As in MVMAE's Lightning file, and with the settings of all kinds that such files carry (M 6.1)."""
    state = make_state()
    settings = project.Settings(evaluator=project.Evaluator(), mode=project.Mode.MEAN, anneal=project.anneal)
    settings["self"], settings["made"] = settings, Call(project.anneal, 3)
    settings["member"] = Call(getattr, project.Mode, "MEAN")  # as Python 3.11.2 writes `mode`
    tree = {
        "hyper_parameters": settings,
        "args": argparse.Namespace(lr=1e-3, path=pathlib.PurePosixPath("a/b"), device=torch.device("cpu")),
        "numbers": [np.float64(0.5), np.arange(3), {1, 2}, torch.float16, torch.Size([1]), slice(1)],
        "layer": torch.nn.Linear(2, 2),
        "epoch": 4,
        "state_dict": OrderedDict(state),
    }
    torch.save(tree, tmp_path / "a.ckpt")
    del sys.modules["strange_project"]
    with pytest.raises(pickle.UnpicklingError):  # or this tests nothing
        torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert_same(read_state(tmp_path / "a.ckpt"), state)
    assert "strange_project" not in sys.modules


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def save_with(content: Any, path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "hyper_parameters": {"deep": [content]}}, path)


CALLS = {
    "posix.system": lambda mark: Call(os.system, f"touch {mark}"),
    "builtins.eval": lambda mark: Call(eval, f"open({str(mark)!r}, 'w')"),
    "builtins.exec": lambda mark: Call(exec, f"open({str(mark)!r}, 'w')"),
    "builtins.getattr": lambda mark: Call(getattr, os, "getcwd"),
    "subprocess.Popen": lambda mark: Call(subprocess.Popen, ["touch", str(mark)]),
    "torch.storage._load_from_bytes": lambda mark: Call(torch.storage._load_from_bytes, b"x"),
    "torch.hub.load": lambda mark: Call(torch.hub.load, "a/b", "c"),
    "numpy.fromfile": lambda mark: Call(np.fromfile, str(mark)),
}


@pytest.mark.skipif(os.name != "posix", reason="os.system is posix.system here")
@pytest.mark.parametrize("name", CALLS)
def test_calls_are_refused_by_name(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = CALLS[name](mark)
    if name == "builtins.getattr":
        content.arguments = (1, "real")  # a module does not pickle
    save_with(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"a.pth: refused: it (asks for|calls) {name}\. Hilum reads tensors"):
        read_state(tmp_path / "a.pth")
    assert not mark.exists()


def save_pickle(code: bytes, path: Path) -> None:
    """A torch archive with this pickle, written by hand."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", code)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", torch.ones(2).numpy().tobytes())
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"\x80\x02c__builtin__\neval\n(U\x011tR.", "refused: it asks for builtins.eval"),
        (b"\x80\x04\x8c\x05torch\x8c\x14serialization.os.dup\x93)R.", "refused: it calls torch.serialization.os.dup"),
        (b"\x80\x02ccollections\nOrderedDict.evil\n)R.", "refused: it asks for collections.OrderedDict.evil"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00)tR.", "not a whole checkpoint"),
        (b"\x80\x02(cos\nsystem\nU\x02lso.", "refused: it asks for os.system"),
        (b"\x80\x02(U\x02lsios\nsystem\n.", "refused: it asks for os.system"),
        (b"\x80\x02U\x07storageQ.", "refused: it refers to something that is not a tensor's storage"),
        (b"\x80\x02}(X\x01\x00\x00\x00a", "not a whole checkpoint"),
        (b"\x80\x02chilum.demo\nrun_demo\n)R.", "refused: it calls hilum.demo.run_demo"),
        (b"\x80\x02c__builtin__\ngetattr\n(cstrange_project\nMode\nU\x03runtR(K\x01tR.", "not a whole checkpoint"),
        (b"\x80\x02c__builtin__\ngetattr\n(ctorch.hub\nload\nU\x03runtR.", "refused: it calls torch.hub.load"),
        (b"\x80\x02cstrange_project\nrun\n)R.", "holds a pickled run; expected a state dict"),
        (b"\x80\x02cstrange_project\nRun\n)R.", "holds a pickled Run; expected a state dict"),
        (b"\x80\x02}X\x01\x00\x00\x00acstrange_project\nRun\n)R\x86b.", "not a whole checkpoint|no state dict"),
    ],
)
def test_pickles_written_by_hand_end_in_words(code: bytes, message: str, tmp_path: Path) -> None:
    save_pickle(code, tmp_path / "a.pth")
    with pytest.raises(UserError, match=message):
        read_state(tmp_path / "a.pth")


def test_a_pickle_cannot_change_the_functions_it_is_given(tmp_path: Path) -> None:
    """BUILD sets attributes of whatever is on the stack, such as the defaults of the function that rebuilds tensors."""
    change = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__(K\x01K\x02ts\x86b."
    save_pickle(change, tmp_path / "a.pth")
    before = torch._utils._rebuild_tensor_v2.__defaults__
    with pytest.raises(UserError):
        read_state(tmp_path / "a.pth")
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before
    test_a_stub_does_not_hide_the_tensors(tmp_path)


def test_a_stub_does_not_hide_the_tensors(tmp_path: Path) -> None:
    save_with(argparse.Namespace(a=1), tmp_path / "b.pth")
    assert_same(read_state(tmp_path / "b.pth"), {"a": torch.ones(2)})


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_files_that_are_cut_short_are_refused_in_words(legacy: bool, share: float, tmp_path: Path) -> None:
    torch.save(make_state(), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    cut(tmp_path / "a.pth", share)
    with pytest.raises(UserError, match=r"a.pth: not a (whole )?checkpoint"):
        read_state(tmp_path / "a.pth")


@pytest.mark.parametrize("length", [4, 0])
def test_a_record_that_is_too_short_for_its_tensor_is_refused(length: int, tmp_path: Path) -> None:
    save_with(argparse.Namespace(a=1), tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as old, zipfile.ZipFile(tmp_path / "b.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[:length] if "/data/" in name else old.read(name))
    with pytest.raises(UserError, match=r"b.pth: not a whole checkpoint \(tensor a is not whole"):
        read_state(tmp_path / "b.pth")


def test_what_holds_no_state_dict_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "best": 0.5}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="no state dict in it: it holds epoch, best"):
        read_state(tmp_path / "a.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"it holds a pickled Linear; expected a state dict: model.state_dict\(\)"):
        read_state(tmp_path / "b.pth")
    torch.save({"a": torch.ones(1), "b": 3}, tmp_path / "c.pth")
    with pytest.raises(UserError, match="b in its state dict is int and not a tensor"):
        read_state(tmp_path / "c.pth")
    (tmp_path / "d.pth").write_bytes(pickle.dumps({"a": enum.Enum}))
    with pytest.raises(UserError, match=r"d.pth: not a checkpoint of torch.save, or one .* before 1.6"):
        read_state(tmp_path / "d.pth")
    with pytest.raises(UserError, match="there is no such file"):
        read_state(tmp_path / "e.pth")
    script = io.BytesIO()
    torch.save({"a": argparse.Namespace()}, script, _use_new_zipfile_serialization=False)
    (tmp_path / "f.pth").write_bytes(script.getvalue())
    with pytest.raises(UserError, match=r"f.pth: not a checkpoint of torch.save, or one .* before 1.6"):
        read_state(tmp_path / "f.pth")
