"""Packed views are a padded model with the absent slots masked out (M 8-19): losses, gradients and logits.

The padded model is written here: every study has three slots, an absent one holds a dummy image tagged frontal that
goes through encoder and decoder like the rest, and every mean, pair, negative and spread is masked by availability.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from every_term import CONFIG, build, list_trained, make_teachers
from torch import Tensor

from batches import make_batch
from hilum.batch import StudyBatch
from hilum.evaluate.finetune.classifier import StudyClassifier
from hilum.model.encoder import Features
from hilum.model.heads import pool_tokens, read_tokens
from hilum.model.masking import Mask, draw_masks, take_patches
from hilum.model.report_decoder import Memory
from hilum.objective.balance import flatten_gradient
from hilum.objective.captioning import Captioning
from hilum.objective.image_contrast import ImageContrast
from hilum.objective.objective import Objective, divide_losses
from hilum.objective.preservation import FeaturePreservation
from hilum.objective.reconstruction import Reconstruction, list_sources, normalize_patches
from hilum.objective.teachers import TeacherContrast, TeacherRegression

SLOTS = 3
BATCH = make_batch(
    [2, 1, 3, 1],
    patient=[0, 1, 2, 0],
    words=[[5, 6], None, [7, 8, 9, 10, 11, 12], [13]],
    vectors=make_teachers(ecg=[0, 2, 3], labs=[0, 1]),
)
NUM_STUDIES = 4


def draw(batch: StudyBatch) -> Mask:
    return draw_masks(batch, num_patches=16, ratio=CONFIG.mask.ratio, sharing=CONFIG.mask.sharing, seed=3)


class Padded:
    """The batch in slots: rows 3 i to 3 i + 2 are study i's; `available` (study slot) is 1 where a view exists."""

    def __init__(self, batch: StudyBatch, mask: Mask, filler: str) -> None:
        place = SLOTS * batch.study + batch.view_index()
        num = SLOTS * batch.num_studies
        dummy = torch.zeros if filler == "black" else partial(torch.randn, generator=torch.Generator().manual_seed(7))
        self.pixels = dummy((num, 1, 32, 32)).index_copy(0, place, batch.pixels)
        self.kind = torch.zeros(num, dtype=torch.int64).index_copy(0, place, batch.view_kind)
        self.available = torch.zeros(num).index_fill(0, place, 1.0).unflatten(0, (-1, SLOTS))
        order = torch.arange(16).expand(num, -1)
        visible, masked = mask.visible.shape[1], mask.masked.shape[1]
        self.mask = Mask(
            order[:, :visible].index_copy(0, place, mask.visible), order[:, -masked:].index_copy(0, place, mask.masked)
        )
        self.patient = batch.patient.repeat_interleave(SLOTS)
        both = self.available[:, :, None] * self.available[:, None, :]
        self.pairs = both * (1 - torch.eye(SLOTS))  # study, slot, slot


