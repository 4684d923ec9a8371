"""Teachers' vectors: from tables to batches, scaled by training studies only, dealt to others, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from hilum.cache import Cache
from hilum.config import TeachersConfig
from hilum.errors import UserError
from hilum.loader import StudyLoader, iterate_studies
from hilum.teachers.scaling import fit_scaling
from hilum.teachers.vectors import TeacherVectors, name_teachers, open_teachers, read_teacher_vectors
from tiny_runs import make_tiny_cache, write_tiny_teachers, write_vectors
from toy_archive import make_cache

RANDOM, NUMBERS = np.random.default_rng(0), itertools.count()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_tiny_cache(tmp_path_factory.mktemp("tiny"))


def write(cache: Cache, values: np.ndarray, study: np.ndarray | list[int]) -> Path:
    return write_vectors(cache, cache.path.parent / f"ecg-{next(NUMBERS)}.parquet", values, study)


def open_as(cache: Cache, path: Path, **settings) -> TeacherVectors:
    config = name_teachers(TeachersConfig(**settings), cache, {"ecg": path})
    return open_teachers(cache, config, {"ecg": path}, seed=3)["ecg"]


def test_a_table_comes_back_as_it_was_and_names_itself_by_its_content(cache: Cache) -> None:
    values = RANDOM.normal(size=(3, 5)).astype(np.float32)
    path = write(cache, values, [7, 2, 11])
    found = open_as(cache, path)
    assert found.width == 5
    for row, study in zip(values, (7, 2, 11), strict=True):
        np.testing.assert_array_equal(found.values[found.of_study[study]], row)
    assert (found.of_study >= 0).sum() == 3
    (table,) = name_teachers(TeachersConfig(), cache, {"ecg": path}).tables.values()
    assert (table.file, table.width) == (path.name, 5)
    # The same vectors in another order are the same teacher, another number is another.
    turned = read_teacher_vectors(cache, write(cache, values[::-1], [11, 2, 7]))
    assert turned.hash_content(cache) == table.sha256
    assert read_teacher_vectors(cache, write(cache, values + 1, [7, 2, 11])).hash_content(cache) != table.sha256


def test_tables_are_named_in_one_order(cache: Cache) -> None:
    paths = write_tiny_teachers(cache)
    turned = dict(reversed(paths.items()))
    assert list(name_teachers(TeachersConfig(), cache, turned).tables) == ["ecg", "labs"]


def test_batches_hold_the_vectors_that_exist_with_their_owners(cache: Cache) -> None:
    teachers = {name: read_teacher_vectors(cache, path) for name, path in write_tiny_teachers(cache).items()}
    kinds = set()
    batches = list(iterate_studies(cache, cache.rows(), views_per_batch=9, teachers=teachers))
    loader = StudyLoader(cache, cache.rows("train"), views_per_step=12, seed=0, teachers=teachers)
    batches.append(next(loader.iterate()).micro_batches[0])
    for batch in batches:
        for name, teacher in teachers.items():
            vectors, study = batch.vectors[name], batch.row.numpy()
            assert vectors.owner.tolist() == [
                place for place, row in enumerate(study) if teacher.of_study[row] >= 0
            ]  # fmt: skip
            expected = teacher.values[teacher.of_study[study[vectors.owner.numpy()]]]
            np.testing.assert_array_equal(vectors.values.numpy(), expected)
            assert vectors.values.dtype == torch.float32
            kinds |= {(name, len(vectors.owner) == batch.num_studies)}
    assert ("ecg", False) in kinds


def test_scaling_is_by_the_training_studies_and_by_no_other(cache: Cache) -> None:
    study = cache.rows()[:24]
    values = RANDOM.normal(2.0, [0.01, 1.0, 5.0], size=(24, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]])
    path = write(cache, values, study)
    training = np.isin(study, cache.rows("train"))
    assert 0 < training.sum() < 24
    moved = values.copy()
    moved[~training] += 100.0
    moved_path = write(cache, moved, study)
    for how in ("standardised", "whitened"):
        found, other = (open_as(cache, one, scaling=how) for one in (path, moved_path))
        seen, others = (vectors.values[vectors.of_study[study]] for vectors in (found, other))
        np.testing.assert_allclose(seen[training].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_array_equal(seen[training], others[training])
        assert np.abs(others[~training] - seen[~training]).max() > 1
    np.testing.assert_allclose(open_as(cache, path, scaling="standardised").values[training].std(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(open_as(cache, path).values, values.astype(np.float32))  # raw


def test_leaving_an_archive_out_leaves_it_out_of_the_statistics(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [1] * 8, split=["train"] * 8)
    path = write(cache, np.arange(16.0).reshape(8, 2), np.arange(8))
    config = name_teachers(TeachersConfig(scaling="standardised"), cache, {"ecg": path})
    with pytest.raises(UserError, match=r"no training study of .* has a vector of teacher ecg"):
        open_teachers(cache, config, {"ecg": path}, seed=0, leave_out=["toy"])


def test_whitened_rows_are_uncorrelated_where_there_are_many_and_calm_where_there_are_few() -> None:
    mixed = RANDOM.normal(size=(5000, 6)) @ RANDOM.normal(size=(6, 6)) * [0.01, 1, 1, 100, 1, 1] + 3
    mixed[:, 2] = 7.0  # never differs
    rows = fit_scaling(mixed, "whitened").apply(mixed).astype(np.float64)
    expected = np.eye(6)
    expected[2, 2] = 0
    np.testing.assert_allclose(rows.T @ rows / len(rows), expected, atol=0.05)
    few, more = RANDOM.normal(size=(2, 10, 200))
    scaling = fit_scaling(few, "whitened")
    assert np.abs(scaling.apply(more)).max() < 10  # 200 numbers, 10 rows: nothing is blown up
    # Hand-worked: deviations 2 and 3, uncorrelated.
    square = np.array([[2.0, 3], [-2, 3], [2, -3], [-2, -3]]) + [1, 5]
    found = fit_scaling(square, "standardised").apply(np.array([[3.0, 5.0]], np.float32))
    np.testing.assert_allclose(found, [[1.0, 0.0]], atol=1e-6)


def test_whitened_vectors_have_no_common_direction() -> None:
    """What made a constant prediction earn 0.66 (P 7.3): a mean that all share."""
    rows = RANDOM.normal(size=(800, 20)) + 1.0

    def mean_cosine(vectors: np.ndarray) -> float:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return float((unit @ unit.T)[~np.eye(len(unit), dtype=bool)].mean())

    assert mean_cosine(rows) > 0.4
    for how in ("standardised", "whitened"):
        assert abs(mean_cosine(fit_scaling(rows, how).apply(rows))) < 0.01


def test_shuffled_pairs_are_other_patients_of_the_same_split(cache: Cache) -> None:
    path = write_tiny_teachers(cache)["ecg"]
    own, shuffled, again = (open_as(cache, path, pairs=pairs) for pairs in ("own", "shuffled", "shuffled"))
    np.testing.assert_array_equal(shuffled.of_study, again.of_study)
    np.testing.assert_array_equal(own.of_study >= 0, shuffled.of_study >= 0)
    owner = {int(vector): study for study, vector in enumerate(own.of_study) if vector >= 0}
    studies = cache.studies
    for study, vector in enumerate(shuffled.of_study):
        if vector >= 0:
            source = owner[int(vector)]
            assert studies["split"][source] == studies["split"][study]
            assert studies["patient"][source] != studies["patient"][study]
    assert sorted(shuffled.of_study) == sorted(own.of_study)


def test_random_vectors_are_noise_of_a_studys_own(cache: Cache) -> None:
    path = write_tiny_teachers(cache)["ecg"]
    own, random, again = (open_as(cache, path, pairs=pairs) for pairs in ("own", "random", "random"))
    np.testing.assert_array_equal(random.values, again.values)
    np.testing.assert_array_equal(own.of_study >= 0, random.of_study >= 0)
    assert random.width == own.width
    many = TeacherVectors(np.zeros((30, 500), np.float32), np.arange(30)).randomize(cache, "ecg", 0).values
    assert abs(many.mean()) < 0.02
    assert many.std() == pytest.approx(1, abs=0.02)
    assert np.abs(np.corrcoef(many) - np.eye(30)).max() < 0.2
    other = TeacherVectors(np.zeros((30, 500), np.float32), np.arange(30)).randomize(cache, "labs", 0).values
    assert abs(np.corrcoef(many[0], other[0])[0, 1]) < 0.2


def test_a_users_own_parquet_is_keyed_by_archive_and_study(cache: Cache, tmp_path: Path) -> None:
    names = cache.table().select("dataset", "study")
    frame = names[[5, 1]].vstack(pl.DataFrame({"dataset": ["toy"], "study": ["not here"]}))
    frame = frame.with_columns(vector=pl.Series([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    frame.write_parquet(tmp_path / "outcome.parquet")
    found = read_teacher_vectors(cache, tmp_path / "outcome.parquet")
    assert found.values[found.of_study[[1, 5]]].tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert (found.of_study >= 0).sum() == 2


def test_tables_that_do_not_fit_are_refused_in_words(cache: Cache, tmp_path: Path) -> None:
    def refuse(path: Path, message: str) -> None:
        with pytest.raises(UserError, match=message):
            read_teacher_vectors(cache, path)

    (tmp_path / "other").mkdir()
    other = make_cache(tmp_path / "other", [1] * 4, seed=5, dataset="other", split=["train"] * 4)
    refuse(write(other, np.ones((1, 2)), [0]), "none of its 1 studies is in")
    refuse(tmp_path / "nowhere.parquet", "there is no such file; expected a Parquet file")
    (tmp_path / "vectors.csv").write_text("dataset,study,vector\ntoy,s003,1 2\n")
    refuse(tmp_path / "vectors.csv", r"vectors\.csv: .*; expected a Parquet file, of `hilum embed` or your own")
    refuse(write(cache, np.ones((2, 1)), [3, 4]), "vectors hold 1 number: .*no direction")
    twice = pl.read_parquet(write(cache, np.ones((1, 2)), [4]))
    twice.vstack(twice).write_parquet(tmp_path / "twice.parquet")
    refuse(tmp_path / "twice.parquet", r"study toy/s\d+ has 2 vectors; expected one")
    refuse(write(cache, np.array([[1.0, np.nan], [1, 1]]), [3, 4]), r"vector of study toy/s003 holds .* not finite \(1")
    frame = pl.DataFrame({"dataset": ["x"], "study": ["y"], "vector": [[1.0]]})
    frame.write_parquet(tmp_path / "strange.parquet")
    refuse(tmp_path / "strange.parquet", "none of its 1 studies is in")
    frame.rename({"vector": "v"}).write_parquet(tmp_path / "columns.parquet")
    refuse(tmp_path / "columns.parquet", "with the columns dataset, study and vector")
    rows = cache.table().select("dataset", "study").head(2)
    rows.with_columns(vector=pl.Series([[1.0], [1.0, 2.0]])).write_parquet(tmp_path / "widths.parquet")
    refuse(tmp_path / "widths.parquet", "vectors of 1, 2 numbers")


def test_a_teacher_of_too_few_is_refused(cache: Cache) -> None:
    train, test = cache.rows("train"), cache.rows("test")
    path = write(cache, np.ones((2, 2)), [train[0], test[0]])
    assert open_as(cache, path).width == 2
    with pytest.raises(UserError, match=r"one training study has a vector of teacher ecg: too few.*scaling=raw"):
        open_as(cache, path, scaling="whitened")
    with pytest.raises(UserError, match=r"no training study of .* has a vector of teacher ecg"):
        open_as(cache, write(cache, np.ones((1, 2)), [test[0]]))


def test_a_teacher_that_says_the_same_of_all_is_refused(cache: Cache) -> None:
    """Whitened it was zeros, and its contrast a choice between equals: a run learned from it without a word."""
    train = cache.rows("train")
    values = np.ones((len(train), 2))
    with pytest.raises(UserError, match=rf"all {len(train)} training studies have the same vector of teacher ecg"):
        open_as(cache, write(cache, values, train))
    values[0] = 2
    assert open_as(cache, write(cache, values, train)).width == 2


def test_the_packed_vectors_are_not_the_tables_memory(cache: Cache) -> None:
    teacher = read_teacher_vectors(cache, write_tiny_teachers(cache)["ecg"])
    before = teacher.values.copy()
    teacher.pack(cache.rows()).values.zero_()
    np.testing.assert_array_equal(teacher.values, before)
