"""The whole objective: what permuting, adding and splitting studies may change, which is nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from every_term import BATCH_TERMS, CONFIG, build, list_trained, make_teachers
from torch.nn.parallel import DistributedDataParallel

from batches import make_batch, take_studies
from hilum.batch import StudyBatch
from hilum.config import DataConfig, TeachersConfig, TextConfig, VarianceCovariance, find_batch_terms
from hilum.errors import UserError
from hilum.model.masking import draw_masks
from hilum.objective.balance import average_over_processes, flatten_gradient
from hilum.objective.contrast import measure_contrast
from hilum.objective.gather import gather_rows
from hilum.objective.objective import Objective, build_objective, divide_losses, weigh
from hilum.recipes import RECIPES, build_recipe
from hilum.training.effects import check_effects
from two_processes import run_in_processes

VIEWS, PATIENTS = [2, 1, 3, 1, 1], [0, 1, 2, 3, 0]
# Studies 0, 2 and 4 have a report; one of them is cut at the length limit of 8 tokens.
WORDS = [[5, 6], None, [7, 8, 9, 10, 11, 12], None, [13]]
# Studies 0 and 4, of one patient, have an ECG, and 1; 0 and 2 have laboratory values; 3 has neither.
TEACHERS = make_teachers(ecg=[0, 1, 4], labs=[0, 2])
BATCH = make_batch(VIEWS, patient=PATIENTS, words=WORDS, vectors=TEACHERS)


def measure(objective: torch.nn.Module, batch: StudyBatch):
    mask = draw_masks(batch, num_patches=16, ratio=0.75, sharing="positions", seed=3)
    return objective(batch, mask)


def evaluate(objective: Objective, batch: StudyBatch) -> dict[str, float]:
    losses = divide_losses(measure(objective, batch), objective.count(batch), world_size=1)
    return {name: float(loss.detach()) for name, loss in losses.items()}


def test_settings_are_consistent_and_every_recipe_builds() -> None:
    check_effects(CONFIG)
    for preset in ("paper", "code", "hilum"):
        for recipe in RECIPES:
            if preset == "code" and "clip" in recipe:
                continue  # there is no released code of MV-MLM: test_mv_clip_recipes.py
            for size in ("nano", "tiny"):
                config = build_recipe(recipe, preset, size)
                check_effects(config)
                objective = build_objective(config)
                assert list(objective.terms) == list(config.terms)


def test_slots_are_three() -> None:
    with pytest.raises(UserError, match=r"three slots a study: set data\.max_views=3 \(found 4\)"):
        check_effects(replace(CONFIG, data=DataConfig(max_views=4)))


def test_a_guard_must_watch_an_alignment() -> None:
    terms = {"views": CONFIG.terms["views"], "guard": VarianceCovariance(of="views")}
    with pytest.raises(UserError, match=r"terms\.guard\.of=views is not a pooled alignment"):
        check_effects(replace(CONFIG, terms=terms, text=TextConfig(), teachers=TeachersConfig()))
    terms = {**CONFIG.terms, "guard": VarianceCovariance(of="pairs", feature="class")}
    with pytest.raises(UserError, match=r"terms\.guard\.feature has no effect"):
        check_effects(replace(CONFIG, terms=terms))


def test_guard_shares_the_projector_it_watches_without_owning_it() -> None:
    objective = build()
    names = [name for name, _ in objective.named_parameters() if "guard" in name]
    assert names == []
    losses = divide_losses(measure(objective, BATCH), objective.count(BATCH), world_size=1)
    losses["guard"].backward()
    assert float(objective.terms["pairs"].projector[0].weight.grad.abs().sum()) > 0


def test_counts_are_known_before_anything_is_computed() -> None:
    expected = {
        "views": 8,
        "others": 8,
        "studies": 5,
        "slots": 5,
        "tokens": 2,
        "pairs": 8,
        "pair_slots": 5,
        "contrast": 8,
    }
    objective = build()
    taught = {"taught": 5, "told": 5, "vectors": 5, "places": 3, "kept": 8, "looks": 8, "seen": 8, "glimpsed": 5}
    assert objective.count(BATCH) == {**expected, "spread": 8, "guard": 8, "reports": 3, **taught}
    sums = measure(objective, BATCH)
    assert {name: float(parts["loss"].count) for name, parts in sums.items()} == objective.count(BATCH)


def test_order_of_studies_changes_nothing() -> None:
    objective = build()
    turned = evaluate(objective, take_studies(BATCH, [3, 2, 4, 0, 1]))
    assert turned == pytest.approx(evaluate(objective, BATCH), abs=1e-6)


def test_order_of_the_views_of_a_study_changes_nothing() -> None:
    objective = build()
    mask = draw_masks(BATCH, num_patches=16, ratio=0.75, sharing="positions", seed=3)
    order = torch.tensor([1, 0, 2, 5, 3, 4, 6, 7])
    turned = replace(BATCH, pixels=BATCH.pixels[order], view_kind=BATCH.view_kind[order])
    turned_mask = type(mask)(mask.visible[order], mask.masked[order])
    first = divide_losses(objective(BATCH, mask), objective.count(BATCH), 1)
    second = divide_losses(objective(turned, turned_mask), objective.count(turned), 1)
    for name, loss in first.items():
        torch.testing.assert_close(second[name], loss, atol=1e-6, rtol=1e-6)


def test_another_study_changes_no_features_and_single_views_no_alignment() -> None:
    objective = build()
    more = make_batch([*VIEWS, 1, 1], patient=[*PATIENTS, 7, 8], words=[*WORDS, None, None], vectors=TEACHERS)
    more = replace(more, pixels=torch.cat([BATCH.pixels, torch.randn(2, 1, 32, 32)]))

    def encode(batch: StudyBatch) -> torch.Tensor:
        mask = draw_masks(batch, num_patches=16, ratio=0.75, sharing="positions", seed=3)
        passes = objective.encode(batch, mask)
        return torch.cat([passes.get(whole=whole).tokens for whole in (False, True)], dim=1)

    torch.testing.assert_close(encode(more)[:8], encode(BATCH), atol=1e-6, rtol=1e-6)
    before, after = evaluate(objective, BATCH), evaluate(objective, more)
    for name in ("tokens", "pairs", "reports", "taught", "told", "vectors", "places", "glimpsed"):
        assert after[name] == pytest.approx(before[name], abs=1e-6)
    assert after["pair_slots"] == pytest.approx(before["pair_slots"] * 5 / 7, rel=1e-5)


def test_weights_multiply_and_zero_still_reaches_everything() -> None:
    objective = build()
    losses = divide_losses(measure(objective, BATCH), objective.count(BATCH), world_size=1)
    weights = dict.fromkeys(losses, 0.0) | {"views": 2.0, "pairs": 0.5}
    total = weigh(losses, weights)
    torch.testing.assert_close(total, 2 * losses["views"] + 0.5 * losses["pairs"])
    total.backward()
    assert [name for name, value in objective.named_parameters() if value.grad is None and value.requires_grad] == []
    assert not any(value.requires_grad for name, value in objective.named_parameters() if ".start." in name)


def test_micro_batches_add_up_where_views_are_not_compared_across_studies() -> None:
    objective = build()
    names = [name for name in CONFIG.terms if name not in BATCH_TERMS]
    parts = [take_studies(BATCH, [0, 3]), take_studies(BATCH, [1, 2, 4])]
    counts = {name: sum(objective.count(part)[name] for part in parts) for name in names}
    whole = evaluate(objective, BATCH)
    for name in names:
        added = sum(float(measure(objective, part)[name]["loss"].value.detach()) for part in parts)
        assert added / counts[name] == pytest.approx(whole[name], rel=1e-5)


def test_terms_that_compare_views_across_studies_see_a_part_at_a_time() -> None:
    """Why `optim.accumulate` is a part of the objective where there is one of them."""
    assert find_batch_terms(CONFIG) == BATCH_TERMS
    objective = build()
    parts = [take_studies(BATCH, [0, 3]), take_studies(BATCH, [1, 2, 4])]
    whole = evaluate(objective, BATCH)
    own = [evaluate(objective, part) for part in parts]
    for name in find_batch_terms(CONFIG):
        counts = [objective.count(part)[name] for part in parts]
        added = sum(float(measure(objective, part)[name]["loss"].value.detach()) for part in parts) / sum(counts)
        assert added == pytest.approx(sum(c * one[name] for c, one in zip(counts, own, strict=True)) / sum(counts))
        assert abs(added / whole[name] - 1) > 0.01


# Studies of each process: both with pairs and unequal; and the second without any pair, and without a report.
DEALS = {"both with pairs": [[0, 1, 4], [2, 3]], "one without a pair": [[0, 2, 4], [1, 3]]}


def train_part(rank: int, world_size: int) -> dict[str, Any]:
    """One process's part of a step for every deal, and the exact InfoNCE numbers across processes."""
    objective = build()
    found: dict[str, Any] = {}
    for deal, parts in DEALS.items():
        batch = take_studies(BATCH, parts[rank])
        counts = torch.tensor(list(objective.count(batch).values()))
        dist.all_reduce(counts)
        global_counts = dict(zip(CONFIG.terms, counts.tolist(), strict=True))
        losses = divide_losses(measure(objective, batch), global_counts, world_size)
        gradients = {
            name: average_over_processes(flatten_gradient(loss, list_trained(objective)))
            for name, loss in losses.items()
        }
        wrapped = DistributedDataParallel(objective)
        weigh(divide_losses(measure(wrapped, batch), global_counts, world_size), dict.fromkeys(losses, 1.0)).backward()
        total = torch.cat([parameter.grad.flatten() for parameter in list_trained(objective)])
        objective.zero_grad()
        values = {name: float(loss.detach()) / world_size for name, loss in losses.items()}
        found[deal] = {"values": values, "gradients": gradients, "total": total}
    for studies in (2, 4):
        mine = torch.arange(studies)[rank * studies // 2 : (rank + 1) * studies // 2].repeat_interleave(2)
        found[f"simclr {studies}"] = contrast_orthonormal(mine, studies)
    return found


def contrast_orthonormal(mine: torch.Tensor, studies: int) -> tuple[torch.Tensor, torch.Tensor]:
    """InfoNCE items of this process's studies, two equal views each, and the gradient on its rows."""
    vectors = torch.eye(studies)[mine].requires_grad_()
    pairs = ((mine[:, None] == mine[None, :]) & ~torch.eye(len(mine), dtype=torch.bool)).nonzero().T
    items = measure_contrast(vectors, mine, pairs, gather_rows(vectors), gather_rows(mine), 0.5)
    items.sum().backward()
    return items.detach(), vectors.grad


@pytest.fixture(scope="module")
def processes() -> list[dict[str, Any]]:
    return run_in_processes(train_part)


@pytest.mark.parametrize("deal", DEALS)
@pytest.mark.parametrize("name", CONFIG.terms)
def test_two_processes_are_one_in_value_and_gradient(processes: list[dict[str, Any]], deal: str, name: str) -> None:
    objective = build()
    loss = divide_losses(measure(objective, BATCH), objective.count(BATCH), world_size=1)[name]
    gradient = flatten_gradient(loss, list_trained(objective))
    parts = [process[deal] for process in processes]
    assert sum(part["values"][name] for part in parts) == pytest.approx(float(loss.detach()), rel=1e-5)
    for part in parts:
        torch.testing.assert_close(part["gradients"][name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("deal", DEALS)
def test_a_wrapped_step_of_two_processes_is_one_process_s(processes: list[dict[str, Any]], deal: str) -> None:
    objective = build()
    losses = divide_losses(measure(objective, BATCH), objective.count(BATCH), world_size=1)
    weigh(losses, dict.fromkeys(losses, 1.0)).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in list_trained(objective)])
    for process in processes:
        torch.testing.assert_close(process[deal]["total"], expected, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize(("studies", "expected"), [(2, 0.239545), (4, 0.594437)])
def test_simclrs_numbers_hold_across_processes(processes: list[dict[str, Any]], studies: int, expected: float) -> None:
    items, gradient = contrast_orthonormal(torch.arange(studies).repeat_interleave(2), studies)
    found = [process[f"simclr {studies}"] for process in processes]
    torch.testing.assert_close(torch.cat([part[0] for part in found]), items)
    torch.testing.assert_close(torch.cat([part[1] for part in found]), gradient)
    assert items.tolist() == pytest.approx([expected] * 2 * studies, abs=1e-6)
