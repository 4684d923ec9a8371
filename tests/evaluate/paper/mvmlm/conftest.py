"""Runs beside `exam_run` that tell other things apart."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from hilum.model.text_weights import ENCODER_FILE
from hilum.model.weights import hash_tensors


def turn_run(run: Path, folder: Path, shifts: int) -> Path:
    """The same run, the projections of both its encoders turned about, with half of its numbers shared by views."""
    shutil.copytree(run, folder)
    for name, turn in ((ENCODER_FILE, torch.neg), ("weights.safetensors", partial(torch.roll, shifts=shifts, dims=0))):
        tensors = load_file(folder / name)
        with safe_open(folder / name, "pt") as file:
            header = json.loads(file.metadata()["hilum"])
        turned = {part: turn(one) if part.startswith("project") else one for part, one in tensors.items()}
        save_file(turned, folder / name, {"hilum": json.dumps(header | {"sha256": hash_tensors(turned)})})
    config = json.loads((folder / "config.json").read_text())
    (term,) = (one for one in config["terms"].values() if one["kind"] == "view_contrast")
    term["shared"] = 0.5
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def other_run(exam_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return turn_run(exam_run, tmp_path_factory.mktemp("runs") / "other", 8)


@pytest.fixture(scope="session")
def third_run(exam_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return turn_run(exam_run, tmp_path_factory.mktemp("runs") / "third", 3)
