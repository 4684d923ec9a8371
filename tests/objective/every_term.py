"""An objective with every term, in every form that averages in its own way; some read masked views, some whole ones."""

from __future__ import annotations

import torch
from torch import nn

from batches import make_vectors
from hilum.config import (
    Captioning,
    Config,
    ContrastAlignment,
    CrossDecoder,
    DataConfig,
    EncoderConfig,
    FeaturePreservation,
    ImageContrast,
    MaskConfig,
    PooledAlignment,
    Reconstruction,
    ReportDecoder,
    SelfDecoder,
    TeacherContrast,
    TeacherRegression,
    TeachersConfig,
    TeacherTable,
    TextConfig,
    TokenAlignment,
    VarianceCovariance,
)
from hilum.objective.objective import Objective, build_objective
from hilum.objective.preservation import FeaturePreservation as FeaturePreservationTerm

CONFIG = Config(
    recipe="mvmae",
    preset="hilum",
    size="tiny",
    encoder=EncoderConfig(image_size=32, patch_size=8, width=24, depth=2, heads=3),
    mask=MaskConfig(ratio=0.75, sharing="positions"),
    data=DataConfig(max_views=3),
    text=TextConfig(vocabulary_size=300, length=8),
    teachers=TeachersConfig(tables={"ecg": TeacherTable("e", "0", 6), "labs": TeacherTable("l", "1", 4)}),
    terms={
        "views": Reconstruction(decoder=CrossDecoder(16, 2, 2, predict=0.5)),
        "others": Reconstruction(decoder=CrossDecoder(16, 2, 2, other_views=0.5)),
        "studies": Reconstruction(decoder=SelfDecoder(24, 1, 3), average="study", normalize_patches=True),
        "slots": Reconstruction(decoder=CrossDecoder(16, 1, 2), average="slot"),
        "tokens": TokenAlignment(),
        "pairs": PooledAlignment(projector=(16, 8)),
        "pair_slots": PooledAlignment(feature="all", projector=(), metric="mse", average="slot"),
        "contrast": ContrastAlignment(projector=(16, 8)),
        "spread": VarianceCovariance(feature="class"),
        "guard": VarianceCovariance(of="pairs"),
        "reports": Captioning(decoder=ReportDecoder(16, 1, 2), parallel=0.5),
        # What is dropped is drawn by the batch: another deal of studies drops others.
        "taught": TeacherContrast(width=8, dropout=0.0, temperature=0.5),
        "told": TeacherContrast(
            feature="both",
            width=8,
            dropout=0.0,
            temperature=0.5,
            temperatures="own",
            same_patient="masked",
            label_smoothing=0.1,
        ),
        "vectors": TeacherRegression(feature="mean", dropout=0.0),
        "places": TeacherRegression(teachers=("ecg",), feature="patches", dropout=0.0),
        "kept": FeaturePreservation(),
        "looks": ImageContrast(pairs="study", width=8, dropout=0.0, temperature=0.5, label_smoothing=0.1),
        "seen": ImageContrast(
            pairs="study", feature="both", width=8, dropout=0.0, temperature=0.5, same_patient="masked", reads="visible"
        ),
        "glimpsed": TeacherRegression(feature="both", dropout=0.0, reads="visible"),
    },
)
BATCH_TERMS = [
    "contrast",
    "spread",
    "guard",
    "taught",
    "told",
    "looks",
    "seen",
]  # which compare what is in a batch with each other


def make_teachers(ecg: list[int], labs: list[int]) -> dict:
    """Both teachers' vectors, of these studies."""
    return {"ecg": make_vectors(6, ecg, seed=1), "labs": make_vectors(4, labs, seed=2)}


def build() -> Objective:
    """The objective, always with the same weights; its encoder has moved from where it started."""
    torch.manual_seed(0)
    objective = build_objective(CONFIG)
    kept = objective.terms["kept"]
    assert isinstance(kept, FeaturePreservationTerm)
    with torch.no_grad():
        for parameter in kept.start.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return objective


def list_trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
