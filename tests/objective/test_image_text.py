"""MV-MLM's terms against slow loops; who is whose negative; one process and two."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from image_text_loops import list_breasts, measure_image_text, measure_sigmoid, measure_views
from torch import Tensor

from batches import NO_MASK, make_batch
from breast_batches import BOTH, CC, LEFT, MLO, TINY, make_breasts, make_mixed, take_breasts
from hilum.batch import StudyBatch
from hilum.config import ImageTextContrast, TextContrast, ViewContrast
from hilum.model.encoder import Features
from hilum.objective import image_text as terms
from hilum.objective.breasts import compare_rows, find_breasts, find_texts
from hilum.objective.gather import gather_rows
from hilum.objective.image_text import compare_losses
from hilum.objective.objective import Objective, build_objective, divide_losses, weigh
from two_processes import run_in_processes


def alone(rows: Tensor) -> Tensor:
    return rows


def make_features(batch: StudyBatch, width: int = 6, seed: int = 0) -> Features:
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(batch.num_views, width, generator=random, requires_grad=True)
    texts = torch.randn(len(batch.descriptions.owner), width, generator=random, requires_grad=True)
    return Features(torch.zeros(batch.num_views, 1, 1), embedding=images, text_embedding=texts)


def test_breasts_and_their_texts() -> None:
    batch = make_mixed()
    breasts = find_breasts(batch, ("cc", "mlo"))
    assert list(zip(breasts.study.tolist(), breasts.laterality.tolist(), strict=True)) == [
        (0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (3, 2), (4, 1), (4, 2), (5, 1), (5, 2)
    ]  # fmt: skip
    assert breasts.views.tolist() == [
        [0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [-1, 10], [11, 13], [14, -1], [15, 16], [17, 18]
    ]  # fmt: skip
    # Two texts of study 1, left; a text of all of study 2; none of study 4, right.
    assert find_texts(batch, breasts, 2).tolist() == [
        [0, 0], [1, 1], [2, 3], [4, 4], [5, 5], [6, 6], [7, 7], [-1, -1], [8, 8], [9, 9]
    ]  # fmt: skip
    assert len(find_breasts(make_batch([2, 1]), ("cc", "mlo")).study) == 0


@pytest.mark.parametrize(
    ("target", "num_texts"),
    [("onehot", 1), ("soft", 1), ("mask", 1), ("sigmoid", 1), ("onehot", 2), ("soft", 2), ("mask", 2)],
)
def test_image_text_is_the_loop(target, num_texts: int) -> None:
    batch = make_mixed()
    features = make_features(batch)
    config = ImageTextContrast(target=target, num_texts=num_texts, temperature=0.25)
    if target == "soft":
        config = replace(config, similarity_power=2.0)
    term = terms.ImageTextContrast(config)
    found = term(features, NO_MASK, batch, alone)
    breasts = list_breasts(batch, features.embedding.detach(), features.text_embedding.detach())
    if target == "sigmoid":
        expected = measure_sigmoid(breasts, 4.0, -10.0)
    else:
        expected = measure_image_text(breasts, 4.0, target, 2.0, num_texts)
    assert float(found["loss"].count) == term.count(batch) == len(expected) == 17 * num_texts
    torch.testing.assert_close(found["loss"].value.detach(), torch.stack(expected).sum(), rtol=1e-5, atol=1e-5)


def test_views_are_the_loop_with_weights() -> None:
    batch = make_mixed()
    features = make_features(batch)
    for weight in (0.0, 0.5, 1.0):
        term = terms.ViewContrast(ViewContrast(temperature=0.5, single_view_weight=weight), 6, None)
        found = term(features, NO_MASK, batch, alone)["loss"]
        breasts = list_breasts(batch, features.embedding.detach(), features.text_embedding.detach())
        value, count = measure_views(breasts, 2.0, weight)
        assert float(found.count) == term.count(batch) == count == 6 + 2 * weight
        torch.testing.assert_close(found.value.detach(), value, rtol=1e-5, atol=1e-5)


def test_two_texts_find_each_other() -> None:
    """Four breasts, two texts each that are orthonormal to all others: the closed form."""
    batch = make_breasts([[(LEFT, CC)]] * 4, texts=[(study, 1) for study in range(4) for _ in range(2)])
    texts = torch.eye(4).repeat_interleave(2, dim=0)
    term = terms.TextContrast(TextContrast(temperature=0.5), ImageTextContrast(num_texts=2), lambda: torch.tensor(1.0))
    found = term(Features(torch.zeros(4, 1, 1), text_embedding=texts), NO_MASK, batch, alone)["loss"]
    assert float(found.count) == 4
    assert float(found.value.detach()) / 4 == pytest.approx(math.log(1 + 3 * math.exp(-2)), rel=1e-6)


def test_the_other_breast_and_other_days_are_no_negatives() -> None:
    """Of one patient alone there is nobody to be told from: no loss and no gradient, in any of the terms."""
    batch = make_breasts(
        [BOTH, BOTH], patient=[7, 7], texts=[(study, side) for study in (0, 1) for side in (1, 1, 2, 2)]
    )
    features = make_features(batch)
    images = ImageTextContrast(num_texts=2)
    for term in (
        terms.ImageTextContrast(images),
        terms.ImageTextContrast(replace(images, target="soft")),
        terms.ImageTextContrast(replace(images, target="mask")),
        terms.ViewContrast(ViewContrast(temperature=0.07), 6, None),
        terms.TextContrast(TextContrast(temperature=0.07), images, lambda: torch.tensor(1.0)),
    ):
        loss = term(features, NO_MASK, batch, alone)["loss"]
        assert float(loss.value.detach()) == pytest.approx(0, abs=1e-5)
        assert float(loss.count) == term.count(batch) > 0
        for gradient in torch.autograd.grad(loss.value, [features.embedding, features.text_embedding]):
            assert gradient.abs().max() < 1e-5
    # In any mixture, allowed are a row itself and other patients'.
    batch = make_mixed()
    breasts = find_breasts(batch, ("cc", "mlo"))
    rows = compare_rows(batch, breasts, torch.arange(10), alone)
    patient = [0, 0, 1, 1, 2, 3, 4, 4, 1, 1]
    expected = [[one == other or patient[one] != patient[other] for other in range(10)] for one in range(10)]
    assert rows.allowed.tolist() == expected
    assert rows.own.tolist() == list(range(10))


def test_swapping_the_views_changes_nothing() -> None:
    batch = make_mixed()
    features = make_features(batch)
    swapped = replace(batch, view_kind=torch.where(batch.view_kind == CC, MLO, CC))
    for term in (
        terms.ImageTextContrast(ImageTextContrast(target="soft")),
        terms.ViewContrast(ViewContrast(temperature=0.1), 6, None),
    ):
        one, other = (term(features, NO_MASK, which, alone)["loss"].value for which in (batch, swapped))
        torch.testing.assert_close(one, other)
        turned = replace(term.config, views=("mlo", "cc"))
        again = type(term)(turned) if isinstance(turned, ImageTextContrast) else type(term)(turned, 6, None)
        torch.testing.assert_close(again(features, NO_MASK, batch, alone)["loss"].value, one)


def test_only_the_shared_part_of_the_views_is_aligned() -> None:
    batch = make_breasts([[(LEFT, CC), (LEFT, MLO)]] * 3)
    term = terms.ViewContrast(ViewContrast(temperature=0.1, shared=0.5), 6, None)
    features = make_features(batch)
    term(features, NO_MASK, batch, alone)["loss"].value.backward()
    assert (features.embedding.grad[:, :3] != 0).all()
    assert (features.embedding.grad[:, 3:] == 0).all()


def test_figures_for_the_log() -> None:
    """Three breasts, two of identical descriptions; the first two views each find the other's text."""
    batch = make_breasts([[(LEFT, CC)]] * 3, facts=[[0], [0], [1]])
    term = terms.ImageTextContrast(ImageTextContrast())
    images = torch.eye(3)[[1, 0, 0]]
    found = term(Features(images[:, None], embedding=images, text_embedding=torch.eye(3)), NO_MASK, batch, alone)
    assert {name: (float(part.value), float(part.count)) for name, part in found.items() if name != "loss"} == {
        "chance_loss": (pytest.approx(3 * math.log(3)), 3.0),
        "image_to_text_accuracy": (2.0, 3.0),
        "text_to_image_accuracy": (2.0, 3.0),
        "identical_negatives": (2.0, 3.0),
        "any_identical_negative": (2.0, 3.0),
        "scale": (pytest.approx(1 / 0.07), 1.0),
    }
    rows = term.list_rows(Features(images[:, None], embedding=images, text_embedding=torch.eye(3)), batch)
    scores = term.score_rows(rows)
    assert scores["image_to_text_recall_1"] == pytest.approx(2 / 3)
    assert scores["image_to_text_recall_5"] == 1.0
    losses = {"views": 1.0, "image_text": 4.0}
    both = {"views": terms.ViewContrast(ViewContrast(temperature=0.1), 6, None), "image_text": term}
    assert compare_losses(both, losses) == {"views/ratio": 0.25}


