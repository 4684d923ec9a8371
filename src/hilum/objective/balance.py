"""How strongly each term pulls on the encoder, and weights that follow from it.

The released MVMAE code's alignment pulls 0.2 to 4 % as hard as its reconstruction (M 0): nothing in its log shows it.
Here every run measures it, and a weight can be given as the share it should have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn


def average_over_processes(values: Float[Tensor, " value"]) -> Float[Tensor, " value"]:
    """The mean over processes, as gradients are averaged; with one process, the values."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(values)
        values /= dist.get_world_size()
    return values


def flatten_gradient(loss: Float[Tensor, ""], parameters: Iterable[nn.Parameter]) -> Float[Tensor, " value"]:
    """The gradient of one loss on all parameters in a row; zeros where it does not reach.

    The graph is kept for the backward pass that follows, and no gradient is stored. Of losses from `divide_losses`,
    add the rows of a step's micro-batches and take `average_over_processes` before the norm: the mean of norms is not
    the norm of the mean. Where losses look at other processes' rows, every process must ask in the same order.
    """
    gradients = torch.autograd.grad(
        loss, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([gradient.flatten().float() for gradient in gradients])


class GradientRatioController:
    """Sets weights so that weight x ||gradient of term|| is a given share of ||gradient of the reference term||.

    One batch's ratio is off by a factor of up to two either way, so the logarithm of the ratio is smoothed over
    measurements (an exponential mean without the pull of its start): the geometric mean of the weighted ratio meets
    the target. A term without gradient in a batch (no pairs) is left as it was. The ratio is that of the full weight: a
    ramp multiplies it.
    """

    def __init__(
        self, targets: Mapping[str, float], start: Mapping[str, float], reference: str, memory: float = 0.5
    ) -> None:
        self.targets, self.start, self.reference, self.memory = dict(targets), dict(start), reference, memory
        self._log_ratio: dict[str, float] = {}  # smoothed, of unweighted norms
        self._seen: dict[str, float] = {}  # how much of it is measurements: 1 - memory^n

    def update(self, norms: Mapping[str, float]) -> None:
        """Take in one measurement: the norm of each unweighted term's gradient on the encoder."""
        for name in self.targets:
            if norms[name] > 0 and norms[self.reference] > 0:
                new = math.log(norms[name] / norms[self.reference])
                self._log_ratio[name] = self.memory * self._log_ratio.get(name, 0.0) + (1 - self.memory) * new
                self._seen[name] = self.memory * self._seen.get(name, 0.0) + (1 - self.memory)

    def weight(self, name: str) -> float:
        """The weight of a term; its start value before the first measurement."""
        if name not in self._seen:
            return self.start[name]
        return self.targets[name] / math.exp(self._log_ratio[name] / self._seen[name])

    def state_dict(self) -> dict[str, dict[str, float]]:
        return {"log_ratio": dict(self._log_ratio), "seen": dict(self._seen)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        self._log_ratio, self._seen = dict(state["log_ratio"]), dict(state["seen"])
