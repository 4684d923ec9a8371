"""How far an encoder has moved from another on the same images: what distillation changed, and what it may have
forgotten (P 7.3: nothing but LoRA's size holds the student near the masked autoencoder it began as).

Two measures. Linear centred kernel alignment compares how images lie to each other and does not see rotations of the
features; the mean cosine of patch tokens compares the features themselves, which heads trained on the first encoder
read. Both are 1 for the same encoder.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from hilum.evaluate.features import ViewFeatures
from hilum.evaluate.result import Estimate, to_number
from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES
from hilum.evaluate.scoring.cosines import measure_cosines
from hilum.evaluate.scoring.intervals import estimate_weighted, resample_mean
from hilum.keyed_random import draw_order

MAX_VIEWS = 2048  # of which kernels are made: 32 MiB each


def resample_cka(
    first: Float[np.ndarray, "row dim"],
    second: Float[np.ndarray, "row other"],
    weight: Float[np.ndarray, "row resample"],
) -> Float[np.ndarray, " resample"]:
    r"""Linear centred kernel alignment (Kornblith et al. 2019, "Similarity of neural network representations
    revisited", section 3), with multiplicities of rows.

    .. math:: \mathrm{CKA} = \frac{\|Y^\top X\|_F^2}{\|X^\top X\|_F \, \|Y^\top Y\|_F}
        = \frac{\mathrm{HSIC}(K, L)}{\sqrt{\mathrm{HSIC}(K, K) \, \mathrm{HSIC}(L, L)}}

    with centred columns, K = X X' and L = Y Y'. With fewer rows than features it is high for any two encoders:
    `measure_debiased_cka` is not. NaN where features do not vary.
    """
    kernels = _make_kernel(first), _make_kernel(second)
    share = weight.astype(np.float64) / weight.sum(axis=0, dtype=np.float64)
    x, y = ((kernel, kernel @ share) for kernel in kernels)
    return _divide(*(_weigh_hsic(one, other, share) for one, other in ((x, y), (x, x), (y, y))))


def measure_debiased_cka(first: Float[np.ndarray, "row dim"], second: Float[np.ndarray, "row other"]) -> float:
    r"""The same with the unbiased estimate of HSIC (Song et al. 2012, eq. 5), 0 on average for unrelated features.

    .. math:: \frac{1}{n (n - 3)} \left[ \mathrm{tr}(\tilde K \tilde L) + \frac{1^\top \tilde K 1 \, 1^\top \tilde L
        1}{(n - 1)(n - 2)} - \frac{2}{n - 2} 1^\top \tilde K \tilde L 1 \right]

    with kernels whose diagonals are 0. NaN for fewer than four rows.
    """
    if len(first) < 4:
        return float("nan")
    x, y = _make_kernel(first), _make_kernel(second)
    np.fill_diagonal(x, 0)
    np.fill_diagonal(y, 0)
    return float(_divide(*(np.array([_debias_hsic(*pair)]) for pair in ((x, y), (x, x), (y, y))))[0])


def measure_patch_cosines(
    first: Float[np.ndarray, "view patch dim"], second: Float[np.ndarray, "view patch dim"]
) -> Float[np.ndarray, " view"]:
    """Mean over the patches of a view of the cosine between its two tokens."""
    rows = (tokens.reshape(-1, tokens.shape[2]) for tokens in (first, second))
    return measure_cosines(*rows).reshape(first.shape[:2]).mean(axis=1)


def estimate_drift(
    first: ViewFeatures,
    second: ViewFeatures,
    patient: Int[np.ndarray, " study"],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """CKA of class token and mean patch token, and the mean cosine of both and of the patch tokens, with intervals.

    Args:
        first, second: of the same views; patch tokens (or regions) are compared where both hold as many.
        patient: of every study of the cache.
    """
    assert np.array_equal(first.view_row, second.view_row), "drift is measured on the same views"
    owner = patient[first.study]
    rules: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
    estimates = []
    for of, a, b in (
        ("class token", first.class_token, second.class_token),
        ("mean patch token", first.mean, second.mean),
    ):
        if not (a.shape[1] and b.shape[1]):
            continue
        kept = np.sort(draw_order("drift", seed, num=len(owner))[:MAX_VIEWS])
        cka = partial(resample_cka, a[kept], b[kept])
        estimates.append(estimate_weighted(cka, owner[kept], metric="cka", of=of, biased=True, **rules))
        debiased = to_number(measure_debiased_cka(a[kept], b[kept]))
        reason = None if debiased is not None else "features that do not vary, or fewer than four views"
        estimates.append(Estimate("cka_debiased", of, debiased, num=len(kept), reason=reason))
        if a.shape == b.shape:
            mean = partial(resample_mean, measure_cosines(a, b))
            estimates.append(estimate_weighted(mean, owner, metric="cosine", of=of, **rules))
    patches = [found.tokens if found.tokens is not None else found.regions for found in (first, second)]
    if patches[0].shape == patches[1].shape and patches[0].shape[1]:
        of = "patch tokens" if first.tokens is not None else "regions"
        mean = partial(resample_mean, measure_patch_cosines(*patches))
        estimates.append(estimate_weighted(mean, owner, metric="cosine", of=of, **rules))
    return estimates


def _make_kernel(features: np.ndarray) -> Float[np.ndarray, "row row"]:
    centred = features.astype(np.float64)
    centred = centred - centred.mean(axis=0)
    return centred @ centred.T


def _weigh_hsic(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], share: np.ndarray
) -> np.ndarray:
    """sum_ij w_i w_j K~_ij L~_ij of kernels centred under the weights, which are shares; given with K w and L w."""
    (kernel, mean), (other, other_mean) = first, second
    both = ((kernel * other) @ share * share).sum(axis=0)
    across = (share * mean).sum(axis=0) * (share * other_mean).sum(axis=0)
    return both - 2 * (share * mean * other_mean).sum(axis=0) + across


def _debias_hsic(kernel: np.ndarray, other: np.ndarray) -> float:
    num = len(kernel)
    across = kernel.sum() * other.sum() / ((num - 1) * (num - 2))
    shared = 2 / (num - 2) * (kernel.sum(axis=0) @ other.sum(axis=0))
    return float(((kernel * other).sum() + across - shared) / (num * (num - 3)))


def _divide(both: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.maximum(first, 0) * np.maximum(second, 0))
    return np.divide(both, length, out=np.full(len(both), np.nan), where=length > 0)
