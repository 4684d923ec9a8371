"""InfoNCE: SimCLR's numbers, and who is a negative."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from batches import NO_MASK, make_batch, take_studies
from hilum.config import ContrastAlignment, EncoderConfig
from hilum.model.encoder import Features
from hilum.objective import contrast
from hilum.objective.contrast import measure_contrast


def measure(vectors: torch.Tensor, patient: list[int], views: list[int], temperature: float = 0.5) -> torch.Tensor:
    batch = make_batch(views, size=1, patient=patient)
    owner = batch.patient[batch.study]
    return measure_contrast(vectors, owner, batch.pairs(), vectors, owner, temperature)


@pytest.mark.parametrize(("studies", "expected"), [(2, 0.239545), (4, 0.594437)])
def test_orthonormal_pairs_give_simclrs_numbers(studies: int, expected: float) -> None:
    vectors = torch.eye(studies).repeat_interleave(2, dim=0)
    items = measure(vectors, list(range(studies)), [2] * studies)
    assert len(items) == 2 * studies
    assert float(items.mean()) == pytest.approx(expected, abs=1e-6)
    assert float(items.mean()) == pytest.approx(math.log(1 + (2 * studies - 2) * math.exp(-2)), rel=1e-6)


def test_third_views_and_the_patients_other_studies_are_no_negatives() -> None:
    vectors = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    views, patient = [3, 1, 2, 1], [0, 0, 1, 2]
    items = measure(vectors, patient, views)
    unit = torch.nn.functional.normalize(vectors, dim=1)
    scores = (unit @ unit.T / 0.5).exp()
    negatives = {0: [4, 5, 6], 4: [0, 1, 2, 3, 6]}
    expected = []
    for study in ([0, 1, 2], [4, 5]):
        for anchor in study:
            for positive in study:
                if anchor != positive:
                    others = sum(scores[anchor, other] for other in negatives[study[0]])
                    expected.append(-torch.log(scores[anchor, positive] / (scores[anchor, positive] + others)))
    torch.testing.assert_close(items.sort().values, torch.stack(expected).sort().values)


def test_without_another_patient_it_is_zero_and_finite() -> None:
    vectors = torch.randn(3, 4, requires_grad=True)
    items = measure(vectors, [5, 5], [2, 1])
    items.sum().backward()
    assert items.tolist() == [0.0, 0.0]
    assert torch.equal(vectors.grad, torch.zeros(3, 4))


def test_negatives_of_the_own_archive_are_those_of_two_batches() -> None:
    """Two archives in one step are then two steps of one archive each."""
    torch.manual_seed(0)
    term = contrast.ContrastAlignment(
        ContrastAlignment(projector=(6, 3), negatives="archive"), EncoderConfig(width=4, heads=1)
    )
    batch = replace(make_batch([2, 1, 2, 3, 2], size=1), dataset=torch.tensor([0, 1, 0, 1, 0]))
    tokens = torch.randn(10, 2, 4)
    found = term(Features(tokens), NO_MASK, batch, lambda rows: rows)["loss"]
    parts = []
    for studies in ([0, 2, 4], [1, 3]):
        views = torch.isin(batch.study, torch.tensor(studies))
        part = take_studies(batch, studies)
        parts.append(term(Features(tokens[views]), NO_MASK, part, lambda rows: rows)["loss"])
    torch.testing.assert_close(found.value, parts[0].value + parts[1].value)
    everybody = contrast.ContrastAlignment(ContrastAlignment(projector=(6, 3)), EncoderConfig(width=4, heads=1))
    everybody.load_state_dict(term.state_dict())
    assert everybody(Features(tokens), NO_MASK, batch, lambda rows: rows)["loss"].value > found.value


def test_term_counts_ordered_pairs_and_reaches_its_projector_without_any() -> None:
    torch.manual_seed(0)
    term = contrast.ContrastAlignment(ContrastAlignment(projector=(6, 3)), EncoderConfig(width=4, heads=1))
    for views, pairs in [([3, 2, 1], 8), ([1, 1, 1], 0)]:
        batch = make_batch(views, size=1)
        term.zero_grad()
        loss = term(Features(torch.randn(sum(views), 2, 4)), NO_MASK, batch, lambda rows: rows)["loss"]
        loss.value.backward()
        assert float(loss.count) == term.count(batch) == pairs
        assert (loss.value.item() > 0) == (pairs > 0)
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in term.parameters())
