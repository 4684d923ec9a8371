"""Where each teacher reads an image: the attention of a regression that reads patches (`terms.regression.feature
patches`), which is thrown away with its head when a run ends and is read from the run's last checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64

from hilum.cache import Cache
from hilum.config import CropConfig, TeacherRegression, load_config
from hilum.evaluate.segmentation.squares import read_squares
from hilum.model.encoder import Encoder
from hilum.model.heads import AttentivePool
from hilum.training.checkpoint import load_latest_checkpoint


def read_pools(folder: Path) -> dict[str, AttentivePool]:
    """The attention of each teacher of a run; none where nothing of it reads patches, or its checkpoint is gone.

    Args:
        folder: of the run.
    """
    if not (folder / "config.json").is_file():
        return {}
    config = load_config(folder / "config.json")
    names = [
        name for name, term in config.terms.items() if isinstance(term, TeacherRegression) and term.feature == "patches"
    ]
    checkpoint = load_latest_checkpoint(folder / "checkpoints") if names else None
    pools = {}
    for name in names if checkpoint is not None else ():
        assert checkpoint is not None
        term = config.terms[name]
        assert isinstance(term, TeacherRegression)
        for teacher in term.teachers or config.teachers.tables:
            prefix = f"terms.{name}.pools.for_{teacher}."
            found = {key.removeprefix(prefix): value for key, value in checkpoint.weights.items() if prefix in key}
            pool = AttentivePool(config.transformer.width, config.transformer.num_patches, 1)
            pool.load_state_dict(found)
            pools[teacher] = pool.eval()
    return pools


@torch.no_grad()
def point_at_views(
    cache: Cache,
    encoder: Encoder,
    pools: Mapping[str, AttentivePool],
    view_row: Int64[np.ndarray, " view"],
    *,
    mean: float,
    std: float,
    crop: CropConfig,
    batch_views: int = 64,
) -> dict[str, Float[np.ndarray, "view patch"]]:
    """How much of each patch each teacher's prediction reads, adding up to 1 over a view.

    Args:
        encoder: of the run, after it; `mean`, `std`, `crop`: how it is shown images.
        pools: see `read_pools`.
    """
    device = next(encoder.parameters()).device
    maps: dict[str, list[np.ndarray]] = {name: [] for name in pools}
    for first in range(0, len(view_row), batch_views):
        rows = view_row[first : first + batch_views]
        pixels = read_squares(
            cache, rows, size=encoder.side, mean=mean, std=std, crop=crop, interpolation=encoder.interpolation
        )
        kind = torch.from_numpy(cache.views["view_kind"][rows].astype(np.int64))
        patches = encoder.encode(pixels.to(device), kind.to(device)).tokens[:, 1:].float()
        for name, pool in pools.items():
            maps[name].append(pool.to(device).attend(patches)[:, 0].cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in maps.items()}
