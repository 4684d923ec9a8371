"""An objective with every term, in every form that averages in its own way."""

from __future__ import annotations

from hilum.config import (
    Captioning,
    Config,
    ContrastAlignment,
    CrossDecoder,
    DataConfig,
    EncoderConfig,
    MaskConfig,
    PooledAlignment,
    Reconstruction,
    ReportDecoder,
    SelfDecoder,
    TextConfig,
    TokenAlignment,
    VarianceCovariance,
)

CONFIG = Config(
    recipe="mvmae",
    preset="hilum",
    size="tiny",
    encoder=EncoderConfig(image_size=32, patch_size=8, width=24, depth=2, heads=3),
    mask=MaskConfig(ratio=0.75, sharing="positions"),
    data=DataConfig(max_views=3),
    text=TextConfig(vocabulary_size=300, length=8),
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
    },
)