def test_a_first_loss_far_from_that_of_chance_is_said() -> None:
    """Equal vectors cost ln N under every target; what is left out of the denominator is none of the N (L 1.5)."""
    same = torch.ones(6, 4)
    batch = make_breasts([[(LEFT, CC)]] * 6, facts=[[0], [0], [0], [1], [2], [3]])
    for target, expected in (("onehot", math.log(6)), ("soft", math.log(6)), ("mask", None), ("sigmoid", None)):
        term = terms.ImageTextContrast(ImageTextContrast(target=target))
        found = term(Features(same[:, None], embedding=same, text_embedding=same), NO_MASK, batch, alone)
        sums = {f"image_text/{name}": float(part.value.detach()) for name, part in found.items()}
        sums |= {f"image_text/{name}/count": float(part.count) for name, part in found.items()}
        loss = sums["image_text/loss"] / sums["image_text/loss/count"]
        assert terms.doubt_first_losses({"image_text": loss}, sums) == []
        if expected is not None:
            assert loss == pytest.approx(expected, abs=1e-5)
            (line,) = terms.doubt_first_losses({"image_text": loss + 1.5}, sums)
            assert f"the first loss of image_text is {loss + 1.5:.2f}, and would be about ln N = {loss:.2f}" in line
    assert terms.doubt_first_losses({"reconstruction": 9.0}, {"reconstruction/loss": 9.0}) == []


