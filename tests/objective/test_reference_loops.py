"""Hilum's equations against loops written from the specification before any of them was read.

Sizes are hypothesis's, values are noise from a seed. Where a loss has a gradient, its slope along a random direction is
held against the loop's own difference quotient, so that nothing in it is detached by accident.

What the specification leaves open, and Hilum decided:

- Eq. 1 and the paper's L_Rec are sums over tokens and pixels of one study; Hilum computes means, which are smaller by
  constants stated in the tests: about 50,000 and 200 at 196 patches of 256 pixels and α = 0.9. So preset `paper`'s
  weight of alignment is the paper's β, whose value is not given, divided by about 250.
- Eq. 1 is of one study; the mean over a batch runs over the studies that have a pair.
- Single views may be negatives of InfoNCE, and count in the collapse guard.
- The ramp of `hilum` is given at 0 and at 1 only; between, it is half a cosine.
- Smooth learning rates are read at the middle of a step.
- Studies of more than three views in the three-slot forms: the released code has none, so neither have these tests.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import reference_loops as loops
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from batches import NO_MASK, make_batch
from hilum import config
from hilum.evaluate.fusion import fuse_views, masked_cross_entropy
from hilum.model.encoder import Features
from hilum.model.masking import take_patches
from hilum.objective.alignment import PooledAlignment, TokenAlignment
from hilum.objective.contrast import ContrastAlignment
from hilum.objective.reconstruction import average_errors, measure_masked_error, normalize_patches
from hilum.objective.schedule import ramp_released_sigmoid, schedule_weight
from hilum.objective.spread import VarianceCovariance
from hilum.objective.term import Sum, Term
from hilum.training.optim import schedule_lr, schedule_step_lr

few = settings(max_examples=25, deadline=None)
archives = st.lists(st.integers(1, 4), min_size=1, max_size=4)  # number of views of each study
padded = st.lists(st.integers(1, 3), min_size=1, max_size=4)  # what fits into the released code's slots
seeds = st.integers(0, 2**32 - 1)
dims = st.integers(2, 6)

DISTANCES = {"mse": loops.mean_squared_difference, "cosine": loops.one_minus_cosine}
FUSIONS = {"mean_logit": loops.probability_of_mean_logit, "mean_probability": loops.mean_probability}


def by_study(rows: np.ndarray, views: list[int]) -> list[list]:
    """Flat rows, one per view, as a list for every study."""
    ends = np.cumsum(views)
    return [rows[end - number : end].tolist() for end, number in zip(ends, views, strict=True)]


def divide(result: Sum) -> Tensor:
    return result.value / result.count.clamp(min=1)


def measure(term: Term, tokens: Tensor, views: list[int], patient: list[int] | None = None) -> Tensor:
    """The loss of a term that looks at tokens only, in one process."""
    batch = make_batch(views, size=1, patient=patient)
    return divide(term(Features(tokens), NO_MASK, batch, lambda rows: rows)["loss"])


def compare(function: Callable[[Tensor], Tensor], loop: Callable[[np.ndarray], float], values: np.ndarray) -> None:
    """Same value, and same slope along a random direction."""
    tensor = torch.tensor(values, requires_grad=True)
    loss = function(tensor)
    loss.backward()
    assert tensor.grad is not None
    assert loss.item() == pytest.approx(loop(values), rel=1e-5, abs=1e-6)
    direction, step = np.random.default_rng(values.size).normal(size=values.shape), 1e-5
    quotient = (loop(values + step * direction) - loop(values - step * direction)) / (2 * step)
    assert float((tensor.grad * torch.tensor(direction)).sum()) == pytest.approx(quotient, rel=1e-3, abs=1e-4)


def width(dim: int) -> config.EncoderConfig:
    return config.EncoderConfig(width=dim, heads=1)


@few
@given(
    average=st.sampled_from(["view", "study", "slot"]),
    normalised=st.booleans(),
    views=padded,
    side=st.integers(1, 3),
    size=st.integers(2, 3),
    ratio=st.floats(0.3, 0.95),
    seed=seeds,
    data=st.data(),
)
def test_reconstruction(average, normalised, views, side, size, ratio, seed, data) -> None:
    """M 2.4 in its three averages, from pixels; predictions of visible patches have no influence."""
    num_patches, num_views, random = side**2, sum(views), np.random.default_rng(seed)
    num_masked = data.draw(st.integers(1, num_patches))
    pixels = 2 + 3 * random.normal(size=(num_views, 1, side * size, side * size))
    masked = np.stack([random.permutation(num_patches)[:num_masked] for _ in range(num_views)])
    images = [loops.cut_patches(image[0].tolist(), size) for image in pixels]
    study = np.repeat(np.arange(len(views)), views)

    def loop(prediction: np.ndarray) -> float:
        errors: list[list[float]] = [[] for _ in views]
        for owner, image, said, hidden in zip(study, images, prediction.tolist(), masked.tolist(), strict=True):
            if average == "slot":
                wanted = [loops.normalise_patch(patch) for patch in image] if normalised else image
                errors[owner].append(loops.code_error_of_image(wanted, said, hidden, ratio))
            else:
                errors[owner].append(loops.exact_error_of_image(image, said, hidden, normalised))
        means = {"view": loops.mean_over_views, "study": loops.mean_over_studies, "slot": loops.mean_over_slots}
        return means[average](errors)

    def function(prediction: Tensor) -> Tensor:
        chosen = torch.tensor(masked)
        target = take_patches(torch.tensor(pixels), chosen, size)
        target = normalize_patches(target) if normalised else target
        errors = measure_masked_error(prediction[torch.arange(num_views)[:, None], chosen], target)
        share = num_masked / num_patches
        return divide(average_errors(errors, torch.tensor(study), len(views), average, share, ratio))

    compare(function, loop, random.normal(size=(num_views, num_patches, size**2)))


@few
@given(views=archives, num_patches=st.integers(1, 6), pixels=st.integers(1, 5), seed=seeds, data=st.data())
def test_paper_reconstruction_is_patches_times_pixels_as_large(views, num_patches, pixels, seed, data) -> None:
    """M 2.4, paper's form, with α the true masked share: average `study`, times all patches, times pixels of one."""
    random, num_views = np.random.default_rng(seed), sum(views)
    num_masked = data.draw(st.integers(1, num_patches))
    target, prediction = random.normal(size=(2, num_views, num_patches, pixels))
    masked = np.stack([random.permutation(num_patches)[:num_masked] for _ in range(num_views)])
    rows = np.arange(num_views)[:, None]
    study, share = torch.tensor(np.repeat(np.arange(len(views)), views)), num_masked / num_patches
    errors = measure_masked_error(torch.tensor(prediction[rows, masked]), torch.tensor(target[rows, masked]))
    found = divide(average_errors(errors, study, len(views), "study", share, share))
    of_studies = [
        loops.paper_error_of_study(*parts, share)
        for parts in zip(by_study(target, views), by_study(prediction, views), by_study(masked, views), strict=True)
    ]
    expected = sum(of_studies) / len(views)
    assert found.item() * num_patches * pixels == pytest.approx(expected, rel=1e-5)


