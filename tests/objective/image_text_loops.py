"""MV-MLM's losses as slow loops, written from the specification (L 1.5) over lists of breasts."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hilum.batch import StudyBatch


class Breast(NamedTuple):
    patient: int
    views: dict[int, Tensor]  # unit vector by kind
    texts: list[Tensor]
    facts: list[frozenset[int]]
    keys: list[int]
    single_view: bool


def list_breasts(batch: StudyBatch, images: Tensor, texts: Tensor) -> list[Breast]:
    """Every (study, laterality) that has a CC or MLO view."""
    found: dict[tuple[int, int], dict[int, Tensor]] = {}
    for view in range(batch.num_views):
        if int(batch.view_kind[view]) in (3, 4):
            own = found.setdefault((int(batch.study[view]), int(batch.laterality[view])), {})
            own.setdefault(int(batch.view_kind[view]), images[view] / images[view].norm())
    breasts = []
    about = batch.descriptions
    for (study, side), views in sorted(found.items(), key=lambda item: item[0]):
        rows = [
            row for row in range(len(about.owner))
            if int(about.owner[row]) == study and int(about.laterality[row]) in (0, side)
        ]  # fmt: skip
        breasts.append(Breast(
            int(batch.patient[study]), views, [texts[row] / texts[row].norm() for row in rows],
            [frozenset(about.facts[row].nonzero()[:, 0].tolist()) for row in rows],
            [int(about.key[row]) for row in rows],
            bool(rows) and bool(about.single_view[rows[0]]),
        ))  # fmt: skip
    return breasts


def compare(one: Breast, other: Breast, number: int, self: bool) -> float:
    """Jaccard index of the facts of two texts; without any facts, whether the text is the same."""
    facts = [breast.facts[min(number, len(breast.facts) - 1)] for breast in (one, other)]
    keys = [breast.keys[min(number, len(breast.keys) - 1)] for breast in (one, other)]
    if self:
        return 1.0
    if not facts[0] | facts[1]:
        return float(keys[0] == keys[1])
    return len(facts[0] & facts[1]) / len(facts[0] | facts[1])


def cross_entropy(anchor: Tensor, candidates: list[Tensor], shares: list[float], scale: float) -> Tensor:
    total = torch.stack([scale * (anchor @ one) for one in candidates]).exp().sum()
    wanted = zip(candidates, shares, strict=True)
    return -torch.stack([share * torch.log((scale * (anchor @ one)).exp() / total) for one, share in wanted]).sum()


def contrast(
    firsts: list[Tensor],
    seconds: list[Tensor],
    breasts: list[Breast],
    scale: float,
    target: str = "onehot",
    power: float = 1.0,
    number: int = 0,
) -> list[Tensor]:
    """NCE of each pair against breasts of other patients."""
    items = []
    for me, breast in enumerate(breasts):
        mass: dict[int, float] = {}
        for other, them in enumerate(breasts):
            if other != me and them.patient == breast.patient:
                continue
            alike = compare(breast, them, number, other == me) if target in ("soft", "mask") else float(other == me)
            if target == "mask" and other != me and alike == 1:
                continue
            mass[other] = alike**power if target == "soft" else float(other == me)
        shares = [value / sum(mass.values()) for value in mass.values()]
        forth = cross_entropy(firsts[me], [seconds[other] for other in mass], shares, scale)
        back = cross_entropy(seconds[me], [firsts[other] for other in mass], shares, scale)
        items.append((forth + back) / 2)
    return items


def measure_image_text(breasts: list[Breast], scale: float, target: str, power: float, num_texts: int) -> list[Tensor]:
    items = []
    for kind in (3, 4):
        for number in range(num_texts):
            chosen = [breast for breast in breasts if kind in breast.views and breast.texts]
            images = [breast.views[kind] for breast in chosen]
            texts = [breast.texts[min(number, len(breast.texts) - 1)] for breast in chosen]
            items += contrast(images, texts, chosen, scale, target, power, number)
    return items


def measure_sigmoid(breasts: list[Breast], scale: float, bias: float) -> list[Tensor]:
    items = []
    for kind in (3, 4):
        chosen = [breast for breast in breasts if kind in breast.views and breast.texts]
        for me, breast in enumerate(chosen):
            loss = torch.zeros(())
            for other, them in enumerate(chosen):
                if other != me and them.patient == breast.patient:
                    continue
                sign = 1 if compare(breast, them, 0, other == me) == 1 else -1
                score = sign * (scale * (breast.views[kind] @ them.texts[0]) + bias)
                loss = loss - math.log(1 / (1 + math.exp(-float(score))))
            items.append(loss)
    return items


def measure_views(breasts: list[Breast], scale: float, single_view_weight: float) -> tuple[Tensor, float]:
    """Weighted sum, and sum of weights."""
    chosen = [breast for breast in breasts if len(breast.views) == 2]
    items = contrast([one.views[4] for one in chosen], [one.views[3] for one in chosen], chosen, scale)
    weights = [single_view_weight if one.single_view else 1.0 for one in chosen]
    weighted = [weight * item for weight, item in zip(weights, items, strict=True)]
    return torch.stack(weighted).sum(), sum(weights)
