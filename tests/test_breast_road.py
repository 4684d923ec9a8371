"""Mammograms from an archive's files to a trained encoder of breasts: the public commands, on DICOM files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.cache import Cache
from hilum.cli import main
from hilum.config import Config
from hilum.recipes import build_recipe
from hilum.text.descriptions import hash_text, open_descriptions
from sources.archives.vindr_mammo import write_vindr_mammo
from tiny_runs import read_metrics

# Small enough for a test; what they leave alone is the recipe's.
SMALL = [
    "--size", "nano", "--encoder.backbone", "test_byobnet", "--encoder.image-height", "96", "--encoder.image-width",
    "64", "--encoder.width", "32", "--encoder.num-tokens", "8", "--encoder.depth", "1", "--text-encoder.length", "32",
    "--data.views-per-step", "8", "--optim.steps", "3", "--run.precision", "32-true",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cache, Path, Path]:
    """The cache of a VinDr-Mammo, the texts of its breasts and a run that learned from both."""
    root = write_vindr_mammo(tmp_path_factory.mktemp("vindr"))
    table, cache, texts, run = (str(root / name) for name in ("breasts.parquet", "cache", "texts.parquet", "run"))
    for words in (
        ["ingest", "vindr-mammo", str(root), "--out", table, "--keep-ids"],  # the same split every time
        [
            "cache", table, "--out", cache, "--policy", "mammo-auto-1", "--frame", "200", "120", "--bits", "16",
            "--workers", "1", "--fractions", "0.8", "0.2", "0",
        ],
        ["text", "write", table, "--out", texts, "--variants", "3"],
        ["pretrain", "mv_clip_tr", "--data", cache, "--out", run, "--texts", texts, *SMALL],
    ):  # fmt: skip
        assert main(words) == 0, words
    return Cache.open(Path(cache)), Path(texts), Path(run)


def read_descriptions(cache: Cache, texts: Path):
    config: Config = build_recipe("mv_clip_tr", "hilum", "nano")
    return open_descriptions(cache, config, num_texts=1, texts=texts, language_model=None)


def test_training_reads_the_texts_that_were_written(made: tuple[Cache, Path, Path]) -> None:
    cache, texts, _ = made
    written = pl.read_parquet(texts)
    assert written.group_by("study", "laterality").len()["len"].to_list() == [3] * 10
    table = read_descriptions(cache, texts)
    assert len(table.text) == 30
    rows = np.arange(len(cache.studies))
    draws = [table.pack(rows, cache.studies["key"].view(np.int64), np.full(len(rows), draw)) for draw in range(20)]
    known = {hash_text(" ".join(text.split())) for text in written["text"]}
    assert {key for one in draws for key in one.key.tolist()} == known  # each draw another of the variants
    assert all(one.owner.tolist() == sorted([*range(5)] * 2) for one in draws)
    studies = cache.table()["study"].to_list()
    for study, side, facts, single in zip(
        draws[0].owner.tolist(), draws[0].laterality.tolist(), draws[0].facts.sum(1).tolist(),
        draws[0].single_view.tolist(), strict=True,
    ):  # fmt: skip
        (breast,) = written.filter(
            pl.col("study") == studies[study],
            pl.col("laterality") == ("left", "right")[side - 1],
            pl.col("variant") == 0,
        ).to_dicts()
        assert (facts, single) == (len(breast["facts"]), breast["single_view"])


def test_it_learns_from_them(made: tuple[Cache, Path, Path]) -> None:
    *_, run = made
    last = read_metrics(run)[-1]
    assert np.isfinite(last["loss"])
    # Most breasts are BI-RADS 1, density C, without finding: told to be alike by their facts, not by their words.
    assert last["image_text/identical_negatives"] > 0.5


def test_it_is_asked_where_a_mass_is(made: tuple[Cache, Path, Path]) -> None:
    """Files with a spacing, breasts cut out and framed: hits are also counted within millimetres."""
    cache, _, run = made
    has_mass = pl.col("breast_findings").list.eval(pl.element().struct.field("kind") == "mass").list.any()
    (split,) = cache.table().filter(has_mass)["split"]
    out = cache.path.parent / "maps"
    words = ["heatmap", str(run), "--data", str(cache.path), "--finding", "mass", "--split", split, "--out", str(out)]
    assert main([*words, "--random-views", "0", "--examples", "1"]) == 0
    table = pl.read_parquet(out / "maps.parquet")
    assert table["tolerance_mm"].to_list() == [0.0, 5.0] * 2
    exact, near = (table.filter(pl.col("tolerance_mm") == one) for one in (0.0, 5.0))
    # A box of 32 x 32 pixels of 0.07 x 0.08 mm; 5 mm around it are 71 rows and 62 columns more on each side.
    assert ((near["chance"] / exact["chance"]) > 5).all()
    assert (near["hit"] >= exact["hit"]).all()
    assert table["peak_row"].is_between(0, 399).all()
    assert len(list((out / "overlays").glob("*.png"))) == 1