@few
@given(views=archives, num_visible=st.integers(1, 4), dim=dims, ratio=st.floats(0.1, 0.95), seed=seeds)
def test_token_alignment(views, num_visible, dim, ratio, seed) -> None:
    """M 2.5, eq. 1, at shared positions: a mean where eq. 1 has a sum over 1 + visible tokens, over 1 − α."""
    random = np.random.default_rng(seed)
    positions = [[loops.CLASS_TOKEN, *sorted(random.permutation(9)[:num_visible].tolist())] for _ in views]

    def loop(tokens: np.ndarray) -> float:
        of_studies = [
            loops.paper_alignment_of_study([dict(zip(places, view, strict=True)) for view in study], ratio)
            for places, study in zip(positions, by_study(tokens, views), strict=True)
            if len(study) > 1
        ]
        return (1 - ratio) / (1 + num_visible) * sum(of_studies) / max(len(of_studies), 1)

    values = random.normal(size=(sum(views), 1 + num_visible, dim))
    compare(lambda tokens: measure(TokenAlignment(), tokens, views), loop, values)


def average_tokens(tokens: np.ndarray, views: list[int]) -> list[list[loops.Vector]]:
    return [[loops.mean_token(dict(enumerate(view))) for view in study] for study in by_study(tokens, views)]


@few
@given(metric=st.sampled_from(sorted(DISTANCES)), views=archives, num_tokens=st.integers(2, 4), dim=dims, seed=seeds)
def test_alignment_of_one_vector_over_real_pairs(metric, views, num_tokens, dim, seed) -> None:
    """M 7.3-A(i), of class and patch tokens together; a projector of no layers is the vector itself."""
    term = PooledAlignment(config.PooledAlignment(feature="all", projector=(), metric=metric), width(dim))

    def loop(tokens: np.ndarray) -> float:
        return loops.mean_over_real_pairs(average_tokens(tokens, views), DISTANCES[metric])

    values = np.random.default_rng(seed).normal(size=(sum(views), num_tokens, dim))
    compare(lambda tokens: measure(term, tokens, views), loop, values)


