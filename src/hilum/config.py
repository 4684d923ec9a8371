"""Settings: one frozen structure that a recipe fills, the command line overrides, and a run folder replays.

Every field says its meaning and unit in the line below it; `tyro` turns these lines into `--help`. Unknown keys are
errors, and so is a setting that could have no effect (`check_effects`). `kind` tags a member of a union in
config.json and is not a flag.
"""

from __future__ import annotations

import json
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
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path}: {where}: {first['msg']} (found {first['input']!r}; {error.error_count()} such in all). "
            "Correct or remove it, or use the Hilum that wrote the file; `hilum pretrain RECIPE --help` lists settings."
        ) from error


def find_batch_terms(config: Config) -> list[str]:
    """Names of the terms that compare the views of a batch with each other: in parts they are another objective."""
    return [name for name, term in config.terms.items() if isinstance(term, ContrastAlignment | VarianceCovariance)]


def check_effects(config: Config) -> None:
    """Refuse settings that contradict each other or could change nothing.

    Raises:
        UserError: names the setting, why it has no effect, and what to set instead.
    """
    encoder, optim = config.encoder, config.optim
    if encoder.image_size % encoder.patch_size:
        raise UserError(
            f"encoder.image_size={encoder.image_size} is not a multiple of encoder.patch_size={encoder.patch_size}."
        )
    if encoder.width % encoder.heads:
        raise UserError(f"encoder.width={encoder.width} does not divide into encoder.heads={encoder.heads}.")
    if int(encoder.num_patches * (1 - config.mask.ratio) + 1e-9) < 1:
        raise UserError(f"mask.ratio={config.mask.ratio} leaves none of the {encoder.num_patches} patches visible.")
    if config.data.crop.min_scale > config.data.crop.max_scale:
        raise UserError("data.crop.min_scale is larger than data.crop.max_scale.")
    augment, unset = config.data.augment, AugmentConfig()
    if augment.flip_whole_study and not augment.flip_probability:
        raise UserError(
            "data.augment.flip_whole_study has no effect while data.augment.flip_probability is 0: set that, or leave "
            "it out."
        )
    if not augment.jitter_probability and (augment.brightness, augment.contrast) != (unset.brightness, unset.contrast):
        raise UserError(
            "data.augment.brightness and contrast have no effect while data.augment.jitter_probability is 0: set that, "
            "or leave them out."
        )
    if not encoder.view_embedding and encoder.num_view_kinds != EncoderConfig().num_view_kinds:
        raise UserError("encoder.num_view_kinds has no effect without encoder.view_embedding: leave it out.")
    if not optim.warmup and optim.warmup_start:
        raise UserError("optim.warmup_start has no effect while optim.warmup is 0: set that, or leave it out.")
    run = config.run
    if run.checkpoint_every is not None and run.checkpoint_minutes != RunConfig().checkpoint_minutes:
        raise UserError("run.checkpoint_minutes has no effect beside run.checkpoint_every: leave one of them out.")
    if optim.per_epoch and optim.steps is not None:
        raise UserError("optim.per_epoch needs a length in optim.epochs, not in optim.steps.")
    if not config.terms:
        raise UserError("The objective has no terms: nothing would be learned.")
    default = CropConfig()
    crop = config.data.crop
    if crop.mode != "random" and (crop.min_scale, crop.max_scale) != (default.min_scale, default.max_scale):
        raise UserError(
            f"data.crop.min_scale and max_scale have no effect with data.crop.mode={crop.mode}: set "
            "data.crop.mode=random, or leave them out."
        )
    has_reconstruction = any(isinstance(term, Reconstruction) for term in config.terms.values())
    for name, term in config.terms.items():
        weight = term.weight
        if weight.gradient_ratio is not None and not has_reconstruction:
            raise UserError(f"terms.{name}.weight.gradient_ratio needs a reconstruction term to compare with.")
        if weight.gradient_ratio is not None and isinstance(term, Reconstruction):
            raise UserError(f"terms.{name}.weight.gradient_ratio: reconstruction is what the ratio is taken to.")
        if weight.value == 0 and weight.gradient_ratio is not None:
            raise UserError(f"terms.{name}.weight.gradient_ratio has no effect while its value is 0.")
        if isinstance(term, Reconstruction) and isinstance(term.decoder, SelfDecoder) and term.decoder.shared_view_table:
            if not encoder.view_embedding:
                raise UserError(
                    f"terms.{name}.decoder.shared_view_table has no effect without encoder.view_embedding: set that, "
                    "or leave it out."
                )
            if term.decoder.width != encoder.width:
                raise UserError(
                    f"terms.{name}.decoder.shared_view_table adds the encoder's vectors, of {encoder.width} numbers, "
                    f"to tokens of {term.decoder.width}: set terms.{name}.decoder.width={encoder.width}, or leave it "
                    "out."
                )
        if isinstance(term, TokenAlignment) and config.mask.sharing != "positions":
            raise UserError(
                f"terms.{name} compares tokens at the same position, so the views of a study must share visible "
                f"patches: set mask.sharing=positions (found {config.mask.sharing})."
            )
        if isinstance(term, VarianceCovariance) and term.of is not None:
            if not isinstance(config.terms.get(term.of), PooledAlignment):
                raise UserError(f"terms.{name}.of={term.of} is not a pooled alignment term of this objective.")
            if term.feature != VarianceCovariance().feature:
                raise UserError(f"terms.{name}.feature has no effect: the vectors of terms.{term.of} are guarded.")
            if weight.gradient_ratio is not None:
                raise UserError(
                    f"terms.{name}.weight.gradient_ratio: its weight is relative to that of terms.{term.of}."
                )
        slots = isinstance(term, Reconstruction | PooledAlignment) and term.average == "slot"
        if slots and (config.data.max_views is None or config.data.max_views > 3):
            raise UserError(
                f"terms.{name}.average=slot divides by the released code's three slots a study: set data.max_views=3 "
                f"(found {config.data.max_views})."
            )
        if isinstance(term, PooledAlignment) and term.average == "slot" and term.projector:
            raise UserError(f"terms.{name}.average=slot is the released code's form, which has no projector: set ().")
