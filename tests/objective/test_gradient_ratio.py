"""Does the controller hold alignment's share of the pull on the encoder, and how weak was the released code's?"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean

import numpy as np
import pytest
import torch
from PIL import Image

from batches import make_batch, take_studies
from hilum.batch import StudyBatch
from hilum.config import Config, CrossDecoder, PooledAlignment, Reconstruction, VarianceCovariance
from hilum.model.masking import draw_masks
from hilum.objective.balance import GradientRatioController, flatten_gradient
from hilum.objective.objective import build_objective, divide_losses, weigh
from hilum.objective.schedule import scale_guards
from hilum.recipes import build_recipe


def train(config: Config, studies: StudyBatch, *, steps: int, per_step: int, measure_every: int) -> list[float]:
    """Alignment's gradient over reconstruction's, both with their full weights, at each measurement of a short run."""
    torch.manual_seed(0)
    objective = build_objective(config)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-4)
    start = {name: term.weight.value for name, term in config.terms.items()}
    target = config.terms["alignment"].weight.gradient_ratio
    targets = {} if target is None else {"alignment": target}
    controller = GradientRatioController(targets, start, "reconstruction")
    generator = torch.Generator().manual_seed(0)
    ratios = []
    for step in range(steps):
        batch = take_studies(studies, torch.randperm(studies.num_studies, generator=generator)[:per_step].tolist())
        batch = replace(batch, draw=batch.draw + step)
        mask = draw_masks(
            batch, num_patches=config.encoder.num_patches, ratio=config.mask.ratio, sharing=config.mask.sharing, seed=0
        )
        losses = divide_losses(objective(batch, mask), objective.count(batch), world_size=1)
        weights = scale_guards(config.terms, start | {name: controller.weight(name) for name in targets})
        if step % measure_every == 0:
            norms = {
                name: float(flatten_gradient(loss, objective.encoder.parameters()).norm())
                for name, loss in losses.items()
            }
            ratios.append(weights["alignment"] * norms["alignment"] / norms["reconstruction"])
            controller.update(norms)
        optimizer.zero_grad()
        weigh(losses, weights).backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
    return ratios


def test_controller_brings_a_short_run_to_its_target() -> None:
    config = build_recipe("mvmae", "hilum", "tiny")
    config = replace(
        config,
        encoder=replace(config.encoder, image_size=32, patch_size=8, width=24, depth=2, heads=3),
        mask=replace(config.mask, ratio=0.5),
        terms={
            "reconstruction": Reconstruction(decoder=CrossDecoder(16, 1, 2)),
            "alignment": PooledAlignment(projector=(16, 8), weight=config.terms["alignment"].weight),
            "spread": VarianceCovariance(of="alignment"),
        },
    )
    ratios = train(config, make_batch([2] * 8), steps=60, per_step=8, measure_every=3)
    assert ratios[0] > 0.2  # far from it at the start
    assert geometric_mean(ratios[-8:]) == pytest.approx(0.1, rel=0.2)


def read_two_view_studies(folder: Path, size: int) -> StudyBatch:
    """The first frontal and lateral of every study that has both: central squares, normalised."""
    studies: dict[str, dict[str, str]] = {}
    with (folder / "manifest.csv").open() as file:
        for row in csv.DictReader(file):
            studies.setdefault(row["study_id"], {}).setdefault(row["view_group"], row["path"])
    pixels = []
    for views in studies.values():
        if {"frontal", "lateral"} <= views.keys():
            for kind in ("frontal", "lateral"):
                image = Image.open(folder / views[kind]).convert("L")
                left, top = ((side - min(image.size)) // 2 for side in image.size)
                square = image.crop((left, top, left + min(image.size), top + min(image.size))).resize((size, size))
                pixels.append((torch.from_numpy(np.array(square, dtype=np.float32)) / 255 - 0.5056) / 0.252)
    return replace(make_batch([2] * (len(pixels) // 2), size=1), pixels=torch.stack(pixels)[:, None])


@pytest.mark.soak
@pytest.mark.needs_real_data
@pytest.mark.parametrize("preset", ["hilum", "code"])
def test_share_of_alignment_after_200_steps_on_real_pairs(real_data: Path, preset: str) -> None:
    config = build_recipe("mvmae", preset, "tiny")
    config = replace(config, encoder=replace(config.encoder, image_size=112, patch_size=8))
    studies = read_two_view_studies(real_data / "cxr_multiview", 112)
    ratios = train(config, studies, steps=200, per_step=8, measure_every=5)
    print(preset, [round(ratio, 4) for ratio in ratios])
    if preset == "code":  # at its full final weight
        assert geometric_mean(ratios[-10:]) < 0.02
    else:
        assert geometric_mean(ratios[-10:]) == pytest.approx(0.1, rel=0.2)
