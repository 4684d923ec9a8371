"""Breasts of the phantom learned by heart, by the public commands: phantom, ingest, cache, texts, pretraining (L 1.6).

A long trial: most of its time is the phantom's."""

from __future__ import annotations

from pathlib import Path

import pytest
from evidence.mammogram_caches import join_tables

from hilum.cli import main
from tiny_runs import read_metrics

pytestmark = pytest.mark.soak
ROWS, COLUMNS = 96, 64
# Small enough for a test; what they leave alone is the recipe's.
SMALL = [
    "--size", "nano", "--encoder.backbone", "test_resnet", "--encoder.image-height", str(ROWS),
    "--encoder.image-width", str(COLUMNS), "--encoder.width", "32", "--encoder.num-tokens", "8", "--encoder.depth", "1",
    "--text-encoder.length", "64", "--run.precision", "32-true",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of twenty women, with many findings, its cache and the texts of its breasts."""
    root = tmp_path_factory.mktemp("phantom")
    archive, table, joined = root / "archive", str(root / "breasts.parquet"), root / "archive" / "mammograms.csv"
    run("phantom", "--breast", "--out", archive, "--patients", 20, "--size", 112, "--enrichment", 20, "--workers", 1)
    join_tables(archive).write_csv(joined)
    run("ingest", "table", joined, "--out", table)
    frame = ["--frame", ROWS, COLUMNS, "--bits", 16, "--workers", 1, "--fractions", 0.4, 0.3, 0.3]
    run("cache", table, "--out", root / "cache", "--policy", "mammo-auto-1", *frame)
    run("text", "write", table, "--out", root / "texts.parquet", "--variants", 2)
    return root


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, words


def test_a_phantom_set_is_learned_by_heart(made: Path, tmp_path: Path) -> None:
    """Each view finds the text of its breast and each text its views, in more than 95 of 100 (L 1.6)."""
    little = ["--data.augment.jitter-probability", 0.01, "--data.augment.affine-probability", 0.01]
    run(
        "pretrain", "mv_clip_tr", "--data", made / "cache", "--texts", made / "texts.parquet", "--out",
        tmp_path / "run", *SMALL, *little, "--encoder.dropout", 0, "--text-encoder.dropout", 0,
        "--data.no-one-per-patient", "--data.views-per-step", 24, "--optim.steps", 200, "--optim.lr", 3e-3,
        "--run.log-every", 10,
    )  # fmt: skip
    last = read_metrics(tmp_path / "run")[-1]
    assert last["image_text/image_to_text_accuracy"] > 0.95
    assert last["image_text/text_to_image_accuracy"] > 0.95
    assert last["image_text/identical_negatives"] < 2  # learned apart, not told to be alike
