"""Muon: a step of one length in every direction of a weight matrix.

As torch.optim.Muon (K. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the length of a step as in Liu et
al. 2025, arXiv 2502.16982, section 2.2, so that it takes AdamW's rate and decay), but matrices of one shape go through
each product together, which is quicker at the sizes trained on a CPU (LOG.md). A test holds it to torch's values.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Of the odd polynomial a x + b x^3 + c x^5, five times, which takes singular values from (0, 1] to about (0.7, 1.2).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_NUM_ITERATIONS = 5


def orthogonalize(matrices: Float[Tensor, "matrix row column"]) -> Float[Tensor, "matrix row column"]:
    """Each matrix with its singular values made about 1, its singular vectors kept (Newton-Schulz, in bfloat16)."""
    x = matrices.bfloat16()
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_NUM_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for parameters with two dimensions."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # ty: ignore[incompatible-method-override]
        """Update every parameter that has a gradient."""
        assert closure is None, "the gradients are there already"
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append((parameter, parameter.grad))
            for (rows, columns), pairs in by_shape.items():
                parameters = [parameter for parameter, _ in pairs]
                gradients = torch.stack([gradient for _, gradient in pairs])
                steps = orthogonalize(self._accelerate(parameters, gradients, group["momentum"])).to(gradients)
                length = group["lr"] * 0.2 * math.sqrt(max(rows, columns))
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(steps.unbind()), alpha=-length)

    def _accelerate(self, parameters: list[Tensor], gradients: Tensor, momentum: float) -> Tensor:
        """The gradients with their running means."""
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        means = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(means, list(gradients.unbind()), 1 - momentum)
        return gradients.lerp(torch.stack(means), momentum)
