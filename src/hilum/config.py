"""Settings: one frozen structure that a recipe fills, the command line overrides, and a run folder replays.

Every field says its meaning and unit in the line below it; `tyro` turns these lines into `--help`. Unknown keys are
errors, and so is a setting that could have no effect (see effects.py). `kind` tags a member of a union in
config.json and is not a flag.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from tyro.conf import Suppress

from .errors import UserError

_STRICT = ConfigDict(extra="forbid")
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=_STRICT)
class CropConfig:
    """Which part of the whole cached image a view shows the model."""

    mode: Literal["random", "center", "squash"] = "random"
    """random: a random square; center: the central square; squash: the whole image, sides scaled apart."""
    min_scale: Fraction = 0.5
    """Smallest share of the largest square's area that a random crop may cover."""
    max_scale: Fraction = 1.0
    """Largest share of the largest square's area that a random crop may cover."""


@dataclass(frozen=True, config=_STRICT)
class AugmentConfig:
    """Random changes of a view in training, after the crop."""

    flip_probability: Fraction = 0.0
    """Probability of a left-right flip. Off by default: it destroys left and right (M 7.1 row 12)."""
    flip_whole_study: bool = False
    """Flip all views of a study together instead of each by itself."""
    jitter_probability: Fraction = 0.8
    """Probability of changing brightness and contrast."""
    brightness: Fraction = 0.4
    """Brightness factor is drawn from 1 +- this."""
    contrast: Fraction = 0.4
    """Contrast factor is drawn from 1 +- this."""


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """What one training step sees."""

    views_per_step: Count = 256
    """Views (images) in one optimiser step, over all processes and accumulated parts together."""
    max_views: Count | None = None
    """At most this many views of one study, drawn anew in training, always the same in evaluation; None: all."""
    multi_view_floor: Fraction = 0.5
    """Least share of studies with two or more views in a step; single-view studies teach no alignment."""
    max_oversampling: Annotated[float, Field(ge=1.0)] = 4.0
    """The floor gives way where a multi-view study would be drawn more than this many times as often as another."""
    crop: CropConfig = CropConfig()
    evaluation_crop: Literal["auto", "center", "squash"] = "auto"
    """What evaluation shows of an image, see crop.mode; auto: squash where training squashes, else center."""
    augment: AugmentConfig = AugmentConfig()

    @property
    def shown(self) -> CropConfig:
        """Which part of an image evaluation shows."""
        if self.evaluation_crop != "auto":
            return CropConfig(mode=self.evaluation_crop)
        return CropConfig(mode="squash" if self.crop.mode == "squash" else "center")


@dataclass(frozen=True, config=_STRICT)
class EncoderConfig:
    """The vision transformer shared by all views (timm's blocks and parameter names)."""

    image_size: Count = 224
    """Side of the square the model sees, in pixels."""
    patch_size: Count = 16
    """Side of a patch, in pixels."""
    width: Count = 768
    """Length of a token."""
    depth: Count = 12
    """Number of transformer blocks."""
    heads: Count = 12
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of a block's hidden layer, in token lengths."""
    qk_norm: bool = True
    """LayerNorm on queries and keys; off for weights of plain masked autoencoders (M 6.2)."""
    view_embedding: bool = True
    """Add a learned vector for the view kind to every patch token, in encoder and decoder."""
    num_view_kinds: Annotated[int, Field(ge=1, le=5)] = 3
    """Rows of the view tables: 3 for frontal, lateral, unknown (chests); 5 for cc and mlo too (mammograms)."""
    final_norm_eps: Positive = 1e-6
    """Epsilon of the last LayerNorm (1e-5 in the released MVMAE code)."""
    init: Literal["xavier", "released"] = "xavier"
    """xavier: as masked autoencoders do; released: PyTorch's defaults, as the released MVMAE code does."""

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, config=_STRICT)
class MaskConfig:
    """Which patches the encoder does not see in pretraining."""

    ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.90
    """Share of masked patches; floor(patches * (1 - ratio)) stay visible."""
    sharing: Literal["none", "positions", "rows"] = "none"
    """none: each view by itself; positions: the views of a study share visible patches (needed by token alignment);
    rows: they share visible rows (frontal and lateral share height, not width)."""


@dataclass(frozen=True, config=_STRICT)
class SelfDecoder:
    """Decoder with self-attention over all patches (M 2.2)."""

    width: Count = 768
    """Length of a decoder token."""
    depth: Count = 4
    """Number of decoder blocks."""
    heads: Count = 12
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of a block's hidden layer, in token lengths."""
    shared_view_table: bool = False
    """Add the encoder's view vectors, as the paper says (eq. 3), instead of those of a table of its own."""
    kind: Annotated[Literal["self"], Suppress] = "self"


