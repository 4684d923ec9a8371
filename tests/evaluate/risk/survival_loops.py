"""Survival metrics as plain loops over pairs and times, written from their definitions (L 3.5)."""

from __future__ import annotations

import math


def loop_survival(years, event, at, *, censoring=False, before=False):
    """Kaplan-Meier at a time, or just before it: of the event, or of follow-up (events at a time come first)."""
    share = 1.0
    for t in sorted(set(years)):
        if t > at or (before and t == at):
            break
        at_risk = sum(y >= t for y in years)
        events = sum(y == t and e for y, e in zip(years, event, strict=True))
        left = sum(y == t and not e for y, e in zip(years, event, strict=True))
        if censoring:
            share *= 1 - left / (at_risk - events) if left else 1
        else:
            share *= 1 - events / at_risk
    return share


def loop_concordance(score, years, event, *, earlier=None, later=None, until=math.inf):
    """C over all ordered pairs. `score(i, t)` is the score of i for the time t; weights are not yet squared."""
    hits = pairs = 0.0
    for i in range(len(years)):
        if not event[i] or years[i] >= until:
            continue
        for j in range(len(years)):
            if i == j or not (years[i] < years[j] or (years[i] == years[j] and not event[j])):
                continue
            weight = (earlier[i] if earlier is not None else 1.0) ** 2 * (later[j] if later is not None else 1.0) ** 2
            own, other = score(i, years[i]), score(j, years[i])
            hits += weight * (1.0 if own > other else 0.5 if own == other else 0.0)
            pairs += weight
    return hits / pairs


def loop_auc(score, years, event, horizon, weight=None):
    """AUC(h) of cases before h against those known to be free until h; `weight` of the cases."""
    hits = pairs = 0.0
    for i in range(len(years)):
        if not (event[i] and years[i] < horizon):
            continue
        for j in range(len(years)):
            if years[j] >= horizon:
                one = 1.0 if weight is None else weight[i]
                hits += one * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0)
                pairs += one
    return hits / pairs


def loop_brier(risk, years, event, horizon, weight, weight_end):
    """IPCW Brier error of the risk until h."""
    total = 0.0
    for i in range(len(years)):
        if event[i] and years[i] < horizon:
            total += weight[i] * (1 - risk[i]) ** 2
        elif years[i] >= horizon:
            total += weight_end * risk[i] ** 2
    return total / len(years)


def loop_mirai(risk, years, event, train_years, train_event):
    """C as Mirai's released code has it: times are places among the horizons, risks and the weight are at the later."""

    def place(year, sick):
        last = risk.shape[1]
        return (int(year), True) if sick and year < last else (min(int(year), last) - 1, False)

    train = [place(*one) for one in zip(train_years, train_event, strict=True)]
    times, sick = zip(*(one for one in train if one[0] >= 0), strict=True)
    hits = pairs = 0.0
    for i in range(len(years)):
        for j in range(len(years)):
            (first, came), (second, came_too) = place(years[i], event[i]), place(years[j], event[j])
            if not came or second < 0 or not (first < second or (first == second and not came_too)):
                continue
            free = loop_survival(times, sick, second)
            weight = 1 / free**2 if free else 0.0
            own, other = risk[i, second], risk[j, second]
            hits += weight * (1.0 if own > other else 0.5 if own == other else 0.0)
            pairs += weight
    return hits / pairs
