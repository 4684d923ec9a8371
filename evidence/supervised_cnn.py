"""How much of the findings is in the pixels: a small residual network (timm) with all labels, trained from nothing.

It sees single views with their study's labels and says a study by the mean logit of its views: a yardstick of
difficulty, not a method.
"""

from __future__ import annotations

import numpy as np
import timm
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from hilum.augment import prepare
from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.evaluate.task import Task
from hilum.loader import iterate_studies

SIDE, EPOCHS, BATCH, LR = 112, 16, 32, 2e-3


def score_views(cache: Cache, task: Task, seed: int = 0) -> np.ndarray:
    """Logits (view, finding) of every view of a cache, by a network trained on its training studies."""
    pixels = read_squares(cache)
    target = torch.from_numpy(task.training_target)[torch.from_numpy(cache.views["study"].astype(np.int64))]
    split = cache.studies["split"][cache.views["study"]]
    model = train(pixels, target, np.flatnonzero(split == 0), seed)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return torch.cat([model(part.float()).float() for part in pixels.split(256)]).numpy()


def read_squares(cache: Cache) -> Tensor:
    """Every view's central square (view, 1, side, side), half precision, in the order of the cache's views."""
    batches = iterate_studies(cache, cache.rows(), views_per_batch=256, crop=CropConfig(mode="center"))
    return torch.cat([prepare(batch, size=SIDE, mean=cache.mean, std=cache.std).pixels.half() for batch in batches])


def train(pixels: Tensor, target: Tensor, rows: np.ndarray, seed: int) -> nn.Module:
    """AdamW under one cycle of the rate; small shifts, zooms and changes of brightness."""
    torch.manual_seed(seed)
    model = timm.create_model(
        "resnet10t", in_chans=1, num_classes=target.shape[1], global_pool="catavgmax", drop_rate=0.3
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.05)
    steps = EPOCHS * (len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    order = torch.cat([torch.from_numpy(rows)[torch.randperm(len(rows))] for _ in range(EPOCHS + 1)])
    batches = order[: steps * BATCH].split(BATCH)
    for chosen in track(batches, "supervised network", console=Console(stderr=True)):
        with torch.autocast("cpu", torch.bfloat16):
            logit = model(change(pixels[chosen].float()))
        known = ~target[chosen].isnan()
        loss = F.binary_cross_entropy_with_logits(logit.float()[known], target[chosen][known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def change(pixels: Tensor) -> Tensor:
    """Zoom 0.8 to 1, shift within what that leaves, brightness and contrast by up to 15 %."""
    num = len(pixels)
    zoom = 0.8 + 0.2 * torch.rand(num)
    grid = torch.zeros(num, 2, 3)
    grid[:, 0, 0] = grid[:, 1, 1] = zoom
    grid[:, :, 2] = (2 * torch.rand(num, 2) - 1) * (1 - zoom)[:, None]
    moved = F.grid_sample(pixels, F.affine_grid(grid, list(pixels.shape), align_corners=False), align_corners=False)
    return moved * (0.85 + 0.3 * torch.rand(num, 1, 1, 1)) + 0.3 * (torch.rand(num, 1, 1, 1) - 0.5)
