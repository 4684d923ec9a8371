"""The reports of a cache as token ids: made once, kept in a side table, dealt out by the loader.

Reading needs numpy alone; only making imports tables and the tokenizers library. A text may hold names: it stays, as
tokens, in the folder of its cache, and what is learned from it (tokenizer, decoder) in the run's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int32, Int64

from hilum.batch import Texts
from hilum.cache import Cache
from hilum.cache.side_table import read_side_table, write_side_table
from hilum.checksums import hash_file
from hilum.config import TextConfig
from hilum.errors import UserError
from hilum.shuffled_pairs import deal_to_others
from hilum.wording import say_no_file

FORMAT = 1
PLACEHOLDER = -1  # as section: the text of a study without one


class TextLayout(NamedTuple):
    """What a decoder must know of the tokens it predicts."""

    num_words: int  # ids are below it
    pad: int
    start: int
    end: int
    length: int  # predicted tokens of a text at most
    longest: int  # of the texts there are; at most `length`


def assume_layout(text: TextConfig) -> TextLayout:
    """The layout of a vocabulary of its full size whose texts are all too long: for models without data."""
    return TextLayout(text.vocabulary_size, 0, 0 if text.start == "pad" else 2, 3, text.length, text.length)


@dataclass(frozen=True)
class ReportTokens:
    """Texts of a cache, one after the other: text i is tokens[offset[i] : offset[i + 1]], without start and end."""

    tokens: Int32[np.ndarray, " token"]
    offset: Int64[np.ndarray, " border"]  # one more than texts
    study: Int64[np.ndarray, " text"]  # row in the cache
    section: Int64[np.ndarray, " text"]  # index into `sections`; PLACEHOLDER
    language: np.ndarray  # (text,) str: what the column extra_language says; ""
    sections: tuple[str, ...]
    tokenizer: str  # the JSON that `tokenizers.Tokenizer.from_str` reads
    layout: TextLayout
    unknown: int  # id of the token for unknown words
    of_study: Int64[np.ndarray, " study"]  # text of each study of the cache; -1: none

    def count_words(self) -> Int64[np.ndarray, " text"]:
        return np.diff(self.offset)

    def has_report(self, rows: Int64[np.ndarray, " row"]) -> np.ndarray:
        """Which studies have a report that is not a placeholder: bool (row,)."""
        text = self.of_study[rows]
        return (text >= 0) & (self.section[text] != PLACEHOLDER)

    def pack(self, rows: Int64[np.ndarray, " study"]) -> Texts:
        """The texts of these studies of the cache, as a batch holds them."""
        layout, text = self.layout, self.of_study[rows]
        owner = np.flatnonzero(text >= 0)
        text = text[owner]
        num_words = np.minimum(self.offset[text + 1] - self.offset[text], layout.length)
        is_whole = self.offset[text + 1] - self.offset[text] < layout.length
        length = 1 + num_words + is_whole
        tokens = np.full((len(text), max(2, length.max(initial=2))), layout.pad, np.int64)
        tokens[:, 0] = layout.start
        for row, (first, count) in enumerate(zip(self.offset[text].tolist(), num_words.tolist(), strict=True)):
            tokens[row, 1 : 1 + count] = self.tokens[first : first + count]
        tokens[is_whole, length[is_whole] - 1] = layout.end
        return Texts(*(torch.from_numpy(rows) for rows in (tokens, length, owner, self.section[text])))

    def shuffle(self, cache: Cache, seed: int, leave_out: Sequence[str] = ()) -> ReportTokens:
        """Every study gets the report of another patient's study of its split, as far as patients allow."""
        has_report = self.has_report(np.arange(len(self.of_study)))
        source = deal_to_others(cache, has_report, "shuffled report", seed, leave_out)
        return replace(self, of_study=self.of_study[source])


def open_report_tokens(
    cache: Cache,
    text: TextConfig,
    *,
    shuffle_seed: int | None = None,
    leave_out: Sequence[str] = (),
    vocabulary: Path | None = None,
) -> ReportTokens:
    """The tokens of a cache's reports, made where they are missing.

    Args:
        cache: An opened cache.
        text: Which sections, which vocabulary.
        shuffle_seed: Give every study another's report, by this seed; None: its own.
        leave_out: Archives that take no part in that.
        vocabulary: The file whose hash is `text.vocabulary`; only needed to make them.

    Raises:
        UserError: no training study has such a section, or a vocabulary is asked for that nobody named.
    """
    made_by = _describe_making(text)
    stored = read_side_table(cache, "report-tokens", made_by)
    if stored is None:
        stored = _make(cache, text, vocabulary)
        write_side_table(cache, "report-tokens", stored, made_by)
    num_words, pad, unknown, start, end = stored["special"].tolist()
    offset, study = stored["offset"], stored["study"]
    of_study = np.full(len(cache.studies), -1)
    of_study[study] = np.arange(len(study))
    longest = min(text.length, int(np.diff(offset).max(initial=0)) + 1)
    tokens = ReportTokens(
        stored["tokens"], offset, study, stored["section"], stored["language"], tuple(stored["sections"].tolist()),
        stored["tokenizer"].tobytes().decode(),
        TextLayout(num_words, pad, pad if text.start == "pad" else start, end, text.length, longest),
        unknown, of_study,
    )  # fmt: skip
    return tokens if shuffle_seed is None else tokens.shuffle(cache, shuffle_seed, leave_out)


