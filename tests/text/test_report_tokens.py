"""From sections to tokens in batches: which text, which vocabulary, what is cut, what a study without one has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer

from hilum.cache import Cache
from hilum.cache.side_table import name_side_table
from hilum.cli import main
from hilum.config import TextConfig
from hilum.errors import UserError
from hilum.loader import StudyLoader, iterate_studies
from hilum.text.report_tokens import PLACEHOLDER, choose_text, name_vocabulary, open_report_tokens, read_texts
from hilum.text.tokenizer import END, PAD, START, UNKNOWN, find_special, read_tokenizer, train_tokenizer
from tiny_runs import make_tiny_cache
from toy_archive import make_cache

TEXT = TextConfig(vocabulary_size=300, length=64)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_tiny_cache(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A vocab.txt as BERT's: special tokens, words and pieces of words."""
    words = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "heart", "is", "small", "effus", "##ion"]
    (tmp_path / "vocab.txt").write_text("\n".join([*words, ".", ","]) + "\n")
    return tmp_path / "vocab.txt"


def test_wanted_sections_are_joined_and_others_stand_in() -> None:
    sections = [{"section": name, "text": f" {name}  said\n"} for name in ("impression", "findings", "report")]
    assert choose_text(sections, ["findings", "impression"], ["report"]) == (
        "findings said impression said", "findings+impression",
    )  # fmt: skip
    assert choose_text(sections[2:], ["findings"], ["report"]) == ("report said", "report")
    assert choose_text(sections, ["history"], []) == ("", "")
    assert choose_text([{"section": "report", "text": " \n"}], ["report"], []) == ("", "")


def test_a_vocabulary_writes_both_languages_and_is_the_same_every_time() -> None:
    texts = ["El corazón es pequeño, sin derrame.", "No effusion; heart size 1.2 cm."] * 3
    tokenizer = train_tokenizer(texts, 400)
    assert train_tokenizer(texts, 400).to_str() == tokenizer.to_str()
    assert tokenizer.get_vocab_size() <= 400
    for text in [*texts, "Neumotórax ≥ 2 cm?"]:
        assert tokenizer.decode(tokenizer.encode(text).ids).strip() == text.lower()
    assert [find_special(tokenizer, name) for name in (PAD, UNKNOWN, START, END)] == [0, 1, 2, 3]


def test_tokens_are_the_reports_and_studies_without_one_have_no_row(cache: Cache) -> None:
    tokens = open_report_tokens(cache, TEXT)
    texts = [text for text, _ in read_texts(cache, TEXT)]
    tokenizer = Tokenizer.from_str(tokens.tokenizer)
    for study, text in enumerate(texts):
        row = tokens.of_study[study]
        assert (row >= 0) == bool(text) == (study % 5 != 4)
        if text:
            ids = tokens.tokens[tokens.offset[row] : tokens.offset[row + 1]].tolist()
            assert tokenizer.decode(ids).strip() == text.lower()
    assert set(tokens.sections) == {"findings+impression", "impression"}


def test_only_the_training_split_decides_the_vocabulary(tmp_path: Path) -> None:
    said = [[{"section": "report", "text": f"zebra{study} zebra zebra zebra"}] for study in range(4)]
    other = [[{"section": "report", "text": "okapi okapi okapi okapi"}] for _ in range(4)]
    cache = make_cache(tmp_path, [1] * 8, split=["train"] * 4 + ["test"] * 4, sections=[*said, *other])
    words = Tokenizer.from_str(open_report_tokens(cache, TEXT).tokenizer).get_vocab()
    assert [name for name in words if "zebra" in name]
    assert not [name for name in words if "okap" in name]


def test_packed_rows_have_start_words_and_an_end_unless_cut(cache: Cache) -> None:
    whole = open_report_tokens(cache, TEXT)
    rows = np.array([4, 0, 2])  # the first has no report
    texts = whole.pack(rows)
    assert texts.owner.tolist() == [1, 2]
    counts = whole.count_words()[whole.of_study[[0, 2]]]
    assert texts.length.tolist() == (counts + 2).tolist()
    assert texts.tokens.shape == (2, counts.max() + 2)
    for row, count in enumerate(counts.tolist()):
        assert texts.tokens[row, 0] == 2
        assert texts.tokens[row, count + 1] == 3
        assert not texts.tokens[row, count + 2 :].any()
    cut = open_report_tokens(cache, replace(TEXT, length=5, start="pad"))
    texts = cut.pack(rows)
    assert texts.tokens.shape == (2, 6)
    assert texts.length.tolist() == [6, 6]
    assert not (texts.tokens == 3).any()
    assert texts.tokens[:, 0].tolist() == [0, 0]
    fits = open_report_tokens(cache, replace(TEXT, length=int(counts[0]) + 1))
    assert fits.pack(rows[1:2]).tokens[0, -1] == 3  # as long as the limit, its end included
    assert whole.layout.longest == whole.count_words().max() + 1  # with its end
    assert cut.layout.longest == 5
    none = whole.pack(np.array([4]))
    assert none.tokens.shape[0] == len(none.owner) == 0


