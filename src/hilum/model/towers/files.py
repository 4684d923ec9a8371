"""Published weights on disk: found in a folder, the wanted tensors read, and each put where it belongs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hilum.errors import UserError
from hilum.model.weights import check_content

# The usual names of a model's weights in a folder, the safe format first; an index names the parts of large ones.
USUAL_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "weights.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def find_file(path: Path, names: Sequence[str], advice: str) -> Path:
    """The weights file at `path`, or the first of `names` in the folder at `path`.

    Raises:
        UserError: there is none; with what to download and where to put it.
    """
    if path.is_file():
        return path
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        lacking = f"none of {', '.join(names)} is in it" if path.is_dir() else "there is no such file or folder"
        raise UserError(f"{path}: {lacking}. {advice}")
    return found


def read_any_tensors(file: Path, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of any file, ours or not, whose names begin with the prefix, under their names without it; fractions in
    32 bit.

    Reads safetensors, PyTorch files (nothing in them is executed), and the parts an index.json names.

    Raises:
        UserError: another kind of file, a file that is cut off, a part that is missing, or a file of Hilum's whose
            tensors are not what was written.
    """
    if file.name.endswith(".index.json"):
        places: dict[str, str] = json.loads(file.read_bytes())["weight_map"]
        parts = sorted({part for name, part in places.items() if name.startswith(prefix)})
        if missing := [part for part in parts if not (file.parent / part).is_file()]:
            raise UserError(f"{file}: its parts {', '.join(missing)} are not beside it. Download them too.")
        return {name: value for part in parts for name, value in read_any_tensors(file.parent / part, prefix).items()}
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                header = json.loads((opened.metadata() or {}).get("hilum", "{}"))
                # The checksum of a file of ours is of all of it.
                wanted = [name for name in opened.keys() if "sha256" in header or name.startswith(prefix)]  # noqa: SIM118
                tensors = {name: opened.get_tensor(name) for name in wanted}
                check_content(file, header, tensors)
        else:
            tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            for key in ("state_dict", "model"):
                tensors = tensors[key] if isinstance(tensors.get(key), dict) else tensors
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, AttributeError, EOFError) as error:
        raise UserError(
            f"{file}: not readable as weights ({str(error).splitlines()[0]}). Expected whole safetensors, or a PyTorch "
            "file of tensors alone; copy it again."
        ) from error
    return {
        name.removeprefix(prefix): value.float() if value.is_floating_point() else value
        for name, value in tensors.items()
        if name.startswith(prefix) and isinstance(value, Tensor)
    }


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Put every tensor of the model in place; what the file holds besides (a classifier, a text tower) is not used.

    Raises:
        UserError: one is missing or of another shape; the model is then as before.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in tensors]
    unlike = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if missing or unlike:
        unused = [name for name in tensors if name not in own]
        found = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for names, what in ((missing, "missing"), (unlike, "of another shape"), (unused, "unknown"))
            if names
        ]
        raise UserError(
            f"{source}: not the weights of this encoder: of its {len(own)} tensors {'; '.join(found)}. "
            "Give the file that belongs to the name."
        )
    model.load_state_dict({name: tensors[name] for name in own}, assign=True)
    for parameter in model.parameters():  # tensors of a file carry no such flag
        parameter.requires_grad_(True)


def read_licence(folder: Path) -> str:
    """The licence that a model card (README.md) states in its first lines, as model hubs write it."""
    card = folder / "README.md"
    lines = card.read_text(errors="replace").splitlines()[:60] if card.is_file() else []
    stated = [line.split(":", 1)[1].strip() for line in lines if line.startswith("license:")]
    return stated[0] if stated and stated[0] else "not stated in its folder; see where it was downloaded from"


def fetch(repository: str, patterns: Sequence[str]) -> Path:
    """Download files of a model from the Hugging Face hub into its own cache; the one place that uses the network.

    Raises:
        UserError: it cannot be reached, or refuses.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:
        raise UserError(
            f"huggingface.co/{repository}: cannot be downloaded ({str(error).splitlines()[0]}). Download "
            f"{', '.join(patterns)} by other means and give their folder."
        ) from error
