"""Distillation terms: hand-worked numbers, loops over rows, who is compared with whom, and what absence changes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from batches import NO_MASK, make_batch, make_vectors
from hilum.batch import StudyBatch, Vectors
from hilum.config import EncoderConfig
from hilum.config import TeacherContrast as ContrastSettings
from hilum.config import TeacherRegression as RegressionSettings
from hilum.model.encoder import Features
from hilum.objective.teacher_meters import score_pairs, score_predictions
from hilum.objective.teachers import (
    TeacherContrast,
    TeacherRegression,
    measure_teacher_contrast,
    measure_teacher_error,
    name_rows,
)
from hilum.training.optim import build_parameter_groups

few = settings(max_examples=25, deadline=None)
ENCODER = EncoderConfig(image_size=32, patch_size=8, width=6, depth=1, heads=1)
TEACHERS = {"ecg": 5, "labs": 3}


def contrast(student: Tensor, teacher: Tensor, scale: float = 1.0, smoothing: float = 0.0) -> Tensor:
    """Of rows that are all compared with all."""
    everyone = torch.arange(len(student))
    allowed = torch.ones(len(student), len(student), dtype=torch.bool)
    return measure_teacher_contrast(student, teacher, student, teacher, everyone, allowed, scale, smoothing)


def unit_rows(num: int, dim: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_two_pairs_at_right_angles_give_the_numbers_worked_by_hand() -> None:
    """ln(1 + 1/e) = 0.313262; of 2 % smoothing half goes to the other, which costs 1 more: 0.313262 + 0.01."""
    rows = 3 * torch.eye(2)  # lengths say nothing
    assert contrast(rows, 5 * rows).tolist() == pytest.approx([0.313262, 0.313262], abs=1e-6)
    assert contrast(rows, rows, smoothing=0.02).tolist() == pytest.approx([0.323262, 0.323262], abs=1e-6)
    assert contrast(rows, rows.flip(0)).tolist() == pytest.approx([1.313262, 1.313262], abs=1e-6)
    assert contrast(rows, rows, scale=1 / 0.07).tolist() == pytest.approx([6.2e-7] * 2, abs=1e-6)


def test_smoothing_is_torchs_where_all_are_compared() -> None:
    student, teacher = unit_rows(7, 4, 0), unit_rows(7, 4, 1)
    scores, own = 10 * student @ teacher.T, torch.arange(7)
    expected = (
        F.cross_entropy(scores, own, label_smoothing=0.1, reduction="none")
        + F.cross_entropy(scores.T, own, label_smoothing=0.1, reduction="none")
    ) / 2
    torch.testing.assert_close(contrast(student, teacher, 10.0, 0.1), expected)


def test_unrelated_unit_vectors_cost_ln_n_and_roles_may_be_swapped() -> None:
    """P 12-6: about ln N + 0.002 at scale 1, and ln N + 0.4 at the first temperature."""
    student, teacher = unit_rows(512, 256, 0), unit_rows(512, 256, 1)
    assert float(contrast(student, teacher).mean()) == pytest.approx(math.log(512) + 0.002, abs=0.004)
    assert float(contrast(student, teacher, 1 / 0.07).mean()) == pytest.approx(math.log(512) + 0.4, abs=0.1)
    torch.testing.assert_close(contrast(student, teacher, 5.0, 0.02), contrast(teacher, student, 5.0, 0.02))


def loop_contrast(student, teacher, patient, masks: bool, scale: float, smoothing: float) -> list[float]:
    """P 2.3, row by row: of each direction the smoothed cross-entropy over the columns that are compared."""

    def cosine(one, other) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True)) / math.dist(one, [0] * len(one)) / math.dist(
            other, [0] * len(other)
        )  # fmt: skip

    losses = []
    for i in range(len(student)):
        columns = [j for j in range(len(student)) if j == i or not (masks and patient[i] == patient[j])]
        directions = []
        for anchor, others in ((student[i], teacher), (teacher[i], student)):
            scores = {j: scale * cosine(anchor, others[j]) for j in columns}
            total = math.log(sum(math.exp(score) for score in scores.values()))
            target = {j: smoothing / len(columns) + (1 - smoothing) * (j == i) for j in columns}
            directions.append(-sum(target[j] * (scores[j] - total) for j in columns))
        losses.append(sum(directions) / 2)
    return losses


@few
@given(
    masks=st.booleans(), num=st.integers(1, 6), dim=st.integers(2, 5), scale=st.floats(1, 20),
    smoothing=st.floats(0, 0.3), seed=st.integers(0, 2**31), data=st.data(),
)  # fmt: skip
def test_contrast_is_the_loop(masks, num, dim, scale, smoothing, seed, data) -> None:
    patient = data.draw(st.lists(st.integers(0, 2), min_size=num, max_size=num))
    random = np.random.default_rng(seed)
    student, teacher = random.normal(size=(2, num, dim))
    same = torch.tensor(patient)[:, None] == torch.tensor(patient)[None, :]
    allowed = torch.eye(num, dtype=torch.bool) | ~(same if masks else torch.zeros_like(same))
    rows = torch.tensor(student, requires_grad=True)
    given_teacher = torch.tensor(teacher)
    found = measure_teacher_contrast(
        rows, given_teacher, rows, given_teacher, torch.arange(num), allowed, scale, smoothing
    )
    expected = loop_contrast(student.tolist(), teacher.tolist(), patient, masks, scale, smoothing)
    assert found.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)
    found.sum().backward()
    direction, step = random.normal(size=student.shape), 1e-6
    moved = (student + step * direction, student - step * direction)
    ends = [sum(loop_contrast(one.tolist(), teacher.tolist(), patient, masks, scale, smoothing)) for one in moved]
    quotient = (ends[0] - ends[1]) / (2 * step)
    assert (rows.grad * torch.tensor(direction)).sum().item() == pytest.approx(quotient, rel=1e-3, abs=1e-4)


def test_negatives_are_pushed_too() -> None:
    """Columns carry their gradient (P 2.3): the term's is that of one symmetric cross-entropy, to the last image."""
    term = make(ContrastSettings(width=4, label_smoothing=0.1), {"ecg": 5})
    batch = make_batch([1, 1, 1], size=1, vectors={"ecg": make_vectors(5, [0, 1, 2])})
    tokens = torch.randn(3, 17, 6, requires_grad=True)
    student, teacher = term.project(Features(tokens), batch)["ecg"]
    cosines = F.normalize(student, dim=1) @ F.normalize(teacher, dim=1).T
    scores, own = term.read_scales()[0] * cosines, torch.arange(3)
    both = [F.cross_entropy(side, own, label_smoothing=0.1) for side in (scores, scores.T)]
    inputs = [tokens, *term.parameters()]
    expected = torch.autograd.grad(sum(both) / 2, inputs)
    found = torch.autograd.grad(measure(term, tokens, batch)["loss"], inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_regression_is_one_minus_the_cosine() -> None:
    prediction, teacher = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[8.0, 6.0], [-2.0, 0.0]])
    assert measure_teacher_error(prediction, teacher).tolist() == pytest.approx([0.04, 2.0], abs=1e-6)
    assert measure_teacher_error(prediction[:1], torch.zeros(1, 2)).tolist() == [1.0]  # a vector without direction


