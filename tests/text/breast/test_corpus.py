"""Corpora: what is kept of each text, when a language model's text is taken, and the command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from chat_server import serve_chat
from hilum.cli import main
from hilum.errors import UserError
from hilum.text.breast.corpus import CorpusSettings, write_corpus
from hilum.text.breast.corpus_report import describe_corpus, measure_distinct
from hilum.text.breast.grammar import write_text
from hilum.text.breast.prompt import ROLES, build_prompt, build_request, list_facts
from hilum.text.breast.record import write_records
from hilum.text.breast.run import Writer, write_breast_texts
from toy_breasts import EMPTY, NEGATIVE, RICH, SPARSE

RECORDS = [RICH, NEGATIVE, SPARSE, EMPTY]


def test_every_breast_of_which_something_is_recorded_has_its_variants() -> None:
    corpus = write_corpus(RECORDS, CorpusSettings(num_variants=4))
    assert corpus.num_empty == 1
    assert corpus.texts.height == 12
    assert corpus.texts["style"].to_list()[:4] == ["kv", "sentence", "report", "kv"]
    assert corpus.texts["contradicted"].list.len().sum() == corpus.texts["invented"].list.len().sum() == 0
    first = corpus.texts.row(0, named=True)
    assert first["text"] == write_text(RICH, 0, style="kv")
    assert (first["laterality"], first["writer"], first["num_facts"]) == ("left", "template", 17)
    assert first["facts"][:3] == ["assessment: 4", "density: c", "calcification"]
    assert corpus.texts["single_view"].to_list() == [True] * 4 + [False] * 8


def test_plain_words_are_kept_after_the_check() -> None:
    (text, *_) = write_corpus([RICH], CorpusSettings(num_variants=1, styles=("report",), plain_words=True)).texts[
        "text"
    ]
    assert re.fullmatch(r"[a-z0-9 ]+", text)


def test_distinct_n_by_hand() -> None:
    texts = ["No mass", "no mass no mass"]
    assert measure_distinct(texts, 1) == pytest.approx(2 / 6)
    assert measure_distinct(texts, 2) == pytest.approx(2 / 4)  # "no mass" thrice, "mass no"
    assert measure_distinct(["mass"], 2) == 0.0


def test_a_prompt_holds_the_record_without_ids_and_nothing_that_is_not_recorded() -> None:
    assert list_facts(SPARSE) == {"side": "right", "breast_density_category": "D"}
    facts = list_facts(RICH)
    assert facts["findings"][1]["shape"] == ["oval"]
    assert facts["known_absent"] == ["architectural distortion", "asymmetry"]
    prompts = [build_prompt(RICH, variant) for variant in range(len(ROLES))]
    assert len({prompt.user for prompt in prompts}) == len(ROLES)
    words = " ".join(prompt.system + prompt.user for prompt in prompts)
    assert not [word for word in ("4711", "0815", "toy", "birads", "confidence") if word in words]
    seeds = {build_request(RICH, variant, attempt).params.seed for variant in range(4) for attempt in range(4)}
    assert len(seeds) == 16


def answer_truly(request: dict[str, Any]) -> str:
    """A model that does as it is told: words for the facts of the prompt, with a preamble."""
    facts = json.loads(re.search(r"\{.*\}", request["messages"][1]["content"], re.DOTALL)[0])
    words = [f"Sure, here is the report:\n\nThe {facts['side']} breast"]
    words.append(f"has density category {facts['breast_density_category']}.")
    words += [f"There is {one['category']}." for one in facts.get("findings", [])]
    if "bi_rads_category" in facts:
        words.append(f"BI-RADS {facts['bi_rads_category']}.")
    return " ".join(words)


def run_server(tmp_path: Path, answer, *flags: str) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """`hilum text write` with a server; the report, the rows and how often the server was asked."""
    records, out = tmp_path / "records.jsonl", tmp_path / "texts.parquet"
    write_records(RECORDS, records)
    with serve_chat(answer) as server:
        arguments = ["text", "write", str(records), "--out", str(out), "--writer", "server", "--model", "llama"]
        assert main([*arguments, "--url", server.address, *flags]) == 0
    report = json.loads(out.with_suffix(".report.json").read_text())
    return report, pl.read_parquet(out).to_dicts(), len(server.asked)


def test_true_answers_are_taken_and_kept(tmp_path: Path) -> None:
    report, rows, asked = run_server(tmp_path, lambda request, number: answer_truly(request), "--variants", "2")
    assert asked == 6
    assert {row["writer"] for row in rows} == {"llama"}
    assert (
        rows[0]["text"] == "The left breast has density category C. There is calcification. There is mass. BI-RADS 4."
    )
    assert "finding 1 (mass).shape: oval" in rows[0]["missing"]
    assert report["language_model"] == {"answers": 6, "failed": 0, "rejected": 0, "rejected_for": {}, "fallbacks": 0}
    again, same, asked = run_server(tmp_path, lambda request, number: (500, {}, "off"), "--variants", "2")
    assert (again, same, asked) == (report, rows, 0)


def test_a_liar_is_asked_anew_and_then_the_grammar_writes_and_says_so(tmp_path: Path) -> None:
    def lie(request: dict[str, Any], number: int) -> str:
        text = answer_truly(request)
        return text.replace("left", "right") if "left" in text else text

    report, rows, asked = run_server(tmp_path, lie, "--variants", "1", "--retries", "2")
    liar, *others = rows
    assert (liar["writer"], liar["is_fallback"], liar["attempts"]) == ("template", True, 3)
    assert liar["reason"] == "contradicted: side: right (record: left)"
    assert liar["contradicted"] == []
    assert all(row["writer"] == "llama" and not row["is_fallback"] for row in others)
    assert asked == 3 + 2
    told = report["language_model"]
    assert (told["answers"], told["rejected"], told["fallbacks"]) == (5, 3, 1)
    assert told["rejected_for"] == {"contradicted": 3}


def test_a_second_attempt_has_another_seed(tmp_path: Path) -> None:
    def forget_once(request: dict[str, Any], number: int) -> str:
        return "The right breast." if number < 3 else answer_truly(request)

    report, rows, asked = run_server(tmp_path, forget_once, "--variants", "1", "--concurrency", "1")
    assert asked == 5  # the sparse breast needs no more than its side
    assert [row["attempts"] for row in rows] == [2, 2, 1]
    assert report["language_model"]["rejected_for"] == {"contradicted": 1, "missing": 1}


def test_the_command_writes_by_the_grammar_within_its_budget(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    records, out, vocabulary = tmp_path / "records.jsonl", tmp_path / "texts.parquet", tmp_path / "vocab.txt"
    write_records(RECORDS * 1, records)
    letters = [f"{prefix}{letter}" for prefix in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, "-", ".", ",", ":", ";", "(", ")"]
    vocabulary.write_text("\n".join(words) + "\n")
    arguments = ["text", "write", str(records), "--out", str(out), "--vocabulary", str(vocabulary), "--length", "150"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "12 texts of 3 breasts" in printed
    assert "all: 100.00% true, 0.00% contradicted, 0.00% invented" in printed
    report = json.loads(out.with_suffix(".report.json").read_text())
    assert report["writers"]["all"]["tokens_longest"] <= 150
    assert all(len(row["text"]) > 5 for row in pl.read_parquet(out).to_dicts())


def test_a_replay_needs_its_file_and_leaves_it_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    _, rows, _ = run_server(tmp_path, lambda request, number: answer_truly(request), "--variants", "1")
    answers = tmp_path / "texts.answers.jsonl"
    kept = answers.read_bytes()[:-20]  # a line that a kill cut, and so an answer that is not there
    answers.write_bytes(kept)
    out = str(tmp_path / "again.parquet")
    replay = ["text", "write", str(tmp_path / "records.jsonl"), "--out", out, "--writer", "replay", "--model", "llama"]
    assert main([*replay, "--variants", "1"]) == 2
    assert "there is no such file of answers to replay" in " ".join(capsys.readouterr().err.split())
    assert main([*replay, "--variants", "1", "--answers", str(answers)]) == 0
    assert answers.read_bytes() == kept
    again = pl.read_parquet(out).to_dicts()
    assert [row["is_fallback"] for row in again].count(True) == 1
    assert sum(row["text"] == other["text"] for row, other in zip(rows, again, strict=True)) >= 2


def test_a_dry_run_sends_and_keeps_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    records = tmp_path / "records.jsonl"
    write_records(RECORDS, records)
    with serve_chat(lambda request, number: "no") as server:
        flags = ["--writer", "server", "--model", "llama", "--url", server.address, "--dry-run"]
        assert main(["text", "write", str(records), "--out", str(tmp_path / "texts.parquet"), *flags]) == 0
    assert not server.asked
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]
    printed = capsys.readouterr().out
    assert '"oval"' in printed.replace("\\", "")
    assert "12 texts of 3 breasts; nothing was sent." in printed


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--out", "texts.csv"], "ends in .parquet"),
        (["--out", "t.parquet", "--length", "64"], "no effect without --vocabulary"),
        (["--out", "t.parquet", "--writer", "server"], "needs --model"),
        (
            ["--out", "t.parquet", "--writer", "server", "--model", "m", "--url", "http://10.1.1.1/v1"],
            "another machine",
        ),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path: Path, capsys: pytest.CaptureFixture, flags, words: str) -> None:
    records = tmp_path / "records.jsonl"
    write_records(RECORDS, records)
    flags = [str(tmp_path / flag) if flag.startswith("t") and "." in flag else flag for flag in flags]
    assert main(["text", "write", str(records), *flags]) == 2
    assert words in capsys.readouterr().err


def test_a_table_of_empty_records_is_refused(tmp_path: Path) -> None:
    write_records([EMPTY], tmp_path / "records.jsonl")
    with pytest.raises(UserError, match="none has an assessment"):
        write_breast_texts(tmp_path / "records.jsonl", tmp_path / "t.parquet", Writer())


def test_figures_of_identical_descriptions_need_a_batch_of_breasts() -> None:
    few = describe_corpus(write_corpus(RECORDS, CorpusSettings(num_variants=1)))
    assert few["identical_in_batches_of_18"] == {}
    many = describe_corpus(write_corpus([NEGATIVE] * 12 + [RICH] * 6, CorpusSettings(num_variants=1)))
    found = many["identical_in_batches_of_18"]
    assert found["different"] == 2
    assert found["anchors_with_one"] == 1.0
    assert found["identical_negatives"] == pytest.approx((12 * 11 + 6 * 5) / 18)