@few
@given(views=archives, dim=dims, seed=seeds)
def test_logged_squared_chord(views, dim, seed) -> None:
    """Test 15's other unit, which every run logs."""
    vectors = np.random.default_rng(seed).normal(size=(sum(views), dim))
    term = PooledAlignment(config.PooledAlignment(feature="class", projector=()), width(dim))
    features = Features(torch.tensor(vectors)[:, None])
    found = divide(term(features, NO_MASK, make_batch(views, size=1), lambda rows: rows)["squared_chord"])
    expected = loops.mean_over_real_pairs(by_study(vectors, views), loops.squared_chord)
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@few
@given(views=padded, num_tokens=st.integers(2, 4), dim=dims, seed=seeds)
def test_released_alignment(views, num_tokens, dim, seed) -> None:
    """M 2.5, code: nine slot pairs a study, whatever is present."""
    chosen = config.PooledAlignment(feature="all", projector=(), metric="mse", average="slot")
    term = PooledAlignment(chosen, width(dim))
    values = np.random.default_rng(seed).normal(size=(sum(views), num_tokens, dim))
    compare(
        lambda tokens: measure(term, tokens, views),
        lambda tokens: loops.code_alignment(average_tokens(tokens, views)),
        values,
    )


@few
@given(all_paired=st.booleans(), views=archives, dim=dims, temperature=st.floats(0.1, 1.0), seed=seeds, data=st.data())
def test_contrast(all_paired, views, dim, temperature, seed, data) -> None:
    """M 7.3-A(ii) with single views as negatives; without any in the batch, SimCLR's formula of M 2.5 as well."""
    views = [max(number, 2) for number in views] if all_paired else views
    patient = data.draw(st.lists(st.integers(0, 2), min_size=len(views), max_size=len(views)))
    chosen = config.ContrastAlignment(feature="class", projector=(), temperature=temperature)
    term = ContrastAlignment(chosen, width(dim))
    compare(
        lambda vectors: measure(term, vectors[:, None], views, patient),
        lambda vectors: loops.contrast_with_other_patients(by_study(vectors, views), patient, temperature, all_paired),
        np.random.default_rng(seed).normal(size=(sum(views), dim)),
    )


@few
@given(views=archives, dim=dims, covariance_weight=st.floats(0, 2), seed=seeds)
def test_guard(views, dim, covariance_weight, seed) -> None:
    """M 7.3-A(iii): VICReg's variance and covariance over all views of the batch."""
    assume(sum(views) > 1)
    chosen = config.VarianceCovariance(covariance_weight=covariance_weight)
    term = VarianceCovariance(chosen, lambda features: features.tokens[:, 0])

    def loop(vectors: np.ndarray) -> float:
        rows = vectors.tolist()
        return loops.vicreg_variance(rows) + covariance_weight * loops.vicreg_covariance(rows)

    values = np.random.default_rng(seed).normal(size=(sum(views), dim))
    compare(lambda vectors: measure(term, vectors[:, None], views), loop, values)


@few
@given(epoch=st.integers(0, 900), start=st.integers(0, 60), end=st.integers(0, 800), final=st.floats(0.1, 5))
def test_released_beta(epoch, start, end, final) -> None:
    """M 2.5, also with a warm-up that ends after the ramp, as in the released demo (5 and 2)."""
    assert final * ramp_released_sigmoid(epoch, start, end) == pytest.approx(
        loops.released_beta(epoch, start, end, final), rel=1e-9
    )


@few
@given(num_epochs=st.integers(1, 600), share=st.integers(0, 10), final=st.floats(0.1, 5), data=st.data())
def test_released_beta_over_a_run(num_epochs, share, final, data) -> None:
    """The same read by progress: every step of an epoch has the weight of its start."""
    epoch, step, warmup = data.draw(st.integers(0, num_epochs - 1)), data.draw(st.integers(0, 6)), share / 10
    weight = config.WeightConfig(value=final, ramp="released_sigmoid")
    progress = (epoch * 7 + step) / (num_epochs * 7)
    found = schedule_weight(weight, progress, epochs=float(num_epochs), warmup=warmup, target=final)
    expected = loops.released_beta(epoch, round(warmup * num_epochs), num_epochs, final)
    assert found == pytest.approx(expected, rel=1e-9)


