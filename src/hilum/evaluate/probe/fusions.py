"""Other ways of making one answer of a study's views than the mean of their logits, side by side (M 7.3 L)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hilum.evaluate.fusion import fit_temperatures, fuse_views, scale_views
from hilum.evaluate.heads.linear import LinearProbe
from hilum.evaluate.rows import Rows
from hilum.keyed_random import draw_order

from .gate import fit_gate

_MOST_STUDIES = 5000  # that a gate is trained on


def score_fusions(
    probe: LinearProbe, train: Rows, val: Rows, test: Rows, *, seed: int = 0
) -> dict[str, Float[Tensor, "row finding"]]:
    """What the fitted head says of test studies where their views are fused in another way than the head's own.

    mean_probability: mean of probabilities. temperature: mean of logits, each by the temperature of its kind of view,
    fitted on validation. gated: `gate.py`, fitted on training and stopped on validation. Nothing where no study has two
    views.
    """

    def read(rows: Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return probe.standardize(rows.features), probe.score_views(rows.features), rows.owner, rows.target

    several = (torch.bincount(train.owner, minlength=len(train)) > 1).numpy()
    if not several.any() or not bool((torch.bincount(test.owner) > 1).any()):
        return {}
    # Drawn, for rows are in the order of the archives.
    drawn = np.flatnonzero(several)[draw_order("gate", seed, num=int(several.sum()))[:_MOST_STUDIES]]
    part = train.take(np.isin(np.arange(len(train)), drawn))
    shown_val, shown_test = read(val), read(test)
    prior = probe.intercept  # what the head says of the average view
    temperature = fit_temperatures(shown_val[1], val.owner, val.view_kind, val.target, prior)
    gate, logit = fit_gate(read(part), shown_val, seed=seed), shown_test[1]
    with torch.no_grad():
        gated = gate(shown_test[0].float(), logit, test.owner, len(test))
    return {
        "mean_probability": fuse_views(logit, test.owner, len(test), "mean_probability"),
        "temperature": fuse_views(scale_views(logit, temperature[test.view_kind], prior), test.owner, len(test)),
        "gated": gated,
    }
