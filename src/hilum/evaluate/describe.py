"""Reports that a run writes of studies it has not learned from: to read, and scored against the real ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from hilum.atomic import open_atomic
from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.config import Captioning, load_config
from hilum.errors import UserError
from hilum.loader import iterate_studies
from hilum.model.encoder import Encoder
from hilum.model.places import find_folder, find_weights
from hilum.model.report_decoder import AnyReportDecoder, Memory, join_views
from hilum.model.report_weights import load_report_decoder, load_tokenizer
from hilum.model.weights import load_encoder
from hilum.model.write_reports import Writing, write_reports
from hilum.outputs import REPORTS
from hilum.text.report_tokens import TextLayout, read_texts
from hilum.training.launch import choose_precision

from .leaks import check_pretraining
from .report_scores import Agreement, describe_silent, list_languages, list_silent, score_reports, tabulate_agreement
from .subject import read_data_settings


def describe_studies(
    run: Path,
    data: Path,
    out: Path,
    *,
    split: Literal["val", "test"] = "test",
    beam: int = 1,
    batch_views: int = 64,
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto",
    num_examples: int = 3,
) -> pl.DataFrame:
    """Write a report for every study of a split, all its views seen whole, and print how far it says what the real one
    says (`report_scores.py`).

    Args:
        run: Run folder of a recipe that learned from reports.
        data: Cache folder.
        out: Parquet file to write: archive, study, patient group, split, `text`, `score` (mean log-probability of its
            tokens), `num_tokens`, `ended` (False: cut at the length limit), `names_no_finding` (it counts as No
            Finding without a word of one; null in a language without rules). Real reports are not copied into it.
        split: Studies to write of.
        beam: Beginnings kept at a time; 1: greedy.
        batch_views: Views at a time.
        precision: auto is bfloat16 where the processor or GPU computes in it.
        num_examples: Texts printed beside the real ones.

    Returns:
        What was written.

    Raises:
        UserError: a run without a report decoder, a cache that does not fit it, a split without studies, or test
            patients whose reports it may have learned.
    """
    cache = Cache.open(data)
    weights = find_weights(run)
    encoder, about = load_encoder(weights)
    decoder, layout, header = load_report_decoder(find_folder(run))
    tokenizer = load_tokenizer(find_folder(run), layout)
    cache.check_policy(about["image_policy"])
    cache.check_encoder(encoder.config)
    rows = cache.rows(split)
    if not len(rows):
        raise UserError(f"{data}: no study is in the split {split}. Name another with --split.")
    for note in check_pretraining(cache, run, split=split):
        Console(stderr=True).print(f"- {note}", markup=False, highlight=False, soft_wrap=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder, decoder = encoder.to(device), decoder.to(device)
    half = choose_precision(precision) == "bf16-mixed"
    config = load_config(find_folder(run) / "config.json")
    if any(isinstance(term, Captioning) and term.parallel == 1 for term in config.terms.values()):
        raise UserError(
            f"{run}: its reports were all predicted at once (captioning.parallel of 1), so it has not learned to write "
            "one word after the other. Pretrain with a smaller share."
        )
    settings = read_data_settings(run)
    written: list[Writing] = []
    batches = iterate_studies(
        cache, rows, views_per_batch=batch_views, crop=settings.shown, max_views=settings.max_views
    )
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("reports", total=len(rows))
        for batch in batches:
            ready = prepare(batch, size=encoder.config.image_size, mean=about["mean"], std=about["std"], device=device)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                memory, owner = _read_memory(encoder, decoder, ready, header["memory"])
                written += write_reports(decoder, layout, memory, owner, ready.num_studies, beam)
            bar.advance(task, batch.num_studies)
    texts = [tokenizer.decode(writing.tokens).strip() for writing in written]
    languages = list_languages(cache.table()[rows])
    frame = cache.table().select("dataset", "study", "group", "split")[rows].with_columns(
        pl.Series("text", texts, pl.String),
        pl.Series("score", [writing.score for writing in written], pl.Float64),
        pl.Series("num_tokens", [len(writing.tokens) for writing in written], pl.Int64),
        pl.Series("ended", [writing.ended for writing in written], pl.Boolean),
        pl.Series("names_no_finding", list_silent(texts, languages), pl.Boolean),
    )  # fmt: skip
    with open_atomic(out) as file:
        frame.write_parquet(file, metadata={REPORTS: json.dumps({"cache": cache.digest, "beam": beam})})
    # Real reports that were not to be learned from can still be scored against.
    every = [text for text, _ in read_texts(cache, replace(config.text, leave_out=()))]
    real = [every[row] for row in rows.tolist()]
    _show(frame, real, layout, num_examples)
    _show_scores(
        score_reports(
            texts,
            real,
            archive=frame["dataset"].to_list(),
            patient=cache.studies["patient"][rows],
            language=languages,
        )
    )
    return frame


@torch.no_grad()
def _read_memory(
    encoder: Encoder, decoder: AnyReportDecoder, batch: StudyBatch, memory: Literal["study", "view"]
) -> tuple[Memory, torch.Tensor]:
    """Memory of all views unmasked, and which study each row of it is of."""
    features = encoder.encode(batch.pixels, batch.view_kind)
    every_patch = torch.arange(encoder.config.num_patches, device=batch.pixels.device).expand(batch.num_views, -1)
    tokens = decoder.place(features.tokens, every_patch, batch.view_kind)
    if memory == "study":
        return join_views(tokens, batch), torch.arange(batch.num_studies, device=tokens.device)
    return Memory(tokens, None), batch.study


def _show(frame: pl.DataFrame, real: list[str], layout: TextLayout, num_examples: int) -> None:
    console = Console()
    num_ended = int(frame["ended"].sum())
    console.print(
        f"{len(frame):,} reports, {num_ended:,} of them ended within {layout.length} tokens; "
        f"{frame['text'].n_unique():,} different; median {frame['num_tokens'].median():.0f} tokens",
        highlight=False,
    )
    for row in [row for row, text in enumerate(real) if text][:num_examples]:
        console.print(f"\n[bold]written[/]  {escape(frame['text'][row])}", highlight=False)
        console.print(f"[dim]report[/]   {escape(real[row])}", highlight=False)


def _show_scores(scored: Sequence[Agreement]) -> None:
    console = Console()
    if not scored:
        console.print("\nNo score: none of these studies has a real report.")
        return
    console.print()
    console.print(tabulate_agreement(scored))
    console.print(
        "Dealt: to the study of another patient of the archive, of which such a report knows nothing; only what lies "
        "above those says something. F1 is of findings stated present, read from both texts by Hilum's rules.",
        highlight=False,
    )
    if silent := describe_silent(scored):
        console.print(silent, highlight=False)
    if any(one.findings is None for one in scored):
        console.print("Findings are not read (-) in languages other than English and Spanish.", highlight=False)
    if len({one.archive for one in scored}) * 3 > len(scored):
        console.print("None is dealt where one patient has more than half of the reports.", highlight=False)