def make(settings: Any, teachers: dict[str, int] = TEACHERS) -> TeacherContrast | TeacherRegression:
    torch.manual_seed(0)
    kind = TeacherContrast if isinstance(settings, ContrastSettings) else TeacherRegression
    return kind(settings, ENCODER, teachers).eval()


def make_taught(views: list[int], ecg: list[int], labs: list[int], patient: list[int] | None = None) -> StudyBatch:
    vectors = {"ecg": make_vectors(5, ecg, 1), "labs": make_vectors(3, labs, 2)}
    return make_batch(views, size=1, patient=patient, vectors=vectors)


def measure(term: torch.nn.Module, tokens: Tensor, batch: StudyBatch) -> dict[str, Tensor]:
    found = term(Features(tokens), NO_MASK, batch, lambda rows: rows)
    return {name: part.value / part.count.clamp(min=1) for name, part in found.items()}


FORMS = {
    "contrast": ContrastSettings(width=4, label_smoothing=0.1),
    "masked": ContrastSettings(width=4, feature="both", temperatures="own", same_patient="masked"),
    "regression": RegressionSettings(),
    "regions": RegressionSettings(feature="patches"),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_absent_gives_exactly_nothing_and_counts_for_nothing(form: str) -> None:
    """P 12-9. Studies: both, an ECG only, laboratory values only, neither; two views of the first."""
    term = make(FORMS[form])
    batch = make_taught([2, 1, 1, 1], ecg=[0, 1], labs=[0, 2])
    tokens = torch.randn(5, 17, 6, requires_grad=True)
    found = term(Features(tokens), NO_MASK, batch, lambda rows: rows)["loss"]
    assert term.count(batch) == found.count.item() == 4
    found.value.backward()
    reached = tokens.grad.abs().sum(dim=(1, 2)) > 0
    assert reached.tolist() == [True, True, True, True, False]  # exactly 0 for the study that nobody teaches
    # Without that study at all nothing changes, also not where its place is taken by another.
    fewer = make_taught([2, 1, 1], ecg=[0, 1], labs=[0, 2])
    torch.testing.assert_close(measure(term, tokens[:4], fewer)["loss"], (found.value / found.count).detach())
    # One teacher absent everywhere: the other's own mean.
    alone = make_taught([2, 1, 1, 1], ecg=[0, 1], labs=[])
    assert term.count(alone) == 2
    torch.testing.assert_close(measure(term, tokens, alone)["loss"], measure(term, tokens, batch)["ecg"])


@pytest.mark.parametrize("form", FORMS)
def test_nobody_taught_is_a_loss_of_zero_that_reaches_everything(form: str) -> None:
    term, batch = make(FORMS[form]), make_taught([1, 1], ecg=[], labs=[])
    tokens = torch.randn(2, 17, 6, requires_grad=True)
    loss = term(Features(tokens), NO_MASK, batch, lambda rows: rows)["loss"]
    loss.value.backward()
    assert (loss.value.item(), loss.count.item()) == (0.0, 0.0)
    assert torch.equal(tokens.grad, torch.zeros_like(tokens))
    assert all(torch.equal(value.grad, torch.zeros_like(value)) for value in term.parameters())


def test_losses_are_means_over_rows_and_so_over_teachers_where_all_know_all() -> None:
    tokens = torch.randn(3, 17, 6)
    for form in ("contrast", "regression"):
        found = measure(make(FORMS[form]), tokens, make_taught([1, 1, 1], ecg=[0, 1, 2], labs=[2, 0, 1]))
        torch.testing.assert_close(found["loss"], (found["ecg"] + found["labs"]) / 2)
        found = measure(make(FORMS[form]), tokens, make_taught([1, 1, 1], ecg=[0, 1, 2], labs=[2]))
        torch.testing.assert_close(found["loss"], (3 * found["ecg"] + found["labs"]) / 4)


def test_rows_follow_their_owners_and_a_study_is_the_mean_of_its_views() -> None:
    term = make(RegressionSettings(feature="mean"), {"ecg": 5})
    tokens = torch.randn(3, 17, 6)
    batch = make_batch([2, 1], size=1, vectors={"ecg": make_vectors(5, [1, 0])})
    of_views = tokens[:, 1:].mean(dim=1)
    of_studies = torch.stack([of_views[:2].mean(dim=0), of_views[2]])
    expected = measure_teacher_error(term.heads["to_ecg"](of_studies), batch.vectors["ecg"].values.flip(0))
    torch.testing.assert_close(measure(term, tokens, batch)["loss"], expected.mean())


def test_a_patients_other_studies_are_negatives_or_left_out() -> None:
    tokens, patient = torch.randn(4, 17, 6), [7, 7, 8, 9]
    batch = make_taught([1] * 4, ecg=[0, 1, 2, 3], labs=[], patient=patient)
    ordinary, masked = (make(ContrastSettings(width=4, same_patient=how), {"ecg": 5}) for how in ("negative", "masked"))
    student, teacher = ordinary.project(Features(tokens), batch)["ecg"]
    for term, masks in ((ordinary, False), (masked, True)):
        scale = term.read_scales()[0].item()
        expected = loop_contrast(student.tolist(), teacher.tolist(), patient, masks, scale, 0.02)
        assert measure(term, tokens, batch)["loss"].item() == pytest.approx(sum(expected) / 4, rel=1e-4)
    one_patient = replace(batch, patient=torch.full((4,), 7))
    assert measure(masked, tokens, one_patient)["loss"].item() == 0.0


def test_a_study_drawn_twice_is_two_rows_that_know_themselves() -> None:
    batch = make_taught([1, 1, 1], ecg=[0, 1, 2], labs=[])
    twice = replace(batch, key=torch.tensor([5, 5, 6]), draw=torch.tensor([0, 1, 0]), patient=torch.tensor([1, 1, 2]))
    names = name_rows(twice, twice.vectors["ecg"].owner, lambda rows: torch.cat([rows.flip(0) * 0 - 1, rows]))
    assert names.own.tolist() == [3, 4, 5]  # three rows of another process stand before
    assert names.same_patient[:, 3:].int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_a_study_drawn_twice_is_no_negative_of_itself() -> None:
    """Where a step has more rows than there are studies: its teacher says the same of it both times."""
    tokens, keys = torch.randn(4, 17, 6), [5, 5, 6, 7]
    batch = make_taught([1] * 4, ecg=[0, 1, 2, 3], labs=[], patient=[1, 1, 1, 2])
    batch = replace(batch, key=torch.tensor(keys), draw=torch.tensor([0, 1, 0, 0]))
    term = make(ContrastSettings(width=4), {"ecg": 5})
    student, teacher = term.project(Features(tokens), batch)["ecg"]
    scale = term.read_scales()[0].item()
    expected = loop_contrast(student.tolist(), teacher.tolist(), keys, True, scale, 0.02)
    assert measure(term, tokens, batch)["loss"].item() == pytest.approx(sum(expected) / 4, rel=1e-4)


def test_the_temperature_starts_at_0_07_and_stays_in_its_clamp() -> None:
    """P 12-8, whatever the gradient asks for."""
    term = make(ContrastSettings(width=4, temperatures="own"))
    assert term.log_scale.tolist() == pytest.approx([2.6593, 2.6593], abs=1e-4)
    assert make(ContrastSettings(width=4)).log_scale.shape == (1,)
    optimizer = torch.optim.SGD([term.log_scale], lr=1.0)
    for gradient, expected in ((-50.0, 100.0), (200.0, 1.0)):
        term.log_scale.grad = torch.tensor([gradient, 0.0])
        optimizer.step()
        term.constrain()
        assert [scale.item() for scale in term.read_scales()] == pytest.approx([expected, 1 / 0.07], rel=1e-5)


def test_the_temperature_decays_only_where_everything_does() -> None:
    term = make(ContrastSettings(width=4))
    for everything in (False, True):
        groups = build_parameter_groups(term, weight_decay=0.05, decay_everything=everything)
        (decay,) = [g["weight_decay"] for g in groups if any(p is term.log_scale for p in g["params"])]
        assert decay == (0.05 if everything else 0.0)


def test_temperatures_are_learned_and_the_teachers_vectors_are_not() -> None:
    term, batch = make(FORMS["masked"]), make_taught([1] * 4, ecg=[0, 1, 2, 3], labs=[0, 1, 2, 3])
    values = {name: Vectors(rows.values.requires_grad_(), rows.owner) for name, rows in batch.vectors.items()}
    measure(term, torch.randn(4, 17, 6), replace(batch, vectors=values))["loss"].backward()
    assert bool((term.log_scale.grad != 0).all())


def test_dropout_repeats_by_batch_and_leaves_torchs_generator() -> None:
    term, batch = make(FORMS["contrast"]).train(), make_taught([1] * 4, ecg=[0, 1, 2, 3], labs=[0])
    tokens, before = torch.randn(4, 17, 6), torch.get_rng_state()
    first, again = (measure(term, tokens, batch)["loss"] for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, measure(term, tokens, replace(batch, draw=batch.draw + 1))["loss"])
    assert not torch.equal(first, measure(term.eval(), tokens, batch)["loss"])


def test_a_teacher_points_at_the_patch_that_it_speaks_of() -> None:
    """In every view one patch, at another place each time, says what the teacher says."""
    term = make(RegressionSettings(feature="patches", dropout=0.0), {"ecg": 5}).train()
    random = torch.Generator().manual_seed(0)
    said, mark = torch.randn(64, 5, generator=random), torch.tensor([4.0, 0, 0, 0, 0, 0])
    place = torch.randint(16, (64,), generator=random)
    tokens = torch.randn(64, 17, 6, generator=random)
    tokens[torch.arange(64), 1 + place] = torch.cat([said, torch.zeros(64, 1)], dim=1).roll(1, dims=1) + mark
    batch = make_batch([1] * 64, size=1, vectors={"ecg": Vectors(said, torch.arange(64))})
    optimizer = torch.optim.Adam(term.parameters(), lr=0.03)
    for _ in range(150):
        optimizer.zero_grad()
        measure(term, tokens, batch)["loss"].backward()
        optimizer.step()
    shares = term.point(Features(tokens))["ecg"]
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(64))
    assert float((shares.argmax(dim=1) == place).float().mean()) > 0.9


