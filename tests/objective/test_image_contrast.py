"""Two looks at the same images: hand-worked numbers, a loop over pairs, who finds whom, and what absence changes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batches import NO_MASK, make_batch
from hilum.batch import StudyBatch
from hilum.config import EncoderConfig
from hilum.config import ImageContrast as ImageContrastConfig
from hilum.model.encoder import Features
from hilum.objective.contrast import contrast_pairs
from hilum.objective.image_contrast import ImageContrast
from hilum.objective.term import Sum

ENCODER = EncoderConfig(image_size=32, patch_size=8, width=6, depth=1, heads=1)


def make(**how) -> ImageContrast:
    torch.manual_seed(0)
    return ImageContrast(ImageContrastConfig(width=4, **how), ENCODER).eval()


def show(views: list[int], looks: int = 2, patient: list[int] | None = None) -> StudyBatch:
    """Studies whose images are each shown `looks` times, one look at all of a study's images after the other."""
    batch = make_batch([looks * count for count in views], size=1, patient=patient)
    first = [sum(views[:study]) for study in range(len(views))]
    rows = [first[study] + image for study, count in enumerate(views) for _ in range(looks) for image in range(count)]
    return replace(batch, view_row=torch.tensor(rows))


def measure(term: ImageContrast, tokens: torch.Tensor, batch: StudyBatch) -> dict[str, Sum]:
    return term(Features(tokens), NO_MASK, batch, lambda rows: rows)


def test_two_images_at_right_angles_give_the_numbers_worked_by_hand() -> None:
    """Scale 1: ln(1 + 2/e) = 0.551445, the two looks at the other image being negatives; of 10 % smoothing two thirds
    go to these, which cost 1 more each: 0.551445 + 0.1 * 2/3."""
    rows = torch.eye(2).repeat_interleave(2, dim=0)
    study = torch.tensor([0, 0, 1, 1])
    same = study[:, None] == study[None]
    pairs = (same & ~torch.eye(4, dtype=torch.bool)).nonzero().T
    plain = contrast_pairs(3 * rows, pairs, rows, same, 1.0)
    assert plain.tolist() == pytest.approx([0.551445] * 4, abs=1e-6)
    smoothed = contrast_pairs(rows, pairs, rows, same, 1.0, 0.1)
    assert smoothed.tolist() == pytest.approx([0.551445 + 0.1 * 2 / 3] * 4, abs=1e-6)


def loop_contrast(rows, pairs, left_out, temperature: float, smoothing: float) -> list[float]:
    """Pair by pair: the smoothed cross-entropy of the partner among itself and the anchor's negatives."""

    def cosine(one, other) -> float:
        return float(np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other))

    losses = []
    for u, v in pairs:
        others = [k for k in range(len(rows)) if not left_out[u][k]]
        scores = [cosine(rows[u], rows[k]) / temperature for k in (v, *others)]
        total = math.log(sum(math.exp(score) for score in scores))
        target = [smoothing / len(scores) + (1 - smoothing) * (place == 0) for place in range(len(scores))]
        losses.append(-sum(share * (score - total) for share, score in zip(target, scores, strict=True)))
    return losses


@settings(max_examples=25, deadline=None)
@given(
    views=st.lists(st.integers(1, 2), min_size=1, max_size=4), which=st.sampled_from(["image", "study", "all"]),
    masks=st.booleans(), temperature=st.floats(0.05, 1), smoothing=st.floats(0, 0.3), seed=st.integers(0, 2**31),
    data=st.data(),
)  # fmt: skip
def test_the_term_is_the_loop(views, which, masks, temperature, smoothing, seed, data) -> None:
    patient = data.draw(st.lists(st.integers(0, 2), min_size=len(views), max_size=len(views)))
    batch = show(views, patient=patient)
    how = {"temperature": temperature, "label_smoothing": smoothing, "same_patient": "masked" if masks else "negative"}
    term = make(pairs=which, **how)
    tokens = torch.randn(batch.num_views, 17, 6, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    found = measure(term, tokens, batch)["loss"]
    owner, image = batch.study.tolist(), batch.view_row.tolist()
    pairs = [
        (u, v) for u in range(len(owner)) for v in range(len(owner))
        if u != v and owner[u] == owner[v] and which in ("all", "image" if image[u] == image[v] else "study")
    ]  # fmt: skip
    whose = [patient[study] if masks else study for study in owner]
    left_out = [[whose[u] == whose[k] for k in range(len(owner))] for u in range(len(owner))]
    rows = term.project(Features(tokens), batch).detach().double().numpy()
    expected = loop_contrast(rows, pairs, left_out, temperature, smoothing)
    assert term.count(batch) == found.count.item() == len(pairs)
    assert found.value.item() == pytest.approx(sum(expected), rel=1e-4, abs=1e-5)
    found.value.backward()
    direction, step = np.random.default_rng(seed).normal(size=rows.shape), 1e-6
    ends = [
        sum(loop_contrast(rows + sign * step * direction, pairs, left_out, temperature, smoothing)) for sign in (1, -1)
    ]
    vectors = torch.tensor(rows, requires_grad=True)
    chosen = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    contrast_pairs(vectors, chosen, vectors, torch.tensor(left_out), temperature, smoothing).sum().backward()
    slope = (vectors.grad * torch.tensor(direction)).sum().item()
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-4)


def test_without_another_look_it_is_zero_and_reaches_everything() -> None:
    term, batch = make(), show([1, 2, 1], looks=1)
    tokens = torch.randn(4, 17, 6, requires_grad=True)
    loss = measure(term, tokens, batch)["loss"]
    loss.value.backward()
    assert (loss.value.item(), loss.count.item()) == (0.0, 0.0)
    assert torch.equal(tokens.grad, torch.zeros_like(tokens))
    assert all(torch.equal(value.grad, torch.zeros_like(value)) for value in term.parameters())


def test_a_study_drawn_twice_is_no_negative_of_itself() -> None:
    batch = show([1, 1])
    one = replace(batch, key=torch.tensor([5, 5]), draw=torch.tensor([0, 1]))
    assert measure(make(label_smoothing=0.0), torch.randn(4, 17, 6), one)["loss"].value.item() == 0.0
    assert measure(make(label_smoothing=0.0), torch.randn(4, 17, 6), batch)["loss"].value.item() > 0.0


def test_training_pulls_looks_together_and_the_temperature_stays_in_its_clamp() -> None:
    term, batch = make(dropout=0.0).train(), show([1] * 8)
    tokens = torch.randn(16, 17, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    optimizer = torch.optim.Adam([tokens, *term.parameters()], lr=0.1)
    assert term.log_scale.item() == pytest.approx(math.log(1 / 0.07), abs=1e-5)
    losses = []
    for _ in range(120):
        optimizer.zero_grad()
        loss = measure(term, tokens, batch)["loss"]
        (loss.value / loss.count).backward()
        optimizer.step()
        term.constrain()
        losses.append((loss.value / loss.count).item())
        assert 1 - 1e-5 <= term.log_scale.exp().item() <= 100 + 1e-4
    assert losses[-1] < 0.3 * losses[0]


def test_dropout_repeats_by_batch() -> None:
    term, batch = make().train(), show([1] * 4)
    tokens = torch.randn(8, 17, 6)
    first, again = (measure(term, tokens, batch)["loss"].value for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, measure(term, tokens, replace(batch, draw=batch.draw + 1))["loss"].value)
