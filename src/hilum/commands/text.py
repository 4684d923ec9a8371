"""`hilum text`: reports as tokens, and texts made from structured findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge
from tyro.conf import Positional

from hilum.commands.terminal import run_action, say_next
from hilum.errors import UserError
from hilum.ranges import Count, Fraction, NotNegative, Positive, Seed, Workers


def text(arguments: Sequence[str]) -> int:
    """Turn a cache's reports into tokens, or write texts of breasts from their findings."""
    return run_action("text", text.__doc__, "PATH", TEXT, arguments)


def text_tokens(
    data: Positional[Path],
    sections: tuple[str, ...] = ("findings", "impression"),
    fallback: tuple[str, ...] = ("report",),
    leave_out: tuple[str, ...] = (),
    vocabulary_size: Annotated[int, Ge(300)] = 8000,
    vocabulary: Path | None = None,
    length: Annotated[int, Ge(2)] = 128,
    examples: Workers = 3,
) -> int:
    """Turn a cache's reports into tokens, once, and show what a run would learn from them.

    `hilum pretrain mvmae_v2t` does so too where it is missing, by its --text settings. Texts stay in the cache.

    Args:
        data: Cache folder.
        sections: Sections of a report that are read, joined in this order.
        fallback: Sections read instead of a study that has none of these.
        leave_out: Archives whose reports are not read.
        vocabulary_size: Tokens of the vocabulary that is learned from the training split's reports.
        vocabulary: A vocabulary to use instead: BERT's vocab.txt, or a tokenizer.json.
        length: Tokens of a report that would be predicted at most, to see how many are cut.
        examples: Training reports to show, as they are and as their tokens read.
    """
    from hilum.cache import Cache

    Cache.open(data)  # or it is refused before what takes seconds to import
    from hilum.config import TextConfig
    from hilum.text.describe_tokens import show_report_tokens

    chosen = TextConfig(
        sections=sections, fallback=fallback, leave_out=leave_out, vocabulary_size=vocabulary_size, length=length
    )
    show_report_tokens(data, chosen, vocabulary=vocabulary, num_examples=examples)
    flags: list[str | Path] = ["--vocabulary", vocabulary] if vocabulary else []
    for name, value in vars(chosen).items():
        if value != getattr(TextConfig(), name) and name != "vocabulary":
            flags += [f"--text.{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    say_next("pretrain", "mvmae_v2t", "--data", data, "--out", "runs/reports", *flags)
    return 0


def text_write(
    records: Positional[Path],
    out: Path,
    variants: Count = 4,
    styles: tuple[Literal["kv", "sentence", "report"], ...] = ("report", "sentence", "kv"),
    seed: Seed = 0,
    dropout: Fraction = 0.2,
    vocabulary: Path | None = None,
    length: Count | None = None,
    plain_words: bool = False,
    writer: Literal["template", "server", "transformers", "replay"] = "template",
    model: str | None = None,
    url: str = "http://127.0.0.1:8000/v1",
    allow_remote: bool = False,
    answers: Path | None = None,
    retries: Workers = 3,
    concurrency: Count = 4,
    temperature: NotNegative = 0.8,
    top_p: Fraction = 0.95,
    max_tokens: Count = 256,
    timeout: Positive = 300.0,
    price: NotNegative = 0.0,
    dry_run: bool = False,
) -> int:
    """Write texts about breasts from their findings, check each against them, and report how true and varied they are.

    Args:
        records: Cache folder of a mammography archive, whose images tell where findings lie and how large they are;
            or its study table (.parquet) or a file of records (.jsonl), which are read as they are.
        out: Parquet file to write; its figures go beside it, as .report.json.
        variants: Texts of a breast; training draws one of them each time.
        styles: Of the variants, in turn. report: composition, findings, impression; sentence: in any order;
            kv: field and value.
        seed: Another seed gives other words.
        dropout: Probability that a field other than findings, side and assessment is left out of a text.
        vocabulary: Tokenizer that counts a text's length: BERT's vocab.txt, or a tokenizer.json; without, none is cut.
        length: Tokens of a text at most, by default 256; sentences are left out, the assessment last. Needs
            --vocabulary.
        plain_words: Keep lower-case words only, without sentences of two or fewer, as Mammo-CLIP does.
        writer: Who writes. template: a grammar; server: an OpenAI-compatible server; transformers: a model in this
            process; replay: only what --answers holds.
        model: The model's name at the server, or its folder.
        url: The server's address; the variable HILUM_MODEL_KEY is its key, if it wants one.
        allow_remote: Let records, without ids, go to another machine; let transformers download a model.
        answers: File that keeps a model's answers, so that none is asked twice; by default beside --out.
        retries: Further attempts at a text that says something else than the findings; then the grammar writes it.
        concurrency: Requests under way at a time; of transformers, texts of a batch.
        temperature: Of a model's words; 0: the likeliest each time.
        top_p: Share of probability that a model's words are drawn from.
        max_tokens: Longest answer of a model, in its tokens.
        timeout: Seconds to wait for an answer.
        price: Of a million of a model's tokens, to show what it costs.
        dry_run: Print what would be written or sent for the first breasts, and stop.
    """
    from hilum.text.breast.run import Writer, write_breast_texts

    if out.suffix != ".parquet":
        raise UserError(f"--out {out}: expected a name that ends in .parquet.")
    if length is not None and vocabulary is None:
        raise UserError(f"--length {length} has no effect without --vocabulary, the tokenizer that counts tokens.")
    if writer != "template" and model is None:
        raise UserError(f"--writer {writer} needs --model: its name at the server, or its folder.")
    chosen = Writer(
        kind=writer,
        model=model or "",
        url=url,
        allow_remote=allow_remote,
        answers=answers or out.with_suffix(".answers.jsonl"),
        retries=retries,
        concurrency=concurrency,
        timeout=timeout,
        price=price,
        sampling={"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens},
    )
    write_breast_texts(
        records, out, chosen, num_variants=variants, styles=styles, seed=seed, dropout=dropout, vocabulary=vocabulary,
        length=length or 256, plain_words=plain_words, dry_run=dry_run,
    )  # fmt: skip
    if not dry_run:
        cache = records if records.is_dir() else "cache"
        say_next("pretrain", "mv_clip_tr", "--data", cache, "--out", "runs/breasts", "--texts", out)
    return 0


# What `hilum text` does.
TEXT: dict[str, Callable[..., int]] = {"tokens": text_tokens, "write": text_write}