def test_constant_vectors_retrieve_nothing() -> None:
    same = torch.ones(20, 4)
    scores = terms.score_text_retrieval(same, same, torch.eye(20).bool())
    assert scores["image_to_text_recall_1"] == scores["text_to_image_recall_5"] == 0
    assert scores["image_to_text_median_rank"] == 10.5


def test_the_scale_stays_within_its_limits_and_may_be_shared() -> None:
    objective = build_objective(replace(TINY, terms={**TINY.terms, "views": ViewContrast()}))
    image_text, views, texts = objective.terms.values()
    assert list(views.parameters()) == []
    assert float(views.scale().detach()) == float(image_text.scale().detach()) == pytest.approx(1 / 0.07)
    assert float(texts.scale().detach()) == pytest.approx(2.0)
    with torch.no_grad():
        image_text.own_scale.log.fill_(10.0)
        texts.own_scale.log.fill_(-3.0)
    for term in objective.terms.values():
        term.constrain()
    assert float(views.scale().detach()) == pytest.approx(100.0)
    assert float(texts.scale().detach()) == pytest.approx(1.0)
    names = list(objective.state_dict())
    assert len([name for name in names if name.endswith("own_scale.log")]) == 2


def test_logits_are_in_32_bit_under_autocast() -> None:
    batch = make_mixed()
    features = make_features(batch)
    for term in (
        terms.ImageTextContrast(ImageTextContrast()), terms.ViewContrast(ViewContrast(temperature=0.01), 6, None),
    ):  # fmt: skip
        plain = term(features, NO_MASK, batch, alone)["loss"].value
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(term(features, NO_MASK, batch, alone)["loss"].value, plain)


