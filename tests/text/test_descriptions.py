"""Texts of breasts: from a table to rows of a batch, and states stored once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from breast_batches import TINY
from hilum.cache import Cache
from hilum.config import Config
from hilum.errors import UserError
from hilum.loader import StudyLoader, iterate_studies
from hilum.model.text_encoder import load_language_model, run_language_model
from hilum.text.descriptions import hash_text, open_descriptions, read_texts_file, shuffle_descriptions
from hilum.text.language_model_folder import name_language_model
from hilum.text.states import open_texts
from toy_language_model import write_language_model
from toy_mammograms import describe_kind, make_breasts

KINDS = [(study % 12, study * 5 % 12) for study in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("descriptions")


@pytest.fixture(scope="module")
def made(folder: Path) -> tuple[Cache, Path]:
    return make_breasts(folder, KINDS)


def read_by(folder: Path, **changes) -> tuple[Config, Path]:
    """A config whose language model is that of a folder."""
    bert = folder / "bert" if (folder / "bert").is_dir() else write_language_model(folder / "bert")
    source, shape = name_language_model(bert)
    texts = replace(
        TINY.text_encoder, tuned=False, stored=True, lower_case=False, source=source, language_model=shape, **changes
    )
    return replace(TINY, text_encoder=texts), bert


def test_every_breast_has_its_text(made: tuple[Cache, Path], folder: Path) -> None:
    cache, texts = made
    config, bert = read_by(folder)
    table = open_descriptions(cache, config, num_texts=1, texts=texts, language_model=bert)
    rows = np.array([4, 1])
    found = table.pack(rows, cache.studies["key"][rows].view(np.int64), np.zeros(2, np.int64))
    assert found.owner.tolist() == [0, 0, 1, 1]
    assert found.laterality.tolist() == [1, 2, 1, 2]
    expected = [describe_kind(kind) for row in rows for kind in KINDS[row]]
    assert found.key.tolist() == [hash_text(text) for text in expected]
    from tokenizers import Tokenizer

    words = Tokenizer.from_str(table.tokenizer)
    for row, text in enumerate(expected):
        ids = found.tokens[row, : found.length[row]].tolist()
        assert [words.id_to_token(ids[0]), words.id_to_token(ids[-1])] == ["[CLS]", "[SEP]"]
        assert words.decode(ids[1:-1]).replace(" .", ".") == text
        assert (found.tokens[row, found.length[row] :] == table.pad).all()
    assert found.facts.sum(1).tolist() == [3] * 4
    assert found.single_view.tolist() == [kind == 0 for row in rows for kind in KINDS[row]]
    assert found.states.shape == (4, found.tokens.shape[1], 0)


def test_texts_are_cut_at_the_length_and_end(made: tuple[Cache, Path], folder: Path) -> None:
    cache, texts = made
    config, bert = read_by(folder, length=5)
    table = open_descriptions(cache, config, num_texts=1, texts=texts, language_model=bert)
    found = table.pack(np.arange(6), np.arange(6), np.zeros(6, np.int64))
    assert found.length.tolist() == [5] * 12
    assert len(found.tokens[:, -1].unique()) == 1


def test_of_several_texts_each_draw_shows_others(made: tuple[Cache, Path], tmp_path: Path) -> None:
    cache, _ = made
    said = [f"text {number} of the {side} breast" for side in ("left", "right") for number in range(5)]
    pl.DataFrame({
        "dataset": "toy", "study": "s1", "text": said, "laterality": ["left"] * 5 + ["right"] * 5,
    }).write_parquet(tmp_path / "texts.parquet")  # fmt: skip
    for num_texts in (1, 2):
        table = open_descriptions(
            cache, TINY, num_texts=num_texts, texts=tmp_path / "texts.parquet", language_model=None
        )
        row, key = np.array([1]), np.array([99])
        draws = [table.pack(row, key, np.array([draw])) for draw in range(20)]
        assert all(one.laterality.tolist() == [1] * num_texts + [2] * num_texts for one in draws)
        assert all(len(set(one.key.tolist())) == 2 * num_texts for one in draws)
        assert {name for one in draws for name in one.key.tolist()} == {hash_text(text) for text in said}
        assert torch.equal(table.pack(row, key, np.array([3])).key, draws[3].key)


def test_the_loader_deals_them_out(made: tuple[Cache, Path]) -> None:
    cache, texts = made
    table = open_descriptions(cache, TINY, num_texts=1, texts=texts, language_model=None)
    loader = StudyLoader(cache, cache.rows("train"), views_per_step=12, seed=0, descriptions=table)
    batch = next(loader.iterate()).micro_batches[0]
    own = [hash_text(describe_kind(kind)) for row in batch.row.tolist() for kind in KINDS[row]]
    assert batch.descriptions.key.tolist() == own
    moved = batch.to("cpu")
    assert all(map(torch.equal, moved.descriptions, batch.descriptions))
    plain = next(iter(iterate_studies(cache, cache.rows("train"), views_per_batch=100)))
    assert len(plain.descriptions.owner) == 0


def test_without_a_table_the_reports_of_studies_are_read(tmp_path: Path) -> None:
    from tiny_runs import make_tiny_cache

    cache = make_tiny_cache(tmp_path)
    table = open_descriptions(cache, TINY, num_texts=1, texts=None, language_model=None)
    found = table.pack(np.arange(6), np.arange(6), np.zeros(6, np.int64))
    assert found.owner.tolist() == [0, 1, 2, 3, 5]  # study 4 has none
    assert found.laterality.tolist() == [0] * 5
    shuffled = shuffle_descriptions(table, cache, seed=0)
    again = shuffled.pack(np.arange(6), np.arange(6), np.zeros(6, np.int64))
    assert again.owner.tolist() == found.owner.tolist()
    assert sorted(shuffled.text.tolist()) == sorted(table.text.tolist())
    assert (shuffled.text != table.text).any()


def test_states_are_stored_once_and_are_those_of_the_text_alone(made: tuple[Cache, Path], folder: Path) -> None:
    cache, texts = made
    config, bert = read_by(folder)
    table, reader = open_texts(cache, config, texts=texts, language_model=bert)
    assert reader is None
    assert table.states.dtype == np.float16
    found = table.pack(np.arange(6), np.arange(6), np.zeros(6, np.int64))
    model = load_language_model(bert).eval()
    for row, length in enumerate(found.length.tolist()):
        tokens = found.tokens[row : row + 1, :length]
        alone = run_language_model(model, tokens, torch.ones_like(tokens, dtype=torch.bool))
        torch.testing.assert_close(found.states[row, :length].float(), alone[0], atol=2e-3, rtol=2e-3)
    files = list((cache.path / "side").glob("text-states-*.npy"))
    before = [file.stat().st_mtime_ns for file in files]
    again, _ = open_texts(cache, config, texts=texts, language_model=None)
    assert np.array_equal(again.states, table.states)
    assert [file.stat().st_mtime_ns for file in files] == before
    assert files[0].stat().st_size < 200 + 2 * table.tokens.size * 16


def test_what_is_wrong_with_a_table_is_said(made: tuple[Cache, Path], tmp_path: Path) -> None:
    cache, _ = made
    path = tmp_path / "texts.parquet"
    row = {"dataset": ["toy"], "study": ["s1"], "text": ["words"]}
    for change, message in (
        ({"text": None}, r"has no column text; expected columns dataset, study and text"),
        ({"study": ["elsewhere"]}, r"none of its 1 texts is of a study in"),
        ({"laterality": ["both"]}, r"laterality 'both'; expected left, right or nothing"),
        ({"facts": [3.5]}, r"expected columns"),
    ):
        columns = {name: value for name, value in (row | change).items() if value is not None}
        pl.DataFrame(columns).write_parquet(path)
        with pytest.raises(UserError, match=message):
            read_texts_file(cache, path)
    path.write_text("no Parquet")
    with pytest.raises(UserError, match="expected columns"):
        read_texts_file(cache, path)
    with pytest.raises(UserError, match="no training study has a text"):
        open_descriptions(cache, TINY, num_texts=1, texts=None, language_model=None)
