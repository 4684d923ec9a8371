"""What a training step sees, and what evaluation does."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le, Lt
from pydantic.dataclasses import dataclass

from hilum.ranges import Count, Fraction, Positive

from .strict import STRICT


@dataclass(frozen=True, config=STRICT)
class CropConfig:
    """Which part of the whole cached image a view shows the model."""

    mode: Literal["random", "center", "squash"] = "random"
    """random: a random square; center: the central square; squash: the whole image, sides scaled apart."""
    min_scale: Fraction = 0.5
    """Smallest share of the largest square's area that a random crop may cover."""
    max_scale: Fraction = 1.0
    """Largest share of the largest square's area that a random crop may cover."""
    min_aspect: Positive = 1.0
    """Least width over height of a random crop, which becomes a square all the same."""
    max_aspect: Positive = 1.0
    """Largest width over height of a random crop."""


@dataclass(frozen=True, config=STRICT)
class AugmentConfig:
    """Random changes of a view in training, after the crop."""

    flip_probability: Fraction = 0.0
    """Probability of a left-right flip. Off by default: it destroys left and right (M 7.1 row 12)."""
    vertical_flip_probability: Fraction = 0.0
    """Probability of turning a view upside down. It exchanges upper and lower, and of mammograms inner and outer:
    refused where texts, which may name a place, are learned from (L 1.8)."""
    flip_whole_study: bool = False
    """Flip all views of a study together instead of each by itself."""
    jitter_probability: Fraction = 0.8
    """Probability of changing brightness and contrast."""
    brightness: Fraction = 0.4
    """Brightness factor is drawn from 1 +- this."""
    contrast: Fraction = 0.4
    """Contrast factor is drawn from 1 +- this."""
    affine_probability: Fraction = 0.0
    """Probability of turning, shifting, scaling and shearing a view; what comes in from outside is black."""
    rotation: Annotated[float, Ge(0.0), Le(180.0)] = 10.0
    """Largest angle of turning either way, in degrees."""
    shift: Fraction = 0.1
    """Largest shift along either side, as a share of it."""
    zoom: Annotated[float, Ge(0.0), Lt(1.0)] = 0.1
    """Scale is drawn from 1 +- this."""
    shear: Annotated[float, Ge(0.0), Le(60.0)] = 0.0
    """Largest shear along either side, in degrees. It alters the shape of a mass (L 1.8)."""
    elastic_probability: Fraction = 0.0
    """Probability of bending a view: every pixel moves by a smooth random field (L 1.8)."""
    elastic_alpha: Positive = 10.0
    """Pixels by which the field's noise, uniform in -1..1, is multiplied once it is smooth. By 10 and a deviation of
    15, as in Mammo-CLIP, pixels move by 0.1 px in the root mean square: 0.16 alpha / sigma."""
    elastic_sigma: Annotated[float, Ge(1.0)] = 15.0
    """Deviation of the Gaussian that smooths the field, in pixels."""
    blur_probability: Fraction = 0.0
    """Probability of blurring a view by a Gaussian, cut to 5 x 5 pixels."""
    min_blur: Positive = 0.1
    """Least deviation of the Gaussian, in pixels."""
    max_blur: Positive = 2.0
    """Largest deviation of the Gaussian, in pixels."""
    erase_probability: Fraction = 0.0
    """Probability of replacing a rectangle of a view by the mean grey of the training images."""
    min_erased: Fraction = 0.02
    """Least share of a view's area that is erased."""
    max_erased: Annotated[float, Ge(0.0), Le(0.3)] = 0.1
    """Largest share of a view's area that is erased."""


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """What one training step sees."""

    leave_out: tuple[str, ...] = ()
    """Archives of the cache that nothing is learned from: to see what an encoder knows of an institution it never saw.
    (A vocabulary of reports is learned from all of the cache, see text.leave_out.)"""
    views_per_step: Count = 256
    """Views (images) in one optimiser step, over all processes and accumulated parts together."""
    max_views: Count | None = None
    """At most this many views of one study, drawn anew in training, always the same in evaluation; None: all."""
    breasts: bool = False
    """Of mammograms, show one CC and one MLO image of each breast, drawn anew among those that show it whole
    (`breast_views.py`), and no other view; of a cache that no policy of mammograms made, all views."""
    one_per_patient: bool = False
    """No step shows two breasts (without data.breasts, two studies) of one patient, so that every other row of the step
    can be a negative (L 1.5); each is still drawn once an epoch, but for data.finding_share. Off, rows of one patient
    are masked instead. Steps are smaller where a patient has more breasts than an epoch would have steps."""
    looks: Annotated[int, Ge(1), Le(2)] = 1
    """2: every image is shown twice in a step, cropped and changed anew, for terms that compare two looks. A look
    counts as a view of its study, in views_per_step as well; evaluation has one."""
    multi_view_floor: Fraction = 0.5
    """Least share of studies with two or more views in a step; single-view studies teach no alignment."""
    max_oversampling: Annotated[float, Ge(1.0)] = 4.0
    """The floor, and finding_share, give way where a study would be drawn more than this many times as often as
    another."""
    finding_share: Fraction = 0.0
    """Of mammograms, with data.breasts: least share of breasts with a finding in a step (L 6 point 8), such as 0.5;
    without data.one_per_patient, of exams with one. They are drawn more often and all others less; an epoch is as long
    as before. A finding is a mass, calcification, ... that the cache's table tells of; 0: breasts come as they are."""
    crop: CropConfig = CropConfig()
    evaluation_crop: Literal["auto", "center", "squash"] = "auto"
    """What evaluation shows of an image, see crop.mode; auto: squash where training squashes, else center."""
    augment: AugmentConfig = AugmentConfig()
    shuffle_reports: bool = False
    """Give every study the report of another patient's study of its split: the control for what reports teach."""

    @property
    def shown(self) -> CropConfig:
        """Which part of an image evaluation shows."""
        if self.evaluation_crop != "auto":
            return CropConfig(mode=self.evaluation_crop)
        return CropConfig(mode="squash" if self.crop.mode == "squash" else "center")
