"""Texts that images are compared with: of breasts or whole studies, as tokens, dealt out by the loader.

They come from a Parquet file (--texts), such as `hilum text write` makes, a text a row:

    dataset, study  as in the study table
    laterality      left or right; null: the text is of each breast of the study
    text
    facts           list of text: the statements that describe the breast, by which breasts are told to be identical
                    (the same statements) or alike (the share they have in common)
    single_view     whether a finding shows in one of the breast's two views only

The last two and laterality may be missing; further columns are not read. Several rows of a breast are variants, texts
to the same effect, of which each draw shows another. Without such a file, the report sections of the study table are
read (text.sections), one text a study.

A text may hold names: it stays, as tokens, in the folder of its cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float16, Int32, Int64

from hilum.batch import Descriptions
from hilum.cache import Cache
from hilum.cache.side_table import read_side_table, write_side_table
from hilum.checksums import hash_file
from hilum.config import Config
from hilum.errors import UserError
from hilum.keyed_random import make_keys
from hilum.vocabulary import LATERALITIES

from .language_model_folder import read_vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FORMAT = 1


@dataclass(frozen=True)
class DescriptionTable:
    """Texts of the studies of a cache. Rows of one breast are neighbours, and breasts of one study.

    Distinct text i has the tokens[offset[i] : offset[i + 1]], start and end among them.
    """

    tokens: Int32[np.ndarray, " token"]
    offset: Int64[np.ndarray, " border"]  # one more than distinct texts
    key: Int64[np.ndarray, " distinct"]  # 64-bit name of each distinct text
    text: Int64[np.ndarray, " row"]  # place among the distinct texts
    study: Int64[np.ndarray, " row"]  # row in the cache, ascending
    laterality: Int64[np.ndarray, " row"]
    facts: Bool[np.ndarray, "row fact"]
    single_view: Bool[np.ndarray, " row"]
    pad: int
    tokenizer: str  # the JSON that `tokenizers.Tokenizer.from_str` reads
    num_words: int  # of its vocabulary
    num_texts: int = 1  # shown of a breast, where it has so many
    seed: int = 0
    states: Float16[np.ndarray, "token dim"] | None = None  # of a language model, token by token; None: not stored

    def has_text(self, rows: Int64[np.ndarray, " study"]) -> Bool[np.ndarray, " study"]:
        """Which studies have a text at all."""
        return np.isin(rows, self.study)

    def choose(self, rows: np.ndarray, key: np.ndarray, draw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the table that a draw of these studies shows, and the place of each one's study among `rows`."""
        chosen, owner = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        edges = np.searchsorted(self.study, [rows, rows + 1])
        for place, (first, last) in enumerate(edges.T.tolist()):
            here = np.arange(first, last)
            if last - first > 1:
                order = make_keys("description", self.seed, int(key[place]), int(draw[place]), np.arange(last - first))
                by_breast = np.lexsort((order, self.laterality[here]))
                side = self.laterality[here][by_breast]
                rank = np.arange(len(side)) - np.searchsorted(side, side)
                here = here[by_breast[rank < self.num_texts]]
            chosen.append(here)
            owner.append(np.full(len(here), place))
        return np.concatenate(chosen), np.concatenate(owner)

    def pack(
        self, rows: np.ndarray, key: np.ndarray, draw: np.ndarray, laterality: np.ndarray | None = None
    ) -> Descriptions:
        """The texts of a draw of these studies of the cache, as a batch holds them.

        Args:
            rows: Of the cache.
            key: Lasting names of the studies.
            draw: How many times each was drawn before.
            laterality: Of the one breast that is shown of each; None: all are.
        """
        row, owner = self.choose(rows, key, draw)
        if laterality is not None:
            of_breast = (self.laterality[row] == laterality[owner]) | (self.laterality[row] == 0)
            row, owner = row[of_breast], owner[of_breast]
        text = self.text[row]
        length = self.offset[text + 1] - self.offset[text]
        longest = int(length.max(initial=1))
        tokens = np.full((len(row), longest), self.pad, np.int64)
        width = 0 if self.states is None else self.states.shape[1]
        states = np.zeros((len(row), longest, width), np.float16)
        for place, (first, count) in enumerate(zip(self.offset[text].tolist(), length.tolist(), strict=True)):
            tokens[place, :count] = self.tokens[first : first + count]
            if self.states is not None:
                states[place, :count] = self.states[first : first + count]
        return Descriptions(
            *(
                torch.from_numpy(np.ascontiguousarray(part))
                for part in (
                    tokens, length, states, owner, self.laterality[row], self.key[text], self.facts[row],
                    self.single_view[row],
                )
            )
        )  # fmt: skip


