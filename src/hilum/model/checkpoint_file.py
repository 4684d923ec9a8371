"""Somebody else's weights file -> its tensors by name. Nothing in the file is ever run."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hilum.errors import UserError

from .places import find_checkpoint
from .restricted_pickle import RefusedError, StoredTensor, read_restricted, read_stored

# Where training programs keep the state dict; a file may also be one itself.
_PLACES = ("state_dict", "model", "model_state_dict")
# What torch.load raises within a pickle that ends too early or says nonsense.
_SIGNS_OF_DAMAGE = (AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError, struct.error)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's state dict by their names there: of .safetensors, .pth, .pt, .ckpt, .bin files.

    A prefix "module." that all names have (torch's DistributedDataParallel) is taken off.

    Raises:
        UserError: no such file, not a whole one, one without a state dict, or one whose pickle asks for more than
            tensors, containers and objects of unknown classes; names what was refused.
    """
    find_checkpoint(path)
    try:
        state = _find_state(path, _read(path))
        if stored := {name: value for name, value in state.items() if isinstance(value, StoredTensor)}:
            state |= read_stored(path, stored)
    except (SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path}: not a whole checkpoint ({first[:200]}); expected a .safetensors file or one of torch.save. "
            "Copy or download it again."
        ) from error
    except RefusedError as error:
        raise UserError(
            f"{path}: refused: {error}. Hilum reads tensors and plain containers out of a checkpoint and runs nothing "
            "in it. If you trust the file, load it in a program of your own and save its state dict as .safetensors."
        ) from error
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise UserError(f"{path}: {odd[0]} in its state dict is {type(state[odd[0]]).__name__} and not a tensor.")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise EOFError("the file is empty")
    if path.suffix == ".safetensors" or start[8:] == b"{":  # the length of its header, then JSON
        return load_file(path)
    is_zip = zipfile.is_zipfile(path)
    if start.startswith(b"PK") and not is_zip:
        raise zipfile.BadZipFile("its end is missing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on protocols it may not know: then it fails, which is dealt with
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except (pickle.UnpicklingError, *_SIGNS_OF_DAMAGE) as error:
        if is_zip:  # it holds objects of a project, or is damaged: this tells
            return read_restricted(path)
        raise UserError(
            f"{path}: not a checkpoint of torch.save, or one of a torch before 1.6 that holds more than tensors. "
            "In a program that you trust with it, load it and save its state dict as .safetensors."
        ) from error


def _find_state(path: Path, tree: Any) -> dict[str, Any]:
    if isinstance(tree, Mapping):
        for place in (*(tree.get(name) for name in _PLACES), tree):
            if isinstance(place, Mapping) and any(isinstance(value, Tensor | StoredTensor) for value in place.values()):
                return {str(name): value for name, value in place.items()}
        found = ", ".join(map(str, list(tree)[:5])) or "nothing"
        raise UserError(f"{path}: no state dict in it: it holds {found}; expected tensors by name, or in {_PLACES[0]}.")
    raise UserError(f"{path}: it holds a pickled {type(tree).__name__}; expected a state dict: model.state_dict().")
