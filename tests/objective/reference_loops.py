"""The equations of MVMAE as loops over studies, views, patches, pixels and dimensions, with nothing else in them.

Written from the specification of MVMAE (arXiv 2511.22294 and what its released code does; "M" and a section number
below) before any of Hilum's own functions was read, so that one can disagree with the other. A list per study holds a
list per view: absent means not in the list, except where the released code's three slots are themselves the subject.
Numbers are Python floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

Vector = list[float]
Patches = list[Vector]  # patch -> pixels
Tokens = dict[int, Vector]  # position -> vector, only of the tokens the encoder saw

CLASS_TOKEN = -1  # its position: shared by all views, and no patch's
NUM_SLOTS = 3  # to which the released code pads every study


# Reconstruction


def cut_patches(image: list[Vector], size: int) -> Patches:
    """M 2.1: an image (a list of rows) as square patches, left to right and top to bottom, each pixel by pixel so."""
    return [
        [image[top + row][left + column] for row in range(size) for column in range(size)]
        for top in range(0, len(image), size)
        for left in range(0, len(image[0]), size)
    ]


def normalise_patch(pixels: Vector) -> Vector:
    """M 7.3-H, "norm-pix": a patch as its own standard scores.

    The specification names the option of the official MAE and gives no formula; MAE (arXiv 2111.06377, section 4.1)
    says mean and standard deviation of all pixels of a patch; the unbiased variance and the 1e-6 under the root are
    those of its released code.
    """
    mean = sum(pixels) / len(pixels)
    variance = sum((pixel - mean) ** 2 for pixel in pixels) / (len(pixels) - 1)
    return [(pixel - mean) / math.sqrt(variance + 1e-6) for pixel in pixels]


def sum_squared_error(target: Vector, prediction: Vector) -> float:
    total = 0.0
    for wanted, given in zip(target, prediction, strict=True):
        total += (wanted - given) ** 2
    return total


def exact_error_of_image(target: Patches, prediction: Patches, masked: list[int], normalised: bool) -> float:
    """M 0 (row L_Rec, `hilum`) and test 13: the mean of the squared error over the pixels that were masked."""
    total, count = 0.0, 0
    for patch in masked:
        wanted = normalise_patch(target[patch]) if normalised else target[patch]
        total += sum_squared_error(wanted, prediction[patch])
        count += len(wanted)
    return total / count


def code_error_of_image(target: Patches, prediction: Patches, masked: list[int], mask_ratio: float) -> float:
    """M 2.4, code: mean over *all* pixels of the image of (error² · mask) / nominal mask ratio."""
    total, count = 0.0, 0
    for patch in range(len(target)):
        for wanted, given in zip(target[patch], prediction[patch], strict=True):
            is_masked = 1.0 if patch in masked else 0.0
            total += (wanted - given) ** 2 * is_masked / mask_ratio
            count += 1
    return total / count


def paper_error_of_study(
    targets: list[Patches], predictions: list[Patches], masked: list[list[int]], mask_ratio: float
) -> float:
    """M 2.4, paper: L_Rec = (1/α)(1/|V|) Σ_v Σ_{t masked} ‖x − x̂‖², a *sum* over tokens and pixels."""
    total = 0.0
    for target, prediction, patches in zip(targets, predictions, masked, strict=True):
        for patch in patches:
            total += sum_squared_error(target[patch], prediction[patch])
    return total / mask_ratio / len(targets)


def mean_over_views(errors: list[list[float]]) -> float:
    """M 0, "per view": every image that exists weighs the same."""
    flat = [error for study in errors for error in study]
    return sum(flat) / len(flat)


def mean_over_studies(errors: list[list[float]]) -> float:
    """M 0, "per study", and M 2.4, "paper's 1/|V| would weigh every study the same"."""
    return sum(sum(study) / len(study) for study in errors) / len(errors)


def mean_over_slots(errors: list[list[float]]) -> float:
    """M 2.4, code: times availability, mean over the batch, then mean over the three slots (test 14)."""
    total = 0.0
    for slot in range(NUM_SLOTS):
        of_slot = 0.0
        for study in errors:
            of_slot += study[slot] if slot < len(study) else 0.0
        total += of_slot / len(errors)
    return total / NUM_SLOTS


# Alignment


def mean_squared_difference(first: Vector, second: Vector) -> float:
    """MSE(a, b): mean over the dimensions."""
    return sum_squared_error(first, second) / len(first)


def l2_normalise(vector: Vector) -> Vector:
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


def cosine_of(first: Vector, second: Vector) -> float:
    return sum(a * b for a, b in zip(l2_normalise(first), l2_normalise(second), strict=True))


def squared_chord(first: Vector, second: Vector) -> float:
    """‖â − b̂‖² of the L2-normalised vectors (M 2.5's closed form, test 15)."""
    return sum_squared_error(l2_normalise(first), l2_normalise(second))


def ordered_pairs(num_views: int) -> Iterator[tuple[int, int]]:
    """(u, v) with u ≠ v: the set P of eq. 1."""
    for first in range(num_views):
        for second in range(num_views):
            if first != second:
                yield first, second


def token_wise_error_of_pair(first: Tokens, second: Tokens) -> float:
    """The inner sum of eq. 1, M 2.5: Σ over the class token and the visible positions both views have of MSE."""
    total = 0.0
    for position in first:
        if position in second:
            total += mean_squared_difference(first[position], second[position])
    return total


def paper_alignment_of_study(views: list[Tokens], mask_ratio: float) -> float:
    """M 2.5, eq. 1: 1/(1−α) · 1/|P| · Σ_{(u,v), u≠v} Σ_{t visible} MSE(z_ut, z_vt)."""
    total, count = 0.0, 0
    for u, v in ordered_pairs(len(views)):
        total += token_wise_error_of_pair(views[u], views[v])
        count += 1
    return total / count / (1 - mask_ratio)


def mean_over_real_pairs(studies: list[list], distance: Callable[..., float]) -> float:
    """M 0 and M 7.3-A: mean over the ordered pairs that exist, each weighing the same; 0 where none does (test 15)."""
    total, count = 0.0, 0
    for views in studies:
        for u, v in ordered_pairs(len(views)):
            total += distance(views[u], views[v])
            count += 1
    return total / count if count else 0.0


def mean_token(tokens: Tokens) -> Vector:
    """M 2.5, code: z̄ = mean over the class token and the visible tokens."""
    dim = len(next(iter(tokens.values())))
    return [sum(token[index] for token in tokens.values()) / len(tokens) for index in range(dim)]


def code_alignment(studies: list[list[Vector]]) -> float:
    """M 2.5, code: L2-normalised pooled vectors of three slots; for all 3×3 slot pairs the mean over dimensions of the
    squared difference, zero where either is absent; ÷ 9, self pairs and absent pairs included; mean over the batch."""
    over_batch = 0.0
    for views in studies:
        of_study = 0.0
        for u in range(NUM_SLOTS):
            for v in range(NUM_SLOTS):
                if u < len(views) and v < len(views):
                    of_study += mean_squared_difference(l2_normalise(views[u]), l2_normalise(views[v]))
        over_batch += of_study / NUM_SLOTS**2
    return over_batch / len(studies)


def one_minus_cosine(first: Vector, second: Vector) -> float:
    """M 7.3-A, cosine on a projected vector. The released metric is −cos (M 2.5): the same gradient, 1 lower."""
    return 1 - cosine_of(first, second)


def contrast_with_other_patients(
    studies: list[list[Vector]], patients: list[int], temperature: float, only_paired_negatives: bool
) -> float:
    """M 2.5 (SimCLR) and M 7.3-A(ii): mean over ordered pairs of −log(e^{s_uv/τ} / (e^{s_uv/τ} + Σ_negatives e^{s/τ})).

    s is the cosine. Negatives of u are the views of *other patients*: neither u itself, nor the other views of its
    study, nor other studies of its patient. The released code counts only studies with both views present
    (`only_paired_negatives`); the specification leaves open whether single views may be negatives in `hilum`
    ("empty pairs masked out"). Test 17: orthonormal pairs of two patients, τ = 0.5 -> ln(1 + 2e⁻²).
    """
    total, count = 0.0, 0
    for study, views in enumerate(studies):
        for u, v in ordered_pairs(len(views)):
            positive = math.exp(cosine_of(views[u], views[v]) / temperature)
            negatives = 0.0
            for other, other_views in enumerate(studies):
                if patients[other] == patients[study]:
                    continue
                if only_paired_negatives and len(other_views) < 2:
                    continue
                for view in other_views:
                    negatives += math.exp(cosine_of(views[u], view) / temperature)
            total += -math.log(positive / (positive + negatives))
            count += 1
    return total / count if count else 0.0


# Guard against collapse


def vicreg_variance(rows: list[Vector]) -> float:
    """M 7.3-A(iii), VICReg (arXiv 2105.04906) eq. 1: (1/d) Σ_j max(0, 1 − sqrt(Var(z_j) + 1e-4)), Var over n − 1.

    γ = 1 and ε = 1e-4 are the VICReg paper's.
    """
    dim, total = len(rows[0]), 0.0
    for column in range(dim):
        values = [row[column] for row in rows]
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
        total += max(0.0, 1 - math.sqrt(variance + 1e-4))
    return total / dim


def vicreg_covariance(rows: list[Vector]) -> float:
    """M 7.3-A(iii), VICReg eqs. 3 and 4: (1/d) Σ_{i≠j} C_ij², C = Σ (z − z̄)(z − z̄)ᵀ / (n − 1)."""
    dim, num_rows = len(rows[0]), len(rows)
    means = [sum(row[column] for row in rows) / num_rows for column in range(dim)]
    total = 0.0
    for i in range(dim):
        for j in range(dim):
            if i != j:
                covariance = sum((row[i] - means[i]) * (row[j] - means[j]) for row in rows) / (num_rows - 1)
                total += covariance**2
    return total / dim


# Schedules


def released_beta(epoch: float, start: int, end: int, final: float, first: float = 0.0) -> float:
    """M 2.5, β of the released code with k = 0.02, m = int(s + (e − s)/2); s is subtracted twice in effect."""
    steepness, middle = 0.02, int(start + (end - start) / 2)
    if epoch < start:
        exponent = -steepness * middle
    elif epoch < end:
        exponent = steepness * ((epoch - start) - middle)
    else:
        exponent = steepness * ((end - start) - middle)
    return first + (final - first) / (1 + math.exp(-exponent))


def linear_ramp(progress: float, target: float) -> float:
    """M 0 and test 18, `hilum`: a function of progress, 0 at 0 and the target at 1. The shape between is not given;
    the straight line is the plainest reading."""
    return target * progress


def released_lr(epoch: float, base: float, batch: int, num_epochs: int, num_warmup: int) -> float:
    """M 3 and test 26: base · batch / 256; linear from half over the warm-up epochs, then a cosine to zero."""
    peak = base * batch / 256
    if epoch < num_warmup:
        return peak * (0.5 + 0.5 * epoch / num_warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * (epoch - num_warmup) / (num_epochs - num_warmup)))


