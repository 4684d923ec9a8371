"""A small archive whose pictures show their findings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hilum.cache import Cache
from hilum.config import EncoderConfig
from hilum.model.encoder import Encoder
from hilum.model.weights import save_encoder
from hilum.study import build_studies, write_studies
from hilum.training.run_folder import describe_training_data

# Upper left brighter: Edema; lower right brighter, in lateral views only: Fracture; never: Pneumonia (too rare).
SHOWN = {"Edema": (0.4, 0, 0), "Fracture": (0.4, 1, 1)}
TINY = EncoderConfig(image_size=32, patch_size=8, width=32, depth=2, heads=2)


def write_shown_archive(root: Path, num_studies: int, *, seed: int = 0, dataset: str = "toy") -> Path:
    """PNG files of 64 px and their study table: two studies a patient, two views in two of three."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    rows = []
    for study in range(num_studies):
        states = {name: int(rng.random() < share) for name, (share, _, _) in SHOWN.items()}
        views = []
        for view in range(1 + (study % 3 > 0)):
            image = rng.normal(110, 30, (8, 8))
            for name, (_, needs_lateral, corner) in SHOWN.items():
                if states[name] and (view or not needs_lateral):
                    image[4 * corner : 4 * corner + 4, 4 * corner : 4 * corner + 4] += 30
            path = f"{study:04d}-{view}.png"
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST).save(
                root / path
            )
            kind, position = ("frontal", "AP" if study % 4 else "PA") if view == 0 else ("lateral", "")
            views.append({"path": path, "kind": kind, "position": position, "laterality": "unknown"})
        rows.append(
            {
                "dataset": dataset,
                "study": f"s{study:04d}",
                "patient": f"{dataset}-p{study // 2:04d}",
                "root": str(root),
                "views": views,
                "sex": "F" if study // 2 % 2 else "M",
                "age": float(20 + study % 60),
                **states,
                "Pneumonia": int(study < 2),
                "Edema": -1 if study % 17 == 0 else states["Edema"],
            }
        )
    table = root / "studies.parquet"
    write_studies(build_studies(rows), table)
    return table


def write_run(folder: Path, cache: Cache, seed: int) -> Path:
    """A finished run as far as an evaluation reads it."""
    folder.mkdir()
    torch.manual_seed(seed)
    about = {"mean": cache.mean, "std": cache.std, "image_policy": cache.policy}
    save_encoder(Encoder(TINY), folder / "weights.safetensors", about)
    (folder / "pretraining.json").write_text(json.dumps(describe_training_data(cache)))
    return folder
