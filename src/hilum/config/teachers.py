"""Teachers: vectors of whole studies that another model made of an ECG, laboratory values, a report or an outcome."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import Field
from pydantic.dataclasses import dataclass
from tyro.conf import Suppress

from hilum.ranges import Count, Fraction

from .strict import STRICT
from .weight import WeightConfig

Reads = Literal["whole", "visible"]
TeacherName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]


@dataclass(frozen=True, config=STRICT)
class TeacherTable:
    """The table of one teacher's vectors that a run learns from."""

    file: str
    """Its file's name."""
    sha256: str
    """Of which studies of the cache have a vector, and of the vectors."""
    width: Count
    """Numbers in a vector."""


@dataclass(frozen=True, config=STRICT)
class TeachersConfig:
    """The teachers' vectors, before anything learns from them."""

    scaling: Literal["raw", "standardised", "whitened"] = "raw"
    """raw: as they are; standardised: mean 0 and deviation 1 in every number; whitened: uncorrelated too. Statistics
    are those of the training studies."""
    pairs: Literal["own", "shuffled", "random"] = "own"
    """Whose vector a study gets: its own; that of another patient's study of its split; or noise. The latter two are
    controls for what the teachers teach."""
    tables: Annotated[dict[TeacherName, TeacherTable], Suppress] = field(default_factory=dict)
    """What --teachers named, in the order of names."""

    def hash_tables(self) -> dict[str, str]:
        """Of each teacher by its name: two that are equal have the same vectors for the same studies."""
        return {name: table.sha256 for name, table in self.tables.items()}


@dataclass(frozen=True, config=STRICT)
class TeacherContrast:
    """Symmetric InfoNCE between a study's image vector and its teachers' vectors (PaCX-MAE L_C; P 2.3)."""

    teachers: tuple[str, ...] = ()
    """Names of the teachers; empty: all of the run's."""
    feature: Literal["class", "mean", "both"] = "class"
    """What is read of a whole view: class token, mean of the patch tokens, or both side by side. A study's vector is
    the mean over its views."""
    width: Count = 256
    """Numbers of the space in which the two are compared."""
    dropout: Fraction = 0.2
    """Share of the numbers that is dropped before each projection, in training."""
    label_smoothing: Fraction = 0.02
    """Share of the target that is spread over all studies that are compared."""
    temperature: Annotated[float, Ge(0.01), Le(1.0)] = 0.07
    """Divides the cosine similarity at the start; it is learned, and stays within 0.01 and 1."""
    temperatures: Literal["shared", "own"] = "shared"
    """One learned temperature for all teachers, or one each. It decays with optim.decay_everything."""
    same_patient: Literal["negative", "masked"] = "negative"
    """Other studies of the same patient: negatives like any, or left out."""
    reads: Reads = "whole"
    """Whole views, or what masks leave of them: with a masked pass of other terms that costs no further one."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["teacher_contrast"], Suppress] = "teacher_contrast"


@dataclass(frozen=True, config=STRICT)
class TeacherRegression:
    """Predict the teachers' vectors, up to their length, from a study's image vector (PaCX-MAE L_R; P 2.3)."""

    teachers: tuple[str, ...] = ()
    """Names of the teachers; empty: all of the run's."""
    feature: Literal["class", "mean", "both", "patches"] = "class"
    """As of the contrast; patches: each teacher reads the patches by an attention of its own, which points at where in
    the image it finds what it teaches."""
    dropout: Fraction = 0.2
    """Share of the numbers that is dropped before the prediction, in training."""
    reads: Reads = "whole"
    """Whole views, or what masks leave of them. Patches are read of whole views only."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["teacher_regression"], Suppress] = "teacher_regression"


@dataclass(frozen=True, config=STRICT)
class ImageContrast:
    """InfoNCE between two looks at the same images, without any teacher: what seeing the images gives by itself
    (P 7.4, control d). Fields of the same name are those of the teachers' contrast."""

    pairs: Literal["image", "study", "all"] = "image"
    """image: two looks at one image, which data.looks=2 shows; study: two images of one study; all: both."""
    feature: Literal["class", "mean", "both"] = "class"
    """What is read of a view: class token, mean of the patch tokens, or both side by side."""
    width: Count = 256
    """Numbers of the space in which the two are compared."""
    dropout: Fraction = 0.2
    """Share of the numbers that is dropped before the projection, in training."""
    label_smoothing: Fraction = 0.02
    """Share of the target that is spread over all views that are compared."""
    temperature: Annotated[float, Ge(0.01), Le(1.0)] = 0.07
    """Divides the cosine similarity at the start; it is learned, and stays within 0.01 and 1."""
    same_patient: Literal["negative", "masked"] = "negative"
    """Other studies of the same patient: negatives like any, or left out."""
    reads: Reads = "whole"
    """Whole views, or what masks leave of them."""
    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["image_contrast"], Suppress] = "image_contrast"


@dataclass(frozen=True, config=STRICT)
class FeaturePreservation:
    """Keep the patch tokens of whole views where the encoder had them at its start (P 7.3)."""

    weight: WeightConfig = WeightConfig()
    kind: Annotated[Literal["feature_preservation"], Suppress] = "feature_preservation"