def open_descriptions(
    cache: Cache, config: Config, *, num_texts: int, texts: Path | None, language_model: Path | None
) -> DescriptionTable:
    """The tokens of a cache's texts, made where they are missing, without states.

    Args:
        cache: An opened cache.
        config: Its text encoder says how texts become tokens; its sections are read where there is no file.
        num_texts: Shown of a breast.
        texts: The Parquet file; None: report sections of the study table.
        language_model: The folder that the settings name; None: a vocabulary is learned from the training split.

    Raises:
        UserError: a file without the columns, or of other studies; no training study with a text; a vocabulary of
            another casing than the settings say.
    """
    settings = config.text_encoder
    assert settings is not None
    made_by: dict[str, Any] = {
        "format": FORMAT,
        "texts": None if texts is None else hash_file(texts),
        "sections": None if texts is not None else [*config.text.sections, "|", *config.text.fallback],
        "vocabulary": settings.language_model.vocabulary_size if settings.source is None else settings.source.sha256,
        "lower_case": settings.lower_case,
        "length": settings.length,
    }
    stored = read_side_table(cache, "descriptions", made_by)
    if stored is None:
        rows = _read_sections(cache, config) if texts is None else read_texts_file(cache, texts)
        stored = _tokenize(cache, config, rows, language_model)
        write_side_table(cache, "descriptions", stored, made_by)
    pad, num_words = stored["special"].tolist()
    return DescriptionTable(
        **{name: stored[name] for name in _ARRAYS}, pad=pad, tokenizer=stored["tokenizer"].tobytes().decode(),
        num_words=num_words, num_texts=num_texts, seed=config.seed,
    )  # fmt: skip


_ARRAYS = ("tokens", "offset", "key", "text", "study", "laterality", "facts", "single_view")


@dataclass(frozen=True)
class TextRows:
    """Texts by study, before they are tokens."""

    study: Int64[np.ndarray, " row"]
    laterality: Int64[np.ndarray, " row"]
    text: tuple[str, ...]
    facts: tuple[tuple[str, ...], ...]
    single_view: Bool[np.ndarray, " row"]


