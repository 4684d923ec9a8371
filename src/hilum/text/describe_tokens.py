"""`hilum text tokens`: what of a cache's reports a run will learn from, in counts and a few examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from tokenizers import Tokenizer

from hilum.cache import Cache
from hilum.config import TextConfig
from hilum.vocabulary import SPLITS

from .report_tokens import PLACEHOLDER, ReportTokens, name_vocabulary, open_report_tokens, read_texts

QUANTILES = (0.5, 0.95, 1.0)


def show_report_tokens(
    data: Path, text: TextConfig, *, vocabulary: Path | None = None, num_examples: int = 3
) -> ReportTokens:
    """Make a cache's report tokens where they are missing, check them, and print what they hold.

    Args:
        data: Cache folder.
        text: Which sections, which vocabulary.
        vocabulary: Given vocabulary (vocab.txt or tokenizer.json); None: learned from the training split's reports.
        num_examples: Training reports printed as they are and as they come back from their tokens.
    """
    cache = Cache.open(data)
    text = name_vocabulary(text, vocabulary)
    tokens = open_report_tokens(cache, text, vocabulary=vocabulary)
    console = Console(highlight=False)
    for line in summarize_report_tokens(cache, tokens):
        console.print(line, soft_wrap=True)
    tokenizer = Tokenizer.from_str(tokens.tokenizer)
    real = read_texts(cache, text)
    rows = cache.rows("train")
    for row in rows[tokens.has_report(rows)][:num_examples].tolist():
        entry = tokens.of_study[row]
        ids = tokens.tokens[tokens.offset[entry] : tokens.offset[entry + 1]][: text.length].tolist()
        console.print(f"\n[dim]report[/]  {escape(real[row][0])}", soft_wrap=True)
        console.print(f"[bold]tokens[/]  {escape(tokenizer.decode(ids).strip())}  [dim]({len(ids)})[/]", soft_wrap=True)
    return tokens


def summarize_report_tokens(cache: Cache, tokens: ReportTokens) -> list[str]:
    """Counts by split, section and language, lengths, what is cut, and how much the vocabulary does not know."""
    real = tokens.section != PLACEHOLDER
    num_words = tokens.count_words()[real]
    lines = [
        f"{split}: {int(tokens.has_report(cache.rows(split)).sum()):,} of {len(cache.rows(split)):,} studies have one"
        for split in SPLITS
    ]
    lines += [f"from {name}: {int((tokens.section == number).sum()):,}" for number, name in enumerate(tokens.sections)]
    languages = tokens.language[real]
    lines += [f"in {name}: {int((languages == name).sum()):,}" for name in sorted(set(languages.tolist()) - {""})]
    middle, most, longest = np.quantile(num_words, QUANTILES) if len(num_words) else (0, 0, 0)
    cut = (num_words >= tokens.layout.length).mean() if len(num_words) else 0.0
    used = tokens.tokens[np.repeat(real, tokens.count_words())]
    lines.append(f"tokens of a report: median {middle:.0f}, 95 % at most {most:.0f}, longest {longest:.0f}")
    lines.append(f"cut at {tokens.layout.length} tokens: {cut:.1%}")
    lines.append(
        f"vocabulary: {tokens.layout.num_words:,} tokens, {len(np.unique(used)):,} of them used; "
        f"unknown: {(used == tokens.unknown).mean() if len(used) else 0.0:.2%}"
    )
    return lines
