"""`hilum doctor`: is this installation, this cache, this run sound?"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from .errors import UserError


def run_checks(path: Path | None) -> int:
    """Print one line a check; returns 0 if all are sound, 2 otherwise."""
    checks = check_installation() if path is None else check_folder(path)
    sound = True
    for is_sound, line in checks:
        sound &= is_sound
        print(("ok    " if is_sound else "WRONG ") + line)
    return 0 if sound else 2


def check_installation() -> Iterator[tuple[bool, str]]:
    """Versions, decoders, precision; each with what it means for the user."""
    import torch
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

    from .training.run_folder import computes_bfloat16

    names = ("hilum", "torch", "torchvision", "timm", "polars", "pydicom")
    yield True, ", ".join(f"{name} {version(name)}" for name in names)
    for syntax in (JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless):
        yield get_decoder(syntax).is_available, f"DICOM decoder for {syntax.name}"
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield True, f"GPUs: {', '.join(gpus) or 'none; training runs on the processor'}"
    precision = "bf16-mixed" if computes_bfloat16() else "32-true, as nothing here multiplies bfloat16 in hardware"
    yield True, f"precision auto means {precision}"


def check_folder(path: Path) -> Iterator[tuple[bool, str]]:
    """Checksums of a cache, or of a run's checkpoints and weights."""
    if (path / "index.json").exists():
        from .cache import Cache

        cache = Cache.open(path)
        problems = cache.verify()
        yield from ((False, problem) for problem in problems)
        yield not problems, f"cache of {len(cache.studies):,} studies and {len(cache.views):,} images, {cache.policy}"
    elif (path / "config.json").exists():
        from .config import load_config
        from .training.checkpoint import is_intact, list_checkpoints
        from .training.run_folder import read_metrics

        config = load_config(path / "config.json")
        yield True, f"run of {config.recipe}, preset {config.preset}, size {config.size}"
        for folder in list_checkpoints(path / "checkpoints"):
            yield is_intact(folder), f"checkpoint {folder.name}"
        lines = read_metrics(path / "metrics.jsonl") if (path / "metrics.jsonl").exists() else []
        last = f"last logged step {lines[-1]['step']}, {lines[-1]['progress']:.0%} of the run" if lines else None
        yield True, last or "no step was logged yet"
        finished = (path / "weights.safetensors").exists()
        yield True, "finished: weights.safetensors is there" if finished else "not finished: add --resume to continue"
    else:
        raise UserError(f"{path}: neither a cache (index.json) nor a run (config.json).")