@dataclass(frozen=True, config=_STRICT)
class CrossDecoder:
    """Decoder whose queries are masked patches and whose keys are the visible tokens (CrossMAE; M 7.3 C)."""

    width: Count = 512
    """Length of a decoder token."""
    depth: Count = 8
    """Number of decoder blocks."""
    heads: Count = 16
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of a block's hidden layer, in token lengths."""
    predict: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """Share of the masked patches that is predicted in a step."""
    kind: Annotated[Literal["cross"], Suppress] = "cross"


@dataclass(frozen=True, config=_STRICT)
class WeightConfig:
    """How much a term counts, as a function of progress through the run (0 to 1)."""

    value: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight at the end of the ramp; with a gradient ratio, the start value of the controller."""
    ramp: Literal["constant", "cosine", "released_sigmoid"] = "constant"
    """cosine: from 0 at the start to its target at the end; released_sigmoid: the released code's curve by epoch."""
    gradient_ratio: Positive | None = None
    """Set the weight so that this term's encoder gradient is this share of the reconstruction's."""


@dataclass(frozen=True, config=_STRICT)
class Reconstruction:
    """Predict the masked patches (MVMAE L_Rec; M 2.4)."""

    decoder: Annotated[SelfDecoder | CrossDecoder, Field(discriminator="kind")] = CrossDecoder()
    normalize_patches: bool = False
    """Predict each patch after removing its own mean and standard deviation."""
    average: Literal["view", "study", "slot"] = "view"
    """What weighs the same: every view; every study (the paper's 1/|V|); or three slots a study, absent ones counted,
    divided by the nominal mask ratio (the released code)."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["reconstruction"], Suppress] = "reconstruction"


@dataclass(frozen=True, config=_STRICT)
class TokenAlignment:
    """Token-wise distance of two views at shared visible positions (MVMAE eq. 1; needs mask.sharing=positions)."""

    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["token_alignment"], Suppress] = "token_alignment"


@dataclass(frozen=True, config=_STRICT)
class PooledAlignment:
    """Distance between one vector for each of two views of a study (M 2.5, M 7.3 A i)."""

    feature: Literal["class", "mean", "all"] = "mean"
    """class token; mean of visible patch tokens; all: mean of class and visible tokens (the released code)."""
    projector: tuple[Count, ...] = (512, 256)
    """Widths of the layers between feature and distance; empty: the feature itself."""
    metric: Literal["mse", "cosine"] = "cosine"
    """mse: mean over dimensions of the squared difference; cosine: half the squared chord of unit vectors."""
    average: Literal["pair", "slot"] = "pair"
    """pair: mean over the ordered pairs that exist; slot: divided by 9 slot pairs a study and by the dimensions of
    unit vectors, whatever is present (the released code)."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["pooled_alignment"], Suppress] = "pooled_alignment"


