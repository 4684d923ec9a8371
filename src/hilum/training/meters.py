"""What a run measures of itself besides its losses: who pulls on the encoder, whether features stay alive, how fast."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hilum.batch import StudyBatch
from hilum.config import Term as TermConfig
from hilum.config import find_reference
from hilum.objective.balance import GradientRatioController, average_over_processes, flatten_gradient
from hilum.objective.gather import Gather, gather_rows
from hilum.objective.meters import measure_effective_rank, measure_std, measure_uniformity, score_retrieval


class GradientMeter:
    """Norms of the terms' gradients on the encoder over a whole step, and the weights that follow from them.

    Every `add` costs one more backward pass a term; the gradients of all micro-batches are added before the norm is
    taken, so that the number of them, or of processes, changes nothing (but for what terms that compare the views of a
    micro-batch are: contrast, the collapse guard).
    """

    def __init__(self, terms: Mapping[str, TermConfig], parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._sums: dict[str, Tensor] = {}
        self._reference = find_reference(terms)
        targets = {
            name: term.weight.gradient_ratio for name, term in terms.items() if term.weight.gradient_ratio is not None
        }
        start = {name: terms[name].weight.value for name in targets}
        # Without a reference there are no targets (see effects.py), and the controller is never asked.
        self._controller = GradientRatioController(targets, start, self._reference or "")

    def get_full_weight(self, name: str, value: float) -> float:
        """The weight at the end of the term's ramp: what the controller found for it, or else `value`."""
        return self._controller.weight(name) if name in self._controller.targets else value

    def add(self, losses: Mapping[str, Float[Tensor, ""]]) -> None:
        """Take in one micro-batch's unweighted parts of the losses; their graph is kept, no gradient is stored."""
        for name, loss in losses.items():
            flat = flatten_gradient(loss, self._parameters)
            self._sums[name] = self._sums[name].add_(flat) if name in self._sums else flat

    def finish(self, weights: Mapping[str, float], full_weights: Mapping[str, float]) -> dict[str, float]:
        """Norms and ratios of what was added, and the controller brought up to date. Every process must call it.

        Returns:
            `<term>/gradient_norm` of the unweighted mean loss, and for each term but reconstruction
            `<term>/gradient_ratio` to reconstruction's, both weighted as now, and `<term>/full_gradient_ratio`, with
            the term's weight at the end of its ramp: the one that `gradient_ratio` in the settings is the target of.
        """
        norms = {name: float(average_over_processes(flat).norm()) for name, flat in self._sums.items()}
        self._sums = {}
        measured = {f"{name}/gradient_norm": norm for name, norm in norms.items()}
        reference = self._reference
        if reference is None:
            return measured
        if self._controller.targets:
            self._controller.update({**norms, reference: full_weights[reference] * norms[reference]})
        for kind, used in (("gradient_ratio", weights), ("full_gradient_ratio", full_weights)):
            pull = used[reference] * norms[reference]
            for name in norms:
                if name != reference and pull > 0:
                    measured[f"{name}/{kind}"] = used[name] * norms[name] / pull
        return measured

    def state_dict(self) -> dict[str, Any]:
        return self._controller.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._controller.load_state_dict(state)


def measure_features(
    vectors: Float[Tensor, "view dim"], batches: list[StudyBatch], prefix: str, gather: Gather = gather_rows
) -> dict[str, float]:
    """Effective rank, spread, uniformity and frontal-lateral retrieval of one vector a view, over all processes.

    Args:
        vectors: One row for each view of the batches, in their order.
        batches: Any number of them.
        prefix: Goes before the names of what is returned.
        gather: Fetches other processes' rows.
    """
    kind = torch.cat([batch.view_kind for batch in batches])
    study = torch.cat([batch.row[batch.study] for batch in batches])
    vectors, kind, study = gather(vectors.detach().float()), gather(kind), gather(study)
    if len(vectors) < 2:
        return {}
    measured = {
        "effective_rank": measure_effective_rank(vectors),
        "std": measure_std(vectors),
        "uniformity": measure_uniformity(vectors),
    }
    if (found := score_retrieval(vectors, kind, study)) is not None:
        measured |= {"retrieval": found.score, "retrieval_chance": found.chance}
    return {prefix + name: value for name, value in measured.items()}


class StepMeter:
    """Means of what the steps since the last line of the log gave, and the time they took.

    The sums are part of a checkpoint, so that the line after a resume is that of an uninterrupted run; of the timings
    only the total is.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}
        self._seconds_before = 0.0
        self._started = self._line_started = time.monotonic()
        self._views = 0.0
        self._waited = 0.0
        self._steps, self._all_waited, self._counted_from = 0, 0.0, self._started

    def add(self, sums: Mapping[str, tuple[float, float]], *, views: float) -> None:
        """One step's (sum, count) by name, and its views over all processes."""
        for name, (value, count) in sums.items():
            total = self._sums.setdefault(name, [0.0, 0.0])
            total[0] += value
            total[1] += count
        self._views += views
        self._steps += 1

    def take(self, waited: float) -> tuple[dict[str, float], dict[str, float]]:
        """Means (not a number where nothing was counted) and timings since the last call; starts anew.

        Args:
            waited: Seconds this process has waited for data since it began.
        """
        now = time.monotonic()
        means = {name: value / count if count else math.nan for name, (value, count) in self._sums.items()}
        elapsed = max(now - self._line_started, 1e-9)
        timing = {
            "views_per_second": self._views / elapsed,
            "data_wait": min(1.0, (waited - self._waited) / elapsed),
            "seconds": self.seconds,
        }
        self._sums, self._views, self._line_started, self._waited = {}, 0.0, now, waited
        return means, timing

    @property
    def seconds(self) -> float:
        """Time spent training so far, in all starts of the run."""
        return self._seconds_before + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums, self._seconds_before = dict(state["sums"]), state["seconds"]
