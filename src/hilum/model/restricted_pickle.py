"""Tensors out of a torch checkpoint whose pickle also holds objects of somebody's project, without running any of it.

`torch.load(weights_only=True)` refuses such files whole (M 6.1). Here every name in the pickle is either one of a few
that rebuild tensors, and then stands for a function of this module, or an empty class made on the spot: nothing is
imported, so nothing of the file is ever called. Names that a file has no honest reason to call are refused aloud.

Only torch's zip format is read, whose storages are plain records beside the pickle.
"""

from __future__ import annotations

import pickle
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _STORAGES.values()}

# Of Python's own and numpy's names, what settings and optimisers are made of. All of it comes out as empty objects.
_HARMLESS = {
    "_codecs": {"encode"},
    "argparse": {"Namespace"},
    "builtins": {"bool", "bytearray", "complex", "dict", "float", "frozenset", "int", "list", "object", "set", "slice"}
    | {"str", "tuple", "range", "bytes"},
    "collections": {"Counter", "defaultdict", "deque"},
    "datetime": {"date", "datetime", "timedelta", "timezone"},
    "functools": {"partial"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
    "pathlib._local": {"Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
    "torch": {"Size", "device"},
    "types": {"SimpleNamespace"},
    "typing": {"Any"},
}
_LIBRARIES = {"hilum", "numpy", "torch"}  # what `torch.load` could call here


class RefusedError(Exception):
    """The pickle asks for something that only running it could give; the message names it."""


class StoredTensor(NamedTuple):
    """Where a tensor lies in a checkpoint; `read_stored` reads it."""

    record: str
    dtype: torch.dtype
    offset: int  # in elements
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _StubType(type):
    """Calling a stub, as a pickle's REDUCE does, makes an empty object, or is refused where that would do something."""

    full_name = ""
    may_be_called = False

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if not cls.may_be_called:
            raise RefusedError(f"it calls {cls.full_name}")
        return object.__new__(cls)


class _Stub(metaclass=_StubType):
    """An object of an unknown class: takes whatever state the pickle gives it and keeps none."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...


class _Storage(NamedTuple):
    record: str
    dtype: torch.dtype


class _StorageType(NamedTuple):
    dtype: torch.dtype


class _Unpickler(pickle.Unpickler):
    """Names lead to the functions below or to stubs, storages to their records."""

    def __init__(self, file: Any, prefix: str) -> None:
        super().__init__(file, encoding="utf-8")
        self._prefix = prefix
        self._known: dict[tuple[str, str], Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            self._known[module, name] = _find(module, name)
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageType(dtype), str(key), _, int()):
                return _Storage(f"{self._prefix}data/{key}", dtype)
        raise RefusedError("it refers to something that is not a tensor's storage")


def _find(module: str, name: str) -> Any:
    # Up to protocol 2, which torch writes, pickles have the names of Python 2.
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    # Functions are made anew for each file: a pickle can set attributes of what it is given.
    match module, name:
        case "collections", "OrderedDict":
            return OrderedDict
        case "torch" | "torch.storage", _ if name in _STORAGES:
            return _StorageType(_STORAGES[name])
        case "torch", _ if name in _DTYPES:
            return _DTYPES[name]
        case "torch._utils", "_rebuild_tensor_v2":
            return lambda storage, offset, size, stride, *rest: _locate(storage, storage.dtype, offset, size, stride)
        case "torch._utils", "_rebuild_tensor_v3":
            return lambda storage, offset, size, stride, grad, hooks, dtype, *rest: _locate(
                storage, dtype, offset, size, stride
            )
        case "torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state":
            return lambda data, *rest: data
        case "builtins", "getattr":  # how early Pythons 3.11, Debian 12's among them, write a member of an enumeration
            return lambda owner, name: _make_member(owner)
    harmless = name in _HARMLESS.get(module, ())
    top = module.split(".")[0]
    if top in sys.stdlib_module_names and not harmless:
        raise RefusedError(f"it asks for {module}.{name}")
    # Of libraries, classes are known by their names: a call makes an object. Nobody knows what a project's names are.
    is_class = name.rsplit(".", 1)[-1].lstrip("_")[:1].isupper()
    stub = _StubType(name, (_Stub,), {})
    stub.full_name, stub.may_be_called = f"{module}.{name}", harmless or is_class or top not in _LIBRARIES
    return stub


def _make_member(owner: Any) -> _Stub:
    """An empty object in the place of an unknown class's attribute; of anything else attributes are refused."""
    if not isinstance(owner, _StubType):
        raise RefusedError("it calls builtins.getattr")
    return owner()


def _locate(storage: Any, dtype: Any, offset: Any, size: Any, stride: Any) -> StoredTensor:
    numbers = (offset, *size, *stride)
    if not (isinstance(storage, _Storage) and isinstance(dtype, torch.dtype)) or not all(
        isinstance(number, int) and number >= 0 for number in numbers
    ):
        raise RefusedError("it describes a tensor without a storage")
    return StoredTensor(storage.record, dtype, offset, tuple(size), tuple(stride))


def read_restricted(path: Path) -> Any:
    """What a torch zip checkpoint holds: containers with `StoredTensor`s, and empty objects for unknown classes.

    Raises:
        RefusedError: the pickle asks for a function, or another thing that is not known to be harmless; names it.
        pickle.UnpicklingError, zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise pickle.UnpicklingError("there is no data.pkl in it")
        prefix = pickles[0].removesuffix("data.pkl")
        if f"{prefix}byteorder" in archive.namelist() and archive.read(f"{prefix}byteorder") != b"little":
            raise RefusedError("its numbers are big-endian, which only torch.load(weights_only=True) reads")
        with archive.open(pickles[0]) as file:
            try:
                return _Unpickler(file, prefix).load()
            except (AttributeError, EOFError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
                raise pickle.UnpicklingError(f"its pickle is damaged: {type(error).__name__} {error}") from error


def read_stored(path: Path, tensors: dict[str, StoredTensor]) -> dict[str, Tensor]:
    """The tensors that `read_restricted` located, as they were saved.

    Raises:
        pickle.UnpicklingError, zipfile.BadZipFile: a record is missing, damaged, or shorter than its tensor.
    """
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name, where in tensors.items():
            try:
                raw = bytearray(archive.read(where.record))
                if 0 in where.shape:
                    found[name] = torch.empty(where.shape, dtype=where.dtype)
                    continue
                flat = torch.frombuffer(raw, dtype=where.dtype)
                found[name] = flat.as_strided(where.shape, where.stride, where.offset).clone()
            except (KeyError, ValueError, RuntimeError) as error:
                raise pickle.UnpicklingError(f"tensor {name} is not whole: {error}") from error
    return found