@dataclass(frozen=True, config=_STRICT)
class ContrastAlignment:
    """InfoNCE between the views of a study against all other studies of the step (M 7.3 A ii)."""

    feature: Literal["class", "mean", "all"] = "mean"
    """class token; mean of visible patch tokens; all: mean of class and visible tokens."""
    projector: tuple[Count, ...] = (512, 256)
    """Widths of the layers between feature and similarity; empty: the feature itself."""
    temperature: Positive = 0.1
    """Divides the cosine similarity; the paper's code uses 0.5."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["contrast_alignment"], Suppress] = "contrast_alignment"


@dataclass(frozen=True, config=_STRICT)
class VarianceCovariance:
    """Collapse guard: keep every dimension's spread up and dimensions uncorrelated (VICReg eq. 1-4)."""

    of: str | None = None
    """Name of the pooled alignment term whose compared vectors are guarded; the weight is then relative to that term's
    (the two must balance in its projector, however strongly both pull on the encoder). None: the feature below."""
    feature: Literal["class", "mean", "all"] = "mean"
    """class token; mean of visible patch tokens; all: mean of class and visible tokens."""
    min_std: Positive = 1.0
    """Spread below which a dimension is pushed apart."""
    covariance_weight: Annotated[float, Field(ge=0.0)] = 0.04
    """Weight of the covariance part relative to the variance part (1/25 in VICReg)."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["variance_covariance"], Suppress] = "variance_covariance"


Term = Reconstruction | TokenAlignment | PooledAlignment | ContrastAlignment | VarianceCovariance
TaggedTerm = Annotated[Term, Field(discriminator="kind")]


@dataclass(frozen=True, config=_STRICT)
class OptimConfig:
    """AdamW, warm-up, cosine."""

    lr: Positive = 1.5e-4
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    """Decoupled weight decay."""
    decay_everything: bool = False
    """Decay biases, norms and embeddings too, as the released code does."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Adam's running-mean coefficients."""
    epochs: Positive = 800.0
    """Length of the run, in views drawn over views available."""
    steps: Count | None = None
    """Length of the run in optimiser steps instead; then epochs is not used."""
    warmup: Fraction = 0.05
    """Share of the run in which the learning rate rises."""
    warmup_start: Fraction = 0.0
    """Learning rate at the start of warm-up, as a share of the peak."""
    per_epoch: bool = False
    """Change the learning rate once an epoch, as the released code does, instead of every step."""
    clip_norm: Positive | None = 1.0
    """Largest gradient norm; None: no clipping."""
    accumulate: Count = 1
    """Parts a step is computed in, for memory. Means over views, studies or pairs stay what they are; contrast and the
    collapse guard compare the views of a batch with each other, and then see one part at a time."""


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """How the run is carried out; nothing here changes what is learned, but for rounding (beside optim.accumulate,
    the number of processes also decides which views contrast and the collapse guard see together)."""

    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto"
    """auto: bfloat16 where the processor or GPU computes in it, else 32 bit."""
    devices: Count = 1
    """Processes (or GPUs) on this machine."""
    num_nodes: Count = 1
    """Machines."""
    log_every: Count = 10
    """Steps between lines of metrics.jsonl."""
    meter_every: Count = 25
    """Steps between measurements of gradient ratio, effective rank and retrieval (an extra backward pass a term)."""
    checkpoint_minutes: Positive = 5.0
    """Minutes between checkpoints."""
    checkpoint_every: Count | None = None
    """Steps between checkpoints instead, for runs that must be comparable."""
    keep_checkpoints: Count = 2
    """Checkpoints kept besides the last."""
    picture_every: Count | None = None
    """Steps between example reconstructions; None: at the start, the middle and the end."""


@dataclass(frozen=True, config=_STRICT)
class InitialWeights:
    """The file that a run's encoder starts from."""

    file: str
    """Its folder's and its own name."""
    sha256: str
    """Of its bytes."""


@dataclass(frozen=True, config=_STRICT)
class Config:
    """Everything a pretraining run depends on, but for the data."""

    recipe: Annotated[str, Suppress]
    """Name of the recipe this came from."""
    preset: Annotated[Literal["paper", "code", "hilum"], Suppress]
    """Where the paper and its released code disagree: the paper, the code, or Hilum's own."""
    size: Annotated[Literal["nano", "tiny", "small", "base", "large"], Suppress]
    """Size of the encoder."""
    terms: dict[str, TaggedTerm]
    """The weighted terms of the objective, by name."""
    seed: int = 0
    """Seeds weights, order, crops and masks."""
    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    mask: MaskConfig = MaskConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()
    initial_weights: Annotated[InitialWeights | None, Suppress] = None
    """What --init named; None: the encoder starts from random weights."""


_CONFIG = TypeAdapter(Config)


def dump_config(config: Config) -> str:
    """The config as the JSON text that `load_config` reads back to an equal one."""
    return json.dumps(_CONFIG.dump_python(config, mode="json"), indent=2) + "\n"


def load_config(path: Path) -> Config:
    """Read a run's config.json; a key Hilum does not know is an error that names it."""
    try:
        return _CONFIG.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}); expected the config.json of a run.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path}: {where}: {first['msg']} (found {first['input']!r}; {error.error_count()} such in all). "
            "Correct or remove it, or use the Hilum that wrote the file; `hilum pretrain RECIPE --help` lists settings."
        ) from error


def find_reference(terms: Mapping[str, Term]) -> str | None:
    """Name of the term whose gradient others are measured by: the first reconstruction; None without one."""
    return next((name for name, term in terms.items() if isinstance(term, Reconstruction)), None)


def find_pair_terms(config: Config) -> list[str]:
    """Names of the terms that compare the views of one study: they learn from studies of two views and more."""
    kinds = TokenAlignment | PooledAlignment | ContrastAlignment
    return [name for name, term in config.terms.items() if isinstance(term, kinds)]


def find_batch_terms(config: Config) -> list[str]:
    """Names of the terms that compare the views of a batch with each other: in parts they are another objective."""
    return [name for name, term in config.terms.items() if isinstance(term, ContrastAlignment | VarianceCovariance)]
