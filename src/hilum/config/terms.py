"""The terms of an objective and their weights."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import Field
from pydantic.dataclasses import dataclass
from tyro.conf import Suppress

from hilum.ranges import Count, Fraction, NotNegative, Positive
from hilum.vocabulary import ViewKind

from .model import CrossDecoder, SelfDecoder
from .strict import STRICT
from .teachers import FeaturePreservation, ImageContrast, TeacherContrast, TeacherRegression
from .text import ReleasedReportDecoder, ReportDecoder
from .weight import WeightConfig


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
class TokenAlignment:
    """Token-wise distance of two views at shared visible positions (MVMAE eq. 1; needs mask.sharing=positions)."""

    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["token_alignment"], Suppress] = "token_alignment"


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
class ContrastAlignment:
    """InfoNCE between the views of a study against all other studies of the step (M 7.3 A ii)."""

    feature: Literal["class", "mean", "all"] = "mean"
    """class token; mean of visible patch tokens; all: mean of class and visible tokens."""
    projector: tuple[Count, ...] = (512, 256)
    """Widths of the layers between feature and similarity; empty: the feature itself."""
    temperature: Positive = 0.1
    """Divides the cosine similarity; the paper's code uses 0.5."""
    negatives: Literal["all", "archive"] = "all"
    """Studies that a view is told from: all other patients', or those of its own archive, from which the look of an
    institution does not tell it."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["contrast_alignment"], Suppress] = "contrast_alignment"


@dataclass(frozen=True, config=STRICT)
class VarianceCovariance:
    """Collapse guard: keep every dimension's spread up and dimensions uncorrelated (VICReg eq. 1-4)."""

    of: str | None = None
    """Name of the pooled alignment term whose compared vectors are guarded; the weight is then relative to that term's
    (the two must balance in its projector, however strongly both pull on the encoder). None: the feature below."""
    feature: Literal["class", "mean", "all"] = "mean"
    """class token; mean of visible patch tokens; all: mean of class and visible tokens."""
    min_std: Positive = 1.0
    """Spread below which a dimension is pushed apart."""
    covariance_weight: NotNegative = 0.04
    """Weight of the covariance part relative to the variance part (1/25 in VICReg)."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["variance_covariance"], Suppress] = "variance_covariance"


@dataclass(frozen=True, config=STRICT)
class Captioning:
    """Predict the words of a study's report from its visible tokens (MVMAE-V2T L_CE; M 2.6, M 7.3 E)."""

    decoder: Annotated[ReportDecoder | ReleasedReportDecoder, Field(discriminator="kind")] = ReportDecoder()
    memory: Literal["study", "view"] = "study"
    """What predicts a report: the tokens of all views of its study at once, or those of each view by itself."""
    parallel: Fraction = 0.75
    """Share of reports whose words are all hidden and predicted at once (CapPa); the others word by word."""
    average: Literal["text", "view", "slot"] = "text"
    """What weighs the same: every report, by the mean over its views; every view with a report; or the released code's
    three slots a study, with what it gets wrong (M 2.6, bugs 2 and 3; the end of a report is never a target)."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["captioning"], Suppress] = "captioning"


@dataclass(frozen=True, config=STRICT)
class ImageTextContrast:
    """Contrast of a breast's (or study's) views with its text (MV-MLM L_I,T; L 1.5)."""

    views: tuple[ViewKind, ViewKind] = ("cc", "mlo")
    """The two kinds of view; each is compared with the text by itself, and the mean is over the pairs there are."""
    num_texts: Annotated[int, Ge(1), Le(2)] = 1
    """Texts of a breast that each view is compared with (Mammo-CLIP: 2); a breast with one shows it twice."""
    target: Literal["onehot", "soft", "mask", "sigmoid"] = "onehot"
    """What a view should find. onehot: its own text alone; soft: mass shared by how alike descriptions are, identical
    ones alike; mask: its own, and identical descriptions are no negatives; sigmoid: each pair by itself, identical
    descriptions are pairs too (Zhai et al. 2023)."""
    similarity_power: Positive = 4.0
    """Of soft targets: mass falls with this power of the share of facts that two descriptions have in common."""
    temperature: Annotated[float, Ge(0.01), Le(1.0)] = 0.07
    """Divides the cosine similarity at the start; it is learned, and stays within 0.01 and 1."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["image_text"], Suppress] = "image_text"


@dataclass(frozen=True, config=STRICT)
class ViewContrast:
    """Contrast of the two views of one breast against other patients' (MV-MLM L_I,I; L 1.5)."""

    views: tuple[ViewKind, ViewKind] = ("cc", "mlo")
    """The two kinds of view."""
    single_view_weight: Fraction = 1.0
    """Weight of a breast with a finding that one view alone shows, in the mean over breasts (0: it is left out)."""
    shared: Annotated[float, Gt(0.0), Le(1.0)] = 1.0
    """Share of a view's numbers that is compared, the first ones; the others are private to the view."""
    temperature: Annotated[float, Ge(0.01), Le(1.0)] | None = None
    """Of its own, learned, at the start; None: that of the contrast with text."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["view_contrast"], Suppress] = "view_contrast"


@dataclass(frozen=True, config=STRICT)
class TextContrast:
    """Contrast of two texts of one breast against other patients' (Mammo-CLIP's text-text part; L 1.5)."""

    temperature: Annotated[float, Ge(0.01), Le(1.0)] | None = None
    """Of its own, learned, at the start; None: that of the contrast with text."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["text_contrast"], Suppress] = "text_contrast"


Term = (
    Reconstruction
    | TokenAlignment
    | PooledAlignment
    | ContrastAlignment
    | VarianceCovariance
    | Captioning
    | TeacherContrast
    | TeacherRegression
    | ImageContrast
    | FeaturePreservation
    | ImageTextContrast
    | ViewContrast
    | TextContrast
)
TaggedTerm = Annotated[Term, Field(discriminator="kind")]
