"""Distillation: a study's image vector learns from vectors that teachers made of the same study (PaCX-MAE).

| symbol (PaCX-MAE stage 2; P 2.3) | name here |
|---|---|
| z_i: the image, projected | student rows |
| t_i: a teacher's vector, projected (contrast) or as it is (regression) | teacher rows |
| s = exp(logit_scale), in [1, 100] | scale |
| L_C = (1/2)(image to teacher + teacher to image) | `measure_teacher_contrast` |
| L_R = 1 - cos | `measure_teacher_error` |
| lambda_C, lambda_R | the terms' weights |

Both losses are means over the rows that exist, of all teachers together: where all know all studies that is the mean
over teachers of the specification, and one that knows a tenth of them has a tenth of the weight. A study without a
vector is no row: its loss and gradient are exactly 0, and it is nobody's negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from hilum.batch import StudyBatch, pool_by_owner
from hilum.config import EncoderConfig
from hilum.config import TeacherContrast as TeacherContrastConfig
from hilum.config import TeacherRegression as TeacherRegressionConfig
from hilum.model.encoder import Features
from hilum.model.heads import NUM_VECTORS, AttentivePool, DistillationHead, Representation, read_tokens
from hilum.model.masking import Mask

from .gather import Gather
from .headed import HeadedTerm, LearnedScale, start_scales
from .teacher_meters import score_pairs, score_predictions
from .term import Sum, sum_items

NORM_EPS = 1e-6  # least length of a vector that is divided by (P 2.3)


def measure_teacher_contrast(
    student: Float[Tensor, "row dim"],
    teacher: Float[Tensor, "row dim"],
    all_students: Float[Tensor, "column dim"],
    all_teachers: Float[Tensor, "column dim"],
    own: Int64[Tensor, " row"],
    allowed: Bool[Tensor, "row column"],
    scale: Float[Tensor, ""] | float,
    label_smoothing: float,
) -> Float[Tensor, " row"]:
    """Symmetric InfoNCE of each row: half of image to teachers, half of teacher to images (P 2.3, contrastive).

    Args:
        student, teacher: This process's rows, paired.
        all_students, all_teachers: The rows of all processes, paired.
        own: The column of each row's own pair.
        allowed: The columns that a row is compared with; its own is among them.
        scale: Multiplies the cosines.
        label_smoothing: Share of the target that is spread evenly over the allowed columns.
    """
    student, teacher, all_students, all_teachers = (
        F.normalize(vectors, dim=1, eps=NORM_EPS) for vectors in (student, teacher, all_students, all_teachers)
    )
    to_teachers = _cross_entropy(scale * (student @ all_teachers.T), own, allowed, label_smoothing)
    to_students = _cross_entropy(scale * (teacher @ all_students.T), own, allowed, label_smoothing)
    return (to_teachers + to_students) / 2


def _cross_entropy(
    scores: Float[Tensor, "row column"],
    own: Int64[Tensor, " row"],
    allowed: Bool[Tensor, "row column"],
    label_smoothing: float,
) -> Float[Tensor, " row"]:
    log_shares = scores.masked_fill(~allowed, -torch.inf).log_softmax(dim=1)
    found = log_shares.gather(1, own[:, None])[:, 0]
    evenly = log_shares.masked_fill(~allowed, 0.0).sum(dim=1) / allowed.sum(dim=1)
    return -(1 - label_smoothing) * found - label_smoothing * evenly


def measure_teacher_error(
    prediction: Float[Tensor, "row dim"], teacher: Float[Tensor, "row dim"]
) -> Float[Tensor, " row"]:
    """1 - cos(prediction, teacher's vector) of each row (P 2.3, regression); the lengths of both say nothing."""
    return 1 - F.cosine_similarity(prediction, teacher, dim=1, eps=NORM_EPS)


class RowNames(NamedTuple):
    """What tells the rows of all processes apart, and whose they are."""

    own: Int64[Tensor, " row"]  # column of each row's own pair
    same_study: Bool[Tensor, "row column"]
    same_patient: Bool[Tensor, "row column"]


def name_rows(batch: StudyBatch, owner: Int64[Tensor, " row"], gather: Gather) -> RowNames:
    """The places of this process's rows among those of all. A study is drawn twice under two numbers of draw."""
    names = torch.stack([batch.key[owner], batch.draw[owner], batch.patient[owner]], dim=1)
    everyone = gather(names)
    same = names[:, None] == everyone[None]
    own = (same[:, :, 0] & same[:, :, 1]).int()
    return RowNames(own.argmax(dim=1) if len(everyone) else owner, same[:, :, 0], same[:, :, 2])


def pool_views(
    features: Features, batch: StudyBatch, feature: Literal["class", "mean", "both"]
) -> Float[Tensor, "study dim"]:
    """A study's vector: the mean over its views of what is read of each."""
    representation: Representation = feature
    return pool_by_owner(read_tokens(features.tokens, representation).float(), batch.study, batch.num_studies)


class _FromTeachers(HeadedTerm):
    """What the two terms share: named teachers, and one item for each of their vectors."""

    def __init__(
        self, config: TeacherContrastConfig | TeacherRegressionConfig, teachers: Mapping[str, int], seed: int
    ) -> None:
        super().__init__(config.reads, config.dropout, seed)
        self.teachers = tuple(teachers)

    def count(self, batch: StudyBatch) -> float:
        return float(sum(len(batch.vectors[name].owner) for name in self.teachers))


class TeacherContrast(LearnedScale, _FromTeachers):
    """InfoNCE between images and each teacher's vectors, against the studies of all processes; teachers never meet."""

    def __init__(
        self, config: TeacherContrastConfig, encoder: EncoderConfig, teachers: Mapping[str, int], seed: int = 0
    ) -> None:
        """`teachers`: numbers in a vector, by name."""
        super().__init__(config, teachers, seed)
        self.feature = config.feature
        self.label_smoothing = config.label_smoothing
        self.masks_patient = config.same_patient == "masked"
        num_scales = len(teachers) if config.temperatures == "own" else 1
        self.log_scale = start_scales(config.temperature, num_scales)
        width = NUM_VECTORS[config.feature] * encoder.width
        self.student_head = DistillationHead(width, config.width, config.dropout)
        self.teacher_heads = nn.ModuleDict(
            {f"from_{name}": DistillationHead(size, config.width, config.dropout) for name, size in teachers.items()}
        )

    def read_scales(self) -> list[Float[Tensor, ""]]:
        """What the cosines of each teacher are multiplied by."""
        return [self.log_scale[min(place, len(self.log_scale) - 1)].exp() for place in range(len(self.teachers))]

    def project(
        self, features: Features, batch: StudyBatch
    ) -> dict[str, tuple[Float[Tensor, "row dim"], Float[Tensor, "row dim"]]]:
        """Student and teacher rows of each teacher, paired, before they are scaled to unit length."""
        with self.repeat_dropout(batch):
            student = self.student_head(pool_views(features, batch, self.feature))
            return {
                name: (
                    student[batch.vectors[name].owner].float(),
                    self.teacher_heads[f"from_{name}"](batch.vectors[name].values).float(),
                )
                for name in self.teachers
            }

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        losses, found = [self.reach_all(features)[None]], {}
        for (name, (student, teacher)), scale in zip(
            self.project(features, batch).items(), self.read_scales(), strict=True
        ):
            names = name_rows(batch, batch.vectors[name].owner, gather)
            everyone = gather(torch.cat([student, teacher], dim=1))
            # A study that is drawn again within a step has the same vector: no negative of itself.
            allowed = ~(names.same_patient if self.masks_patient else names.same_study)
            allowed = allowed.scatter(1, names.own[:, None], True)
            with torch.autocast(student.device.type, enabled=False):
                items = measure_teacher_contrast(
                    student, teacher, *everyone.chunk(2, dim=1), names.own, allowed, scale, self.label_smoothing
                )
            losses.append(items)
            found |= {name: sum_items(items.detach()), f"{name}_scale": sum_items(scale.detach()[None])}
        return {"loss": sum_items(torch.cat(losses), self.count(batch)), **found}

    def list_rows(self, features: Features, batch: StudyBatch) -> dict[str, Tensor]:
        rows = {}
        for name, (student, teacher) in self.project(features, batch).items():
            owner = batch.vectors[name].owner
            rows |= {f"{name}/student": student, f"{name}/teacher": teacher, f"{name}/patient": batch.patient[owner]}
        return rows

    def score_rows(self, rows: dict[str, Tensor]) -> dict[str, float]:
        found = {}
        for name, scale in zip(self.teachers, self.read_scales(), strict=True):
            student, teacher, patient = (rows[f"{name}/{part}"] for part in ("student", "teacher", "patient"))
            scores = score_pairs(student, teacher, patient, float(scale), masks_patient=self.masks_patient)
            found |= {f"{name}_{key}": value for key, value in scores.items()}
        return found


class TeacherRegression(_FromTeachers):
    """1 - cosine between a prediction from the image and each teacher's vector."""

    def __init__(
        self, config: TeacherRegressionConfig, encoder: EncoderConfig, teachers: Mapping[str, int], seed: int = 0
    ) -> None:
        """`teachers`: numbers in a vector, by name."""
        super().__init__(config, teachers, seed)
        self.feature = config.feature
        width = encoder.width * (NUM_VECTORS[config.feature] if config.feature != "patches" else 1)
        readers = teachers if config.feature == "patches" else ()
        pools = {f"for_{name}": AttentivePool(encoder.width, encoder.num_patches, 1) for name in readers}
        self.pools = cast(dict[str, AttentivePool], nn.ModuleDict(pools))
        self.heads = nn.ModuleDict(
            {f"to_{name}": DistillationHead(width, size, config.dropout) for name, size in teachers.items()}
        )

    def predict(self, features: Features, batch: StudyBatch) -> dict[str, Float[Tensor, "row dim"]]:
        """What each teacher's vector is guessed to be, for the studies that have one."""
        found = {}
        with self.repeat_dropout(batch):
            for name in self.teachers:
                vectors = self._pool(name, features, batch)[batch.vectors[name].owner]
                found[name] = self.heads[f"to_{name}"](vectors).float()
        return found

    def point(self, features: Features) -> dict[str, Float[Tensor, "view patch"]]:
        """How much of each patch each teacher's prediction reads, summing to 1 over a view (feature `patches`)."""
        patches = features.tokens[:, 1:].float()
        return {name: self.pools[f"for_{name}"].attend(patches)[:, 0] for name in self.teachers}

    def _pool(self, name: str, features: Features, batch: StudyBatch) -> Float[Tensor, "study dim"]:
        if self.feature != "patches":
            return pool_views(features, batch, self.feature)
        views = self.pools[f"for_{name}"](features.tokens[:, 1:].float())
        return pool_by_owner(views.float(), batch.study, batch.num_studies)

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        losses, found = [self.reach_all(features)[None]], {}
        for name, prediction in self.predict(features, batch).items():
            with torch.autocast(prediction.device.type, enabled=False):
                items = measure_teacher_error(prediction, batch.vectors[name].values.float())
            losses.append(items)
            found[name] = sum_items(items.detach())
        return {"loss": sum_items(torch.cat(losses), self.count(batch)), **found}

    def list_rows(self, features: Features, batch: StudyBatch) -> dict[str, Tensor]:
        rows = {}
        for name, prediction in self.predict(features, batch).items():
            rows |= {f"{name}/prediction": prediction, f"{name}/teacher": batch.vectors[name].values.float()}
        return rows

    def score_rows(self, rows: dict[str, Tensor]) -> dict[str, float]:
        found = {}
        for name in self.teachers:
            scores = score_predictions(rows[f"{name}/prediction"], rows[f"{name}/teacher"])
            found |= {f"{name}_{key}": value for key, value in scores.items()}
        return found