def test_figures_of_pairs_are_those_of_the_loop() -> None:
    student, teacher, patient = unit_rows(8, 4, 0), unit_rows(8, 4, 1), torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])
    for masks in (False, True):
        found = score_pairs(student, teacher, patient, 5.0, masks_patient=masks)
        losses = loop_contrast(student.tolist(), teacher.tolist(), patient.tolist(), masks, 5.0, 0.0)
        columns = [7, 7, *[8] * 6] if masks else [8] * 8
        assert found["info_nce"] == pytest.approx(sum(losses) / 8)
        assert found["information"] == pytest.approx(sum(map(math.log, columns)) / 8 - sum(losses) / 8)
        assert found["retrieval_chance"] == pytest.approx(sum(1 / n for n in columns) / 8)
        cosine = student @ teacher.T
        assert found["positive_cosine"] == pytest.approx(float(cosine.diagonal().mean()))
    off = cosine[~torch.eye(8, dtype=torch.bool)]
    assert score_pairs(student, teacher, patient, 5.0, masks_patient=False)["negative_cosine"] == pytest.approx(
        float(off.mean())
    )
    perfect = score_pairs(student, student, patient, 100.0, masks_patient=False)
    assert (perfect["retrieval"], perfect["retrieval_top5"], perfect["positive_cosine"]) == pytest.approx((1, 1, 1))
    assert score_pairs(student[:1], teacher[:1], patient[:1], 5.0, masks_patient=True) == {}


def test_a_constant_prediction_has_a_cosine_and_no_centred_one() -> None:
    """Vectors with a mean cosine of 0.43 give the constant 0.66 (P 7.3), which says nothing of any study."""
    common, own = torch.zeros(64), torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    common[0], own[:, 0] = math.sqrt(0.43), 0.0
    rows = common + math.sqrt(0.57) * F.normalize(own, dim=1)
    found = score_predictions(common.expand(4000, -1) + 1e-3 * torch.randn(4000, 64), rows)
    assert found["constant_cosine"] == pytest.approx(0.656, abs=0.005)
    assert found["cosine"] == pytest.approx(0.656, abs=0.005)
    assert abs(found["centred_cosine"]) < 0.02
    assert score_predictions(3 * rows, rows)["centred_cosine"] == pytest.approx(1.0)