def name_vocabulary(text: TextConfig, vocabulary: Path | None) -> TextConfig:
    """The settings with the hash of a given vocabulary file, if any."""
    if vocabulary is None:
        return text
    if not vocabulary.is_file():
        raise UserError(f"{vocabulary}: {say_no_file(vocabulary)}; expected a vocab.txt or a tokenizer.json.")
    return replace(text, vocabulary=hash_file(vocabulary))


def choose_text(
    sections: Sequence[Mapping[str, str]], wanted: Sequence[str], fallback: Sequence[str]
) -> tuple[str, str]:
    """Text of a study and the sections it is from, joined by "+"; two empty ones where it has none of them.

    Args:
        sections: Of the study table: `section` and `text`.
        wanted: Sections that are joined, in this order.
        fallback: Those taken instead where there is none of them.
    """
    texts: dict[str, str] = {}
    for entry in sections:
        clean = " ".join((entry["text"] or "").split())
        if clean:
            texts[entry["section"]] = " ".join(filter(None, [texts.get(entry["section"]), clean]))
    for names in (wanted, fallback):
        if there := [name for name in names if name in texts]:
            return " ".join(texts[name] for name in there), "+".join(there)
    return "", ""


def list_absent_sections(cache: Cache, text: TextConfig) -> list[str]:
    """Those of `text.sections` that no study of the cache has: of other archives, or misspelt."""
    tables = cache.table()["sections"].drop_nulls()
    there = {entry["section"] for sections in tables for entry in sections}
    return [name for name in text.sections if name not in there]


def read_texts(cache: Cache, text: TextConfig) -> list[tuple[str, str]]:
    """Text and section of every study of a cache, in its order; empty where there is none."""
    table = cache.table().select("dataset", "sections")
    return [
        ("", "") if dataset in text.leave_out else choose_text(sections or [], text.sections, text.fallback)
        for dataset, sections in table.iter_rows()
    ]


def _describe_making(text: TextConfig) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "sections": list(text.sections),
        "fallback": list(text.fallback),
        "leave_out": sorted(text.leave_out),
        "placeholder": text.placeholder,
        "vocabulary": text.vocabulary or text.vocabulary_size,
    }


def _make(cache: Cache, text: TextConfig, vocabulary: Path | None) -> dict[str, np.ndarray]:
    from .tokenizer import END, PAD, START, UNKNOWN, find_special, read_tokenizer, train_tokenizer

    unknown = sorted(set(text.leave_out) - set(cache.datasets))
    if unknown:
        raise UserError(f"text.leave_out: {cache.path} has no archive {', '.join(unknown)}, only {cache.datasets}.")
    found = read_texts(cache, text)
    training = [found[row][0] for row in cache.rows("train") if found[row][0]]
    if not training:
        raise UserError(_explain_no_reports(cache, text))
    if text.vocabulary is None:
        tokenizer = train_tokenizer(training, text.vocabulary_size)
    elif vocabulary is None or hash_file(vocabulary) != text.vocabulary:
        raise UserError(
            f"{cache.path}: its reports are to be tokenized by a given vocabulary (sha256 {text.vocabulary[:16]}). "
            "Say where it is: --vocabulary PATH."
        )
    else:
        tokenizer = read_tokenizer(vocabulary)
    names = sorted({name for _, name in found if name})
    whole = [(text.placeholder if not words and text.placeholder else words) for words, _ in found]
    rows = [row for row, words in enumerate(whole) if words]
    tokenizer.encode_special_tokens = True  # "[SEP]" written in a report is no end
    encoded = [one.ids for one in tokenizer.encode_batch([whole[row] for row in rows], add_special_tokens=False)]
    rows, encoded = [row for row, ids in zip(rows, encoded, strict=True) if ids], [ids for ids in encoded if ids]
    table = cache.table()
    languages = table["extra_language"].fill_null("").to_list() if "extra_language" in table.columns else None
    return {
        "tokens": np.fromiter((token for ids in encoded for token in ids), np.int32),
        "offset": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        "study": np.array(rows, np.int64),
        "section": np.array([names.index(found[row][1]) if found[row][0] else PLACEHOLDER for row in rows], np.int64),
        "language": np.array([languages[row] if languages else "" for row in rows], dtype=np.str_),
        "sections": np.array(names, dtype=np.str_),
        "special": np.array(
            [tokenizer.get_vocab_size(), *(find_special(tokenizer, name) for name in (PAD, UNKNOWN, START, END))]
        ),
        "tokenizer": np.frombuffer(tokenizer.to_str().encode(), np.uint8),
    }


def _explain_no_reports(cache: Cache, text: TextConfig) -> str:
    """Why there is nothing to learn from: which sections the training split has, with words in them."""
    rows = cache.rows("train")
    if not len(rows):
        return f"{cache.path}: no study is in the training split, so there is nothing to learn from."
    found, left_out = set[str](), set[str]()
    for dataset, sections in cache.table().select("dataset", "sections")[rows].iter_rows():
        names = {entry["section"] for entry in sections or [] if (entry["text"] or "").strip()}
        (left_out if dataset in text.leave_out else found).update(names)
    return (
        f"{cache.path}: no study of the training split has a section {', '.join([*text.sections, *text.fallback])} "
        f"with words in it (sections there: {', '.join(sorted(found)) or 'none'}"
        + (f"; in archives that text.leave_out leaves out: {', '.join(sorted(left_out))}" if left_out else "")
        + "). Name others (--text.sections of `hilum pretrain`, --sections of `hilum text tokens`), or take the recipe "
        "`mvmae`, which needs no reports."
    )
