"""How much more an image, or a token of it, is like the prompts of presence than like those of absence (L 3.3)."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def average_prompts(prompts: Float[Tensor, "prompt dim"]) -> Float[Tensor, " dim"]:
    r"""The unit vector of an ensemble: the mean of the prompts' unit vectors, of length 1 (Radford et al. 2021, 3.1.4).

    .. math:: w = \bar u / \lVert \bar u \rVert, \qquad \bar u = \tfrac1K \sum_k t_k / \lVert t_k \rVert
    """
    return F.normalize(F.normalize(prompts.float(), dim=1).mean(dim=0), dim=0)


def compare_prompts(
    vectors: Float[Tensor, "*row dim"],
    present: Float[Tensor, "present dim"],
    absent: Float[Tensor, "absent dim"],
    scale: float,
) -> Float[Tensor, "*row"]:
    r"""The logit of presence of each vector; its sigmoid is the softmax over the pair of ensembles.

    .. math:: \ell(v) = s \, (\cos(v, w_+) - \cos(v, w_-)), \qquad
        \sigma(\ell) = \frac{e^{s \cos(v, w_+)}}{e^{s \cos(v, w_+)} + e^{s \cos(v, w_-)}}

    Args:
        vectors: of images, or of the tokens of images after the projection.
        present, absent: vectors of the prompts.
        scale: by which the run multiplied cosines, 1 / temperature.
    """
    direction = average_prompts(present) - average_prompts(absent)
    return scale * (F.normalize(vectors.float(), dim=-1) @ direction)
