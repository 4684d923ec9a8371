"""Where a run's weights are and where its results go: paths alone, so that asking for them imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path

from hilum.errors import UserError
from hilum.wording import say_no_file

ECG_FOUNDER, RANDOM = "ecgfounder", "random"  # the public ECG teacher by NAME=WEIGHTS
# Kind of weights -> what to call them, of teachers that read something else than images.
TEACHER_FORMATS = {
    "hilum-ecg-encoder-1": "an encoder of ECGs",
    "hilum-laboratory-autoencoder-1": "an auto-encoder of laboratory values",
}
_MAX_HEADER = 100_000_000  # bytes: no header of tensors is longer (as the safetensors library has it)


def find_weights(path: Path) -> Path:
    """The weights file of a run folder, or the file itself.

    Raises:
        UserError: there is no such path, the folder holds no run, or a run that is not finished.
    """
    if path.is_file() or (path / "weights.safetensors").is_file():
        return path if path.is_file() else path / "weights.safetensors"
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder. Give a run folder, or a weights.safetensors.")
    if (path / "config.json").is_file():
        raise UserError(
            f"{path}: this run is not finished: it has its weights.safetensors at its end. Its `hilum pretrain` "
            "command with --resume continues it."
        )
    raise UserError(f"{path}: no run: it has no weights.safetensors. Give a run folder, or a weights.safetensors.")


def read_format(weights: Path) -> str:
    """What kind of weights a file of Hilum's holds, such as "hilum-ecg-encoder-1"; "" where it does not say.

    A safetensors file begins with the length of its header (8 bytes, little-endian) and the header, JSON.
    """
    try:
        with weights.open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), _MAX_HEADER)))
        return str(json.loads(header["__metadata__"]["hilum"])["format"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def find_ecg_founder(teacher: str) -> str | None:
    """The file, or RANDOM, of `ecgfounder=...`; None where `teacher` is something else.

    Raises:
        UserError: no weights are named, or the file is not there.
    """
    name, _, weights = teacher.partition("=")
    if name != ECG_FOUNDER or Path(teacher).exists():
        return None
    if not weights:
        raise UserError(
            f"{ECG_FOUNDER}: whose weights? Give {ECG_FOUNDER}=FILE, the 12_lead_ECGFounder.pth that "
            f"PKUDigitalHealth/ECGFounder publishes, or {ECG_FOUNDER}={RANDOM} to try it out without."
        )
    if weights != RANDOM and not Path(weights).is_file():
        raise UserError(
            f"{weights}: there is no such file; expected the 12_lead_ECGFounder.pth that PKUDigitalHealth/ECGFounder "
            f"publishes. {ECG_FOUNDER}={RANDOM} tries the road out without it."
        )
    return weights


def find_checkpoint(path: Path) -> Path:
    """Somebody else's weights file, to import.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"{path}: {say_no_file(path)}; expected a checkpoint (.safetensors, .pth, .pt, .ckpt, .bin).")
    return path


def find_folder(path: Path) -> Path:
    """The run folder of a run folder or of a weights file: what belongs to the weights lies beside them."""
    return path if path.is_dir() else path.parent


def name_run(path: Path) -> str:
    """What the encoder of a run folder or a weights file is called: as the folder, or as a file with its own name."""
    is_own = path.is_file() and path.name != "weights.safetensors"
    return path.stem if is_own else find_folder(path).resolve().name


def place_results(path: Path, name: str) -> Path:
    """Default folder of an evaluation: in the run's; several weights files in a folder have one each."""
    is_own = path.is_file() and path.name != "weights.safetensors"
    return find_folder(path) / (f"{path.stem}-{name}" if is_own else name)
