"""`hilum text write`: from records to a checked corpus and its figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from hilum.atomic import write_atomic
from hilum.errors import UserError
from hilum.folder_lock import lock_folder
from hilum.text.tokenizer import read_tokenizer
from hilum.text.writers.completion_store import CompletionStore, Replay
from hilum.text.writers.language_model import LanguageModel

from .corpus import CorpusSettings, write_corpus, write_text_table
from .corpus_report import describe_corpus, list_lines
from .grammar import Budget, Style, write_text
from .prompt import build_request
from .record import BreastRecord
from .study_breasts import open_records

NUM_SHOWN = 2  # breasts of a dry run
MOST_FAILURES = 20  # of a model in a row


@dataclass(frozen=True)
class Writer:
    """Who writes, and how it is reached."""

    kind: Literal["template", "server", "transformers", "replay"] = "template"
    model: str = ""
    url: str = "http://127.0.0.1:8000/v1"
    allow_remote: bool = False
    answers: Path = Path("answers.jsonl")
    retries: int = 3
    concurrency: int = 4
    timeout: float = 300.0
    price: float = 0.0
    sampling: dict[str, Any] = field(default_factory=dict)


def write_breast_texts(
    records: Path,
    out: Path,
    writer: Writer,
    *,
    num_variants: int = 4,
    styles: Sequence[Style] = ("report", "sentence", "kv"),
    seed: int = 0,
    dropout: float = 0.2,
    vocabulary: Path | None = None,
    length: int = 256,
    plain_words: bool = False,
    dry_run: bool = False,
) -> dict[str, Any] | None:
    """Write, check, keep and describe the texts of a table's breasts; the report, or None of a dry run."""
    found = open_records(records)
    if not any(not record.is_empty() for record in found):
        raise UserError(
            f"{records}: of {len(found):,} breasts none has an assessment, a density or a finding recorded."
        )
    count = _read_counter(vocabulary)
    budget = Budget(length, count) if count else None
    settings = CorpusSettings(num_variants, styles, seed, dropout, budget, plain_words)
    console = Console(highlight=False)
    if dry_run:
        _show(found, settings, writer, console)
        return None
    if writer.kind == "template":
        corpus = write_corpus(found, settings)
    else:
        answers, is_replay = writer.answers, writer.kind == "replay"
        lock = nullcontext() if is_replay else lock_folder(
            answers.resolve().parent, f"{answers} is being written by another process.", patience=2.0,
            name=f".{answers.name}.lock",
        )  # fmt: skip
        with lock, CompletionStore(answers, read_only=is_replay) as store:
            corpus = write_corpus(
                found, settings, model=_open_model(writer, store), store=store, retries=writer.retries,
                price=writer.price, sampling=writer.sampling,
                most_failures=None if is_replay else MOST_FAILURES,
            )  # fmt: skip
    report = describe_corpus(corpus, count)
    write_text_table(corpus.texts, out)
    write_atomic(out.with_suffix(".report.json"), json.dumps(report, indent=1) + "\n")
    for line in list_lines(report):
        console.print(line, soft_wrap=True, markup=False)
    return report


def _open_model(writer: Writer, store: CompletionStore) -> LanguageModel:
    if writer.kind == "server":
        from hilum.text.writers.local_server import LocalServer

        return LocalServer(
            writer.url, writer.model, concurrency=writer.concurrency, timeout=writer.timeout,
            allow_remote=writer.allow_remote,
        )  # fmt: skip
    if writer.kind == "transformers":
        from hilum.text.writers.transformers_model import load_transformers_model

        return load_transformers_model(writer.model, batch_size=writer.concurrency, allow_remote=writer.allow_remote)
    return Replay(store, writer.model)


def _read_counter(vocabulary: Path | None) -> Callable[[str], int] | None:
    """Tokens of a text, with the start and end that every text gets."""
    if vocabulary is None:
        return None
    tokenizer = read_tokenizer(vocabulary)
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids) + 2


def _show(records: Sequence[BreastRecord], settings: CorpusSettings, writer: Writer, console: Console) -> None:
    """What would be written, or sent, for the first breasts, and how much of it there is."""
    told = [record for record in records if not record.is_empty()]
    for record in told[:NUM_SHOWN]:
        for variant in range(settings.num_variants):
            if writer.kind == "template":
                style = settings.styles[variant % len(settings.styles)]
                words = write_text(
                    record, variant, style=style, seed=settings.seed, dropout=settings.dropout, budget=settings.budget
                )
            else:
                request = build_request(record, variant, 0, **writer.sampling)
                body = {"messages": request.prompt.list_messages(), **vars(request.params)}
                words = json.dumps(body, indent=1)
            console.print(f"--- variant {variant}\n{words}", markup=False, soft_wrap=True)
    num = len(told) * settings.num_variants
    console.print(
        f"{num:,} texts of {len(told):,} breasts; nothing was {'sent' if writer.kind != 'template' else 'kept'}."
    )
    if writer.kind == "server":
        console.print(f"They would be asked of {writer.url}.", markup=False)