def test_loaders_show_studies_with_their_reports(cache: Cache) -> None:
    tokens = open_report_tokens(cache, TEXT)
    loader = StudyLoader(cache, cache.rows("train"), views_per_step=12, seed=0, texts=tokens)
    step = next(iter(loader.iterate()))
    batches = [*step.micro_batches, *iterate_studies(cache, cache.rows("val"), views_per_batch=4, texts=tokens)]
    for batch in batches:
        expected = tokens.pack(batch.row.numpy())
        assert all((one == other).all() for one, other in zip(batch.texts, expected, strict=True))
        moved = batch.to("cpu")
        assert (moved.texts.tokens == batch.texts.tokens).all()
    assert sum(len(batch.texts.owner) for batch in batches)


def test_tokens_are_made_once_and_a_change_is_another_table(cache: Cache, tmp_path: Path, bert: Path) -> None:
    before = set((cache.path / "side").glob("report-tokens-*"))
    first = open_report_tokens(cache, TEXT)
    stamp = {path: path.stat().st_mtime_ns for path in (cache.path / "side").glob("report-tokens-*")}
    again = open_report_tokens(cache, replace(TEXT, length=9))
    assert stamp == {path: path.stat().st_mtime_ns for path in (cache.path / "side").glob("report-tokens-*")}
    assert np.array_equal(first.tokens, again.tokens)
    open_report_tokens(cache, replace(TEXT, sections=("impression",), vocabulary_size=310))
    given = name_vocabulary(TEXT, bert)
    open_report_tokens(cache, given, vocabulary=bert)
    bert.unlink()
    open_report_tokens(cache, given)  # the file is needed once
    assert len(set((cache.path / "side").glob("report-tokens-*")) - before) >= 2
    assert name_side_table(cache, "x", {}).parent == cache.path / "side"


def test_a_given_vocabulary_is_read_as_bert_reads_it(cache: Cache, bert: Path) -> None:
    tokenizer = read_tokenizer(bert)
    assert tokenizer.encode("The heart is SMALL, effusion", add_special_tokens=False).tokens == [
        "the", "heart", "is", "small", ",", "effus", "##ion",
    ]  # fmt: skip
    tokens = open_report_tokens(cache, name_vocabulary(TEXT, bert), vocabulary=bert)
    assert tokens.layout[:4] == (14, 0, 3, 4)
    assert tokens.unknown == 2
    assert 0.0 < (tokens.tokens == 2).mean() < 0.6
    saved = bert.with_name("tokenizer.json")
    tokenizer.save(str(saved))
    same = open_report_tokens(cache, name_vocabulary(TEXT, saved), vocabulary=saved)
    assert np.array_equal(same.tokens, tokens.tokens)


def test_an_end_written_in_a_report_is_no_end(tmp_path: Path) -> None:
    said = [[{"section": "report", "text": "Mr [SEP] has [PAD] no effusion"}]] * 4
    cache = make_cache(tmp_path, [1] * 4, split=["train"] * 4, sections=said)
    assert open_report_tokens(cache, TEXT).tokens.min() > 3


def test_a_placeholder_is_a_row_that_is_no_report(cache: Cache) -> None:
    tokens = open_report_tokens(cache, replace(TEXT, placeholder="default"))
    assert (tokens.of_study >= 0).all()
    assert not tokens.has_report(np.array([4]))[0]
    assert tokens.pack(np.array([4, 0])).section.tolist()[0] == PLACEHOLDER
    assert tokens.pack(np.array([4, 0])).section.tolist()[1] >= 0


def test_shuffled_reports_are_another_patients_of_the_same_split(cache: Cache) -> None:
    own = open_report_tokens(cache, TEXT)
    dealt = open_report_tokens(cache, TEXT, shuffle_seed=0)
    assert np.array_equal(dealt.of_study, open_report_tokens(cache, TEXT, shuffle_seed=0).of_study)
    assert not np.array_equal(dealt.of_study, open_report_tokens(cache, TEXT, shuffle_seed=1).of_study)
    assert np.array_equal(dealt.of_study >= 0, own.of_study >= 0)
    assert sorted(dealt.of_study.tolist()) == sorted(own.of_study.tolist())
    for study in np.flatnonzero(own.of_study >= 0):
        giver = own.study[dealt.of_study[study]]
        assert cache.studies["split"][giver] == cache.studies["split"][study]
        assert cache.studies["patient"][giver] != cache.studies["patient"][study]


