"""Which epoch of a fine-tuning is reported: the best on validation, for all findings together or for each by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hilum.evaluate.scoring.choice import measure_aurocs, measure_macro_auroc
from hilum.evaluate.supervised_training import Best

Select = Literal["macro", "per-finding"]
Logits = Float[np.ndarray, "study finding"]


@dataclass
class Selection:
    """What is kept of the epochs so far.

    `macro` keeps the weights of the epoch with the best macro AUROC. `per-finding` also keeps, of each finding's own
    best epoch (M 4.2, "per-label selection"), what that epoch said of it; the weights stay those of the best macro.
    """

    target: Float[np.ndarray, "study finding"]  # of validation
    select: Select
    best: Best = field(default_factory=Best)  # by the macro mean
    finding_value: np.ndarray = field(init=False)
    finding_epoch: np.ndarray = field(init=False)
    said: dict[str, np.ndarray] = field(default_factory=dict)  # "val", "test": of each finding's best epoch

    def __post_init__(self) -> None:
        self.finding_value = np.full(self.target.shape[1], -1.0)
        self.finding_epoch = np.full(self.target.shape[1], -1)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Those of the best macro."""
        return self.best.weights

    def add(
        self, epoch: int, val: Logits, weights: Callable[[], dict[str, Tensor]], score_test: Callable[[], Logits]
    ) -> float:
        """Weigh an epoch; returns its macro AUROC on validation. The first of equals is kept.

        Args:
            val: what it says of the validation studies.
            weights: gives its weights, asked for where they are kept.
            score_test: gives what it says of the test studies, asked for where some of it is kept. Test chooses
                nothing: this only saves keeping the weights of as many epochs as there are findings.
        """
        macro = measure_macro_auroc(self.target, val)
        is_best = self.best.offer(macro, epoch, weights)
        if self.select == "per-finding":
            areas = measure_aurocs(self.target, val)
            # A finding that validation cannot judge follows the macro mean.
            better = np.where(np.isnan(areas), is_best, areas > self.finding_value)
            if better.any():
                latest = {"val": val, "test": score_test()}
                self.said = {name: np.where(better, said, self.said.get(name, said)) for name, said in latest.items()}
                self.finding_value = np.where(better & ~np.isnan(areas), areas, self.finding_value)
                self.finding_epoch = np.where(better, epoch, self.finding_epoch)
        return macro

    def state_dict(self) -> dict[str, Any]:
        """All but the weights, as torch stores it without pickled objects."""
        arrays = {"finding_value": self.finding_value, "finding_epoch": self.finding_epoch, **self.said}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return {**self.best.state_dict(), **tensors}

    def load_state_dict(self, state: dict[str, Any], weights: dict[str, Tensor]) -> None:
        """Go on where `state_dict` was taken, with the weights that were kept then."""
        self.best.load_state_dict(state, weights)
        self.finding_value, self.finding_epoch = state["finding_value"].numpy(), state["finding_epoch"].numpy()
        self.said = {name: state[name].numpy() for name in ("val", "test") if name in state}
