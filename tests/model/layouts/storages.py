"""The same tensors, stored in the other ways in which torch files hold them."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from .sizes import State


def _as_parameters(state: State) -> State:
    return OrderedDict((name, nn.Parameter(value)) for name, value in state.items())


def _in_one_storage(state: State) -> State:
    """Every tensor a window of one long one, at its own offset."""
    long = torch.cat([value.flatten() for value in state.values()])
    windows, start = {}, 0
    for name, value in state.items():
        windows[name] = long[start : start + value.numel()].view(value.shape)
        start += value.numel()
    return windows


def _column_by_column(state: State) -> State:
    return {name: value.T.contiguous().T if value.ndim == 2 else value for name, value in state.items()}


def _in_double(state: State) -> State:
    return {name: value.double() for name, value in state.items()}


STORAGES: dict[str, Callable[[State], State]] = {
    "parameters": _as_parameters,
    "one storage": _in_one_storage,
    "column by column": _column_by_column,
    "double": _in_double,
}


def move_to_gpu(source: Path, target: Path) -> None:
    """The file as if it had been saved from a GPU: the place written beside every storage is "cuda:0"."""
    there, here = b"X\x06\x00\x00\x00cuda:0", b"X\x03\x00\x00\x00cpu"
    with zipfile.ZipFile(source) as honest, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as out:
        for record in honest.infolist():
            content = honest.read(record)
            if record.filename.endswith("/data.pkl"):
                assert here in content
                content = content.replace(here, there)
            out.writestr(zipfile.ZipInfo(record.filename), content)


def write_old_format(path: Path, state: State, key: str) -> None:
    """torch's format before zip files, in which weights of before 2020 come."""
    torch.save({key: state}, path, _use_new_zipfile_serialization=False)