def list_slots_read(padded: Padded) -> Tensor:
    """Cross-view reconstruction in slots: each reads itself and, in the studies drawn for it, the others that exist."""
    drawn = set(BATCH.study[list_sources(BATCH, 0.5, CONFIG.seed)[:, 1] >= 0].tolist())
    assert 0 < len(drawn) < 2, "of the two studies with pairs one is drawn"
    rows = []
    for slot, study in ((slot, slot // SLOTS) for slot in range(SLOTS * NUM_STUDIES)):
        there = (padded.available[study] > 0).nonzero()[:, 0] + SLOTS * study
        others = [other for other in there.tolist() if other != slot and study in drawn]
        rows.append([slot, *others, -1, -1][:SLOTS])
    return torch.tensor(rows)


def reconstruct(term: Reconstruction, features: Features, padded: Padded, sources: Tensor | None = None) -> Tensor:
    prediction = term.decoder(features, padded.mask, padded.kind, sources=sources)
    target = take_patches(padded.pixels, prediction.patches, 8)
    target = normalize_patches(target) if term.normalize_patches else target
    error = (prediction.pixels - target).square().mean(dim=(1, 2)).unflatten(0, (-1, SLOTS)) * padded.available
    if term.average == "view":
        return error.sum() / padded.available.sum()
    if term.average == "study":
        return (error.sum(dim=1) / padded.available.sum(dim=1)).mean()
    return (error * (12 / 16) / 0.75).mean()  # three slots, present or not


def compare_slots(values: Tensor) -> Tensor:
    """Mean over what is behind study and slot of the squared difference of slots: (study slot slot)."""
    values = values.unflatten(0, (-1, SLOTS)).flatten(2)
    return (values[:, :, None] - values[:, None, :]).square().mean(dim=3)


def contrast(vectors: Tensor, padded: Padded, temperature: float) -> Tensor:
    unit, here = F.normalize(vectors, dim=1), padded.available.flatten()
    scores = unit @ unit.T / temperature
    negative = (padded.patient[:, None] != padded.patient[None, :]) * here[None, :]
    against = (scores.exp() * negative).sum(dim=1)
    positive = scores.exp().reshape(NUM_STUDIES, SLOTS, NUM_STUDIES, SLOTS).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    items = -(positive / (positive + against.unflatten(0, (-1, SLOTS))[:, :, None])).log()
    return (items * padded.pairs).sum() / padded.pairs.sum()


def spread(vectors: Tensor, padded: Padded) -> Tensor:
    here = padded.available.flatten()[:, None]
    num, dim = here.sum(), vectors.shape[1]
    centred = (vectors - (vectors * here).sum(dim=0) / num) * here
    covariance = centred.T @ centred / (num - 1)
    variance = F.relu(1 - (covariance.diagonal() + 1e-4).sqrt()).mean()
    off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
    return variance + 0.04 * off_diagonal / dim


def caption(term: Captioning, features: Features, padded: Padded) -> Tensor:
    """Every study has a row of 8 predicted tokens, an absent report one of zeros that is masked out."""
    placed = term.decoder.place(features.tokens, padded.mask.visible, padded.kind)
    memory = Memory(
        placed.unflatten(0, (-1, SLOTS)).flatten(1, 2), padded.available.repeat_interleave(placed.shape[1], dim=1) > 0
    )
    texts = torch.zeros(NUM_STUDIES, 9, dtype=torch.int64)
    texts[BATCH.texts.owner, : BATCH.texts.tokens.shape[1]] = BATCH.texts.tokens
    hides = torch.zeros(NUM_STUDIES, dtype=torch.bool)
    hides[BATCH.texts.owner] = term._draw_parallel(BATCH)
    assert 0 < hides.sum() < len(BATCH.texts.owner)  # both ways are compared
    word_by_word, at_once = term.decoder(texts[:, :-1], memory), term.decoder.predict_at_once(8, memory)
    scores = torch.where(hides[:, None, None], at_once, word_by_word) @ term.decoder.words.T
    here = texts[:, 1:] > 0
    losses = F.cross_entropy(scores.transpose(1, 2), texts[:, 1:], reduction="none") * here
    return (losses.sum(dim=1) / here.sum(dim=1).clamp(min=1)).sum() / here.any(dim=1).sum()


def pad_vectors(name: str) -> tuple[Tensor, Tensor]:
    """A teacher's vector for every study, noise where it has none, and 1 where it has one."""
    vectors = BATCH.vectors[name]
    noise = torch.randn(NUM_STUDIES, vectors.values.shape[1], generator=torch.Generator().manual_seed(9))
    return noise.index_copy(0, vectors.owner, vectors.values), torch.zeros(NUM_STUDIES).index_fill(0, vectors.owner, 1)


def pool_slots(views: Tensor, padded: Padded) -> Tensor:
    """Mean over the views that a study has."""
    here = padded.available[:, :, None]
    return (views.unflatten(0, (-1, SLOTS)) * here).sum(dim=1) / here.sum(dim=1)


def contrast_teachers(term: TeacherContrast, features: Features, padded: Padded) -> Tensor:
    total, count = torch.zeros(()), torch.zeros(())
    student = F.normalize(
        term.student_head(pool_slots(read_tokens(features.tokens, term.feature), padded)), dim=1
    )  # fmt: skip
    patient = BATCH.patient
    for place, name in enumerate(("ecg", "labs")):
        values, here = pad_vectors(name)
        teacher = F.normalize(term.teacher_heads[f"from_{name}"](values), dim=1)
        scores = term.log_scale[place if len(term.log_scale) > 1 else 0].exp() * student @ teacher.T
        compared = here[None, :].expand(NUM_STUDIES, -1)
        if term.masks_patient:
            compared = compared * ((patient[:, None] != patient[None, :]) | torch.eye(NUM_STUDIES, dtype=torch.bool))
        for direction in (scores, scores.T):
            log_share = direction - (direction.exp() * compared).sum(dim=1, keepdim=True).log()
            smooth = (log_share * compared).sum(dim=1) / compared.sum(dim=1)
            items = -(1 - term.label_smoothing) * log_share.diagonal() - term.label_smoothing * smooth
            total = total + (items * here).sum() / 2
        count = count + here.sum()
    return total / count


def contrast_looks(term: ImageContrast, features: Features, padded: Padded) -> Tensor:
    vectors = F.normalize(term.head(read_tokens(features.tokens, term.feature)), dim=1)
    scores, here = term.log_scale[0].exp() * vectors @ vectors.T, padded.available.flatten()
    owner = padded.patient if term.masks_patient else torch.arange(NUM_STUDIES).repeat_interleave(SLOTS)
    negative = (owner[:, None] != owner[None, :]) * here[None, :]
    total = torch.zeros(())
    for u, v in (both for both in torch.cartesian_prod(*[torch.arange(len(here))] * 2).tolist()):
        if u != v and u // SLOTS == v // SLOTS and here[u] * here[v]:
            among = negative[u].index_fill(0, torch.tensor([v]), 1.0)
            log_share = scores[u] - (scores[u].exp() * among).sum().log()
            evenly = (log_share * among).sum() / among.sum()
            total = total - (1 - term.label_smoothing) * log_share[v] - term.label_smoothing * evenly
    return total / padded.pairs.sum()


def regress_teachers(term: TeacherRegression, features: Features, padded: Padded) -> Tensor:
    total, count = torch.zeros(()), torch.zeros(())
    for name in term.teachers:
        if term.feature == "patches":
            views = term.pools[f"for_{name}"](features.tokens[:, 1:])
        else:
            views = read_tokens(features.tokens, term.feature)
        values, here = pad_vectors(name)
        prediction = F.normalize(term.heads[f"to_{name}"](pool_slots(views, padded)), dim=1)
        error = 1 - (prediction * F.normalize(values, dim=1)).sum(dim=1)
        total, count = total + (error * here).sum(), count + here.sum()
    return total / count


def keep(term: FeaturePreservation, features: Features, padded: Padded) -> Tensor:
    start = term.start.encode(padded.pixels, padded.kind).tokens[:, 1:]
    drift = 1 - F.cosine_similarity(features.tokens[:, 1:], start, dim=2).mean(dim=1)
    return (drift * padded.available.flatten()).sum() / padded.available.sum()


def measure_padded(objective: Objective, padded: Padded) -> dict[str, Tensor]:
    features = objective.encoder.encode(padded.pixels, padded.kind, padded.mask, return_layers=True)
    whole = objective.encoder.encode(padded.pixels, padded.kind)
    pairs, terms = padded.pairs, objective.terms
    chord = compare_slots(F.normalize(terms["pairs"].read_vectors(features), dim=1)) * 8  # of 8 dimensions
    slots = compare_slots(F.normalize(pool_tokens(features, "all"), dim=1))
    by_study = (compare_slots(features.tokens) * pairs).sum(dim=(1, 2))
    has_pairs = pairs.sum(dim=(1, 2)) > 0
    return {
        "views": reconstruct(terms["views"], features, padded),
        "others": reconstruct(terms["others"], features, padded, list_slots_read(padded)),
        "studies": reconstruct(terms["studies"], features, padded),
        "slots": reconstruct(terms["slots"], features, padded),
        "tokens": (by_study[has_pairs] / pairs.sum(dim=(1, 2))[has_pairs]).mean(),
        "pairs": (chord / 2 * pairs).sum() / pairs.sum(),
        "pair_slots": (slots * pairs / SLOTS**2).sum() / NUM_STUDIES,
        "contrast": contrast(terms["contrast"].projector(pool_tokens(features, "mean")), padded, 0.1),
        "spread": spread(pool_tokens(features, "class"), padded),
        "guard": spread(F.normalize(terms["pairs"].read_vectors(features), dim=1) * math.sqrt(8), padded),
        "reports": caption(terms["reports"], features, padded),
        "taught": contrast_teachers(terms["taught"], whole, padded),
        "told": contrast_teachers(terms["told"], whole, padded),
        "vectors": regress_teachers(terms["vectors"], whole, padded),
        "places": regress_teachers(terms["places"], whole, padded),
        "kept": keep(terms["kept"], whole, padded),
        "looks": contrast_looks(terms["looks"], whole, padded),
        "seen": contrast_looks(terms["seen"], features, padded),
        "glimpsed": regress_teachers(terms["glimpsed"], features, padded),
    }


@pytest.mark.parametrize("filler", ["black", "noise"])
def test_packed_views_are_a_padded_model_with_absent_slots_masked_out(filler: str) -> None:
    objective = build()
    mask = draw(BATCH)
    packed = divide_losses(objective(BATCH, mask), objective.count(BATCH), world_size=1)
    padded = measure_padded(objective, Padded(BATCH, mask, filler))
    assert list(padded) == list(packed) == list(CONFIG.terms)
    for name, loss in packed.items():
        torch.testing.assert_close(padded[name], loss, rtol=1e-5, atol=1e-6, msg=name)
        gradients = (flatten_gradient(one, list_trained(objective)) for one in (padded[name], loss))
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("filler", ["black", "noise"])
def test_logits_of_packed_studies_are_those_of_padded_ones(filler: str) -> None:
    torch.manual_seed(0)
    classifier = StudyClassifier(build().encoder, 5, "both").eval()
    padded = Padded(BATCH, draw(BATCH), filler)
    tokens = classifier.encoder.encode(padded.pixels, padded.kind).tokens
    of_slots = classifier.head(torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)).unflatten(0, (-1, SLOTS))
    here = padded.available[:, :, None]
    expected, found = (of_slots * here).sum(dim=1) / here.sum(dim=1), classifier(BATCH)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    targets = torch.tensor([[1.0, 0, 0, 1, 0]]).expand(NUM_STUDIES, -1)
    losses = [F.binary_cross_entropy_with_logits(logit, targets) for logit in (found, expected)]
    gradients = [flatten_gradient(loss, classifier.parameters()) for loss in losses]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_the_views_of_a_study_in_another_order_have_the_same_gradients_in_that_order() -> None:
    objective = build()
    order = torch.tensor([1, 0, 2, 5, 3, 4, 6])  # within studies of 2, 1, 3 and 1 views
    mask = draw(BATCH)
    turned_mask = Mask(mask.visible[order], mask.masked[order])
    parameters = list_trained(objective)
    found = []
    for views, drawn in ((torch.arange(7), mask), (order, turned_mask)):
        pixels = BATCH.pixels[views].requires_grad_()
        batch = replace(BATCH, pixels=pixels, view_kind=BATCH.view_kind[views])
        losses = divide_losses(objective(batch, drawn), objective.count(batch), world_size=1)
        found.append({
            name: (
                loss.detach(),
                flatten_gradient(loss, parameters),
                torch.autograd.grad(loss, pixels, retain_graph=True)[0],
            )
            for name, loss in losses.items()
        })  # fmt: skip
    for name, (loss, of_parameters, of_pixels) in found[0].items():
        turned = found[1][name]
        torch.testing.assert_close(turned[0], loss, rtol=1e-5, atol=1e-6, msg=name)
        torch.testing.assert_close(turned[1], of_parameters, rtol=1e-4, atol=1e-6, msg=name)
        torch.testing.assert_close(turned[2], of_pixels[order], rtol=1e-4, atol=1e-7, msg=name)
        assert float(of_pixels.abs().sum()) > 0