def mae_lr(step: int, peak: float, num_steps: int, num_warmup: int) -> float:
    """M 3, last paragraph (`hilum` follows the official MAE): per step, linear from 0, then a cosine to zero."""
    if step < num_warmup:
        return peak * step / num_warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - num_warmup) / (num_steps - num_warmup)))


# Downstream


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def probability_of_mean_logit(views: list[Vector]) -> Vector:
    """M 4.1 and test 27: per finding, the sigmoid of the mean over the views that exist of their logits."""
    return [sigmoid(sum(view[index] for view in views) / len(views)) for index in range(len(views[0]))]


def mean_probability(views: list[Vector]) -> Vector:
    """M 7.3-L and test 27: per finding, the mean over the views that exist of their probabilities."""
    return [sum(sigmoid(view[index]) for view in views) / len(views) for index in range(len(views[0]))]


def binary_cross_entropy(logit: float, target: float) -> float:
    """−y·log σ(x) − (1 − y)·log(1 − σ(x))."""
    return -target * math.log(sigmoid(logit)) - (1 - target) * math.log(sigmoid(-logit))


def per_view_cross_entropy(studies: list[list[Vector]], targets: list[Vector], known: list[list[bool]]) -> float:
    """M 4.1 (unimodal), M 7.1 rows 10 and 17, test 28: cross-entropy of every existing view against its study's
    labels, mean over the (view, finding) entries that are known; an unknown label's loss is exactly 0."""
    total, count = 0.0, 0
    for views, target, mask in zip(studies, targets, known, strict=True):
        for logits in views:
            for finding in range(len(logits)):
                if mask[finding]:
                    total += binary_cross_entropy(logits[finding], target[finding])
                    count += 1
    return total / count if count else 0.0


def mean_logit_cross_entropy(studies: list[list[Vector]], targets: list[Vector], known: list[list[bool]]) -> float:
    """M 4.1 (ensemble): cross-entropy of the *mean* of a study's logits, mean over the known (study, finding)."""
    total, count = 0.0, 0
    for views, target, mask in zip(studies, targets, known, strict=True):
        for finding in range(len(target)):
            if mask[finding]:
                logit = sum(view[finding] for view in views) / len(views)
                total += binary_cross_entropy(logit, target[finding])
                count += 1
    return total / count if count else 0.0
