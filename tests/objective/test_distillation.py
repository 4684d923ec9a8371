"""The terms together: a frozen encoder learns what a teacher knows of images, and nothing from shuffled pairs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from batches import NO_MASK, make_batch
from hilum.batch import StudyBatch, Vectors
from hilum.config import EncoderConfig, LowRankAdapter, TeachersConfig, TeacherTable
from hilum.objective.objective import build_objective, divide_losses, weigh
from hilum.recipes import build_recipe

TINY = EncoderConfig(image_size=16, patch_size=4, width=16, depth=1, heads=2, qk_norm=False, view_embedding=False)
NUM = 64


def make_taught(seed: int, shuffled: bool) -> StudyBatch:
    """Images that hold three patterns, each as strongly as a study's own numbers say; the teacher knows these."""
    fixed, random = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    patterns = torch.randn(3, 16, 16, generator=fixed)
    said = torch.randn(NUM, 3, generator=random)
    pixels = torch.einsum("sp,phw->shw", said, patterns) + 0.5 * torch.randn(NUM, 16, 16, generator=random)
    values = said @ torch.randn(3, 6, generator=fixed)
    known = torch.arange(NUM) if not shuffled else torch.randperm(NUM, generator=random)
    batch = make_batch([1] * NUM, size=16, vectors={"ecg": Vectors(values[known], torch.arange(NUM))})
    return replace(batch, pixels=pixels[:, None])


@pytest.mark.parametrize("shuffled", [False, True])
def test_what_teachers_know_of_images_is_learned_and_shuffled_pairs_teach_nothing(shuffled: bool) -> None:
    """Scored on other studies, with their own vectors."""
    config = build_recipe("pacx", "hilum", "tiny")
    config = replace(
        config,
        encoder=TINY,
        adapter=LowRankAdapter(rank=2, train_norms="all", dropout=0.0),
        teachers=TeachersConfig(tables={"ecg": TeacherTable("e", "0", 6)}),
        terms={name: replace(term, dropout=0.0) for name, term in config.terms.items()},
    )
    torch.manual_seed(0)
    objective = build_objective(config)
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    frozen = objective.encoder.patch_embed.proj.weight.clone()
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    weights = {name: term.weight.value for name, term in config.terms.items()}
    taught = make_taught(1, shuffled)
    for _ in range(80):
        losses = divide_losses(objective(taught, NO_MASK), objective.count(taught), 1)
        optimizer.zero_grad()
        weigh(losses, weights).backward()
        optimizer.step()
        for term in objective.terms.values():
            term.constrain()
    assert torch.equal(objective.encoder.patch_embed.proj.weight, frozen)
    objective.eval()
    other = make_taught(2, shuffled=False)
    with torch.no_grad():
        whole = objective.encode(other, None).get(whole=True)
        scores = {
            name: term.score_rows(term.list_rows(whole, other)) for name, term in objective.terms.items()
        }  # fmt: skip
    centred, found = scores["regression"]["ecg_centred_cosine"], scores["contrast"]["ecg_retrieval_top5"]
    if shuffled:
        assert abs(centred) < 0.3
        assert found < 0.25
    else:
        assert centred > 0.6
        assert found > 0.4
        assert scores["contrast"]["ecg_information"] > 0.5
    assert scores["contrast"]["ecg_retrieval_chance"] == pytest.approx(1 / NUM)
