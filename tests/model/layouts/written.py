"""The kinds of files that are imported, and the command on them: what it computes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from hilum.cli import main
from hilum.model.encoder import Encoder
from hilum.model.weights import load_encoder

from . import mae, mvmae, timm_files
from .sizes import TINY, TINY_MAE, Sizes, State


def run_import(file: Path, layout: str, out: Path) -> int:
    return main(["weights", "import", str(file), "--layout", layout, "--out", str(out)])


def import_encoder(file: Path, layout: str) -> tuple[Encoder, dict]:
    out = file.parent / "imported.safetensors"
    assert run_import(file, layout, out) == 0
    return load_encoder(out)


def encode(encoder: Encoder, pixels: np.ndarray, view_kind: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The class token and the patch tokens of one image (1, height, width)."""
    with torch.no_grad():
        tokens = encoder.encode(torch.from_numpy(pixels).float()[None], torch.tensor([view_kind])).tokens[0].numpy()
    return tokens[0], tokens[1:]


def draw_pixels(sizes: Sizes, seed: int = 5) -> np.ndarray:
    """A grey image in [0, 1], (height, width)."""
    return np.random.default_rng(seed).uniform(size=(sizes.image, sizes.image))


def expect_equal(found: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)


class Written(NamedTuple):
    """A kind of file: its layout, and how it is written from its state."""

    layout: str
    draw: Callable[[], State]
    write: Callable[[Path, State], None]
    prefix: str = ""  # of the encoder's tensors

    def put(self, folder: Path, state: State | None = None) -> tuple[Path, State]:
        state = self.draw() if state is None else state
        self.write(folder / "weights.pth", state)
        return folder / "weights.pth", state


MVMAE = {
    "with text": Written("mvmae", lambda: mvmae.draw_mvmae(TINY), mvmae.write_lightning, mvmae.ENCODER),
    "without text": Written("mvmae", lambda: mvmae.draw_mvmae(TINY, text=False), mvmae.write_lightning, mvmae.ENCODER),
    "with latent heads": Written(
        "mvmae", lambda: mvmae.draw_mvmae(TINY, latent=True), mvmae.write_lightning, mvmae.ENCODER
    ),
    "linear classifier": Written("mvmae", lambda: mvmae.draw_classifier(TINY), mvmae.write_lightning, mvmae.CLASSIFIER),
    "two-layer classifier": Written(
        "mvmae", lambda: mvmae.draw_classifier(TINY, linear=False), mvmae.write_lightning, mvmae.CLASSIFIER
    ),
}
COLOUR = {
    "mae encoder": Written("mae", lambda: mae.draw_mae(TINY_MAE), mae.write_mae),
    "mae full": Written("mae", lambda: mae.draw_mae(TINY_MAE, decoder=True), mae.write_mae),
    "medical_mae": Written("mae", lambda: mae.draw_mae(TINY_MAE, decoder=True), mae.write_medical_mae),
    "mae fine-tuned": Written("mae", lambda: mae.draw_finetuned(TINY_MAE), mae.write_medical_mae),
    "mae fine-tuned, pooled": Written("mae", lambda: mae.draw_finetuned(TINY_MAE, pooled=True), mae.write_medical_mae),
    "crossmae weighted": Written("crossmae", lambda: mae.draw_crossmae(TINY_MAE), mae.write_medical_mae),
    "crossmae with norm": Written("crossmae", lambda: mae.draw_crossmae(TINY_MAE, weighted=False), mae.write_mae),
}  # fmt: skip


def draw_timm(variant: str) -> Callable[[], State]:
    return lambda: timm_files.build_model(TINY_MAE, variant).state_dict()


TIMM = {
    f"timm {variant}": Written("timm", draw_timm(variant), timm_files.write_timm) for variant in timm_files.VARIANTS
}
GREY = [f"timm {name}" for name, settings in timm_files.VARIANTS.items() if settings.get("in_chans") == 1]
FILES = MVMAE | COLOUR | TIMM
ONE_EACH = [FILES[name] for name in ("with text", "medical_mae", "crossmae weighted", "timm plain")]
one_each = pytest.mark.parametrize("written", ONE_EACH, ids=[written.layout for written in ONE_EACH])


def load_tensors(file: Path, layout: str) -> State:
    return import_encoder(file, layout)[0].state_dict()


def expect_refusal(file: Path, layout: str, capsys: pytest.CaptureFixture, *words: str | tuple[str, ...]) -> None:
    """The command ends with 2, writes nothing, and names the file and every word (of a tuple, any one)."""
    out = file.parent / "refused.safetensors"
    capsys.readouterr()
    assert run_import(file, layout, out) == 2
    error = capsys.readouterr().err
    for word in (file.name, *words):
        any_of = (word,) if isinstance(word, str) else word
        assert any(one in error for one in any_of), f"no {word} in: {error}"
    assert not out.exists()


def expect_colour(written: Written, folder: Path) -> None:
    """M 6.2, M 8-11: one grey channel in Hilum's normalisation is three in theirs; which theirs is, is recorded."""
    path, state = written.put(folder)
    encoder, header = import_encoder(path, written.layout)
    grey = draw_pixels(TINY_MAE)
    found = encode(encoder, (grey[None] - header["mean"]) / header["std"])
    wanted = {
        statistics: mae.encode_slowly(state, mae.normalise_channels(grey, statistics), TINY_MAE.head_width)
        for statistics in (mae.IMAGENET, mae.NIH, timm_files.HALF)
    }
    nearest = min(wanted, key=lambda statistics: float(np.abs(wanted[statistics][0] - found[0]).max()))
    expect_equal(found, wanted[nearest])
    recorded = json.dumps(header)
    assert all(str(value) in recorded for value in (nearest[0][0], nearest[1][0])), f"{nearest} is not in {recorded}"
    assert (encoder.config.heads, encoder.config.qk_norm, encoder.config.final_norm_eps) == (2, False, mae.FINAL_EPS)
