"""What can be chosen about a fine-tuning, and the two ways to begin: from pretrained weights, or from random ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hilum.config import AugmentConfig, CropConfig, DataConfig
from hilum.errors import UserError
from hilum.evaluate.features import Precision
from hilum.evaluate.fusion import Rare
from hilum.model.heads import Pooling

from .selection import Select

# Half of pretraining's: light changes helped fine-tuning in the published recipes, whose RandAugment also turns and
# shears (M 7.3 G); flips would exchange left and right.
LIGHT = AugmentConfig(jitter_probability=0.8, brightness=0.2, contrast=0.2)


@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of a fine-tuning; the defaults are those for pretrained weights.

    Raises:
        UserError: a number that would train nothing, or a rate that would rise.
    """

    epochs: int = 30
    """Passes over the training studies; the best of them on validation is kept."""
    views_per_step: int = 64
    """Views in one step of the optimiser."""
    lr: float = 1e-3
    """Peak rate of the head; a block d layers below it learns at this * layer_decay**d."""
    min_lr: float = 1e-5
    """Rate of the head at the end."""
    weight_decay: float = 0.05
    """Of matrices."""
    warmup: float = 0.1
    """Share of the steps in which the rate rises to its peak."""
    layer_decay: float = 0.65
    """Factor on the rate for each layer below the head; 1: all learn alike."""
    drop_path: float = 0.1
    """Probability of dropping a residual branch for a view in the last block, rising up to there; none, and 0 on
    record, in networks whose branches are not modules of their own."""
    ema: float = 0.0
    """Decay a step of the moving average of the weights that is then what is evaluated and kept; 0: none. The average
    forgets faster at the start (timm's ModelEmaV3 with its warm-up)."""
    representation: Pooling = "mean"
    """What the head reads of a view. The mean of patch tokens, since not every objective trains the class token;
    averages are also the usual choice after masked pretraining (M 7.3 F). attentive: learned queries read the patch
    tokens."""
    rare: Rare = "as-is"
    """weighted: positives of rare findings count more, see `fusion.masked_cross_entropy`."""
    select: Select = "macro"
    """macro: the epoch that is best in the macro mean; per-finding: also, of the same training, for each finding its
    own."""
    frozen_statistics: bool = False
    """Batch normalisations keep the statistics the weights came with: those of few views at a time are noise. Networks
    without them, and those whose own settings freeze them, are the same either way."""
    label_count: int | None = None
    """Labelled training rows (studies, breasts, images) to use: whole patients drawn by `seed`
    (`label_subsets.pick_labelled`); None: all."""
    crop: CropConfig = CropConfig(mode="random")  # noqa: RUF009 - frozen
    """What training shows of an image."""
    evaluation_crop: CropConfig = CropConfig(mode="center")  # noqa: RUF009 - frozen
    """What evaluation shows of it."""
    max_views: int | None = None
    """At most this many views of a study, drawn anew in training and always the same in evaluation; None: all."""
    augment: AugmentConfig | None = None
    """Random changes of training images beside the crop; None: none."""
    precision: Precision = "auto"
    """auto: bfloat16 where the processor or GPU computes in it."""
    seed: int = 0
    """Of head, order, crops, dropped branches and the labelled studies."""

    def __post_init__(self) -> None:
        for name in ("epochs", "views_per_step", "lr"):
            if (value := getattr(self, name)) <= 0:
                raise UserError(f"{name} is {value:g}: fine-tuning needs more than 0.")
        if self.min_lr > self.lr:
            raise UserError(f"min_lr is {self.min_lr:g}, above lr, {self.lr:g}: the rate falls from lr to min_lr.")

    def show_as(self, data: DataConfig) -> FinetuneSettings:
        """The same, with images shown as they were in the encoder's pretraining."""
        crop = CropConfig(mode="squash" if data.crop.mode == "squash" else "random")
        return replace(self, crop=crop, evaluation_crop=data.shown, max_views=data.max_views)

    def describe(self) -> dict[str, Any]:
        """What results record of it; seed and selection stand in places of their own."""
        plain = (
            "epochs", "views_per_step", "lr", "min_lr", "weight_decay", "warmup", "layer_decay", "drop_path", "ema",
            "representation", "rare", "label_count", "frozen_statistics",
        )  # fmt: skip
        return {name: getattr(self, name) for name in plain} | {
            "crop": self.crop.mode,
            "augmented": self.augment is not None,
            "evaluation_crop": self.evaluation_crop.mode,
            "max_views": self.max_views,
        }


# Random weights need longer, a lower peak, and no layer held back: what keeps pretrained layers as they are would keep
# random ones random. He et al. (2022, table 11) train from scratch for 200 to 300 epochs, of far larger sets, likewise.
FROM_SCRATCH = FinetuneSettings(epochs=100, lr=3e-4, layer_decay=1.0)


def choose_settings(*, from_scratch: bool, **choices: Any) -> FinetuneSettings:
    """The settings for pretrained or for random weights, but for what was chosen; a choice of None is none."""
    chosen = {name: value for name, value in choices.items() if value is not None}
    return replace(FROM_SCRATCH if from_scratch else FinetuneSettings(), **chosen)
