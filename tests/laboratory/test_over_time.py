"""Tables with a row for each time: by hand, through the table of studies, and those of two real databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.config.laboratory import build_laboratory
from hilum.errors import UserError
from hilum.laboratory.as_of import read_times
from hilum.laboratory.embedding import embed_laboratory
from hilum.laboratory.events import References
from hilum.laboratory.over_time import read_over_time
from hilum.laboratory.pretraining import pretrain_laboratory
from hilum.laboratory.splits import split_by_patient
from hilum.laboratory.vocabulary import LaboratoryVariable, LaboratoryVocabulary
from toy_labs import VOCABULARY

NAN = float("nan")
HOURLY = """patient,hour,creatinine [umol/L],na,heart rate
p1,0,,139,80
p1,2,88.4,140,85
p1,30,176.8,,90
p2,1,>884,,70
p2,1,,,71
"""


def write(folder: Path, text: str = HOURLY) -> Path:
    (folder / "hourly.csv").write_text(text)
    return folder / "hourly.csv"


def test_the_first_value_of_each_column_in_the_window_counts(tmp_path: Path) -> None:
    how = {"owner": "patient", "time": "hour", "columns": {"sodium": "na"}}
    table = read_over_time(write(tmp_path), VOCABULARY, **how)
    assert table.study == table.patient == ("p1", "p2")
    np.testing.assert_allclose(table.values, [[1, 139, NAN], [10, NAN, NAN]], rtol=1e-3)
    times, scale = read_times(pl.Series(["30", "2", "1"]), "studies.csv", "made")
    owners = ("p1", "p1", "p2")
    references = References(("e1", "e2", "e3"), owners, owners, times, scale)
    window = {"before": timedelta(hours=1), "after": timedelta(0)}
    table = read_over_time(write(tmp_path), VOCABULARY, references=references, **how, **window)
    assert table.study == ("e1", "e2", "e3")
    np.testing.assert_allclose(table.values, [[2, NAN, NAN], [1, 140, NAN], [10, NAN, NAN]], rtol=1e-3)


def test_durations_of_parquet_are_hours(tmp_path: Path) -> None:
    frame = {"p": ["a", "a"], "when": [timedelta(minutes=90), timedelta(0)], "crp": [1.0, None], "sodium": [None, 140]}
    pl.DataFrame(frame).write_parquet(tmp_path / "t.parquet")
    table = read_over_time(tmp_path / "t.parquet", VOCABULARY, owner="p", time="when")
    np.testing.assert_array_equal(table.values, [[NAN, 140, 1]])
    times, scale = read_times(pl.Series(["1.5"]), "studies.csv", "made")
    references = References(("e",), ("a",), ("a",), times, scale)
    only = {"references": references, "before": timedelta(0), "after": timedelta(0)}
    table = read_over_time(tmp_path / "t.parquet", VOCABULARY, owner="p", time="when", **only)
    np.testing.assert_array_equal(table.values, [[NAN, NAN, 1]])


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    how = {"owner": "patient", "time": "hour"}
    for text, message in (
        (
            HOURLY.replace("umol/L", "furlong"),
            r"column 'creatinine \[furlong\]' is in 'furlong', expected one of mg/dL",
        ),
        (HOURLY.replace("creatinine [umol/L]", "weight"), "no column is called like"),
        (HOURLY.replace("hour", "when"), "no column 'hour'"),
        (HOURLY.replace("p1,30", "p1,noon"), "column 'hour' has .* cells that are no time"),
        (HOURLY.replace("88.4", "high").replace(">884", "high").replace("176.8", "high"), "Creatinine"),
    ):
        with pytest.raises(UserError, match=message):
            read_over_time(write(tmp_path, text), VOCABULARY, **how)


# Columns of the demo tables (names of the ricu package), and what they are.
LABS = {"crea": "creatinine", "k": "potassium", "na": "sodium", "hgb": "haemoglobin", "wbc": "white cells",
        "lact": "lactate", "ph": "pH", "po2": "pO2"}  # fmt: skip


@pytest.mark.needs_real_data
@pytest.mark.parametrize(("name", "num_stays", "num_values"), [("eicu", 1316, 7603), ("mimic", 99, 657)])
def test_hours_of_real_intensive_care_read_and_every_stay_gets_a_vector(
    real_data: Path, tmp_path: Path, name: str, num_stays: int, num_values: int
) -> None:
    """34,175 hours of the eICU demo and 2,475 of the MIMIC-III demo, most cells of them blank."""
    file = real_data / "labs" / f"{name}_demo" / "dyn.parquet"
    vocabulary = LaboratoryVocabulary(tuple(LaboratoryVariable(said) for said in LABS.values()))
    columns = {said: column for column, said in LABS.items()}
    table = read_over_time(file, vocabulary, owner="stay_id", time="time", columns=columns)
    # As polars finds the first of each stay by itself.
    own = pl.read_parquet(file).sort("stay_id", "time").group_by("stay_id", maintain_order=True)
    own = own.agg(pl.col(list(LABS)).drop_nulls().first()).filter(pl.any_horizontal(pl.col(list(LABS)).is_not_null()))
    order = np.argsort([int(stay) for stay in table.study])
    np.testing.assert_array_equal(table.values[order], own.select(list(LABS)).to_numpy())
    assert [int(table.study[row]) for row in order] == own["stay_id"].to_list()
    assert (len(table), int(table.observed.sum())) == (num_stays, num_values)
    table = split_by_patient(replace(table, patient=table.study))
    config = replace(build_laboratory(), epochs=1, warmup_steps=1, batch_size=32)
    vectors = embed_laboratory(table, pretrain_laboratory(config, table, tmp_path / "run", progress=False))
    assert vectors.shape == (num_stays, 256)
    assert np.isfinite(vectors).all()
