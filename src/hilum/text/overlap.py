"""How close written reports are to their references: words in common (BLEU, ROUGE-L) and findings in common (F1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Float64

from hilum.labels import binarize_states


def score_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """BLEU-4 of a corpus, 0 to 1 (Papineni et al. 2002), by sacrebleu with its tokenizer 13a and without case.

    Counts of n-grams are summed over texts, so it is not a mean over texts. One reference each; 0 without a text.
    """
    return prepare_bleu(references)(hypotheses)


def prepare_bleu(references: Sequence[str]) -> Callable[[Sequence[str]], float]:
    """`score_bleu` against references whose n-grams, which take half of its time, are counted once."""
    from sacrebleu.metrics.bleu import BLEU

    if not references:
        return lambda hypotheses: 0.0
    metric = BLEU(lowercase=True, references=[list(references)])

    def score(hypotheses: Sequence[str]) -> float:
        assert len(hypotheses) == len(references)
        return metric.corpus_score(list(hypotheses), None).score / 100

    return score


def score_rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> Float64[np.ndarray, " text"]:
    r"""ROUGE-L of each text, 0 to 1 (Lin 2004, section 3.1): the longest common subsequence of words.

    .. math:: F = \frac{2 P R}{P + R}, \quad P = \mathrm{LCS} / |hypothesis|, \quad R = \mathrm{LCS} / |reference|

    Words are runs of letters and digits, without regard to case. 0 where either text has none.

    Example: "no acute disease" for "no evidence of acute disease" has a subsequence of 3: P = 1, R = 3/5, F = 0.75.
    """
    assert len(hypotheses) == len(references)
    return np.array([_score_pair(said, meant) for said, meant in zip(hypotheses, references, strict=True)], dtype=float)


def _score_pair(hypothesis: str, reference: str) -> float:
    said, meant = (re.findall(r"[^\W_]+", text.lower()) for text in (hypothesis, reference))
    total = len(said) + len(meant)
    return 2 * measure_subsequence(said, meant) / total if total else 0.0  # 2PR/(P+R) with both over one LCS


def measure_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence; a row of the table is one number (Crochemore et al. 2001).

    Bit i of the row is 0 where the length grows from the first i to the first i + 1 words.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    everything = (1 << len(first)) - 1
    row = everything
    for word in second:
        match = row & places.get(word, 0)
        row = ((row + match) | (row - match)) & everything
    return len(first) - row.bit_count()


@dataclass(frozen=True)
class FindingF1:
    """F1 of findings stated present: over all (study, finding) pairs, the mean over findings, and of each finding."""

    micro: float
    macro: float  # over the findings that are positive in either text of some study
    by_finding: Float64[np.ndarray, " finding"]  # NaN where neither ever states it


def score_finding_f1(
    hypothesis: Float32[np.ndarray, "study finding"],
    reference: Float32[np.ndarray, "study finding"],
    uncertain: Literal["zeros", "ones"] = "zeros",
) -> FindingF1:
    r"""Agreement of two texts' findings, from raw states (1, 0, -1, NaN not mentioned).

    .. math:: F_1 = \frac{2 TP}{2 TP + FP + FN}

    A finding counts as positive if it is stated present (and, under `ones`, if it is uncertain).
    """
    said, meant = (binarize_states(states, uncertain, "zeros") == 1 for states in (hypothesis, reference))
    both, either = (said & meant).sum(axis=0), said.sum(axis=0) + meant.sum(axis=0)
    by_finding = _divide(2 * both.astype(float), either.astype(float))
    stated = ~np.isnan(by_finding)
    return FindingF1(
        micro=float(2 * both.sum() / either.sum()) if either.sum() else float("nan"),
        macro=float(by_finding[stated].mean()) if stated.any() else float("nan"),
        by_finding=by_finding,
    )


def _divide(top: Float[np.ndarray, " finding"], bottom: Float[np.ndarray, " finding"]) -> Float[np.ndarray, " finding"]:
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)