def build() -> Objective:
    torch.manual_seed(0)
    return build_objective(TINY)


def test_an_untrained_objective_costs_about_ln_n() -> None:
    """L 1.5, in a space of the recipes' width: in few dimensions random vectors are far from orthogonal."""
    config = replace(
        TINY,
        encoder=replace(TINY.encoder, projection=512),
        text_encoder=replace(TINY.text_encoder, projection=512),
        terms={"image_text": ImageTextContrast(), "views": ViewContrast()},
    )
    torch.manual_seed(0)
    objective = build_objective(config).eval()
    batch = make_breasts([[(LEFT, CC), (LEFT, MLO)]] * 16)
    sums = objective(batch, NO_MASK)
    for name, part in sums.items():
        assert float(part["loss"].value.detach() / part["loss"].count) == pytest.approx(math.log(16), abs=0.5), name


def take_gradient(objective: Objective, batch: StudyBatch, totals: dict[str, float], world_size: int) -> Tensor:
    sums = objective(batch, NO_MASK)
    objective.zero_grad()
    weigh(divide_losses(sums, totals, world_size), {"image_text": 1.0, "views": 1.0, "texts": 0.5}).backward()
    return torch.cat([one.grad.flatten() for one in objective.parameters() if one.requires_grad])


PARTS = ([0, 3, 5], [2, 4, 1])


def run_part(rank: int, world_size: int, parts: list[list[int]]) -> dict[str, Tensor]:
    objective = build()
    whole = make_mixed()
    batch = take_breasts(whole, parts[rank]) if parts[rank] else make_empty()
    totals = objective.count(whole)
    sums = objective(batch, NO_MASK)
    values = {name: gather_rows(part["loss"].value.detach()[None]).sum() for name, part in sums.items()}
    gradient = take_gradient(objective, batch, totals, world_size)
    return {"gradient": gather_rows(gradient[None]).mean(0), **values}


def make_empty() -> StudyBatch:
    """A chest among breasts: no pair, no text."""
    batch = make_batch([1], size=64)
    none = make_breasts([[(LEFT, CC)]], texts=[], facts=[])
    return replace(batch, descriptions=none.descriptions)


def test_a_batch_without_breasts_costs_nothing_and_reaches_every_parameter() -> None:
    objective, batch = build(), make_empty()
    assert set(objective.count(batch).values()) == {0.0}
    gradient = take_gradient(objective, batch, objective.count(batch), 1)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("parts", [[list(PARTS[0]), list(PARTS[1])], [[0, 1, 2, 3, 4, 5], []]])
def test_one_process_equals_two(parts: list[list[int]]) -> None:
    """In losses and gradients, also where one process holds no breast at all (1e-5, L 1.6)."""
    objective, batch = build(), make_mixed()
    gradient = take_gradient(objective, batch, objective.count(batch), 1)
    sums = {name: part["loss"].value.detach() for name, part in objective(batch, NO_MASK).items()}
    assert gradient.norm() > 0.1
    for found in run_in_processes(run_part, parts):
        torch.testing.assert_close(found["gradient"], gradient, atol=1e-5, rtol=1e-5)
        for name, value in sums.items():
            torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)


def test_permuting_studies_changes_nothing() -> None:
    objective, batch = build().eval(), make_mixed()
    sums = objective(batch, NO_MASK)
    for order in ([5, 4, 3, 2, 1, 0], [2, 0, 4, 5, 1, 3]):
        again = objective(take_breasts(batch, order), NO_MASK)
        for name, part in sums.items():
            torch.testing.assert_close(again[name]["loss"].value, part["loss"].value, atol=1e-5, rtol=1e-5)


def test_gradient_caching_of_the_whole_objective() -> None:
    """The contrast sees all breasts, whatever is computed at a time."""
    batch = make_mixed()
    gradients = []
    for chunk in (None, 2, 1):
        torch.manual_seed(0)
        objective = build_objective(replace(TINY, encoder=replace(TINY.encoder, chunk=chunk)))
        gradients.append(take_gradient(objective, batch, objective.count(batch), 1))
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradients[2], gradients[0], atol=1e-5, rtol=1e-4)