def read_texts_file(cache: Cache, path: Path) -> TextRows:
    """The rows of a Parquet file that are of studies of the cache, by study and laterality.

    Raises:
        UserError: columns that are missing or of another kind, a laterality that is none, or no study of the cache.
    """
    import polars as pl  # only where tokens are made

    expected = "expected columns dataset, study and text, and if need be laterality, facts (list of text), single_view"
    try:
        table = pl.read_parquet(path, glob=False)
        missing = [name for name in ("dataset", "study", "text") if name not in table.columns]
        if missing:
            raise UserError(f"{path}: has no column {', '.join(missing)}; {expected}.")
        empty = {"laterality": pl.String(), "facts": pl.List(pl.String), "single_view": pl.Boolean()}
        table = table.with_columns(
            (pl.col(name) if name in table.columns else pl.lit(None)).cast(kind).alias(name)
            for name, kind in empty.items()
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; {expected}.") from error
    sides = [name for name in LATERALITIES if name in ("left", "right", "unknown")]
    if len(strange := table.filter(pl.col("laterality").is_not_null() & ~pl.col("laterality").is_in(sides))):
        raise UserError(f"{path}: laterality {strange['laterality'][0]!r}; expected left, right or nothing.")
    rows = cache.table().select("dataset", "study").with_row_index("row")
    found = (
        table.filter(pl.col("text").str.strip_chars().str.len_chars() > 0)
        .with_columns(side=pl.col("laterality").fill_null("unknown").replace_strict(
            list(LATERALITIES), list(range(len(LATERALITIES))), return_dtype=pl.Int64
        ))
        .join(rows, on=["dataset", "study"], how="inner")
        .sort("row", "side", "text")
    )  # fmt: skip
    if not len(found):
        raise UserError(f"{path}: none of its {len(table):,} texts is of a study in {cache.path}; {expected}.")
    return TextRows(
        found["row"].to_numpy().astype(np.int64),
        found["side"].to_numpy(),
        tuple(" ".join(text.split()) for text in found["text"]),
        tuple(tuple(facts or ()) for facts in found["facts"].to_list()),
        found["single_view"].fill_null(value=False).to_numpy(),
    )


def _read_sections(cache: Cache, config: Config) -> TextRows:
    from .report_tokens import read_texts

    found = [text for text, _ in read_texts(cache, config.text)]
    study = np.array([row for row, text in enumerate(found) if text], np.int64)
    none = np.zeros(len(study), np.int64)
    return TextRows(study, none, tuple(found[row] for row in study), ((),) * len(study), none.astype(bool))


def _tokenize(cache: Cache, config: Config, rows: TextRows, language_model: Path | None) -> dict[str, np.ndarray]:
    from .tokenizer import PAD, find_special, train_tokenizer

    settings = config.text_encoder
    assert settings is not None
    is_training = np.isin(rows.study, cache.rows("train"))
    if not is_training.any():
        raise UserError(
            f"{cache.path}: no training study has a text to be compared with. Give one by --texts, or name sections "
            "that there are (--text.sections)."
        )
    distinct, text = np.unique(np.array(rows.text, dtype=object), return_inverse=True)
    if settings.source is None:
        tokenizer = train_tokenizer(
            [rows.text[row] for row in np.flatnonzero(is_training)], settings.language_model.vocabulary_size
        )
    elif language_model is None:
        raise UserError(
            f"{cache.path}: its texts are to be read by {settings.source.name} (sha256 {settings.source.sha256[:16]}). "
            "Say where it is: --language-model FOLDER."
        )
    else:
        tokenizer = read_vocabulary(language_model, lower_case=settings.lower_case)
    encoded = tokenize_texts(tokenizer, distinct.tolist(), settings.length)
    pad = find_special(tokenizer, PAD)
    names = sorted({fact for facts in rows.facts for fact in facts})
    column = {name: place for place, name in enumerate(names)}
    facts = np.zeros((len(text), len(names)), bool)
    for row, said in enumerate(rows.facts):
        facts[row, [column[fact] for fact in said]] = True
    return {
        "tokens": np.fromiter((token for ids in encoded for token in ids), np.int32),
        "offset": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        "key": np.array([hash_text(one) for one in distinct], np.int64),
        "text": text.astype(np.int64),
        "study": rows.study,
        "laterality": rows.laterality,
        "facts": facts,
        "single_view": rows.single_view,
        "special": np.array([pad, tokenizer.get_vocab_size()]),
        "tokenizer": np.frombuffer(tokenizer.to_str().encode(), np.uint8),
    }


def tokenize_texts(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> list[list[int]]:
    """Token ids of each text between start and end, `length` of them at most."""
    from .tokenizer import END, START, find_special

    start, end = (find_special(tokenizer, name) for name in (START, END))
    assert start is not None, "checked when the vocabulary was read"
    assert end is not None
    tokenizer.encode_special_tokens = True  # "[SEP]" written in a text is no end
    return [
        [start, *one.ids[: length - 2], end] for one in tokenizer.encode_batch(list(texts), add_special_tokens=False)
    ]


def hash_text(text: str) -> int:
    """A lasting 64-bit name of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def shuffle_descriptions(
    table: DescriptionTable, cache: Cache, seed: int, leave_out: Sequence[str] = ()
) -> DescriptionTable:
    """Every study gets the texts of another patient's study of its split: the control for what texts teach."""
    from hilum.shuffled_pairs import deal_to_others

    source = deal_to_others(cache, table.has_text(np.arange(len(cache.studies))), "shuffled texts", seed, leave_out)
    taker = np.argsort(source)  # who gets a study's texts
    order = np.argsort(taker[table.study], kind="stable")
    rows = {name: getattr(table, name)[order] for name in ("text", "laterality", "facts", "single_view")}
    return replace(table, study=taker[table.study][order], **rows)
