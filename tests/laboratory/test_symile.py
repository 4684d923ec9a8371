"""Symile-MIMIC's files, written here as its publication describes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.errors import UserError
from hilum.laboratory.percentiles import fill_placeholders, fit_percentiles
from hilum.laboratory.symile import read_symile_arrays, read_symile_means, read_symile_table
from hilum.laboratory.vocabulary import read_vocabulary

ITEMS = [str(variable.itemid) for variable in read_vocabulary("symile").variables]


def write_symile(root: Path, num_rows: int = 40) -> np.ndarray:
    """train.csv, its arrays and labs_means.json (P 4.1); the raw values."""
    generator = np.random.default_rng(0)
    raw = generator.integers(0, 12, size=(num_rows, 50)).astype(float)  # many ties
    raw[generator.random(raw.shape) < 0.3] = np.nan
    share = np.full(raw.shape, np.nan)
    for lab in range(50):
        known = raw[~np.isnan(raw[:, lab]), lab]
        for row in range(num_rows):
            if not np.isnan(raw[row, lab]):
                share[row, lab] = np.mean(known <= raw[row, lab])  # the step function that Symile uses
    means = np.nanmean(share, axis=0)
    ids = {"subject_id": np.arange(num_rows) // 2, "hadm_id": 1000 + np.arange(num_rows)}
    columns = {item: raw[:, lab] for lab, item in enumerate(ITEMS)}
    columns |= {f"{item}_percentile": share[:, lab] for lab, item in enumerate(ITEMS)}
    pl.DataFrame({**ids, **columns}).fill_nan(None).write_csv(root / "train.csv")
    np.save(root / "labs_percentiles_train.npy", np.where(np.isnan(share), means, share).astype(np.float32))
    np.save(root / "labs_missingness_train.npy", (~np.isnan(raw)).astype(np.int64))
    np.save(root / "hadm_id_train.npy", ids["hadm_id"])
    named = {f"{item}_percentile": means[lab] for lab, item in enumerate(ITEMS)}
    (root / "labs_means.json").write_text(json.dumps(dict(reversed(named.items()))))
    return raw


def test_table_arrays_and_means_agree_with_each_other_and_with_our_percentiles(tmp_path: Path) -> None:
    raw = write_symile(tmp_path)
    table, given = read_symile_table(tmp_path, "train"), read_symile_table(tmp_path, "train", "percentile")
    assert np.array_equal(table.values, raw, equal_nan=True)
    assert table.study[:3] == ("1000", "1001", "1002")
    assert table.patient[:3] == ("0", "0", "1")
    assert set(table.split or ()) == {"train"}
    arrays, means = read_symile_arrays(tmp_path, "train"), read_symile_means(tmp_path / "labs_means.json")
    assert np.array_equal(arrays.observed, ~np.isnan(raw))
    assert arrays.study == table.study
    assert np.allclose(arrays.values, given.values, equal_nan=True, atol=1e-6)

    fitted = fit_percentiles(table, "upper")
    ours, theirs = fitted.transform(table), fit_percentiles(given, "upper").transform(given)
    assert np.array_equal(ours.observed, theirs.observed)
    assert np.allclose(ours.share, theirs.share, atol=1e-6)
    assert np.allclose(fitted.mean, means, atol=1e-6)
    assert np.allclose(
        fill_placeholders(ours, fitted.mean).share, np.load(tmp_path / "labs_percentiles_train.npy"), atol=1e-6
    )


def test_candidates_of_the_retrieval_splits_count_once(tmp_path: Path) -> None:
    write_symile(tmp_path, 10)
    frame = pl.read_csv(tmp_path / "train.csv")
    pl.concat([frame, frame[3:7], frame[:2]]).write_csv(tmp_path / "test.csv")
    table = read_symile_table(tmp_path, "test")
    assert table.study == tuple(str(1000 + row) for row in range(10))
    assert set(table.split or ()) == {"test"}


def test_damaged_files_are_refused_with_their_reason(tmp_path: Path) -> None:
    write_symile(tmp_path, 10)
    with pytest.raises(UserError, match="no table"):
        read_symile_table(tmp_path, "val")
    pl.read_csv(tmp_path / "train.csv").drop("52172_percentile").write_csv(tmp_path / "val.csv")
    with pytest.raises(UserError, match="no column '52172_percentile'"):
        read_symile_table(tmp_path, "val")
    with pytest.raises(UserError, match=r"labs_percentiles_val\.npy: not a readable array"):
        read_symile_arrays(tmp_path, "val")
    flags = np.load(tmp_path / "labs_missingness_train.npy")
    np.save(tmp_path / "labs_missingness_train.npy", flags * 2)
    with pytest.raises(UserError, match="other numbers than 0"):
        read_symile_arrays(tmp_path, "train")
    np.save(tmp_path / "labs_missingness_train.npy", flags[:, :49])
    with pytest.raises(UserError, match=r"\(10, 49\), expected \(10, 50\)"):
        read_symile_arrays(tmp_path, "train")
    (tmp_path / "labs_means.json").write_text('{"50802_percentile": 0.5}')
    with pytest.raises(UserError, match=r"not Symile's labs_means\.json"):
        read_symile_means(tmp_path / "labs_means.json")
