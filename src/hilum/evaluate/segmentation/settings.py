"""What can be chosen about a segmentation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from hilum.errors import UserError
from hilum.evaluate.features import Precision
from hilum.evaluate.tokens import MAX_TOKEN_NUMBERS
from hilum.model.segmentation import Decoder

from .metrics import Spacing

Augmentation = Literal["none", "flip", "flip-turn"]


@dataclass(frozen=True)
class SegmentationSettings:
    """Settings of a segmentation; the defaults are the paper's, but for its turns (P 3.5).

    Raises:
        UserError: a number that would train nothing.
    """

    decoder: Decoder = "light"
    """light: the paper's; dpt: a stronger one on four layers (`model/segmentation.py`)."""
    train_encoder: bool = False
    """Also train a copy of the encoder, at `encoder_rate` of the rate."""
    encoder_rate: float = 0.1
    """Learning rate of the encoder as a share of the decoder's (P 3.2)."""
    epochs: int = 50
    """Passes over the training views; the best of them on validation is kept."""
    views_per_step: int = 256
    """Views in one step of the optimiser."""
    lr: float = 1e-4
    """Peak rate of the decoder; it falls to 0 as a cosine."""
    weight_decay: float = 1e-4
    """Of matrices."""
    warmup: float = 0.1
    """Share of the steps in which the rate rises to its peak: five epochs of fifty."""
    augment: Augmentation = "flip"
    """flip mirrors half of the views with their masks, which needs two variants of each view and no more encoding;
    flip-turn also turns them by up to 10 degrees, as the paper does, and encodes every view in every epoch."""
    spacing: Spacing = (1.0, 1.0)
    """Height and width of a square's pixel, such as its millimetres: the unit of distances. All squares alike."""
    token_limit: int = MAX_TOKEN_NUMBERS
    """Numbers of a split's tokens that are kept in memory; more are computed whenever they are read."""
    precision: Precision = "auto"
    """auto: bfloat16 where the processor or GPU computes in it."""
    seed: int = 0
    """Of the decoder, the order of views, and how they are shown."""

    def __post_init__(self) -> None:
        for name in ("epochs", "views_per_step", "lr"):
            if (value := getattr(self, name)) <= 0:
                raise UserError(f"{name} is {value:g}: segmentation needs more than 0.")

    def describe(self) -> dict[str, Any]:
        """What results record of it; the seed stands in a place of its own, and the limit changes no result."""
        left_out = ("seed", "token_limit", *(() if self.train_encoder else ("encoder_rate",)))
        return {name: value for name, value in asdict(self).items() if name not in left_out}
