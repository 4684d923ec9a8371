"""The terms together: an encoder learns by its updates what a teacher knows of images, and nothing from shuffled pairs.

What is scored is the encoder: a regression on its frozen features, of few rows, on other images. Heads that learn on
features as they were would agree with a teacher as well, and change nothing.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from batches import NO_MASK, make_batch
from hilum.batch import StudyBatch, Vectors
from hilum.config import EncoderConfig, LowRankAdapter, TeachersConfig, TeacherTable
from hilum.evaluate.heads.ridge import fit_ridge
from hilum.model.heads import read_tokens
from hilum.objective.objective import Objective, build_objective, divide_losses, weigh
from hilum.recipes import build_recipe

TINY = EncoderConfig(image_size=16, patch_size=4, width=16, depth=1, heads=2, qk_norm=False, view_embedding=False)
TAUGHT, FEW, OTHERS = 256, 64, 300  # images


def make_images(seed: int, num: int, shuffled: bool = False) -> StudyBatch:
    """Images that hold three patterns, each as strongly as a study's own numbers say; the teacher knows the sizes of
    these without their signs, which a linear map of the image does not."""
    fixed, random = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    patterns = torch.randn(3, 16, 16, generator=fixed)
    said = torch.randn(num, 3, generator=random)
    pixels = torch.einsum("sp,phw->shw", said, patterns) + 0.5 * torch.randn(num, 16, 16, generator=random)
    values = (said.abs() - 0.8) @ torch.randn(3, 6, generator=fixed)
    known = torch.arange(num) if not shuffled else torch.randperm(num, generator=random)
    batch = make_batch([1] * num, size=16, vectors={"ecg": Vectors(values[known], torch.arange(num))})
    return replace(batch, pixels=pixels[:, None])


def build() -> Objective:
    config = build_recipe("pacx", "hilum", "tiny")
    config = replace(
        config,
        encoder=TINY,
        adapter=LowRankAdapter(rank=2, train_norms="all", dropout=0.0),
        teachers=TeachersConfig(tables={"ecg": TeacherTable("e", "0", 6)}),
        terms={name: replace(term, dropout=0.0) for name, term in config.terms.items()},
    )
    torch.manual_seed(0)
    return build_objective(config)


@torch.no_grad()
def explain(objective: Objective) -> float:
    """Explained variance of other images' teacher vectors, by a ridge regression of few rows on frozen features."""

    def read(batch: StudyBatch) -> tuple[Tensor, Tensor]:
        tokens = objective.encoder.encode(batch.pixels, batch.view_kind).tokens
        return read_tokens(tokens, "both"), batch.vectors["ecg"].values

    (features, known), (others, wanted) = read(make_images(2, FEW)), read(make_images(3, OTHERS))
    predicted = torch.from_numpy(fit_ridge(features.numpy(), known.numpy(), [10.0])[0].predict(others.numpy()))
    return 1 - (F.mse_loss(predicted, wanted) / wanted.var(dim=0, correction=0).mean()).item()


def teach(objective: Objective, shuffled: bool) -> None:
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    taught = make_images(1, TAUGHT, shuffled)
    weights = {"contrast": 0.5, "regression": 1.0}
    for _ in range(150):
        losses = divide_losses(objective(taught, NO_MASK), objective.count(taught), 1)
        optimizer.zero_grad()
        weigh(losses, weights).backward()
        optimizer.step()
        for term in objective.terms.values():
            term.constrain()


@pytest.mark.parametrize("shuffled", [False, True])
def test_what_a_teacher_knows_gets_into_the_encoder_and_shuffled_pairs_bring_nothing(shuffled: bool) -> None:
    """P 12-18 in small."""
    objective = build().eval()
    before, frozen = explain(objective), objective.encoder.patch_embed.proj.weight.clone()
    teach(objective.train(), shuffled)
    assert torch.equal(objective.encoder.patch_embed.proj.weight, frozen)
    after = explain(objective.eval())
    assert 0.3 < before < 0.5, "features as they were say something"
    if shuffled:
        assert after < before
    else:
        assert after > before + 0.2
    # The heads, on images that they have not seen, with these images' own vectors.
    other = make_images(4, TAUGHT)
    with torch.no_grad():
        whole = objective.encode(other, None).get(whole=True)
        scores = {
            name: term.score_rows(term.list_rows(whole, other)) for name, term in objective.terms.items()
        }  # fmt: skip
    centred, found = scores["regression"]["ecg_centred_cosine"], scores["contrast"]["ecg_information"]
    assert (centred > 0.7, found > 1.0) == (not shuffled, not shuffled), (centred, found)
    assert scores["contrast"]["ecg_retrieval_chance"] == pytest.approx(1 / TAUGHT)