@few
@given(first=st.floats(0, 1), second=st.floats(0, 1), target=st.floats(0, 5), epochs=st.floats(0.1, 900))
def test_own_ramp(first, second, target, epochs) -> None:
    """Test 18, `hilum`: meets the line where the specification fixes it, rises between, and never asks how long the
    run is. Half a cosine stays within 0.11 of the line."""
    weight = config.WeightConfig(value=target, ramp="cosine")

    def ramp(progress: float, epochs: float = 1.0) -> float:
        return schedule_weight(weight, progress, epochs=epochs, warmup=0.1, target=target)

    for fixed in (0.0, 1.0):
        assert ramp(fixed) == pytest.approx(loops.linear_ramp(fixed, target), abs=1e-12)
    assert ramp(min(first, second)) <= ramp(max(first, second))
    assert ramp(first, epochs) == ramp(first)
    assert ramp(first) == pytest.approx(loops.linear_ramp(first, target), abs=0.11 * target)


@few
@given(num_epochs=st.integers(2, 600), num_steps=st.integers(1, 9), batch=st.integers(1, 4096), data=st.data())
def test_released_lr(num_epochs, num_steps, batch, data) -> None:
    """M 3 and test 26: one rate for all steps of an epoch."""
    num_warmup = data.draw(st.integers(0, num_epochs - 1))
    epoch, step = data.draw(st.integers(0, num_epochs - 1)), data.draw(st.integers(0, num_steps - 1))
    found = schedule_step_lr(
        epoch * num_steps + step, num_epochs * num_steps, epochs=float(num_epochs), per_epoch=True,
        peak=1.2e-4 * batch / 256, warmup=num_warmup / num_epochs, warmup_start=0.5,
    )  # fmt: skip
    assert found == pytest.approx(loops.released_lr(epoch, 1.2e-4, batch, num_epochs, num_warmup), rel=1e-9, abs=1e-15)


@few
@given(num_steps=st.integers(2, 600), peak=st.floats(1e-5, 1), data=st.data())
def test_own_lr(num_steps, peak, data) -> None:
    """M 3, last paragraph: MAE's curve, which training reads at the middle of a step and not at its start."""
    num_warmup, step = data.draw(st.integers(0, num_steps - 1)), data.draw(st.integers(0, num_steps - 1))
    warmup = num_warmup / num_steps
    assert schedule_lr(step, num_steps, peak=peak, warmup=warmup) == pytest.approx(
        loops.mae_lr(step, peak, num_steps, num_warmup), rel=1e-9, abs=1e-15
    )
    found = schedule_step_lr(step, num_steps, epochs=1.0, per_epoch=False, peak=peak, warmup=warmup, warmup_start=0.0)
    assert found == pytest.approx(loops.mae_lr(step + 0.5, peak, num_steps, num_warmup), rel=1e-9, abs=1e-15)


@few
@given(fusion=st.sampled_from(sorted(FUSIONS)), views=archives, num_findings=st.integers(1, 4), seed=seeds)
def test_fusion(fusion, views, num_findings, seed) -> None:
    """M 4.1, M 7.3-L and test 27, in any order of the views."""
    random = np.random.default_rng(seed)
    logit, owner = 4 * random.normal(size=(sum(views), num_findings)), np.repeat(np.arange(len(views)), views)
    order = random.permutation(len(owner))
    found = torch.sigmoid(fuse_views(torch.tensor(logit[order]), torch.tensor(owner[order]), len(views), fusion))
    for study, of_views in zip(found.tolist(), by_study(logit, views), strict=True):
        assert study == pytest.approx(FUSIONS[fusion](of_views), rel=1e-9)


@few
@given(fused=st.booleans(), views=archives, num_findings=st.integers(1, 4), seed=seeds)
def test_cross_entropy(fused, views, num_findings, seed) -> None:
    """M 4.1 and test 28, view by view and of the mean logit; an unknown label weighs nothing.

    The specification asks for a masked mean and does not say of what first: it is one mean over the known entries, so
    that a study weighs by its known findings (and, view by view, by its views).
    """
    loop = loops.mean_logit_cross_entropy if fused else loops.per_view_cross_entropy
    random = np.random.default_rng(seed)
    target = random.integers(0, 2, size=(len(views), num_findings)).astype(float)
    known = random.random(target.shape) < 0.7
    owner = torch.tensor(np.repeat(np.arange(len(views)), views))
    told = torch.tensor(np.where(known, target, np.nan))

    def function(logit: Tensor) -> Tensor:
        if fused:
            return masked_cross_entropy(fuse_views(logit, owner, len(views)), told)
        return masked_cross_entropy(logit, told[owner])

    compare(
        function,
        lambda logit: loop(by_study(logit, views), target.tolist(), known.tolist()),
        3 * random.normal(size=(sum(views), num_findings)),
    )
