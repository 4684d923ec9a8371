"""What a corpus of texts is like: how true, how varied, how long, how often the same (L 2.5, L 9)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from .corpus import Corpus
from .duplicates import expect_identical

BATCH_SIZE = 18  # of L 1.5
NGRAMS = (1, 2, 3)


def measure_distinct(texts: Sequence[str], num: int) -> float:
    """distinct-n: different n-grams of words over all of them (Li et al. 2016, section 5); 0 where there is none.

    Example: "no mass no mass" has the bigrams "no mass", "mass no", "no mass": 2/3.
    """
    seen, total = set[tuple[str, ...]](), 0
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        grams = list(zip(*(words[start:] for start in range(num)), strict=False))
        seen.update(grams)
        total += len(grams)
    return len(seen) / total if total else 0.0


def describe_corpus(corpus: Corpus, count_tokens: Callable[[str], int] | None = None) -> dict[str, Any]:
    """Figures of a corpus as JSON holds them: for each writer and style, and of all.

    Args:
        count_tokens: the tokenizer's count; None: lengths are in words only.
    """
    texts, asked = corpus.texts, corpus.asked
    parts = {
        f"{writer}, {style}": texts.filter((pl.col("writer") == writer) & (pl.col("style") == style))
        for writer, style in sorted(texts.select("writer", "style").unique().iter_rows())
    }
    breasts = texts.filter(pl.col("variant") == 0)
    facts = [tuple(sorted(said)) for said in breasts["facts"].to_list()]
    identical = {}
    if len(facts) >= BATCH_SIZE:
        found = expect_identical(facts, BATCH_SIZE)
        identical = {
            "different": len(set(facts)),
            "identical_negatives": found.mean_negatives,
            "anchors_with_one": found.share_of_anchors,
        }
    return {
        "breasts": len(breasts),
        "breasts_without_text": corpus.num_empty,
        "texts": len(texts),
        "writers": {name: _describe_part(part, count_tokens) for name, part in {"all": texts, **parts}.items()},
        "language_model": {
            "answers": asked.answers,
            "failed": asked.failed,
            "rejected": asked.rejected,
            "rejected_for": asked.reasons,
            "fallbacks": int(texts["is_fallback"].sum()),
        },
        f"identical_in_batches_of_{BATCH_SIZE}": identical,
    }


def _describe_part(part: pl.DataFrame, count_tokens: Callable[[str], int] | None) -> dict[str, Any]:
    texts = part["text"].to_list()
    lengths = {"words": [len(re.findall(r"\w+", text)) for text in texts]}
    if count_tokens:
        lengths["tokens"] = [count_tokens(text) for text in texts]
    wrong = {name: part[name].list.len() for name in ("contradicted", "invented", "missing")}
    facts = int(part["num_facts"].sum())
    return {
        "texts": len(texts),
        "true": _share((wrong["contradicted"] == 0) & (wrong["invented"] == 0)),
        "with_contradicted": _share(wrong["contradicted"] > 0),
        "with_invented": _share(wrong["invented"] > 0),
        "facts_missing": int(wrong["missing"].sum()) / facts if facts else 0.0,
        **{f"distinct_{num}": measure_distinct(texts, num) for num in NGRAMS},
        "duplicates": 1 - len(set(texts)) / len(texts) if texts else 0.0,
        **{f"{unit}_{name}": _quantile(counts, share) for unit, counts in lengths.items() for name, share in
           (("median", 0.5), ("95_percent", 0.95), ("longest", 1.0))},
    }  # fmt: skip


def _share(which: pl.Series) -> float:
    return float(which.to_numpy().mean()) if len(which) else 0.0


def _quantile(counts: Sequence[int], share: float) -> float:
    return float(np.quantile(counts, share)) if counts else 0.0


def list_lines(report: dict[str, Any]) -> list[str]:
    """The report for a terminal."""
    lines = [f"{report['texts']:,} texts of {report['breasts']:,} breasts"]
    if report["breasts_without_text"]:
        lines.append(f"{report['breasts_without_text']:,} breasts have no text: nothing of them is recorded")
    for name, part in report["writers"].items():
        varied = "/".join(f"{part[f'distinct_{num}']:.3f}" for num in NGRAMS)
        lines.append(
            f"{name}: {part['true']:.2%} true, {part['with_contradicted']:.2%} contradicted, "
            f"{part['with_invented']:.2%} invented; {part['facts_missing']:.1%} of facts missing; "
            f"{part['words_median']:.0f} words (95 %: {part['words_95_percent']:.0f}); distinct-1/2/3 {varied}; "
            f"{part['duplicates']:.1%} duplicates"
        )
    asked = report["language_model"]
    if asked["answers"] or asked["failed"]:
        reasons = ", ".join(f"{name} {count:,}" for name, count in sorted(asked["rejected_for"].items())) or "none"
        lines.append(
            f"language model: {asked['answers']:,} answers, {asked['rejected']:,} rejected, {asked['failed']:,} failed "
            f"(reasons: {reasons}); {asked['fallbacks']:,} texts are the grammar's instead"
        )
    if found := report[f"identical_in_batches_of_{BATCH_SIZE}"]:
        lines.append(
            f"{found['different']:,} different descriptions: in a batch of {BATCH_SIZE}, "
            f"{found['identical_negatives']:.1f} of {BATCH_SIZE - 1} negatives are identical, for "
            f"{found['anchors_with_one']:.0%} of anchors at least one"
        )
    return lines
