"""Overlap of texts: hand-worked numbers and slow loops from the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.text.overlap import measure_subsequence, score_bleu, score_finding_f1, score_rouge_l

NAN = np.nan


def test_bleu_of_a_corpus_is_its_counts_over_all_texts() -> None:
    """Precisions of 1 to 4 words: 10/11, 8/9, 6/7, 4/5 over both texts; lengths 11 and 12: the penalty is e^(-1/11)."""
    said = ["the heart is normal in size", "no effusion is seen today"]
    meant = ["the heart is normal in size now", "No effusion is seen here"]
    expected = math.exp(1 - 12 / 11) * (10 / 11 * 8 / 9 * 6 / 7 * 4 / 5) ** 0.25
    assert score_bleu(said, meant) == pytest.approx(expected, abs=1e-6)
    assert score_bleu(meant, meant) == pytest.approx(1)
    assert score_bleu([], []) == 0


def test_rouge_l_by_hand() -> None:
    scores = score_rouge_l(
        ["no acute disease", "Effusion.", "", "clear"],
        ["No evidence of acute disease.", "effusion", "effusion", "edema"],
    )
    np.testing.assert_allclose(scores, [0.75, 1, 0, 0])


def measure_slowly(first: list[str], second: list[str]) -> int:
    """The table of the definition."""
    best = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            best[i + 1][j + 1] = best[i][j] + 1 if a == b else max(best[i][j + 1], best[i + 1][j])
    return best[-1][-1]


WORDS = st.lists(st.sampled_from("abcd"), max_size=90)


@given(WORDS, WORDS)
def test_the_longest_common_subsequence_is_that_of_the_table(first, second) -> None:
    assert measure_subsequence(first, second) == measure_slowly(first, second)


def test_finding_f1_by_hand() -> None:
    """Finding 1: found 1, missed 1. Finding 2: 1 too many. Finding 3: in neither. Micro 2/4, macro (2/3 + 0)/2."""
    said = np.array([[1, 1, NAN], [NAN, 0, 0]], dtype=np.float32)
    meant = np.array([[1, -1, 0], [1, NAN, NAN]], dtype=np.float32)
    score = score_finding_f1(said, meant)
    assert score.micro == pytest.approx(0.5)
    assert score.macro == pytest.approx(1 / 3)
    np.testing.assert_allclose(score.by_finding, [2 / 3, 0, NAN])
    assert score_finding_f1(said, meant, uncertain="ones").micro == pytest.approx(4 / 5)
    nothing = np.full((2, 3), NAN, dtype=np.float32)
    assert math.isnan(score_finding_f1(nothing, nothing).micro)
    assert math.isnan(score_finding_f1(nothing, nothing).macro)
