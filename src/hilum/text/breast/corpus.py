"""Texts of many breasts: some variants of each, written once, checked, kept in one Parquet file.

By default the grammar writes them. A language model may write them instead: what it says is cleaned and checked, a text
that says something else than the record is asked for anew with another seed, and after some of these the grammar's text
stands in, and says so. Every text passes the check, the grammar's too.

Each row is a variant of a breast's text. `hilum.text.descriptions` reads them in training and says what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from hilum.atomic import open_atomic
from hilum.text.writers.complete import complete_all
from hilum.text.writers.completion_store import CompletionStore
from hilum.text.writers.language_model import Completion, Failure, LanguageModel, Request

from .cleaning import clean_answer, reduce_words
from .fact_check import FactCheck, check_facts
from .grammar import DROPOUT, STYLES, Budget, Style, write_text
from .prompt import build_request
from .record import BreastRecord, name_facts

GRAMMAR = "template"  # its name among writers
COLUMNS = pl.Schema(
    {
        "dataset": pl.String,
        "study": pl.String,
        "laterality": pl.String,
        "variant": pl.Int32,
        "style": pl.String,  # "model" where a language model wrote
        "writer": pl.String,
        "text": pl.String,
        "facts": pl.List(pl.String),  # of the breast, whatever of them this text says
        "single_view": pl.Boolean,  # whether one of the breast's two views alone shows a finding
        "attempts": pl.Int32,  # of a language model
        "is_fallback": pl.Boolean,  # a language model was asked in vain
        "reason": pl.String,  # why
        "num_facts": pl.Int32,
        "missing": pl.List(pl.String),
        "contradicted": pl.List(pl.String),
        "invented": pl.List(pl.String),
    }
)


@dataclass(frozen=True)
class CorpusSettings:
    """How texts are written."""

    num_variants: int = 4
    styles: Sequence[Style] = STYLES
    """Variant i has style i, again from the first after the last."""
    seed: int = 0
    dropout: float = DROPOUT
    budget: Budget | None = None
    plain_words: bool = False
    """Keep lower-case ASCII words only, as Mammo-CLIP prepares its reports."""


@dataclass
class Asked:
    """What a language model was asked for, and how it went."""

    answers: int = 0
    failed: int = 0
    """No answer came."""
    rejected: int = 0
    """Said something else than the record, left out a finding, was cut or too long."""
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """Texts by breast and variant, and what it took."""

    texts: pl.DataFrame
    asked: Asked
    num_empty: int
    """Breasts of which nothing is recorded: they have no text."""


def write_corpus(
    records: Sequence[BreastRecord],
    settings: CorpusSettings,
    *,
    model: LanguageModel | None = None,
    store: CompletionStore | None = None,
    retries: int = 3,
    price: float = 0.0,
    most_failures: int | None = 20,
    sampling: dict[str, Any] | None = None,
) -> Corpus:
    """Texts of all breasts of which something is recorded.

    Args:
        model: writes them; None: the grammar does.
        store: where the model's answers are kept; needed with one.
        retries: further attempts at a text that fails the check.
        price: of a million of the model's tokens, for its progress.
        most_failures: of the model, in a row, before it all ends; None: the grammar writes what it failed at.
        sampling: temperature, top_p and max_tokens of the model.
    """
    told = [record for record in records if not record.is_empty()]
    jobs = [(record, variant) for record in told for variant in range(settings.num_variants)]
    rows: dict[int, dict[str, Any]] = {}
    asked, reasons = Asked(), dict[int, str]()
    if model is not None:
        assert store is not None, "a model's answers are kept"
        ask = partial(complete_all, model, store=store, price=price, most_failures=most_failures)
        rows, reasons = _ask_model(jobs, settings, model.name, ask, retries, sampling or {}, asked)
    for place, (record, variant) in enumerate(jobs):
        if place not in rows:
            rows[place] = _write_by_grammar(record, variant, settings)
            if place in reasons:
                rows[place] |= {"is_fallback": True, "reason": reasons[place], "attempts": retries + 1}
    if settings.plain_words:  # after the check, which needs sentences
        for row in rows.values():
            row["text"] = reduce_words(row["text"])
    texts = pl.DataFrame([rows[place] for place in range(len(jobs))], schema=COLUMNS, infer_schema_length=None)
    return Corpus(texts, asked, len(records) - len(told))


def _write_by_grammar(record: BreastRecord, variant: int, settings: CorpusSettings) -> dict[str, Any]:
    style = settings.styles[variant % len(settings.styles)]
    text = write_text(
        record, variant, style=style, seed=settings.seed, dropout=settings.dropout, budget=settings.budget
    )
    return _build_row(record, variant, style, GRAMMAR, text, check_facts(text, record))


def _ask_model(
    jobs: Sequence[tuple[BreastRecord, int]],
    settings: CorpusSettings,
    writer: str,
    ask: Callable[[Sequence[Request]], list[Completion | Failure]],
    retries: int,
    sampling: dict[str, Any],
    asked: Asked,
) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """Rows of the jobs whose text was accepted, and why the others have none."""
    rows: dict[int, dict[str, Any]] = {}
    reasons: dict[int, str] = {}
    for attempt in range(retries + 1):
        open_jobs = [place for place in range(len(jobs)) if place not in rows]
        if not open_jobs:
            break
        requests: list[Request] = [
            build_request(jobs[place][0], jobs[place][1] + settings.seed * settings.num_variants, attempt, **sampling)
            for place in open_jobs
        ]
        for place, answer in zip(open_jobs, ask(requests), strict=True):
            record, variant = jobs[place]
            text = clean_answer(answer.text) if isinstance(answer, Completion) else ""
            check = check_facts(text, record)
            reason = judge_answer(answer, text, check, settings.budget)
            if isinstance(answer, Failure):
                asked.failed += 1
            else:
                asked.answers += 1
                asked.rejected += reason is not None
            if reason is None:
                rows[place] = {**_build_row(record, variant, "model", writer, text, check), "attempts": attempt + 1}
            else:
                kind = reason.partition(":")[0]
                asked.reasons[kind] = asked.reasons.get(kind, 0) + 1
                reasons[place] = reason
    return rows, {place: reason for place, reason in reasons.items() if place not in rows}


def judge_answer(answer: Completion | Failure, text: str, check: FactCheck, budget: Budget | None) -> str | None:
    """Why a model's text is not taken; None: it is."""
    if isinstance(answer, Failure):
        return f"failed: {answer.reason}"
    if answer.finish_reason == "length":
        return "cut: its end is missing"
    if not text:
        return "empty: nothing is left without preambles and headings"
    if check.contradicted:
        return f"contradicted: {check.contradicted[0]}"
    if check.invented:
        return f"invented: {check.invented[0]}"
    if not check.is_complete:
        lacking = [fact for fact in check.missing if fact.endswith(")") or fact.startswith("assessment")]
        return f"missing: {lacking[0]}"
    if budget and budget.count(text) > budget.num_tokens:
        return f"long: more than {budget.num_tokens} tokens"
    return None


def _build_row(
    record: BreastRecord, variant: int, style: str, writer: str, text: str, check: FactCheck
) -> dict[str, Any]:
    return {
        "dataset": record.dataset, "study": record.study, "laterality": record.laterality, "variant": variant,
        "style": style, "writer": writer, "text": text, "facts": name_facts(record),
        "single_view": record.has_single_view_finding(), "attempts": 0, "is_fallback": False, "reason": None,
        "num_facts": check.num_facts, "missing": list(check.missing), "contradicted": list(check.contradicted),
        "invented": list(check.invented),
    }  # fmt: skip


def write_text_table(texts: pl.DataFrame, path: Path) -> None:
    """Keep a corpus; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        texts.write_parquet(file)