def test_archives_that_are_left_out_give_no_report_to_others(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    away = np.arange(len(cache.studies)) % 2 == 1
    monkeypatch.setattr(Cache, "find_archives", lambda self, names: away & bool(names))
    own = open_report_tokens(cache, TEXT)
    dealt = open_report_tokens(cache, TEXT, shuffle_seed=0, leave_out=("away",))
    assert np.array_equal(dealt.of_study[away], own.of_study[away])
    assert not np.array_equal(dealt.of_study[~away], own.of_study[~away])
    given = dealt.of_study[~away]
    assert not away[own.study[given[given >= 0]]].any()


def test_shuffled_reports_do_not_depend_on_how_patients_are_numbered(cache: Cache) -> None:
    """Patients are numbered anew in every cache, and their order in it is no order to deal in."""
    own = open_report_tokens(cache, TEXT)
    studies = cache.studies.copy()
    studies["patient"] = 1000 - cache.studies["patient"]
    renumbered = replace(cache, studies=studies)
    assert np.array_equal(own.shuffle(renumbered, 0).of_study, own.shuffle(cache, 0).of_study)


def test_archives_that_are_left_out_have_no_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [[{"section": "report", "text": "no effusion"}]] * 6
    cache = make_cache(tmp_path, [1] * 6, split=["train"] * 6, sections=said)
    archive = np.array(["toy", "padchest"] * 3)
    table = cache.table().with_columns(pl.Series("dataset", archive))
    monkeypatch.setattr(Cache, "table", lambda self: table)
    read = read_texts(cache, replace(TEXT, leave_out=("padchest",)))
    assert [bool(text) for text, _ in read] == (archive == "toy").tolist()


def test_what_is_missing_is_said(cache: Cache, tmp_path: Path, bert: Path) -> None:
    with pytest.raises(UserError, match=r"no study of the training split has a section plan.*there: findings, impress"):
        open_report_tokens(cache, replace(TEXT, sections=("plan",), fallback=()))
    with pytest.raises(UserError, match=r"text\.leave_out: .* has no archive padchest"):
        open_report_tokens(cache, replace(TEXT, leave_out=("padchest",)))
    with pytest.raises(UserError, match=r"by a given vocabulary \(sha256 aaaa.*--vocabulary PATH"):
        open_report_tokens(cache, replace(TEXT, vocabulary="a" * 64))
    with pytest.raises(UserError, match="there is no such file; expected a vocab"):
        name_vocabulary(TEXT, tmp_path / "none.txt")
    bert.write_text("heart\n[UNK]\n")
    with pytest.raises(UserError, match=r"has no token \[PAD\], \[CLS\], \[SEP\]"):
        read_tokenizer(bert)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a vocabulary"):
        read_tokenizer(tmp_path / "tokenizer.json")


def test_the_command_shows_counts_and_examples(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["text", "tokens", str(cache.path), "--vocabulary-size", "300", "--length", "12", "--examples", "1"]) == 0
    )
    said = capsys.readouterr().out
    assert "train: 15 of 18 studies have one" in said
    assert "from findings+impression: " in said
    assert "cut at 12 tokens: " in said
    assert "unknown: 0.00%" in said
    assert "The heart is " in said
    assert "Next: hilum pretrain mvmae_v2t" in said
    assert "--text.length 12" in said


def test_a_cache_without_words_to_learn_from_says_what_there_is(tmp_path: Path) -> None:
    """Sections that are blank, in another split, or in an archive that is left out are none of the training split."""
    said = [[{"section": "report", "text": text}] for text in (" ", "", "no effusion", "clear")]
    blank = make_cache(tmp_path / "blank", [1] * 4, split=["train"] * 2 + ["test"] * 2, sections=said)
    with pytest.raises(UserError, match=r"no study of the training split has .* with words in it \(sections there: no"):
        open_report_tokens(blank, TEXT)
    left = make_cache(tmp_path / "left", [1] * 4, split=["train"] * 4, sections=said)
    with pytest.raises(UserError, match=r"there: none; in archives that text\.leave_out leaves out: report\)"):
        open_report_tokens(left, replace(TEXT, leave_out=("toy",)))
    with pytest.raises(UserError, match="no study is in the training split"):
        open_report_tokens(make_cache(tmp_path / "test", [1] * 4, split=["test"] * 4, sections=said), TEXT)
